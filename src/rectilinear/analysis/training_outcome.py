"""Training as the weights show it: loss and lower bound, learning curve, spectra of the weights."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from rectilinear.analysis.loss_floor import loss_floor
from rectilinear.analysis.measure import Kind, Measure, Subject, two_layers_only
from rectilinear.analysis.symmetry import signed_labels
from rectilinear.errors import RectilinearError
from rectilinear.learning import predict, sign_imbalance
from rectilinear.learning.two_layer import weight_error
from rectilinear.networks.weight_matrices import Chain, TwoLayer

FLOOR = "floor"
LOSSES = ("square", "logistic", "hinge")
TIME_COURSE = "time_course"
MAX_PROGRAMME_NUMBERS = 2_000_000  # numbers in the linear programme of the hinge loss
MAX_NUMBERS = 2**27  # numbers of data that are copied in float64: 1 GB
MAX_SIDE = 2048  # the smaller side of a matrix that is decomposed
MAX_MATRICES = 32  # matrices that are decomposed
SVD_SIDE = 256  # the smaller side above which the Gram matrix is decomposed, which is quicker
KEPT_VALUES = 64  # singular values of a matrix that are reported


def floor_and_loss(subject: Subject) -> Measure:
    """The lower bound of the loss for networks of this kind and any width, beside the loss.

    Two layers without bias have the bound of depth 2, others without bias that of any depth.
    """
    task, data, nodes = subject.task, subject.data, subject.structure.nodes
    if task is None or data.labels is None:
        return Measure.missing(FLOOR, "no labels were given")
    if task.loss not in LOSSES:
        return Measure.missing(
            FLOOR, f"known for the losses {', '.join(LOSSES)}, not for {task.loss}"
        )
    if data.rows is None:
        return Measure.missing(FLOOR, "the data are read in batches and not held together")
    if data.rows.numel() > MAX_NUMBERS:
        return Measure.missing(FLOOR, "the data are too many to be held in float64")
    if task.loss == "hinge" and data.rows.numel() > MAX_PROGRAMME_NUMBERS:
        return Measure.missing(FLOOR, "the data are too many for a linear programme")
    if not nodes or not (subject.homogeneous or subject.has_linear_odd_part):
        return Measure.missing(
            FLOOR, "floors are for nets without biases; with them, any points can be fitted"
        )
    depth: Literal[2, "any"] = 2 if subject.has_linear_odd_part else "any"
    loss = cast('Literal["square", "logistic", "hinge"]', task.loss)
    found = loss_floor(data.rows, data.labels, loss, depth, homogeneous=subject.homogeneous)
    losses = [task.losses(p.f, p.y) for p in subject.passes() if p.y is not None]
    achieved = float(torch.cat(losses).double().mean())
    details = {
        "achieved": achieved,
        "depth": depth,
        "loss": task.loss,
        "rays_in_conflict": found.conflicts,
        "lines_with_both_sides": found.lines,
    }
    exact = found.attained - found.value <= 1e-12 * (1 + found.value)
    nets = f"{'two-layer' if depth == 2 else 'any'} bias-free nets"
    note = f"least mean {task.loss} loss of {nets}; here {achieved:.4g}"
    interval = None if exact else (found.value, found.attained)
    return Measure(FLOOR, found.value, "exact" if exact else "certified", interval, note, details)


def time_course(subject: Subject) -> Measure:
    """The half time of learning from the present weights, in steps.

    Not applicable if an assumption fails, which is named.
    """
    lr, steps = subject.settings.lr, subject.settings.steps
    if lr is None or steps is None:
        return Measure.missing(TIME_COURSE, "give lr and steps to predict how these weights learn")
    y = signed_labels(subject)
    if y is None or subject.data.rows is None or subject.data.rows.numel() > MAX_NUMBERS:
        return Measure.missing(
            TIME_COURSE, "it needs all data in memory, and labels that are numbers or signs"
        )
    try:
        found = predict(subject.network.model, subject.data.rows, y, lr, steps)
    except RectilinearError as error:
        return Measure.missing(TIME_COURSE, f"{error.got}; it takes {error.expected}")
    if found.half_time is None:
        return Measure.missing(
            TIME_COURSE, f"half of the strongest mode is not learned within {steps} steps"
        )
    details = found.to_json()
    kind: Kind = "exact" if found.kind == "exact" else "estimated"
    return Measure(
        TIME_COURSE,
        found.half_time,
        kind,
        None,
        f"steps until half is learned, by {found.method}",
        details,
    )


def weights(subject: Subject) -> Measure:
    """The stable rank ``|W|_F^2 / |W|_2^2`` of the first layer.

    In the details every layer and adjacent pairs.

    For each layer: stable rank, ``s2/s1``, ``s3/s1`` and the share of positive entries in the
    squared norm (one half at a symmetric initialisation). For adjacent layers: the alignment of
    the leading
    singular vectors, ``|<v_{l+1}, u_l>|``, and the imbalance ``|W_{l+1}^T W_{l+1} - W_l W_l^T|``
    relative to the norms of the two.
    """
    chain = subject.chain
    return weights_of(subject.network.model, None if isinstance(chain, str) else chain)


def weights_of(model: nn.Module, chain: Chain | None) -> Measure:
    """The same of a model whose layers form a chain, or of all its matrices."""
    if chain is None:
        named = {name: p.detach().flatten(1) for name, p in model.named_parameters() if p.ndim > 1}
    else:
        named = {f"layer {i}": w for i, w in enumerate(chain.weights, start=1)}
    small = {name: w.double() for name, w in named.items() if 0 < min(w.shape) <= MAX_SIDE}
    matrices = dict(list(small.items())[:MAX_MATRICES])
    if not matrices:
        return Measure.missing("weights", "no weight matrix of a size that can be decomposed")
    decomposed = {name: _leading(w) for name, w in matrices.items()}
    layers = [_layer(name, matrices[name], s) for name, (_, s, _) in decomposed.items()]
    details: dict[str, Any] = {"layers": layers}
    if chain is not None and len(matrices) == len(named):
        details["adjacent"] = [
            {
                "layers": f"{i} and {i + 1}",
                "alignment": float((b[2] @ a[0]).abs()),
                "imbalance": _imbalance(first, second),
            }
            for i, ((a, first), (b, second)) in enumerate(
                pairwise(zip(decomposed.values(), matrices.values(), strict=True)), start=1
            )
        ]
    spectra = {f"spectrum of {name}": s for name, (_, s, _) in decomposed.items()}
    first = layers[0]
    size = " x ".join(map(str, first["shape"][:2]))
    note = f"stable rank of {first['name']} ({size}); s2/s1 = {first['s2_s1']:.2g}"
    return Measure("weights", first["stable_rank"], "exact", None, note, details, spectra)


def signs(subject: Subject) -> Measure:
    """The sign imbalance of a two-layer network's neurons, as initial weights, and what it costs.

    ``delta = sum sgn(v_i) v_i^2 / sum v_i^2`` with ``v_i = (a_i + w_i . beta / |beta|) / sqrt 2``:
    from a small initialisation the network then ends ``sqrt(2 - sqrt(1 + delta) - sqrt(1 -
    delta))`` away
    from the weights of a linear one, relative to their norm. A Gaussian initialisation of ``H``
    neurons has a standard deviation of ``sqrt(3/H)``.
    """
    name, two = "sign_imbalance", subject.two_layer
    if not isinstance(two, TwoLayer):
        return two_layers_only(name, two)
    if two.has_bias or two.W2.shape[0] != 1 or bool(two.skip.any()):
        return Measure.missing(
            name, "it is defined for one output, no bias and no connection past the neurons"
        )
    if (beta := _beta(subject)) is None:
        return Measure.missing(name, "no labels that are numbers or signs")
    if not bool(beta.any()):
        return Measure.missing(name, "the labels do not correlate with the points")
    value = float(sign_imbalance(two.W1.double().cpu(), two.W2.double().cpu(), beta[None]))
    width = two.W1.shape[0]
    details = {"weight_error": weight_error(value), "gaussian_std": (3 / width) ** 0.5}
    note = "imbalance of the signs of the neurons, if these weights are an initialisation"
    return Measure(name, value, "exact", None, note, details)


def _beta(subject: Subject) -> Tensor | None:
    """``<y x>``, ``(D,)``."""
    if (labels := signed_labels(subject)) is None or labels.shape[1] != 1 or subject.task is None:
        return None
    middle = None if subject.task.cut is None else float(subject.data.labels.double().mean())  # type: ignore[union-attr]
    total = torch.zeros(subject.network.in_dim, dtype=torch.float64)
    for x, y in subject.data.batches():
        assert y is not None
        numbers = y.double().reshape(-1).cpu()
        signs = numbers if middle is None else torch.where(numbers > middle, 1.0, -1.0).double()
        total += x.flatten(1).double().cpu().mT @ signs
    return total / subject.data.n


def _leading(w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All singular values and the leading singular vectors ``u``, ``v``."""
    if min(w.shape) <= SVD_SIDE:
        u, s, vh = torch.linalg.svd(w, full_matrices=False)
        return u[:, 0], s, vh[0]
    wide = w.shape[0] < w.shape[1]
    squares, vectors = torch.linalg.eigh(w @ w.mT if wide else w.mT @ w)
    s, top = squares.clamp_min(0).sqrt().flip(0), vectors[:, -1]
    other = (w.mT @ top if wide else w @ top) / s[0].clamp_min(torch.finfo(s.dtype).tiny)
    return (top, s, other) if wide else (other, s, top)


def _layer(name: str, w: Tensor, s: Tensor) -> dict[str, Any]:
    squares = w.square().sum()
    top = s[0].clamp_min(torch.finfo(s.dtype).tiny)
    return {
        "name": name,
        "shape": list(w.shape),
        "stable_rank": float(squares / top.square()),
        "s2_s1": float(s[1] / top) if len(s) > 1 else 0.0,
        "s3_s1": float(s[2] / top) if len(s) > 2 else 0.0,
        "positive_share": float(
            w.clamp_min(0).square().sum() / squares.clamp_min(torch.finfo(s.dtype).tiny)
        ),
        "singular_values": s[:KEPT_VALUES].tolist(),
    }


def _imbalance(first: Tensor, second: Tensor) -> float:
    after, before = second.mT @ second, first @ first.mT
    return float(
        (after - before).norm()
        / (after.norm() + before.norm()).clamp_min(torch.finfo(after.dtype).tiny)
    )

"""Two-layer networks: the exactly linear part, the even part, and a certificate of its size.

``W2 s(W1 x) = kappa W2 W1 x + W2 e(W1 x)`` wherever ``s(z) - s(-z) = 2 kappa z``, with the even
``e(z) = (s(z) + s(-z)) / 2``. For ``s(z) = max(z, alpha z)`` the even part is ``sum c_i |w_i . x|``
with ``c_i = (1 - alpha)/2 W2[:, i]``. For one output, its largest size on the unit sphere is the
Hausdorff distance of two zonotopes, the sums of the segments ``[-c_i w_i, c_i w_i]`` with positive
and with negative ``c_i``: that distance is the largest difference of the support functions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from rectilinear.analysis.measure import Measure, Subject, two_layers_only
from rectilinear.checks import check_batch
from rectilinear.errors import InputError, StructureError
from rectilinear.learning.mirror import clusters, mirrored, sketch
from rectilinear.networks.batches import as_tensor
from rectilinear.networks.network import as_network, check_module, evaluating
from rectilinear.networks.places import inner
from rectilinear.networks.trace import Activation
from rectilinear.networks.weight_matrices import TwoLayer, affine_map, structure_of, two_layer
from rectilinear.random import stream

ASCENTS = 16  # random and heaviest directions from which the bound from below climbs
ASCENT_STEPS = 40
MATCHED_NEURONS = 1200  # neurons that are matched; wider networks get the bound by norms
KEPT_VALUES = 64  # singular values of the map that are reported
RANK_TOLERANCE = 1e-7  # times the larger side and the largest singular value


class LinearPart(nn.Module):
    """``M x`` for rows of any shape."""

    matrix: Tensor

    def __init__(
        self, matrix: Tensor, in_shape: tuple[int, ...], out_shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.in_shape, self.out_shape = in_shape, out_shape
        self.register_buffer("matrix", matrix.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """Rows ``(b, *in_shape)`` to ``(b, *out_shape)``."""
        check_batch(x, self.in_shape, "x")
        return (x.flatten(1) @ self.matrix.mT).reshape(len(x), *self.out_shape)

    def extra_repr(self) -> str:
        return f"{tuple(self.matrix.shape)}"


class EvenPart(nn.Module):
    """``W2 e(W1 x)`` with the even part ``e(z) = (s(z) + s(-z)) / 2`` of an activation.

    For ``s = max(z, alpha z)`` it is ``(1 - alpha)/2 |z|``.
    """

    W1: Tensor
    W2: Tensor

    def __init__(
        self, two: TwoLayer, in_shape: tuple[int, ...], out_shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.in_shape, self.out_shape = in_shape, out_shape
        self.activation: Activation = two.activation
        self.register_buffer("W1", two.W1.contiguous())
        self.register_buffer("W2", two.W2.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """Rows ``(b, *in_shape)`` to ``(b, *out_shape)``."""
        check_batch(x, self.in_shape, "x")
        return (self.activation.even(x.flatten(1) @ self.W1.mT) @ self.W2.mT).reshape(
            len(x), *self.out_shape
        )

    def extra_repr(self) -> str:
        return f"{self.activation.name}, {tuple(self.W1.shape)}, {tuple(self.W2.shape)}"


@dataclass(frozen=True, eq=False)
class Split:
    """The two parts of a network, ``f = linear + even``.

    The odd part is the linear map ``matrix``, ``(O, D)``; the rest is even.
    """

    linear: LinearPart
    even: EvenPart

    @property
    def matrix(self) -> Tensor:
        """``kappa W2 W1`` (plus a linear connection past the neurons, where there is one)."""
        return self.linear.matrix


def split(model: nn.Module, x: Tensor | None = None) -> Split:
    """The exactly linear and the even part of a two-layer network without biases.

    ``f(x) = kappa W2 W1 x + W2 e(W1 x)`` with the even part ``e(z) = (s(z) + s(-z)) / 2`` of the
    activation.

    Any network with one layer of activations obeying ``s(z) - s(-z) = 2 kappa z`` (ReLU, leaky
    ReLU, PReLU, GELU, SiLU, softplus, hardswish) and affine operations without constants around it:
    linear layers, convolutions, average pooling, a residual connection. For ``max(z, alpha z)``,
    ``kappa = (1 + alpha)/2``.

    Args:
        model: the network; it is not changed, and the parts hold copies of its numbers.
        x: rows like those that it takes; not needed where its first layer is ``nn.Linear``.

    Raises:
        StructureError: if it has biases, more layers, or another activation.
        InputError: if ``x`` is needed.

    Reference: Y. Zhang, A. Saxe, P. Latham, When are bias-free ReLU networks effectively linear
    networks?, TMLR 2025.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 9, bias=False), nn.ReLU(), nn.Linear(9, 2, bias=False))
        >>> parts, x = split(net), torch.randn(5, 4)
        >>> torch.allclose(parts.linear(x) + parts.even(x), net(x), atol=1e-6)
        True
        >>> torch.allclose(parts.matrix, net[2].weight @ net[0].weight / 2, atol=1e-6)
        True
    """
    with evaluating(model) if isinstance(model, nn.Module) else torch.no_grad():
        rows = _example(model) if x is None else as_tensor(x, "x")
        network = as_network(model, rows)
        exact = network.exact() or network
        two = two_layer(exact, structure_of(exact, rows), rows).to(network.like)
    if two.has_bias:
        raise StructureError(
            "a network with a bias",
            "none: with one the odd part is not linear",
            "Remove the biases.",
        )
    if two.activation.kappa is None:
        raise StructureError(
            f"the activation {two.activation.name}, whose odd part is not linear",
            "one with s(z) - s(-z) = 2 kappa z, such as ReLU, leaky ReLU, GELU, SiLU, softplus",
            "Use rl.audit, which measures how linear the odd part is.",
        )
    shapes = network.in_shape, network.out_shape
    return Split(LinearPart(two.matrix, *shapes), EvenPart(two, *shapes))


def exact_map(subject: Subject) -> Measure:
    """The share of the energy of the exact linear part of two layers without bias.

    The part is ``M0 + kappa W2 W1``; energies are those on the data.

    Of an affine network, the map itself. The matrix is in ``tensors["matrix"]``.
    """
    name, two = "exact_map", subject.two_layer
    if subject.structure.is_affine:
        matrix, _ = affine_map(subject.exact)
        note = "the network is this map (and a constant)"
    elif isinstance(two, TwoLayer):
        if two.has_bias or two.activation.kappa is None:
            why = (
                "a bias" if two.has_bias else f"the odd part of {two.activation.name} is not linear"
            )
            return Measure.missing(name, f"the odd part is no matrix: {why}")
        matrix = two.matrix
        note = "share of the energy on the data that the exact linear part, kappa W2 W1, has"
    else:
        return two_layers_only(name, two)
    left = total = 0.0
    for p in subject.passes():
        left += float((p.f - p.x.flatten(1).to(matrix) @ matrix.mT).double().square().sum())
        total += float(p.f.double().square().sum())
    s = torch.linalg.svdvals(matrix.double())
    details = {
        "singular_values": s[:KEPT_VALUES].tolist(),
        "rank": int((s > s[0] * max(matrix.shape) * RANK_TOLERANCE).sum()),
    }
    value = 1 - left / total if total else 1.0
    return Measure(
        name,
        value,
        "exact",
        None,
        note,
        details,
        {"matrix": matrix, "singular values of the map": s},
    )


def certificate(subject: Subject) -> Measure:
    """The largest distance from linear on the unit sphere, certified from both sides.

    ``sup_{|x|=1} |f(x) - M x|`` for two layers, ``M`` the exact linear part.

    The value is the bound from above, relative to the largest ``|M x|`` on the unit sphere where
    ``M`` is not zero; the interval holds the truth. With biases the input carries a one, ``(x,
    1)``.
    """
    name, two = "certificate", subject.two_layer
    if isinstance(two, str):
        return two_layers_only(name, two)
    if two.activation.slope is None:
        return Measure.missing(name, f"{two.activation.name} is not piecewise linear")
    vectors, directions = even_part(two, subject.units)
    upper = upper_bound(vectors, directions)
    lower, _ = lower_bound(vectors, directions, subject.seed) if upper else (0.0, None)
    size = float(torch.linalg.matrix_norm(two.matrix.double(), 2))
    scale = size or 1.0
    radius = float(subject.network.rows(subject.data.sample).flatten(1).norm(dim=1).max())
    radius = (radius**2 + 1) ** 0.5 if two.has_bias else radius
    details = {
        "lower": lower,
        "upper": upper,
        "norm_of_linear_part": size,
        "upper_on_sample": upper * radius,
    }
    details["augmented"] = two.has_bias
    note = "largest |f(x) - Mx| on the unit sphere" + (
        ", relative to that of |Mx|" if size else "; M is zero"
    )
    if not upper:
        note = "the even part vanishes identically: its neurons cancel in pairs"
    return Measure(name, upper / scale, "certified", (lower / scale, upper / scale), note, details)


def even_part(two: TwoLayer, units: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The even part as ``e(x) = sum_i v_i |u_i . x|``, in float64.

    Vectors ``v`` ``(H, O)`` and unit directions ``u`` ``(H, D)``.

    Neurons on one line through the origin are added up; those that cancel, up to rounding, are
    gone. A bias is one more coordinate of the input. What is below rounding is decided for inputs
    of the sizes ``units`` ``(D,)``, of one size by default, and for each output in its own unit.
    """
    slope = two.activation.slope
    assert slope is not None
    w = torch.cat([two.W1, two.b1[:, None]], 1) if two.has_bias else two.W1
    w = w.double()
    lengths = w.norm(dim=1)
    v = (
        two.W2.double() * (1 - torch.as_tensor(slope, dtype=torch.float64, device=w.device)) / 2
    ).mT * lengths[:, None]
    alive = (lengths > 0) & (v.norm(dim=1) > 0)
    v, u = v[alive], w[alive] / lengths[alive, None]
    if not len(v):
        return v, u
    groups = clusters(mirrored(sketch(_directions(u, two, units))), rounding(two)).to(u.device)
    count = int(groups.max()) + 1
    total = v.new_zeros(count, v.shape[1]).index_add_(0, groups, v)
    weight = v.new_zeros(count).index_add_(0, groups, v.norm(dim=1))
    first = torch.full((count,), len(u), device=u.device).scatter_reduce_(
        0, groups, torch.arange(len(u), device=u.device), "amin"
    )
    largest = v.new_zeros(count, v.shape[1]).index_add_(0, groups, v.abs()).amax(0)
    left = (total.abs() > rounding(two) * torch.minimum(weight[:, None], largest)).any(1)
    return total[left], u[first[left]]


def _directions(w: Tensor, two: TwoLayer, units: Tensor | None) -> Tensor:
    """Unit vectors of rows ``w`` in inputs of the size one."""
    if units is None:
        return w / w.norm(dim=1, keepdim=True)
    sizes = torch.cat([units, units.new_ones(1)]) if two.has_bias else units
    scaled = w * (sizes / sizes.max()).to(w.device)
    lengths = scaled.norm(dim=1, keepdim=True)
    return torch.where(lengths > 0, scaled / lengths, w)


def rounding(two: TwoLayer) -> float:
    """The relative difference below which two weights count as equal in a proof."""
    return 30 * torch.finfo(two.W1.dtype).eps


def upper_bound(v: Tensor, u: Tensor) -> float:
    """At least ``sup_{|x|=1} |sum_i v_i |u_i . x||``, by matching neurons that nearly cancel.

    For every permutation ``p`` the sum is half of ``sum_i (v_i |u_i . x| + v_p(i) |u_p(i) . x|)``,
    and each term is at most ``|v_i + v_j| + min(|v_i|, |v_j|) |u_i -/+ u_j|``; for one output and
    opposite signs ``||v_i| u_i -/+ |v_j| u_j|`` is less. The assignment problem finds the best
    permutation.
    """
    if not len(v):
        return 0.0
    lengths = v.norm(dim=1)
    plain = min(
        float(lengths.sum()), float(torch.linalg.matrix_norm(v, 2) * torch.linalg.matrix_norm(u, 2))
    )
    if len(v) > MATCHED_NEURONS:
        return plain
    cosine = (u @ u.mT).abs().clamp(max=1)
    up = 8 * u.shape[1] * torch.finfo(u.dtype).eps  # a certificate rounds up
    between = (2 - 2 * cosine + up).sqrt()
    cost = torch.cdist(v, -v) + torch.minimum(lengths[:, None], lengths) * between
    if v.shape[1] == 1:
        a, sign = lengths, v[:, 0].sign()
        apart = (
            (a[:, None].square() + a.square() - 2 * a[:, None] * a * cosine)
            .clamp_min(0)
            .add(up * a[:, None] * a)
            .sqrt()
        )
        cost = torch.where(sign[:, None] * sign < 0, torch.minimum(cost, apart), a[:, None] + a)
        return min(plain, _one_sided(lengths, sign, cost))
    cost.fill_diagonal_(0).diagonal().add_(2 * lengths)
    cost = torch.minimum(cost, lengths[:, None] + lengths)
    rows, columns = linear_sum_assignment(cost.cpu().numpy())
    return min(plain, float(cost[rows, columns].sum()) / 2)


def _one_sided(lengths: Tensor, sign: Tensor, cost: Tensor) -> float:
    """For one output: neurons of negative sign may stay unmatched at no cost.

    To bound the sum from above.
    """
    bounds = []
    for side in (1, -1):
        own, other = sign == side, sign == -side
        if not bool(own.any()):
            bounds.append(0.0)
            continue
        # Each own neuron is matched to another one, or stays alone at the cost of its length.
        alone = torch.full((int(own.sum()),) * 2, torch.inf, dtype=cost.dtype)
        alone.diagonal().copy_(lengths[own].cpu())
        table = np.concatenate([cost[own][:, other].cpu().numpy(), alone.numpy()], axis=1)
        table = np.minimum(table, 1e300)
        rows, columns = linear_sum_assignment(table)
        bounds.append(float(table[rows, columns].sum()))
    return max(bounds)


def lower_bound(v: Tensor, u: Tensor, seed: int) -> tuple[float, Tensor]:
    """A value that ``|sum_i v_i |u_i . x||`` takes on the unit sphere; and where.

    By ascent from many points.
    """
    draws = torch.randn(ASCENTS, u.shape[1], generator=stream(seed, "ascent"), dtype=u.dtype).to(
        u.device
    )
    heavy = u[v.norm(dim=1).topk(min(ASCENTS, len(v))).indices]
    x = torch.cat([draws, heavy])
    x = x / x.norm(dim=1, keepdim=True)
    best, where, step = x.new_zeros(len(x)), x.clone(), 1.0
    for _ in range(ASCENT_STEPS):
        z = x @ u.mT
        e = z.abs() @ v
        size = e.norm(dim=1)
        better = size > best
        best, where = torch.where(better, size, best), torch.where(better[:, None], x, where)
        slope = ((e @ v.mT) * z.sign()) @ u
        slope = slope / slope.norm(dim=1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
        x = where + step * slope
        x = x / x.norm(dim=1, keepdim=True)
        step = step if bool(better.any()) else step / 2
    top = int(best.argmax())
    return float(best[top]), where[top]


def collapses(two: TwoLayer, units: Tensor | None = None) -> bool:
    """True if the network is affine because its neurons cancel in pairs, up to rounding.

    The functions ``|u . x|`` of different lines are independent, so the even part vanishes only if
    the sum of each line does. For other activations with a linear odd part, ``w`` and ``-w`` must
    cancel as they are. ``units`` ``(D,)`` are the sizes of the inputs.
    """
    if two.activation.slope is not None:
        return not len(even_part(two, units)[0])
    if two.activation.kappa is None:
        return False
    scaled = two.W1.double() if units is None else two.W1.double() * units.to(two.W1.device)
    w = torch.cat([scaled, two.b1[:, None].double()], 1)
    lengths = w.norm(dim=1)
    scale = float(lengths.max().clamp_min(torch.finfo(w.dtype).tiny))
    groups = clusters(mirrored(sketch(w)), scale * rounding(two)).to(w.device)
    v = two.W2.double().mT
    total = v.new_zeros(int(groups.max()) + 1, v.shape[1]).index_add_(0, groups, v)
    moving = v.new_zeros(len(total)).index_add_(0, groups, lengths) > 0
    return bool((total[moving].abs() <= rounding(two) * v.abs().amax(0)).all())


def _example(model: nn.Module) -> Tensor:
    """Random rows for a network that starts with a linear layer."""
    parameters = check_module(model)
    first = next(
        (
            m
            for m in inner(model).modules()
            if not list(m.children()) and not isinstance(m, nn.Flatten)
        ),
        model,
    )
    if not isinstance(first, nn.Linear):
        raise InputError(
            f"a network that starts with {type(first).__name__}, and no x",
            "rows like those that it takes",
            "Pass a few of them as x.",
        )
    like = parameters[0].detach()
    return torch.linspace(-1, 1, 8 * first.in_features).sin().reshape(8, -1).to(like)

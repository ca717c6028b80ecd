"""How far a two-layer network is from its linear part, between a bound from below and one from
above.

The even part of ``W2 s(W1 x)`` for ``s(z) = max(z, alpha z)`` is ``e(x) = sum_i c_i |w_i . x|``
with ``c_i = (1 - alpha)/2 W2[:, i]``. For one output, ``sup_{|x|=1} |e(x)|`` is the Hausdorff
distance of two zonotopes, the sums of the segments ``[-c_i w_i, c_i w_i]`` with positive and with
negative ``c_i``: that distance is the largest difference of the support functions.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from rectilinear.analysis.measure import Measure
from rectilinear.analysis.subject import Subject
from rectilinear.learning.mirror import clusters, mirrored, sketch
from rectilinear.networks.layers import TwoLayer
from rectilinear.random import stream

STARTS = 16
STEPS = 40
WIDEST = 1200  # neurons that are matched; wider networks get the bound by norms


def certificate(subject: Subject) -> Measure:
    """``sup_{|x|=1} |f(x) - M x|`` for two layers, ``M`` the exact linear part, certified from both
    sides.

    The value is the bound from above, relative to the largest ``|M x|`` on the unit sphere where
    ``M`` is not zero; the interval holds the truth. With biases the input carries a one, ``(x,
    1)``.
    """
    name, two = "certificate", subject.two_layer
    if isinstance(two, str):
        return Measure.missing(
            name,
            f"two layers only; {two.removeprefix('a network that is not one of two layers: ')}",
        )
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
    """Vectors ``v`` ``(H, O)`` and unit directions ``u`` ``(H, D)`` with ``e(x) = sum_i v_i |u_i .
    x|``, in float64.

    Neurons on one line through the origin are added up; those that cancel, up to rounding, are
    gone. A bias is one more coordinate of the input. What is below rounding is told for inputs of
    the sizes ``units`` ``(D,)``, of one size by default, and for each output in its own unit.
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
    """Relative difference at which two weights are one: a few roundings, and no more, for this
    decides proofs.
    """
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
    if len(v) > WIDEST:
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
    """For one output: to bound ``sum`` from above, neurons of negative sign may stay unmatched at
    no cost.
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
    """A value that ``|sum_i v_i |u_i . x||`` takes on the unit sphere, by ascent from many starts;
    and where.
    """
    draws = torch.randn(STARTS, u.shape[1], generator=stream(seed, "ascent"), dtype=u.dtype).to(
        u.device
    )
    heavy = u[v.norm(dim=1).topk(min(STARTS, len(v))).indices]
    x = torch.cat([draws, heavy])
    x = x / x.norm(dim=1, keepdim=True)
    best, where, step = x.new_zeros(len(x)), x.clone(), 1.0
    for _ in range(STEPS):
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
    """Whether the network is affine, because its neurons cancel in pairs: a proof up to the
    rounding of its weights.

    The functions ``|u . x|`` of different lines are independent, so the even part vanishes only
    where each line's sum does. For other activations with a linear odd part, ``w`` and ``-w`` must
    cancel as they stand. ``units`` ``(D,)`` are the sizes of the inputs.
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

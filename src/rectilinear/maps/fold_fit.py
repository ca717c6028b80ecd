"""Fit of the map over a span of blocks, folded into the linear layer before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from rectilinear.errors import StructureError
from rectilinear.maps.fold_target import Neighbour, weight_of
from rectilinear.maps.spans import Span
from rectilinear.networks.batches import Batch
from rectilinear.networks.forward_pass import Output, forward
from rectilinear.networks.places import inner
from rectilinear.networks.token_vectors import vectors

Way = Literal["map", "layer"]
MAX_NUMBERS = 2**27  # numbers that are gathered for a fit: 512 MB in float32
RIDGES = (  # times the mean square of an input of the layer; the largest leave the layer as it is
    *(0.0, 1e-4, 1e-3, 1e-2, 1e-1),
    *(1.0, 10.0, 100.0, 1e3),
)
ROUNDING = 1e-13  # of the largest sum of squares: directions below it are not in the data
WIDEST = 4096  # inputs of a layer up to which all of its weights are fitted again


@dataclass(frozen=True, eq=False)
class Gathered:
    """The data that a fold is fitted to: one row for each token, position or sample.

    Attributes:
        inside: the input of the layer, ``(n, k)``.
        stream: what its output is added to, ``(n, d)``.
        target: the stream behind the span, ``(n, d)``.
    """

    inside: Tensor
    stream: Tensor
    target: Tensor


@dataclass(frozen=True, eq=False)
class Folded:
    """The new weight of the layer, and how it was found.

    Attributes:
        matrix: the new weight, ``(d, k)``.
        constant: the new bias, None for a layer without one.
        way: "map" for ``T W``, a map behind the layer; "layer" for a weight fitted again.
        ridge: with which it was fitted.
        left: the share of the variance of the stream behind the span that it leaves, on the rows
            that it was chosen on.
        rows: how many rows it was fitted to.
        directions: how many directions these have.
        fitted_r2: the share of that variance that the fit without a ridge explains of these.
    """

    matrix: Tensor
    constant: Tensor | None
    way: Way
    ridge: float
    left: float
    rows: int
    directions: int
    fitted_r2: float


def gather(
    model: nn.Module,
    batches: Iterable[Batch],
    span: Span,
    neighbour: Neighbour,
    output: Output = None,
) -> Gathered:
    """The data for the fit of a fold, from batches run through the model, up to ``MAX_NUMBERS``."""
    places = [f"{neighbour.layer}@input", f"{neighbour.layer}@output", neighbour.sum]
    last = f"{span.names[-1]}@output"
    found: list[list[Tensor]] = []
    numbers = 0
    for batch in batches:
        at = forward(model, batch, [*places, last], output=output).at
        if at[neighbour.sum].shape != at[last].shape:
            shapes = f"{tuple(at[neighbour.sum].shape[1:])} to {tuple(at[last].shape[1:])}"
            raise StructureError(
                f"the span {span} from {shapes}", "one shape on both sides", "Pass fold=False."
            )
        inside, added = (_own_rows(at[p], at[last], batch, neighbour) for p in places[:2])
        total, target = (
            vectors(at[p], batch.mask, neighbour.layout).rows for p in (neighbour.sum, last)
        )
        added = added if neighbour.scale is None else added * neighbour.scale.to(added)
        found.append([inside, total - added, target])
        numbers += sum(part.numel() for part in found[-1])
        if numbers > MAX_NUMBERS:
            break
    return Gathered(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def _own_rows(value: Tensor, stream: Tensor, batch: Batch, neighbour: Neighbour) -> Tensor:
    """The vectors of the layer's input or output without padding, in the order of the stream's.

    Some models, such as OPT, pass the tokens of all samples to their layers as rows ``(b t, d)``.
    """
    if neighbour.own == "rows" and stream.ndim == 3 and len(value) == stream[..., 0].numel():
        value = value.reshape(*stream.shape[:2], -1)
        return vectors(value, batch.mask, "tokens").rows
    return vectors(value, batch.mask, neighbour.own).rows


def fit_fold(
    model: nn.Module, neighbour: Neighbour, fitting: Gathered, judging: Gathered
) -> Folded:
    """The weight of the layer before the span that best reproduces the stream after the span.

    Without a normalisation in between (pre-norm) this is least squares for ``stream + T M ~ h``,
    with ``M`` the layer's output and ``h`` the stream after the span, as in ReplaceMe. With one
    (post-norm) the fit is before it, with the target ``(h - beta) / gamma`` at the scale of each
    token's sum, which the normalisation removes. Both are also fitted over the whole weight of the
    layer, ``stream + W x ~ h`` with ``x`` its input. Ridges shrink towards the present layer; the
    fit with the smallest error on ``judging`` is returned. Where each channel of the layer's output
    is scaled before the sum, the fit is behind the scale, which the new weight is divided by.

    Reference: D. Shopkhoev et al., ReplaceMe: network simplification via depth pruning and
    transformer block linearization, NeurIPS 2025.
    """
    model = inner(model)
    layer = model.get_submodule(neighbour.layer)
    norm = None if neighbour.norm is None else model.get_submodule(neighbour.norm)
    weight, bias = weight_of(layer), layer.bias
    old = bias.detach().double() if isinstance(bias, Tensor) else None
    scale = torch.ones(len(weight), dtype=torch.float64, device=weight.device)
    scale = scale if neighbour.scale is None else neighbour.scale.to(scale)
    scaled = scale[:, None] * weight, None if old is None else scale * old
    ways: list[Way] = ["map", "layer"] if weight.shape[1] <= WIDEST else ["map"]
    tried = [folded for way in ways for folded in _fits(*scaled, norm, fitting, judging, way)]
    best = min(tried, key=lambda folded: folded.left)
    constant = None if best.constant is None else best.constant / scale
    return replace(best, matrix=best.matrix / scale[:, None], constant=constant)


def _fits(
    weight: Tensor,
    old: Tensor | None,
    norm: nn.Module | None,
    fitting: Gathered,
    judging: Gathered,
    way: Way,
) -> Iterator[Folded]:
    """The fits of a layer ``weight x + old``, one for each ridge."""
    features = fitting.inside.double()
    if way == "map":
        features = features @ weight.mT if old is None else features @ weight.mT + old
    solver = _Ridge(features, centred=old is not None)
    now = fitting.inside.double() @ weight.mT + (0 if old is None else old)
    stream, target = fitting.stream.double(), fitting.target.double()
    wanted = target if norm is None else _before(norm, target) * _spread(stream + now)
    fitted_r2 = 1.0
    for ridge in RIDGES:
        change, shift = solver.solve(wanted - stream - now, ridge)
        matrix = weight + (change @ weight if way == "map" else change)
        constant = None
        if old is not None:
            constant = old + shift + (change @ old if way == "map" else 0)
        left = _left(norm, judging, matrix, constant)
        fitted_r2 = fitted_r2 if ridge else 1 - _left(norm, fitting, matrix, constant)
        size = len(features), solver.directions, fitted_r2
        yield Folded(matrix, constant, way, ridge, left, *size)


class _Ridge:
    """Least squares on one set of features, for several targets and ridges."""

    def __init__(self, features: Tensor, centred: bool) -> None:
        self._mean = features.mean(0) if centred else torch.zeros_like(features[0])
        self._rows = features - self._mean
        self._centred = centred
        s, v = torch.linalg.eigh(self._rows.mT @ self._rows)
        self._s, self._v = s.clamp_min(0), v
        self._keep = self._s > ROUNDING * self._s[-1]
        self.directions = int(self._keep.sum())

    def solve(self, targets: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
        """The matrix ``(d, k)`` and the constant ``(d,)``."""
        mean = targets.mean(0) if self._centred else torch.zeros_like(targets[0])
        products = self._v.mT @ (self._rows.mT @ (targets - mean))
        size = self._s + ridge * self._s.mean()
        solved = torch.where(self._keep[:, None], products / size.clamp_min(1e-300)[:, None], 0.0)
        matrix = (self._v @ solved).mT
        return matrix, mean - matrix @ self._mean


def _applied(gathered: Gathered, matrix: Tensor, constant: Tensor | None) -> Tensor:
    out = gathered.inside.double() @ matrix.mT
    return out if constant is None else out + constant


def _left(
    norm: nn.Module | None, gathered: Gathered, matrix: Tensor, constant: Tensor | None
) -> float:
    """The share of the variance of the stream after the span that the fold leaves unexplained."""
    total = gathered.stream.double() + _applied(gathered, matrix, constant)
    out = total if norm is None else _normalised(norm, total)
    wanted = gathered.target.double()
    variance = (wanted - wanted.mean(0)).square().sum()
    return float((out - wanted).square().sum() / variance.clamp_min(1e-300))


def _normalised(norm: nn.Module, rows: Tensor) -> Tensor:
    assert isinstance(norm, nn.LayerNorm)
    gain, offset = _gain_and_offset(norm, rows)
    return nn.functional.layer_norm(rows, norm.normalized_shape, gain, offset, norm.eps)


def _before(norm: nn.Module, out: Tensor) -> Tensor:
    """The vector of mean zero and mean square one that a layer normalisation maps to ``out``."""
    assert isinstance(norm, nn.LayerNorm)
    gain, offset = _gain_and_offset(norm, out)
    least = 1e-3 * gain.abs().max()
    gain = torch.where(gain.abs() < least, least.copysign(gain), gain)
    rows = (out - offset) / gain
    rows = rows - rows.mean(1, keepdim=True)
    return rows / _spread(rows).clamp_min(1e-300)


def _gain_and_offset(norm: nn.LayerNorm, rows: Tensor) -> tuple[Tensor, Tensor]:
    ones = rows.new_ones(rows.shape[1])
    gain = ones if norm.weight is None else norm.weight.detach().to(rows)
    return gain, 0 * ones if norm.bias is None else norm.bias.detach().to(rows)


def _spread(rows: Tensor) -> Tensor:
    """The standard deviation of each row, ``(n, 1)``."""
    return rows.std(1, keepdim=True, unbiased=False)

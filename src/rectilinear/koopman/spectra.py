"""Eigenvalues and modes of the linear models of a forecaster, and their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rectilinear import numerics
from rectilinear.koopman.autoregression import (
    FiniteMap,
    Piece,
    StrideMap,
    finite_moments,
    inputs,
    lifted,
    moments,
    of_finite_fit,
    of_fit,
    some_windows,
)
from rectilinear.koopman.closed_form import FullMap
from rectilinear.koopman.compression import Reduced
from rectilinear.koopman.realization import Modes, modes, ordered, realize_at
from rectilinear.plots import canvas
from rectilinear.plots.charts import ROLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROWS, _COLUMNS = 3000, 100  # windows, and columns of a shared map, that modes are computed on
_BLOCKS = 20


def map_modes(model: Any, pieces: Sequence[Piece], scale: Tensor) -> Modes | None:
    """The modes of a model that is linear in its state, strongest first; None of any other.

    Of an autoregression and of a finite model they are the eigenvectors of its matrix. Of a direct
    map they are realised from its forecasts: the singular vectors of what it predicts, and how they
    map to themselves under a shift by one step. A series that is driven by noise keeps its time
    scales so, as what cannot be predicted is left out.

    Reference: Larimore, "Canonical variate analysis in identification, filtering, and adaptive
    control" (1990), for modes from the forecasts of a regression.
    """
    if isinstance(model, Reduced):
        scores = [p.within(model.basis) for p in pieces]
        found = map_modes(model.inner, scores, torch.ones(model.basis.shape[1], dtype=scale.dtype))
        if found is None:
            return None
        return replace(found, shapes=found.shapes @ model.basis.T.to(found.shapes.dtype) * scale)
    past = _pasts(model, pieces)
    if isinstance(model, FullMap):
        found = modes(model.model, past.flatten(1))
        return replace(found, shapes=found.shapes * scale)
    if isinstance(model, FiniteMap):
        return _of_matrix(model.matrix, lifted(model.plan, past), scale)
    if not isinstance(model, StrideMap) or model.plan.dictionary is not None:
        return None
    if model.plan.shared:
        past, scale = past.transpose(1, 2).reshape(-1, model.plan.lags, 1), scale[:1] ** 0
    if model.plan.stride == 1:
        return _of_matrix(companion(model), past.flatten(1), scale)
    return _of_direct(model, pieces, past, scale)


def companion(model: StrideMap) -> Tensor:
    """The matrix on rows ``(lags d, lags d)`` that moves the window of the last rows by one step.

    Example:
        >>> from rectilinear.koopman.autoregression import Plan
        >>> double = torch.tensor([[0.5], [0.2]], dtype=torch.float64)
        >>> companion(StrideMap(Plan(lags=2, level="mean"), double, torch.zeros(1))).tolist()
        [[0.5, 1.0], [0.2, 0.0]]
    """
    lags = model.plan.lags
    d = model.matrix.shape[1]
    if model.plan.level == "last":
        outer = (lags - 1) * d
        past = model.matrix[:outer].unflatten(0, (lags - 1, d)) if lags > 1 else None
        now = torch.eye(d, dtype=model.matrix.dtype)
        rows = now if past is None else torch.cat([now - past.sum(0), past.flatten(0, 1)])
    else:
        rows = model.matrix[: lags * d]
    found = rows.new_zeros(lags * d, lags * d)
    found[:, :d] = rows
    found[: (lags - 1) * d, d:] = torch.eye((lags - 1) * d, dtype=rows.dtype)
    return found


def _of_matrix(matrix: Tensor, z: Tensor, scale: Tensor) -> Modes:
    """The modes of ``z' = z K``, where the first columns of ``z`` are the observations."""
    values, vectors = numerics.eig(matrix)
    d = len(scale)
    inverse = torch.linalg.pinv(vectors)
    size = ((z - z.mean(0)).to(vectors.dtype) @ vectors).abs().square().mean(0).sqrt()
    return _ordered(values, inverse[:, :d], size, scale)


def _ordered(values: Tensor, shapes: Tensor, size: Tensor, scale: Tensor) -> Modes:
    kept = (values.imag >= -1e-12) & (values.abs() > 1e-9)
    found = ordered(values[kept], values[kept].log(), size[kept], shapes[kept])
    return replace(found, shapes=found.shapes * scale)


def _of_direct(model: StrideMap, pieces: Sequence[Piece], past: Tensor, scale: Tensor) -> Modes:
    """The modes of the forecasts of a direct map, above what its weights owe to noise."""
    d = past.shape[2]
    given = inputs(model.plan, past)[:, : len(model.matrix)]
    forecasts = (given @ model.matrix[: given.shape[1]] + model.constant).unflatten(1, (-1, d))
    if model.plan.level == "last":
        forecasts = forecasts + past[:, :1]
    windows = torch.cat([past[:, :1], forecasts], dim=1)
    sigma = _residual(model, pieces)
    floor = sigma * (given.shape[1] ** 0.5 + (model.plan.stride * d) ** 0.5)
    found = realize_at(windows, floor)
    h = len(found.frequency)
    exponents = torch.complex(
        found.growth, torch.cat([found.frequency, found.growth.new_zeros(len(found.growth) - h)])
    )
    values = exponents.exp()
    rows = torch.complex(found.readout[: 2 * h : 2], -found.readout[1 : 2 * h : 2])
    shapes = torch.cat([rows, found.readout[2 * h :].to(rows.dtype)])
    steps = torch.arange(windows.shape[1], dtype=windows.dtype)
    basis = torch.exp(steps[:, None] * exponents[None])[:, None] * shapes.T[None]
    real = torch.cat([basis.real.flatten(0, 1), -basis.imag.flatten(0, 1)], dim=1)
    z = numerics.lstsq(real, (windows - found.offset).flatten(1).T).T
    m = len(values)
    size = torch.complex(z[:, :m], z[:, m:]).abs().square().mean(0).sqrt()
    return _ordered(values, shapes, size, scale)


def _residual(model: StrideMap, pieces: Sequence[Piece]) -> float:
    fit = moments(model.plan, pieces).fit()
    return float((fit.left.sum() / (fit.n * len(fit.left))).clamp(min=0).sqrt())


def _pasts(model: Any, pieces: Sequence[Piece]) -> Tensor:
    """States of the data, newest row first, at most 3,000; of a shared map of some columns."""
    lags, shared = model.plan.lags, isinstance(model, StrideMap) and model.plan.shared
    every = max(1, pieces[0].x.shape[1] // _COLUMNS) if shared else 1
    long = [p.x[:, ::every] for p in pieces if len(p.x) >= lags]
    count = sum(len(x) - lags + 1 for x in long)
    return some_windows(long, lags, torch.arange(0, count, -(-count // _ROWS))).flip(1)


def eigenvalue_intervals(
    model: Any,
    pieces: Sequence[Piece],
    scale: Tensor,
    count: int = 100,
    level: float = 0.9,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Intervals of radius and angle of each eigenvalue: refits on blocks drawn with replacement.

    An eigenvalue of a refit belongs to the nearest one of the model. Empty where the model has no
    modes, or there are too few rows for blocks.

    Reference: Künsch, "The jackknife and the bootstrap for general stationary observations" (1989).
    """
    inner, used = model, list(pieces)
    if isinstance(model, Reduced):
        inner, used = model.inner, [p.within(model.basis) for p in pieces]
    own = map_modes(model, pieces, scale)
    finite = isinstance(inner, FiniteMap)
    if own is None or isinstance(inner, FullMap):
        return []
    blocks = _blocks(used, inner.plan.lags + inner.plan.stride)
    if len(blocks) < 5:
        return []
    parts = [(finite_moments if finite else moments)(inner.plan, [b]) for b in blocks]
    random = np.random.default_rng(seed)
    radius, angle = [], []
    for _ in range(count):
        drawn = random.integers(len(parts), size=len(parts))
        joined = parts[drawn[0]]
        for k in drawn[1:]:
            joined = joined.joined(parts[k])
        again = (of_finite_fit if finite else of_fit)(
            inner.plan, joined.fit(centred=inner.plan.constant), inner.plan.ridge
        )
        found = map_modes(again, used, torch.ones(used[0].x.shape[1], dtype=torch.float64))
        assert found is not None, "the kind of the model itself"
        if not len(found.eigenvalues):
            continue
        near = (found.eigenvalues[None] - own.eigenvalues[:, None]).abs().argmin(1)
        radius.append(found.eigenvalues[near].abs().numpy())
        angle.append(found.eigenvalues[near].angle().abs().numpy())
    ends = [(1 - level) / 2, (1 + level) / 2]
    low = np.quantile(radius, ends, axis=0), np.quantile(angle, ends, axis=0)
    return [
        {
            "eigenvalue": complex(value),
            "radius": (float(low[0][0][i]), float(low[0][1][i])),
            "angle": (float(low[1][0][i]), float(low[1][1][i])),
        }
        for i, value in enumerate(own.eigenvalues)
    ]


def _blocks(pieces: Sequence[Piece], length: int) -> list[Piece]:
    """Stretches of about equal length, whole pieces where there are many."""
    total = sum(len(p.x) for p in pieces)
    size = max(total // _BLOCKS, length + 2)
    found = []
    for p in pieces:
        for first in range(0, max(len(p.x) - length - 1, 0), size):
            part = p.rows(first, first + size + length - 1)
            if len(part.x) > length + 1:
                found.append(part)
    while len(found) > 2 * _BLOCKS:
        found = found[::2]
    return found


def spectrum_figure(modes: Modes) -> Figure:
    """The figure of eigenvalues and their conjugates with the unit circle, by amplitude."""
    figure, (axes,) = canvas(columns=1, height=3.2)
    draw_eigenvalues(axes, modes.eigenvalues.numpy(), modes.amplitude.numpy())
    axes.set_ylabel("imaginary part")
    return figure


def draw_eigenvalues(axes: Axes, values: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
    """Complex ``values`` and conjugates with the unit circle, dots by weight; all that is drawn."""
    turn = np.linspace(0, 2 * np.pi, 400)
    both, size = np.concatenate([values, values.conj()]), np.tile(weight, 2)
    area = 6 + 90 * np.sqrt(size / max(float(size.max()), 1e-300))
    axes.plot(np.cos(turn), np.sin(turn), color=ROLES["rule"], linewidth=1.0)
    axes.scatter(both.real, both.imag, s=area, color=ROLES["first"], alpha=0.55, linewidths=0)
    axes.set(xlabel="real part", aspect="equal")
    return both


def modes_figure(modes: Modes, names: tuple[str, ...], count: int = 4) -> Figure:
    """The figure of the strongest modes: size and angle of each column in them."""
    count = min(count, len(modes.eigenvalues))
    figure, all_axes = canvas(columns=max(count, 1), height=2.4, sharey=True)
    rows = np.arange(modes.shapes.shape[1])
    for i, axes in zip(range(count), all_axes, strict=False):
        shape = modes.shapes[i].numpy()
        axes.bar(rows, np.abs(shape) * np.sign(np.cos(np.angle(shape))), color=ROLES["first"])
        period = float(modes.period[i])
        title = f"period {period:.4g}" if np.isfinite(period) else "no oscillation"
        axes.set(title=f"{title}, radius {abs(complex(modes.eigenvalues[i])):.3f}")
        if len(names) <= 12:
            axes.set_xticks(rows, names, rotation=30, ha="right", rotation_mode="anchor")
    return figure

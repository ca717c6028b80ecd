"""Leading singular vectors of windows: modes by eigensystem realization, and smoothing."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import torch
from torch import Tensor

from rectilinear import numerics
from rectilinear.errors import ForecastWarning
from rectilinear.koopman.autoregression import Piece
from rectilinear.koopman.model import Koopman
from rectilinear.notebook import short_repr

NEGLIGIBLE = 1e-10
"""Singular values below this part of the largest are rounding: they carry no mode."""
PARALLEL = 1e-10  # least singular value of unit eigenvectors at or below which some coincide
SPLIT = 1e-14  # of a matrix's skew part that is added where eigenvectors coincide
ROUNDING = 1e-9  # of an eigenvalue of one step: less is no rotation, growth or decay
GROWS = 1.5
"""A mode that grows by more over the fitted steps, and is held constant, is named in a warning."""
SMALLEST = 1e-3
"""Smallest modulus of an eigenvalue of a step: what is forgotten faster is forgotten at once."""
LONGEST_WINDOW, _ROWS = 50, 3000  # of the windows of smoothing, and how many are decomposed


class Realization(NamedTuple):
    """Modes ``x_k = sum_j Re(c_j exp(l_j k) zeta_j)``: pairs first, then reals.

    ``growth`` ``(h + r,)`` and ``frequency`` ``(h,)`` are the real and imaginary parts of ``l`` for
    a step; ``readout`` ``(2h + r, d)`` maps real coordinates (``Re zeta, Im zeta`` of each pair,
    then the reals) to observations; the modes move about ``offset`` ``(d,)``.
    """

    growth: Tensor
    frequency: Tensor
    readout: Tensor
    offset: Tensor


def realize(observed: Tensor, rank: int, *, stable: bool) -> Realization:
    """At most ``rank`` dimensions of modes of windows ``(N, L, d)`` at equal steps.

    The leading right singular vectors of the windows, less the mean window, span ``[C; C A; ...; C
    A^(L-1)]``; ``A`` follows from its invariance under a shift by one step, in least squares.
    Singular values that are noise, by the optimal threshold for it, carry no mode. With ``stable``
    eigenvalues outside the unit circle move onto it. What the mean window is beside the modes is
    the offset about which they move, which takes no dimension; where it is no constant, as with a
    trend that all windows share, the windows are taken as they are.

    References: Juang, Pappa, "An eigensystem realization algorithm for modal parameter
    identification" (1985); on windows of one long series this is dynamic mode decomposition with
    delays. Gavish, Donoho, "The optimal hard threshold for singular values is 4/sqrt(3)" (2014).

    Example:
        >>> x = 5 + torch.cos(0.3 * torch.arange(60.0, dtype=torch.float64))
        >>> found = realize(x.unfold(0, 30, 1)[..., None], rank=2, stable=True)
        >>> found.frequency.numpy().round(6), found.offset.numpy().round(6)
        (array([0.3]), array([5.]))
    """
    mean = observed.mean(0)
    centred = observed - mean
    if float(centred.norm()) > NEGLIGIBLE * float(observed.norm()):
        modes, missed, radius = _modes_of(centred, rank, stable=stable)
        steps = torch.arange(len(mean), dtype=mean.dtype)
        constant = torch.eye(observed.shape[2], dtype=mean.dtype).repeat(len(mean), 1)
        columns = torch.cat([evolution(modes, steps), constant], dim=1)
        parts = numerics.lstsq(columns, mean.reshape(-1, 1))
        left = float((columns @ parts - mean.reshape(-1, 1)).norm())
        if left <= 10 * missed + 1e-9 * float(mean.norm()):
            _say_growth(radius if stable else 1.0, len(mean) - 1)
            return modes._replace(offset=parts[-observed.shape[2] :, 0])
    found, _, radius = _modes_of(observed, rank, stable=stable)
    _say_growth(radius if stable else 1.0, len(mean) - 1)
    return found


def realize_at(
    observed: Tensor, floor: float, rank: int | None = None, *, stable: bool = False
) -> Realization:
    """All modes of windows ``(N, L, d)`` whose singular values are above ``floor``.

    They move about the mean of all windows. Eigenvalues outside the unit circle stay there unless
    ``stable``.
    """
    centre = observed.mean((0, 1))
    most = observed[0].numel() if rank is None else rank
    found, _, radius = _modes_of(observed - centre, most, stable=stable, floor=floor)
    _say_growth(radius if stable else 1.0, observed.shape[1] - 1)
    return found._replace(offset=centre)


def evolution(modes: Realization, steps: Tensor) -> Tensor:
    """``C exp(t L)``, latents to observations: times ``(..., L)`` to ``(..., L d, p)``.

    Times are in steps.
    """
    h = len(modes.frequency)
    size = torch.exp(steps[..., None] * modes.growth)
    angle = steps[..., None] * modes.frequency
    cos, sin, c = size[..., :h] * angle.cos(), size[..., :h] * angle.sin(), modes.readout
    a, b = c[: 2 * h : 2].T, c[1 : 2 * h : 2].T  # (d, h)
    # a pair maps (u, v) to (cos u - sin v, sin u + cos v)
    pairs = torch.stack(
        [
            cos[..., None, :] * a + sin[..., None, :] * b,
            cos[..., None, :] * b - sin[..., None, :] * a,
        ],
        dim=-1,
    ).flatten(-2)
    return torch.cat([pairs, size[..., None, h:] * c[2 * h :].T], dim=-1).flatten(-3, -2)


def _modes_of(
    observed: Tensor, rank: int, *, stable: bool, floor: float | None = None
) -> tuple[Realization, float, float]:
    """The modes of windows, the root mean square of what has none, and the largest radius found."""
    n, length, d = observed.shape
    _, s, v = torch.linalg.svd(observed.reshape(n, -1), full_matrices=False)
    if floor is None:
        above = above_noise(s, min(n, length * d) / max(n, length * d))
    else:
        above = max(1, int((s > max(floor, NEGLIGIBLE * float(s[0]))).sum()))
    rank = min(rank, above, (length - 1) * d)
    patterns = v[:rank].T.reshape(length, d, rank)
    before, after = patterns[:-1].reshape(-1, rank), patterns[1:].reshape(-1, rank)
    values, vectors = _eigenvectors(numerics.lstsq(before, after))
    modes = patterns[0].to(vectors.dtype) @ vectors  # (d, rank)
    modulus = values.abs().clamp(min=SMALLEST)
    radius = float(modulus.max())
    modulus = modulus.clamp(max=1.0) if stable else modulus
    angle = values.angle()
    tiny = 1e-9  # angles of real eigenvalues are 0 or pi up to rounding
    # a negative eigenvalue is a pair at the angle pi: it has real powers
    pair = (angle > tiny) & (angle <= torch.pi)
    real = angle.abs() <= tiny
    c = torch.cat([modes[:, pair], modes[:, real]], dim=1)
    c = c / torch.linalg.vector_norm(c, dim=0).clamp(min=torch.finfo(s.dtype).tiny)
    h = int(pair.sum())
    rows = torch.stack([c[:, :h].real, -c[:, :h].imag], dim=-1).flatten(1)
    growth = torch.cat([modulus[pair], modulus[real]]).log()
    readout = torch.cat([rows, c[:, h:].real], dim=1).T.contiguous()
    missed = float(s[rank:].norm()) / n**0.5
    return Realization(growth, angle[pair], readout, readout.new_zeros(d)), missed, radius


def _say_growth(radius: float, steps: int) -> None:
    if radius**steps > GROWS:
        warnings.warn(
            f"a mode grows by {radius - 1:.2%} a step, {radius**steps:.3g}-fold over the {steps} "
            "steps that are fitted; stable=True holds it constant. Fit with stable=False to keep "
            "its growth.",
            ForecastWarning,
            stacklevel=4,
        )


def _eigenvectors(a: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, and eigenvectors that span: of a Jordan block, as of a trend, those beside it.

    A block ``[[1, c], [0, 1]]`` has one eigenvector. Its entry below the diagonal becomes ``-c``
    times ``SPLIT``, so that its eigenvalues are a complex pair as near 1 as rounding brings them.
    """
    values, vectors = numerics.eig(a)
    if float(torch.linalg.svdvals(vectors)[-1]) > PARALLEL:
        return values, vectors
    return numerics.eig(a + SPLIT * (a - a.T))


def above_noise(s: Tensor, aspect: float) -> int:
    """The number of singular values above white noise of unknown size, at this aspect ratio.

    Reference: Gavish, Donoho, "The optimal hard threshold for singular values is 4/sqrt(3)" (2014).

    Example:
        >>> above_noise(torch.tensor([9.0, 8.0, 1.0, 1.0, 0.9, 0.8]), 0.5)
        2
    """
    times_median = 0.56 * aspect**3 - 0.95 * aspect**2 + 1.82 * aspect + 1.43
    threshold = max(times_median * float(s.median()), NEGLIGIBLE * float(s[0]))
    return max(1, int((s > threshold).sum()))


@dataclass(frozen=True, eq=False)
class Modes:
    """The modes of a model, strongest first, one of each complex pair.

    Attributes:
        eigenvalues: of one step, complex ``(m,)``.
        exponents: their logarithms per unit of time, complex ``(m,)``.
        period: time of one turn, infinite for real modes, ``(m,)``.
        time_scale: time in which a mode shrinks to ``1/e``, infinite on the unit circle, ``(m,)``.
        amplitude: root mean square of each mode in the data it was fitted on, in their standard
            deviations, ``(m,)``.
        shapes: what each mode looks like in the observations, complex ``(m, dim)``.
    """

    eigenvalues: Tensor
    exponents: Tensor
    period: Tensor
    time_scale: Tensor
    amplitude: Tensor
    shapes: Tensor

    __repr__ = short_repr

    def table(self, count: int = 8) -> list[dict[str, float | None]]:
        """The ``count`` leading modes as rows of numbers; None for infinity.

        An angle of a step within ``ROUNDING`` is 0, and a radius within it of 1 has no time scale.
        """
        radius, angle = self.eigenvalues.abs(), self.eigenvalues.angle()
        real, steady = angle.abs() < ROUNDING, (radius - 1).abs() < ROUNDING
        columns = {
            "radius": radius,
            "angle": angle.masked_fill(real, 0.0),
            "period": self.period.masked_fill(real, inf),
            "time_scale": self.time_scale.masked_fill(steady, inf),
            "amplitude": self.amplitude,
        }
        rows = range(min(count, len(self.eigenvalues)))
        return [
            {k: (v if abs(v := float(c[i])) < inf else None) for k, c in columns.items()}
            for i in rows
        ]


@torch.no_grad()
def modes(model: Koopman, x: Tensor) -> Modes:
    """The modes of ``model``, with their amplitudes on the states ``x`` ``(b, delays dim)``.

    The eigenvalues of the remainder, which only carries what the features miss, are left out.

    Example:
        >>> from rectilinear.datasets import simulate_system
        >>> from rectilinear.koopman import FitConfig, as_series, fit
        >>> data = simulate_system("linear", count=20, steps=60)
        >>> config = FitConfig(rank=8, horizon=40, fourier=0)
        >>> model, found = fit(as_series(data.states, data.times), config)
        >>> sorted(modes(model, found.anchors).period.numpy().round(3))[:2]
        [np.float64(2.732), np.float64(6.283)]
    """
    lift, h = model.lift, len(model.spectrum.frequency)
    exponents = model.spectrum.exponents()[: lift.pads - h]
    readout = lift.readout[:, : model.dim]
    pairs = torch.complex(readout[: 2 * h : 2], -readout[1 : 2 * h : 2])
    shapes = torch.cat([pairs, readout[2 * h :].to(pairs.dtype)])
    y = model.encode(x)[:, : lift.pads]
    size = torch.cat(
        [y[:, : 2 * h].unflatten(1, (h, 2)).square().sum(2) / 2, y[:, 2 * h :].square()], dim=1
    )
    return ordered((exponents * model.dt).exp(), exponents, size.mean(0).sqrt(), shapes)


def ordered(values: Tensor, exponents: Tensor, size: Tensor, shapes: Tensor) -> Modes:
    """The modes of these eigenvalues, by their root mean square ``size`` times that of shapes."""
    amplitude = size * torch.linalg.vector_norm(shapes, dim=1)
    order = amplitude.argsort(descending=True)
    exponents = exponents[order]
    period = 2 * torch.pi / exponents.imag.abs()
    time_scale = 1 / (-exponents.real).clamp(min=0)
    return Modes(values[order], exponents, period, time_scale, amplitude[order], shapes[order])


def smooth(
    pieces: Sequence[Piece], length: int = LONGEST_WINDOW
) -> tuple[tuple[Piece, ...], float]:
    """The pieces with their noise removed, and its root mean square, by low-rank windows.

    Each window of ``length`` rows is projected on the singular vectors above white noise of unknown
    size, and a row is the mean of the windows that hold it. A map fitted on noisy states is biased
    towards zero; fitted on smoothed states it is not. Rows that a forecast is made from are not
    smoothed. Pieces shorter than a window stay as they are.

    References: Broomhead, King, "Extracting qualitative dynamics from experimental data" (1986),
    singular spectrum analysis; Gavish, Donoho (2014), the threshold.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> clean = torch.sin(0.2 * torch.arange(300.0, dtype=torch.float64))[:, None]
        >>> noisy = clean + 0.1 * torch.randn(300, 1, generator=g, dtype=torch.float64)
        >>> (found,), size = smooth([Piece(noisy)])
        >>> bool((found.x - clean).std() < 0.05), 0.08 < size < 0.11
        (True, True)
    """
    long = [p for p in pieces if len(p.x) >= 2 * length]
    if not long:
        return tuple(pieces), 0.0
    d = long[0].x.shape[1]
    rows = torch.cat([_windows(p.x, length) for p in long])
    mean = rows.mean(0)
    part = (rows - mean)[:: -(-len(rows) // _ROWS)]
    _, s, v = torch.linalg.svd(part, full_matrices=False)
    rank = above_noise(s, min(part.shape) / max(part.shape))
    basis = v[: min(rank, len(s) - 1)]
    found, left, count = [], 0.0, 0
    for p in pieces:
        if len(p.x) < 2 * length:
            found.append(p)
            continue
        x = _averaged((_windows(p.x, length) - mean) @ basis.T @ basis + mean, len(p.x), d)
        left, count = left + float((x - p.x).square().sum()), count + x.numel()
        found.append(Piece(x, p.u))
    return tuple(found), (left / count) ** 0.5


def _windows(x: Tensor, length: int) -> Tensor:
    return x.unfold(0, length, 1).transpose(1, 2).flatten(1)


def _averaged(rows: Tensor, total: int, d: int) -> Tensor:
    """The series ``(total, d)`` whose windows these are, each row the mean of all that hold it."""
    length = rows.shape[1] // d
    x, held = rows.new_zeros(total, d), rows.new_zeros(total, 1)
    for k, part in enumerate(rows.unflatten(1, (length, d)).unbind(1)):
        x[k : k + len(rows)] += part
        held[k : k + len(rows)] += 1
    return x / held

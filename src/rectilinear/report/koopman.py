"""Report on Koopman models: forecasts, phase portrait, eigenvalues, backward forecasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import process_time

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rectilinear import datasets, koopman
from rectilinear.koopman.diagnostics import RoundTripError
from rectilinear.koopman.spectra import draw_eigenvalues
from rectilinear.plots import canvas
from rectilinear.plots.charts import ROLES
from rectilinear.plots.page import Section, captioned, chart, number, table

Array = NDArray[np.float64]

_AHEAD = (1, 10, 50, 100)
_BACK = 50


def dynamics_sections(seed: int = 0) -> tuple[list[Section], dict[str, float]]:
    """Sections and numbers of the page on a pendulum, fitted to simulated swings in closed form."""
    train = datasets.simulate_system("pendulum", count=300, steps=220, seed=seed)
    held = datasets.simulate_system(
        "pendulum", count=200, steps=_BACK + max(_AHEAD), seed=seed + 1000
    ).states.numpy()
    start = process_time()
    model = koopman.KoopmanRegressor(rank=44, horizon=100, backward=_BACK, fourier=500, seed=seed)
    model.fit(train.states, times=train.times)
    seconds = process_time() - start
    dmd = koopman.DMD().fit(train.states)

    x, scale = held[:, _BACK], held.reshape(-1, 2).std(0)
    ours, linear = model.simulate(x, 100), dmd.simulate(x, 100)
    stages = model.simulate(x, 100, reencode=10)
    back = model.simulate(x, -_BACK)

    def error(forecast: Array, k: int) -> float:
        return float(np.sqrt(np.mean(((forecast[:, abs(k)] - held[:, _BACK + k]) / scale) ** 2)))

    powers = _stepping(model, x[:20])
    returned = koopman.round_trip_error(model.model_, torch.as_tensor(x), _BACK)
    metrics = {
        "dynamics_error_100": error(ours, 100),
        "dynamics_dmd_ratio": error(linear, 100) / error(ours, 100),
        "dynamics_reencoded_100": error(stages, 100),
        "dynamics_backward_50": error(back, -_BACK),
        "dynamics_return_50": returned.latent,
        "dynamics_stepping": powers,
        "dynamics_radius": float((model.modes_.exponents.real.max() * model.model_.dt).exp()),
        "dynamics_fit_seconds": seconds,
    }
    lines: list[tuple[str | float, ...]] = [
        ("this model, one map", *(error(ours, k) for k in _AHEAD)),
        ("this model, re-encoded every 10 steps", *(error(stages, k) for k in _AHEAD)),
        ("DMD", *(error(linear, k) for k in _AHEAD)),
    ]
    shown = [int(i) for i in np.argsort(np.abs(held[:, :, 0]).max(1))[[40, 120, 190]]]
    sections = [
        _forecasts(
            held[shown, _BACK:, 0], ours[shown, :, 0], linear[shown, :, 0], train.dt, lines, metrics
        ),
        _portrait(held[shown, _BACK:], ours[shown], linear[shown]),
        _spectrum(model, metrics),
        _past(held[shown], back[shown, :, 0], train.dt, returned, metrics),
    ]
    return sections, metrics


def forecast_figure(
    forecast: tuple[Array, Array],
    names: Sequence[str],
    known: Mapping[str, tuple[Array, Array]] | None = None,
) -> Figure:
    """A forecast ``(times, values (k, d))`` over ``known`` values, up to three coordinates."""
    figure, all_axes = canvas(columns=min(3, len(names)), height=2.4)
    for i, (axes, name) in enumerate(zip(all_axes, names, strict=False)):
        for label, (times, values) in (known or {}).items():
            axes.plot(
                times, values[:, i], color=ROLES["muted"], label=label, linewidth=3.2, alpha=0.45
            )
        axes.plot(
            forecast[0], forecast[1][:, i], color=ROLES["first"], label="forecast", linewidth=1.2
        )
        axes.set(xlabel="time", title=name)
    if known:
        all_axes[0].legend(frameon=False, labelcolor="linecolor", handlelength=1.0, fontsize=8)
    return figure


def eigenvalues_figure(values: Array, weight: Array) -> Figure:
    """Complex ``values`` and conjugates with the unit circle, and an enlarged part of the plane.

    Dots grow with ``weight``.
    """
    figure, all_axes = canvas(columns=2, height=3.0)
    for axes in all_axes:
        both = draw_eigenvalues(axes, values, weight)
        axes.grid(visible=False)
    all_axes[0].set(ylabel="imaginary part", xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    middle = (both.real.min() + both.real.max()) / 2
    half = 1.15 * max(float(np.ptp(both.real)) / 2, float(np.abs(both.imag).max()), 0.05)
    all_axes[1].set(xlim=(middle - half, middle + half), ylim=(-half, half))
    return figure


def portrait_figure(paths: Mapping[str, Array]) -> Figure:
    """Named bundles of curves in the plane, ``(curves, k, 2)`` each, on common axes."""
    figure, all_axes = canvas(columns=len(paths), height=2.6, sharex=True, sharey=True)
    for axes, (name, curves) in zip(all_axes, paths.items(), strict=True):
        for i, curve in enumerate(curves):
            colour = (ROLES["first"], ROLES["second"], ROLES["third"])[i % 3]
            axes.plot(curve[:, 0], curve[:, 1], color=colour, linewidth=1.3)
            axes.plot(*curve[0], marker="o", markersize=3.5, color=colour)
        axes.set(title=name, xlabel="angle")
        axes.grid(visible=False)
    all_axes[0].set_ylabel("velocity")
    return figure


def _forecasts(
    truth: Array,
    ours: Array,
    linear: Array,
    dt: float,
    lines: list[tuple[str | float, ...]],
    metrics: dict[str, float],
) -> Section:
    figure, all_axes = canvas(columns=len(truth), height=2.4, sharey=True)
    times = dt * np.arange(truth.shape[1])
    for axes, real, mine, other in zip(all_axes, truth, ours, linear, strict=True):
        axes.plot(times, real, color=ROLES["muted"], linewidth=3.2, alpha=0.45, label="pendulum")
        axes.plot(times, other, color=ROLES["second"], linewidth=1.1, label="DMD")
        axes.plot(times, mine, color=ROLES["first"], linewidth=1.2, label="this model")
        axes.set(xlabel="time")
    all_axes[0].set_ylabel("angle")
    all_axes[0].legend(frameon=False, labelcolor="linecolor", handlelength=1.0, fontsize=8)
    return Section(
        "A pendulum, linear in a space of its own",
        "The state is padded with zeros, an invertible network fills the padding, and there one "
        "matrix moves it: any number of steps is one power of it, decoded exactly. Large swings "
        "are slower than small ones, which no linear map of angle and velocity can say.",
        (
            captioned(
                chart(figure, "angle over time for three swings: pendulum, this model and DMD"),
                "Forecasts",
                "from one observed state each, small to large swings, held out from the fit.",
            ),
            captioned(
                table(("Root mean square error after steps", *map(str, _AHEAD)), lines),
                "Errors",
                "over 200 initial states, in standard deviations of the system. Fitted in closed "
                f"form in {metrics['dynamics_fit_seconds']:.1f} seconds. One power of the matrix "
                f"and as many single steps differ by {number(metrics['dynamics_stepping'])}.",
            ),
        ),
    )


def _portrait(truth: Array, ours: Array, linear: Array) -> Section:
    figure = portrait_figure({"pendulum": truth, "this model": ours, "DMD": linear})
    return Section(
        "Phase portrait",
        "The same three swings as curves of angle and velocity. DMD, linear in the plane itself, "
        "can only turn them all at one pace, on ellipses of one shape.",
        (
            captioned(
                chart(figure, "closed curves of angle against velocity"),
                "100 steps each.",
                "Dots mark the initial states.",
            ),
        ),
    )


def _spectrum(model: koopman.KoopmanRegressor, metrics: dict[str, float]) -> Section:
    modes = model.modes_
    figure = eigenvalues_figure(modes.eigenvalues.numpy(), modes.amplitude.numpy())
    head = ("Period", "Shrinks to 1/e in", "Amplitude")
    lines = [
        tuple(
            "never" if row[k] is None else float(row[k] or 0.0)
            for k in ("period", "time_scale", "amplitude")
        )
        for row in modes.table(6)
    ]
    return Section(
        "Eigenvalues and time scales",
        "What the matrix is made of: each pair of eigenvalues is an oscillation. A pendulum has a "
        "continuum of frequencies; over the horizon of the fit a few dozen stand for it, and none "
        "leaves the unit circle.",
        (
            captioned(
                chart(figure, "eigenvalues on and inside the unit circle"),
                "The eigenvalues of a step,",
                "larger where a mode carries more, and on the right the part of the plane they "
                f"are in; spectral radius {metrics['dynamics_radius']:.9f}.",
            ),
            captioned(
                table(head, lines),
                "The strongest modes.",
                "Times in units in which small swings take 2π.",
            ),
        ),
    )


def _past(
    held: Array, back: Array, dt: float, returned: RoundTripError, metrics: dict[str, float]
) -> Section:
    figure, all_axes = canvas(columns=len(held), height=2.2, sharey=True)
    times = dt * np.arange(-_BACK, _BACK + 1)
    for axes, real, mine in zip(all_axes, held[:, : 2 * _BACK + 1, 0], back, strict=True):
        axes.plot(times, real, color=ROLES["muted"], linewidth=3.2, alpha=0.45, label="pendulum")
        axes.plot(
            -dt * np.arange(len(mine)), mine, color=ROLES["first"], linewidth=1.2, label="backwards"
        )
        axes.plot(0, mine[0], marker="o", markersize=4, color=ROLES["first"])
        axes.set(xlabel="time")
    all_axes[0].set_ylabel("angle")
    all_axes[0].legend(frameon=False, labelcolor="linecolor", handlelength=1.0, fontsize=8)
    return Section(
        "Backwards",
        "The matrix has an inverse, so the same model says where a state came from.",
        (
            captioned(
                chart(figure, "angle before the observed state, as it was and as the model says"),
                "The past of a state,",
                f"{_BACK} steps: error {number(metrics['dynamics_backward_50'])}. Forward {_BACK} "
                f"steps and back in the latents returns to {number(returned.latent)} of the "
                "start; when only the state is handed over, and re-encoded, to "
                f"{number(returned.state)}.",
            ),
        ),
    )


@torch.no_grad()
def _stepping(model: koopman.KoopmanRegressor, x: Array) -> float:
    """The largest difference of ``f ** 100`` and a hundred applications of ``f``."""
    f = model.model_.linearizer()
    padded = model.model_.lift.pad(torch.as_tensor(x))
    y = padded
    for _ in range(100):
        y = f(y)
    state = model.model_.state_dim
    return float((y - (f**100)(padded))[:, :state].abs().max())

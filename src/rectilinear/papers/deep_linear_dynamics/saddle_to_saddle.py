"""Saddle to saddle: modes learned one by one, strongest first, beside their closed form.

``rectilinear reproduce deep_linear_dynamics saddle_to_saddle``

From a small initialisation a two-layer network learns one singular mode of its task at a time. On
white inputs, with layers that are aligned and balanced, the strength of a mode follows ``a(t) = s /
(1 + (s / a0 - 1) exp(-2 s t))``: it is learned at ``log(s / a0) / 2 s``, and between two modes the
loss stays at a saddle. From random layers, 20 of them side by side, the times are those of the
strength that the initial map happens to have, and Braun's matrix form holds from every balanced
initialisation. The effective rank climbs one by one.

References: Saxe, McClelland and Ganguli, 2014, equation 8; Braun, Domine, Fitzgerald and Saxe,
2022; Jacot et al., "Saddle-to-saddle dynamics in deep linear networks", 2021.

Cost: small 3 seconds, full 10, on one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from rectilinear import plots
from rectilinear.deeplinear import (
    Descent,
    aligned_map,
    descend,
    factorised,
    low_rank_teacher,
    mode_flow,
    regression,
    two_layer_flow,
)
from rectilinear.papers import Claim
from rectilinear.plots import canvas
from rectilinear.plots.charts import ROLES

MODES = (4.0, 2.0, 1.0)
SIZE = {"small": 6, "full": 12}  # inputs and outputs
RUNS = {"small": 10, "full": 100}
SCALE, LR, STEPS = 1e-6, 0.01, 1000


@dataclass(frozen=True)
class Result:
    """Descent from aligned and from random balanced layers, and their closed forms."""

    aligned: Descent
    predicted: np.ndarray
    random: Descent
    maps: np.ndarray


def compute(
    preset: Literal["small", "full"], seed: int = 0, data_dir: Path | None = None
) -> Result:
    """Train from aligned and from random balanced layers by gradient flow."""
    d, rng = SIZE[preset], np.random.default_rng(seed)
    X = np.linalg.qr(rng.normal(size=(4 * d, d)))[0] * (4 * d) ** 0.5
    S = low_rank_teacher((d, d), MODES, seed=seed)[0]
    task = regression(X, X @ S.T)
    marks = list(range(0, STEPS + 1, 10))
    way = {"optimizer": "flow", "lr": LR, "steps": STEPS, "checkpoints": marks}
    aligned = factorised(aligned_map(S, np.r_[np.full(3, SCALE), np.zeros(d - 3)]), [d], seed=seed)
    random = factorised(SCALE * rng.normal(size=(RUNS[preset], d, d)), [d], seed=seed)
    one = descend(task, aligned, **way)  # type: ignore[arg-type]
    many = descend(task, random, measures=["loss", "effective_rank"], **way)  # type: ignore[arg-type]
    times = LR * one.steps
    return Result(one, mode_flow(MODES, SCALE, times), many, two_layer_flow(random, S, times))


def draw(result: Result, path: Path) -> None:
    """Draw modes over time with their closed form, the loss, and effective ranks."""
    figure, (modes, loss, rank) = canvas(7.0, 2.5, columns=3)
    time = LR * result.aligned.steps
    colours = [ROLES[role] for role in ("first", "second", "third")]
    for i, colour in enumerate(colours):
        modes.plot(time, result.aligned.measure("singular_values")[0, :, i], color=colour, lw=1.4)
        modes.plot(time, result.predicted[i], color=ROLES["muted"], linestyle=":", lw=1.2)
        modes.axvline(learning_time(MODES[i]), color=colour, lw=0.6, alpha=0.5)
    loss.plot(time, result.aligned.loss[0], color=colours[0], lw=1.4, label="aligned")
    loss.plot(time, result.random.loss.T, color=colours[1], lw=0.4, alpha=0.6)
    rank.plot(time, result.random.measure("effective_rank").T, color=colours[1], lw=0.4, alpha=0.6)
    loss.set(xlabel="time", ylabel="loss")
    rank.set(xlabel="time", ylim=(0.9, 3.2), ylabel="effective rank")
    modes.set(xlabel="time", ylabel="strength of a mode")
    titles = ("modes; dotted: closed form", "loss", "rank of random layers")
    for axes, title in zip((modes, loss, rank), titles, strict=True):
        axes.set_title(title, loc="left", fontsize=9.5)
    loss.annotate("aligned", (0.95, 0.92), xycoords="axes fraction", ha="right", color=colours[0])
    loss.annotate("random", (0.95, 0.82), xycoords="axes fraction", ha="right", color=colours[1])
    plots.save(figure, path)


def learning_time(strength: float) -> float:
    """The time at which a mode has half of its strength."""
    return float(np.log(strength / SCALE) / (2 * strength))


def claims(result: Result) -> list[Claim]:
    """Both closed forms, the order of modes, and a plateau between two of them."""
    found = result.aligned.measure("singular_values")[0, :, :3].T
    time = LR * result.aligned.steps
    between = np.abs(time - learning_time(2.0) - 1.0).argmin()
    return [
        Claim.at_most(
            "aligned layers, largest error of a mode", np.abs(found - result.predicted).max(), 1e-5
        ),
        Claim.at_most(
            "random balanced layers, largest error of the map",
            np.abs(result.random.maps - result.maps).max(),
            1e-5,
        ),
        *(
            Claim.close(
                f"time of the mode {s:g} over log(s / a0) / 2 s",
                float(np.interp(s / 2, found[i], time)) / learning_time(s),
                1.0,
                0.01,
            )
            for i, s in enumerate(MODES)
        ),
        Claim.close(
            "loss after the second mode over that of the third",
            float(result.aligned.loss[0, between]) / (1.0**2 / 2),
            1.0,
            0.05,
        ),
        Claim.close(
            "median effective rank of the random layers at the end",
            float(np.median(result.random.measure("effective_rank")[:, -1])),
            float(np.exp(-sum(p * np.log(p) for p in np.array(MODES) / sum(MODES)))),
            0.05,
        ),
    ]

"""Starts against optimisers: ``rectilinear reproduce lakkapragada2023_depth starts``.

Which of the paper's choices makes depth harmful? The same nets, trials, budget and step, with other
starts and other
optimisers. Two changes cure it at every depth: Adam from the paper's own start, and gradient
descent from a last layer of zeros on ones. Starts whose weights are all equal in size (balanced,
orthogonal, identity) are no cure at width one,
with Adam either: half of the trials have the wrong sign, and weights that move alike stop together
at zero.

Cost: small 12 seconds (ten layers, three starts), full a minute with numba (every depth, 500
trials).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from rectilinear import plots
from rectilinear.deeplinear import StudyResult, deep_linear
from rectilinear.deeplinear.ensemble import Optimizer
from rectilinear.deeplinear.initialisation import Start
from rectilinear.papers.figure import Claim
from rectilinear.papers.lakkapragada2023_depth._study import failures, study
from rectilinear.plots import canvas
from rectilinear.plots.style import ROLES

STARTS: dict[str, tuple[Start, ...]] = {
    "small": ("uniform", "zero_last", "identity"),
    "full": ("uniform", "zero_last", "normal", "orthogonal", "balanced", "identity"),
}
OPTIMIZERS: dict[str, tuple[Optimizer, ...]] = {
    "small": ("gd", "adam"),
    "full": ("gd", "momentum", "adam"),
}
DEPTHS = {"small": (10,), "full": tuple(range(1, 11))}
NO_CURE = ("uniform", "orthogonal", "balanced", "identity")
TRIALS = {"small": 100, "full": 500}


def compute(
    preset: Literal["small", "full"], seed: int = 0, data_dir: Path | None = None
) -> StudyResult:
    """Every start with every optimiser."""
    nets = deep_linear(DEPTHS[preset], starts=STARTS[preset], optimizers=OPTIMIZERS[preset])
    return study(nets, TRIALS[preset], seed)


def draw(result: StudyResult, path: Path) -> None:
    """The share of trials that arrive: a panel a depth (the deepest and one in the middle), a cell
    a pair.
    """
    nets = [model for model in result.models if model.trained]
    depths = sorted({model.depth for model in nets})
    starts, optimizers = (
        list(dict.fromkeys(getattr(m, name) for m in nets)) for name in ("start", "optimizer")
    )
    shown = sorted({depths[(len(depths) - 1) // 3], depths[-1]})
    figure, panels = canvas(3.9 * len(shown), 2.8, columns=len(shown), sharey=True)
    for axes, depth in zip(panels, shown, strict=True):
        share = np.array(
            [[1 - failures(result, _name(depth, o, s)) for o in optimizers] for s in starts]
        )
        axes.imshow(share, cmap="RdYlBu", vmin=0, vmax=1, aspect="auto")
        for (i, j), value in np.ndenumerate(share):
            dark = abs(value - 0.5) > 0.35
            axes.text(j, i, f"{100 * value:.3g} %", ha="center", va="center", fontsize=8,
                      color="white" if dark else ROLES["ink"])  # fmt: skip
        axes.set_xticks(range(len(optimizers)), optimizers)
        axes.set_yticks(range(len(starts)), [start.replace("_", " ") for start in starts])
        axes.set_title(f"{depth} layers", loc="left", fontsize=10)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    plots.save(figure, path)


def claims(result: StudyResult) -> list[Claim]:
    """What cures at every depth, and what does not at the deepest."""
    depths = sorted({model.depth for model in result.models if model.trained})
    deepest = depths[-1]
    cures = {
        "adam, uniform start": ("adam", "uniform"),
        "gd, last layer of zeros": ("gd", "zero_last"),
    }
    checks = [
        Claim.at_most(
            f"failures with {depth} layers, {words}", failures(result, _name(depth, *pair)), 0.01
        )
        for words, pair in cures.items()
        for depth in depths
    ]
    return checks + [
        Claim.at_least(f"failures with {deepest} layers, gd, {start} start",
                       failures(result, _name(deepest, "gd", start)), 0.35)
        for start in dict.fromkeys(m.start for m in result.models if m.trained and m.start in NO_CURE)
    ]  # fmt: skip


def _name(depth: int, optimizer: str, start: str) -> str:
    return f"depth {depth}, {optimizer}" + (f" {start}" if start != "uniform" else "")

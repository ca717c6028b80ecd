"""Success of initialisations and optimisers at every depth.

``rectilinear reproduce lakkapragada2023_depth initialisation``

The same networks, trials, budget and step size as in the paper, with other initial weights and
other optimisers. Two changes help at every depth: Adam from the paper's own initial weights, and
gradient descent from a last layer of zeros after layers of ones. Initial weights of equal size
(balanced, orthogonal, identity) do not help at width one, even with Adam: in half of the trials
their product has the wrong sign, and weights of equal size reach zero together.

Cost: small 12 seconds (ten layers, three initialisations), full a minute with numba (every depth,
500 trials).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from rectilinear import plots
from rectilinear.deeplinear import StudyResult, deep_linear
from rectilinear.deeplinear.ensemble import Optimizer
from rectilinear.deeplinear.initialisation import Initialisation
from rectilinear.papers import Claim
from rectilinear.papers.lakkapragada2023_depth import failures, study
from rectilinear.plots import canvas
from rectilinear.plots.charts import ROLES

INITIALISATIONS: dict[str, tuple[Initialisation, ...]] = {
    "small": ("uniform", "zero_last", "identity"),
    "full": ("uniform", "zero_last", "normal", "orthogonal", "balanced", "identity"),
}
OPTIMIZERS: dict[str, tuple[Optimizer, ...]] = {
    "small": ("gd", "adam"),
    "full": ("gd", "momentum", "adam"),
}
DEPTHS = {"small": (10,), "full": tuple(range(1, 11))}
STILL_FAILING = ("uniform", "orthogonal", "balanced", "identity")
TRIALS = {"small": 100, "full": 500}


def compute(
    preset: Literal["small", "full"], seed: int = 0, data_dir: Path | None = None
) -> StudyResult:
    """Train with every initialisation and every optimiser."""
    nets = deep_linear(DEPTHS[preset], inits=INITIALISATIONS[preset], optimizers=OPTIMIZERS[preset])
    return study(nets, TRIALS[preset], seed)


def draw(result: StudyResult, path: Path) -> None:
    """Draw the share of trials that converge, a panel for the largest and a middle depth."""
    nets = [model for model in result.models if model.trained]
    depths = sorted({model.depth for model in nets})
    inits, optimizers = (
        list(dict.fromkeys(getattr(m, name) for m in nets)) for name in ("init", "optimizer")
    )
    shown = sorted({depths[(len(depths) - 1) // 3], depths[-1]})
    figure, panels = canvas(3.5 * len(shown), 2.8, columns=len(shown), sharey=True)
    for axes, depth in zip(panels, shown, strict=True):
        share = np.array(
            [[1 - failures(result, _name(depth, o, s)) for o in optimizers] for s in inits]
        )
        axes.imshow(share, cmap="RdYlBu", vmin=0, vmax=1, aspect="auto")
        for (i, j), value in np.ndenumerate(share):
            dark = abs(value - 0.5) > 0.35
            axes.text(j, i, f"{100 * value:.3g} %", ha="center", va="center", fontsize=8,
                      color="white" if dark else ROLES["ink"])  # fmt: skip
        axes.set_xticks(range(len(optimizers)), optimizers)
        axes.set_yticks(range(len(inits)), [init.replace("_", " ") for init in inits])
        axes.set_title(f"{depth} layers", loc="left", fontsize=10)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    plots.save(figure, path)


def claims(result: StudyResult) -> list[Claim]:
    """Two changes that help at every depth, and several that do not at the deepest."""
    depths = sorted({model.depth for model in result.models if model.trained})
    deepest = depths[-1]
    remedies = {
        "adam, uniform initialisation": ("adam", "uniform"),
        "gd, last layer of zeros": ("gd", "zero_last"),
    }
    checks = [
        Claim.at_most(
            f"failures with {depth} layers, {words}", failures(result, _name(depth, *pair)), 0.01
        )
        for words, pair in remedies.items()
        for depth in depths
    ]
    return checks + [
        Claim.at_least(
            f"failures with {deepest} layers, gd, {init} initialisation",
            failures(result, _name(deepest, "gd", init)),
            0.35,
        )
        for init in dict.fromkeys(
            m.init for m in result.models if m.trained and m.init in STILL_FAILING
        )
    ]


def _name(depth: int, optimizer: str, init: str) -> str:
    return f"depth {depth}, {optimizer}" + (f" {init}" if init != "uniform" else "")

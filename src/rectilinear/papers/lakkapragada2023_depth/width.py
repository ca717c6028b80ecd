"""Success by width and depth, for three initialisations.

``rectilinear reproduce lakkapragada2023_depth width``

The paper's layers have one unit, which is the worst case: the product of single weights shrinks
exponentially with depth, so the chain is initialised near zero. With more units, a product of
random matrices keeps its size if their entries have variance 1/width, and then gradient descent
converges at every depth, as theory predicts (Du and Hu, "Width provably matters in optimization for
deep linear neural networks", ICML 2019). Orthogonal weights need a width of two. PyTorch's default
has a third of that variance, so the product still shrinks, and width helps less.

Cost: small 10 seconds (two widths), full a minute with numba (four widths, 100 trials).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rectilinear import plots
from rectilinear.deeplinear import StudyResult, deep_linear
from rectilinear.deeplinear.study import figures
from rectilinear.papers import Claim
from rectilinear.papers.lakkapragada2023_depth import failures, study
from rectilinear.plots import canvas

WIDTHS = {"small": (1, 4), "full": (1, 2, 4, 8)}
DEPTHS = {"small": (2, 6), "full": tuple(range(2, 11))}
TITLES = {
    "torch": "torch default",
    "normal": "variance 1 / width",
    "orthogonal": "orthogonal",
}
MIN_WIDE_UNITS = 4
TRIALS = {"small": 50, "full": 100}


def compute(
    preset: Literal["small", "full"], seed: int = 0, data_dir: Path | None = None
) -> StudyResult:
    """Train every width with PyTorch's default, one that keeps sizes, and an orthogonal one."""
    nets = deep_linear(DEPTHS[preset], widths=WIDTHS[preset], inits=("torch", "normal"))
    return study(
        (*nets, *deep_linear(DEPTHS[preset], widths=(2,), inits=("orthogonal",))[1:]),
        TRIALS[preset],
        seed,
    )


def draw(result: StudyResult, path: Path) -> None:
    """Draw the share of trials that converge over depth: a panel an init, a line a width."""
    figure, panels = canvas(7.0, 2.6, columns=len(TITLES), sharey=True)
    nets = [model for model in result.models if model.trained]
    widths = sorted({model.width for model in nets})
    for axes, (init, title) in zip(panels, TITLES.items(), strict=True):
        for i, width in enumerate(widths):
            line = [model for model in nets if (model.init, model.width) == (init, width)]
            if line:
                share = [1 - failures(result, model.name) for model in line]
                axes.plot(
                    [model.depth for model in line],
                    share,
                    color=figures.ramp(i, len(widths)),
                    marker="o",
                    markersize=3,
                    linewidth=1.2,
                    label=str(width),
                )
        axes.set(
            xlabel="layers", ylim=(-0.03, 1.05), xticks=sorted({model.depth for model in nets})
        )
        axes.set_title(title, loc="left", fontsize=9)
        axes.legend(
            frameon=False,
            labelcolor="linecolor",
            handlelength=1.0,
            fontsize=8,
            title="width",
            title_fontsize=8,
        )
    panels[0].set_ylabel("share that converges")
    plots.save(figure, path)


def claims(result: StudyResult) -> list[Claim]:
    """Many failures at width one; hardly any with initial weights that keep sizes."""
    nets = [model for model in result.models if model.trained]
    deepest, widest = max(model.depth for model in nets), max(model.width for model in nets)
    orthogonal = [failures(result, model.name) for model in nets if model.init == "orthogonal"]
    kept = [
        failures(result, model.name)
        for model in nets
        if model.init == "normal" and model.width >= MIN_WIDE_UNITS
    ]
    narrow, wide = (
        failures(result, f"depth {deepest}, gd {words}")
        for words in ("torch", f"width {widest} torch")
    )
    return [
        Claim.at_least(f"failures at width 1, {deepest} layers, PyTorch default", narrow, 0.35),
        Claim.at_least(f"those over the failures at width {widest}", narrow / max(wide, 0.01), 1.5),
        Claim.at_most(
            f"failures at width {MIN_WIDE_UNITS} or more, variance 1 / width, the worst",
            max(kept),
            0.01,
        ),
        Claim.at_most("failures at width 2, orthogonal, the worst depth", max(orthogonal), 0.02),
    ]

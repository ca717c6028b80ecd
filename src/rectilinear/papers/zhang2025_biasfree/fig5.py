"""Figure 5, low-rank weights: ``rectilinear reproduce zhang2025_biasfree fig5``.

Three layers learn a linear target from small weights. All weight matrices of the linear network
become of rank one. So do those of the ReLU network except for the middle one, which becomes of rank
two: one block for the positive entries of its neighbours, one for the negative ones, each
``sqrt(2)`` times as large as in the linear network, and zeros between them. That is the manifold of
:func:`rectilinear.learning.two_block_init`.

Cost: small 10 seconds, full 2 minutes, on one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from rectilinear import plots
from rectilinear.learning import Networks, simulate
from rectilinear.papers import Claim
from rectilinear.papers.zhang2025_biasfree._setup import LINEAR, RELU, name
from rectilinear.plots.charts import ROLES, colour_bar
from rectilinear.random import generator

STRENGTH = 3.0  # length of the linear target
CONVERGED = 1e-4  # of the initial loss


@dataclass(frozen=True)
class Preset:
    """The size of a reproduction."""

    points: int
    width: int
    std: float
    lr: float
    steps: int


PRESETS = {"small": Preset(40, 30, 2e-3, 0.05, 2500), "full": Preset(200, 100, 1e-3, 0.05, 3000)}


@dataclass(frozen=True, eq=False)
class Result:
    """Final weights of three layers and losses ``(T,)`` of the ReLU and of the linear network."""

    time: Tensor
    relu: list[Tensor]
    linear: list[Tensor]
    relu_loss: Tensor
    linear_loss: Tensor


def compute(
    preset: Literal["small", "full"], seed: int = 0, data_dir: Path | None = None
) -> Result:
    """Train both networks until the loss is a ten-thousandth of the initial one."""
    p = PRESETS[preset]
    source = generator(seed)
    x = torch.randn(p.points, 10, generator=source, dtype=torch.float64)
    w = torch.randn(10, generator=source, dtype=torch.float64)
    x = torch.cat([x, -x])
    y = x @ (STRENGTH * w / w.norm())
    start = Networks.gaussian(10, p.width, depth=3, alpha=[0.0, 1.0], std=p.std, seed=seed)
    run = simulate(start, x, y, p.lr, p.steps, points=p.steps // 10 + 1)
    return Result(
        run.steps * p.lr,
        run.networks.layers(0),
        run.networks.layers(1),
        run.loss[:, 0],
        run.loss[:, 1],
    )


def spectra(weights: list[Tensor]) -> list[Tensor]:
    """Singular values over the largest, layer by layer."""
    values = [torch.linalg.svdvals(w) for w in weights]
    return [s / s[0] for s in values]


def blocks(weights: list[Tensor]) -> Tensor:
    """The middle weights that the signs of the outer ones imply, up to their size."""
    first, last = outer(weights)
    up, down, over, under = (
        torch.nn.functional.normalize(part, dim=0)
        for part in (first.clamp(min=0), first.clamp(max=0), last.clamp(min=0), last.clamp(max=0))
    )
    return over.outer(up) + under.outer(down)


def outer(weights: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The first layer's left singular vector, signed as it reaches the output; the last layer."""
    u = torch.linalg.svd(weights[0], full_matrices=False).U[:, 0]
    return u * (weights[2] @ weights[1] @ u).sign(), weights[2][0]


def draw(result: Result, path: Path) -> None:
    """Draw the middle weights, sorted by the outer ones, their singular values, and losses."""
    figure, (linear, relu, values, loss) = plots.canvas(
        7.0, 2.3, columns=4, width_ratios=[1, 1, 1.2, 1.3]
    )
    for axes, weights, kind in ((linear, result.linear, "linear"), (relu, result.relu, "ReLU")):
        columns, rows = (part.argsort(descending=True) for part in outer(weights))
        size = float(weights[1].abs().quantile(0.98))
        image = axes.imshow(
            weights[1][rows][:, columns],
            cmap="RdBu_r",
            vmin=-size,
            vmax=size,
            interpolation="nearest",
        )
        axes.grid(visible=False)
        axes.spines[:].set(visible=True, color=ROLES["rule"])
        name(axes, f"$W_2$, {kind}", xticks=[], yticks=[], xlabel="entries of $W_1$, sorted",
             ylabel="entries of $W_3$")  # fmt: skip
        bar = colour_bar(figure, axes, image, "", orientation="horizontal", aspect=15,
                         ticks=[-size, 0, size])  # fmt: skip
        bar.set_xticklabels([f"−{size:.2g}", "0", f"{size:.2g}"])
    for weights, colour, kind in ((result.linear, LINEAR, "linear"), (result.relu, RELU, "ReLU")):
        s = spectra(weights)[1][:6].clamp(min=1e-5)
        values.plot(
            range(1, len(s) + 1), s, "o-", color=colour, markersize=4, linewidth=1, label=kind
        )
    values.legend(frameon=False, labelcolor="linecolor", handlelength=0, fontsize=8)
    values.set(yscale="log")
    name(values, "singular values of $W_2$", xlabel="index")
    for curve, colour in ((result.linear_loss, LINEAR), (result.relu_loss, RELU)):
        loss.plot(result.time, curve / curve[0], color=colour)
    name(
        loss,
        "loss over initial loss",
        xlabel="time $t/τ$",
        ylim=(0, None),
        xlim=(0, float(result.time[-1])),
    )
    plots.save(figure, path)


def claims(result: Result) -> list[Claim]:
    """The ranks, the blocks and the sizes."""
    found = []
    for kind, weights, loss in (
        ("ReLU", result.relu, result.relu_loss),
        ("linear", result.linear, result.linear_loss),
    ):
        s = spectra(weights)
        rank = 2 if kind == "ReLU" else 1
        found += [
            Claim.at_most(
                f"{kind}: loss at the end over that at the start",
                float(loss[-1] / loss[0]),
                CONVERGED,
            ),
            Claim.at_most(
                f"{kind}: second singular value of the first layer over its first",
                float(s[0][1]),
                0.05,
            ),
            Claim.at_most(
                f"{kind}: singular value {rank + 1} of the second layer over its first",
                float(s[1][rank]),
                0.05,
            ),
        ]
    second = result.relu[1]
    expected = blocks(result.relu)
    cosine = float((second * expected).sum() / (second.norm() * expected.norm()))
    ratios = [float(a.norm() / b.norm()) for a, b in zip(result.relu, result.linear, strict=True)]
    return [
        *found,
        Claim.at_least(
            "ReLU: second singular value of the second layer over its first",
            float(spectra(result.relu)[1][1]),
            0.7,
        ),
        Claim.at_least("ReLU: cosine of the second layer and its two blocks", cosine, 0.998),
        *(
            Claim.close(
                f"layer {layer}: norm over the linear network's", ratio, 2**0.5, 0.02 * 2**0.5
            )
            for layer, ratio in enumerate(ratios, 1)
        ),
    ]

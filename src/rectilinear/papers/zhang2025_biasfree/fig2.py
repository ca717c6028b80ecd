"""Figure 2, depth separation: ``rectilinear reproduce zhang2025_biasfree fig2``.

``g(x) = sgn(x_1) max(|x_1| - |x_2|, 0)`` is odd and homogeneous. Three bias-free ReLU layers of
width 4 compute it exactly. Two layers of any width leave 31.2 % of its variance on isotropic
inputs unexplained, as the best linear map does. We did not have the paper's own function; this one
shows the same.

Cost: small 10 seconds, full a minute, on one core.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from rectilinear import numerics, plots
from rectilinear.papers import Claim
from rectilinear.papers.zhang2025_biasfree._setup import (
    LINEAR,
    RELU,
    fit,
    name,
    network,
    pixels,
    plane,
)
from rectilinear.plots.charts import colour_bar
from rectilinear.random import generator, seed_all

LINEAR_BOUND = 1 - 1 / (4 - 8 / math.pi)  # 1 - <g x_1>^2 / (<g^2> <x_1^2>) on the circle: 0.312015
WIDTHS = (20, 100, 400)
REACH, PIXELS = 1.5, 121
SCALE = 0.7  # of the colours


@dataclass(frozen=True)
class Preset:
    """The size of a reproduction."""

    angles: int
    steps: int
    width: int
    deep_steps: int
    lr: float


PRESETS = {"small": Preset(180, 400, 32, 1200, 1e-2), "full": Preset(720, 3000, 64, 5000, 5e-3)}


@dataclass(frozen=True, eq=False)
class Result:
    """Unexplained variance along training by model, the exact network's error, and images."""

    unexplained: dict[str, Tensor]
    linear: float
    exact_error: float
    images: dict[str, Tensor]


def compute(
    preset: Literal["small", "full"], seed: int = 0, data_dir: Path | None = None
) -> Result:
    """Train two layers of three widths and three layers, on the circle.

    Homogeneous functions need no more.
    """
    p = PRESETS[preset]
    angle = torch.arange(p.angles, dtype=torch.float64) * (2 * torch.pi / p.angles)
    x = torch.stack([angle.cos(), angle.sin()], dim=1)
    y = g(x)

    def unexplained(f: Tensor, y: Tensor) -> Tensor:
        return (f - y).square().sum() / y.square().sum()

    models = {f"two layers, width {width}": ([2, width, 1], p.steps) for width in WIDTHS}
    models |= {"three layers, trained": ([2, p.width, p.width, 1], p.deep_steps)}
    curves, images = {}, {"target": g(pixels(REACH, PIXELS)).reshape(PIXELS, PIXELS)}
    for model, (sizes, steps) in models.items():
        seed_all(seed)
        net = network(sizes, bias=False)
        curves[model] = fit(net, x, y, unexplained, steps, p.lr)
        images[model] = _image(net)
    net = exact()
    images["three layers, by hand"] = _image(net)
    best = x @ numerics.lstsq(x, y[:, None])
    far = 10 * torch.randn(10_000, 2, generator=generator(seed), dtype=torch.float64)
    with torch.no_grad():
        error = float((net(far)[:, 0] - g(far)).abs().max())
    return Result(curves, float(unexplained(best[:, 0], y)), error, images)


def g(x: Tensor) -> Tensor:
    """``sgn(x_1) max(|x_1| - |x_2|, 0)``."""
    return x[:, 0].sign() * (x[:, 0].abs() - x[:, 1].abs()).clamp(min=0)


def exact() -> nn.Sequential:
    """The three bias-free layers that compute ``g``."""
    net = network([2, 4, 2, 1], bias=False)
    weights = (
        [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]],
        [[1.0, -1.0, -1.0, -1.0], [-1.0, 1.0, -1.0, -1.0]],
        [[1.0, -1.0]],
    )
    with torch.no_grad():
        for parameter, weight in zip(net.parameters(), weights, strict=True):
            parameter.copy_(torch.tensor(weight))
    return net


def _image(net: nn.Module) -> Tensor:
    with torch.no_grad():
        return net(pixels(REACH, PIXELS)).reshape(PIXELS, PIXELS)


def draw(result: Result, path: Path) -> None:
    """Draw the function, what two and three layers make of it, and the unexplained variance."""
    figure, axes = plots.canvas(7.0, 2.1, columns=5, width_ratios=[1, 1, 1, 1, 1.5])
    shown = (
        "target",
        "three layers, by hand",
        "three layers, trained",
        f"two layers, width {WIDTHS[-1]}",
    )
    for panel, key in zip(axes, shown, strict=False):
        image = plane(panel, result.images[key], REACH, scale=SCALE)
        name(panel, key.replace(", ", ",\n") if ", " in key else f"{key},\n$g(x)$")
    ticks = [-1, 0, 1]  # of the function; the colour is that of tanh(value / SCALE)
    bar = colour_bar(
        figure, axes[: len(shown)], image, "value", orientation="horizontal", shrink=0.5,
        aspect=40, ticks=[math.tanh(tick / SCALE) for tick in ticks],
    )  # fmt: skip
    bar.set_xticklabels([f"{tick:g}" for tick in ticks])
    last = axes[-1]
    for model, curve in result.unexplained.items():
        colour = RELU if model.startswith("three") else LINEAR
        last.plot(range(1, len(curve) + 1), curve, color=colour, linewidth=1.1)
    last.axhline(LINEAR_BOUND, color=LINEAR, linewidth=0.7, linestyle=(0, (4, 3)))
    last.annotate("two layers", (1, LINEAR_BOUND), xycoords=("axes fraction", "data"),
                  xytext=(0, 4), ha="right", textcoords="offset points", color=LINEAR,
                  fontsize=8)  # fmt: skip
    last.annotate("three layers", (0.06, 0.06), xycoords="axes fraction", color=RELU, fontsize=8)
    last.set(xscale="log", yscale="log", ylim=(None, 3), xlim=(1, None))
    name(last, "unexplained variance", xlabel="step of Adam")
    plots.save(figure, path)


def claims(result: Result) -> list[Claim]:
    """Two layers stay at the lower bound, three do not."""
    *two, deep = result.unexplained
    return [
        Claim.close("variance that the best linear map leaves", result.linear, LINEAR_BOUND, 2e-4),
        *(
            Claim.close(
                f"{model}: variance left", float(result.unexplained[model][-1]), result.linear, 1e-4
            )
            for model in two
        ),
        Claim.at_most("three layers by hand: largest error", result.exact_error, 0.0),
        Claim.at_most(f"{deep}: variance left", float(result.unexplained[deep][-1]), 1e-3),
    ]

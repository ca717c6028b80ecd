"""Figure 1, expressivity: ``rectilinear reproduce zhang2025_biasfree fig1``.

A fan of six sectors with alternating labels, and two circles. The fan is closed under ``(x, y) ->
(-x, -y)``, so no bias-free network of two layers, however wide, has a loss below ``ln 2``, that of
a constant output of zero; three layers, or biases, classify it. On the circles both labels lie on
every ray, so no bias-free network of any depth has a loss below 0.641953.

The paper does not give the numbers of points, widths and rates; ours are in ``PRESETS`` and
``fan``, ``circles``.

Cost: small 10 seconds, full a minute, on one core.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import softplus

from rectilinear import plots
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
from rectilinear.random import seed_all

MODELS = {
    "two layers": (2, False),
    "three layers": (3, False),
    "two layers, biases": (2, True),
    "three layers, biases": (3, True),
}
REACH = 2.6  # of the images, on either side of the origin
PIXELS = 121  # of an image, along a side


@dataclass(frozen=True)
class Preset:
    """The size of a reproduction."""

    width: int
    steps: int
    lr: float


PRESETS = {"small": Preset(32, 450, 3e-2), "full": Preset(100, 3000, 5e-3)}


@dataclass(frozen=True, eq=False)
class Result:
    """By task points, labels and lower bound; by task and model loss, accuracy and output."""

    tasks: dict[str, tuple[Tensor, Tensor]]
    lower_bounds: dict[str, float]
    loss: dict[tuple[str, str], float]
    accuracy: dict[tuple[str, str], float]
    images: dict[tuple[str, str], Tensor]


def compute(
    preset: Literal["small", "full"], seed: int = 0, data_dir: Path | None = None
) -> Result:
    """Train every model on both tasks."""
    p = PRESETS[preset]
    tasks = {"fan": fan(), "circles": circles()}
    loss, accuracy, images = {}, {}, {}
    for task, (x, y) in tasks.items():
        for model, (layers, bias) in MODELS.items():
            seed_all(seed)
            net = network([2, *[p.width] * (layers - 1), 1], bias=bias)
            loss[task, model] = float(fit(net, x, y, logistic, p.steps, p.lr)[-1])
            with torch.no_grad():
                accuracy[task, model] = float((net(x)[:, 0] * y > 0).double().mean())
                images[task, model] = net(pixels(REACH, PIXELS)).reshape(PIXELS, PIXELS)
    return Result(tasks, {"fan": math.log(2), "circles": ray_bound()}, loss, accuracy, images)


def fan() -> tuple[Tensor, Tensor]:
    """Six sectors of 60 degrees with alternating labels, 8 angles times 3 radii each."""
    centres = 60.0 * torch.arange(6, dtype=torch.float64)
    angles = torch.deg2rad(centres[:, None] + torch.linspace(-20, 20, 8, dtype=torch.float64))
    labels = (1 - 2 * (torch.arange(6) % 2)).double()[:, None, None].expand(6, 8, 3)
    return _polar(angles[..., None], torch.tensor([0.5, 1.0, 1.5])), labels.flatten()


def circles() -> tuple[Tensor, Tensor]:
    """36 angles, radius 1 with label 1 and radius 2 with label -1."""
    angles = torch.arange(36, dtype=torch.float64)[:, None] * (2 * torch.pi / 36)
    return _polar(angles, torch.tensor([1.0, 2.0])), torch.tensor([1.0, -1.0]).double().repeat(36)


def ray_bound() -> float:
    """The least loss on a ray of the circles, where a bias-free network gives ``c`` and ``2 c``."""

    def loss(c: float) -> float:
        return (math.log1p(math.exp(-c)) + math.log1p(math.exp(2 * c))) / 2

    return float(minimize_scalar(loss, bounds=(-5, 5), options={"xatol": 1e-10}).fun)


def logistic(f: Tensor, y: Tensor) -> Tensor:
    """``<log(1 + exp(-y f))>``."""
    return softplus(-y * f).mean()


def draw(result: Result, path: Path) -> None:
    """The sign and size of every output in colour, with the points on it."""
    figure, axes = plots.canvas(7.0, 4.3, columns=4, rows=2)
    for panel, (key, image) in zip(axes, result.images.items(), strict=True):
        task, model = key
        last = plane(panel, image, REACH, scale=max(float(image.abs().quantile(0.9)), 0.2))
        x, y = result.tasks[task]
        for label, colour in ((1, RELU), (-1, LINEAR)):
            shown = x[y == label]
            panel.plot(shown[:, 0], shown[:, 1], "o", color=colour, markersize=3.4,
                       markeredgewidth=0.5, markeredgecolor="white")  # fmt: skip
        name(
            panel, f"{model}\nloss {result.loss[key]:.3f}\n{100 * result.accuracy[key]:.0f} % right"
        )
    bar = colour_bar(figure, axes, last, "output", shrink=0.5, aspect=30, ticks=[-1, 0, 1])
    bar.set_yticklabels(["negative", "0", "positive"])
    plots.save(figure, path)


def claims(result: Result) -> list[Claim]:
    """The tasks that each network learns, and the losses at which the others stay."""
    bound = result.lower_bounds["circles"]
    return [
        Claim.close(
            "lower bound of the circles for every bias-free network", bound, 0.641953, 1e-6
        ),
        Claim.close("fan, two layers: loss", result.loss["fan", "two layers"], math.log(2), 1e-5),
        *(
            Claim.close(f"circles, {model}: loss", result.loss["circles", model], bound, 1e-4)
            for model in ("two layers", "three layers")
        ),
        *(
            Claim.at_least(f"fan, {model}: accuracy", result.accuracy["fan", model], 1.0)
            for model in MODELS
            if model != "two layers"
        ),
        *(
            Claim.at_least(f"circles, {model}: accuracy", result.accuracy["circles", model], 1.0)
            for model, (_, bias) in MODELS.items()
            if bias
        ),
    ]


def _polar(angles: Tensor, radii: Tensor) -> Tensor:
    """Points at these angles ``(..., 1)`` and radii."""
    return torch.stack([angles.cos() * radii, angles.sin() * radii], dim=-1).reshape(-1, 2).double()

"""Shared parts of the figures: task, colours by slope, distances of weights, training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.image import AxesImage
from torch import Tensor, nn

from rectilinear.learning import Networks
from rectilinear.plots.charts import ROLES
from rectilinear.random import generator

LINEAR, RELU = ROLES["second"], ROLES["first"]


def sine_task(points: int, inputs: int, seed: int) -> tuple[Tensor, Tensor]:
    """Standard normal inputs and their mirror images, with ``y = w . x + sin(4 w . x)``.

    ``w`` is uniform on [-.5, .5].
    """
    source = generator(seed)
    x = torch.randn(points, inputs, generator=source, dtype=torch.float64)
    z = x @ (torch.rand(inputs, generator=source, dtype=torch.float64) - 0.5)
    y = z + torch.sin(4 * z)
    return torch.cat([x, -x]), torch.cat([y, -y])


def kappas(networks: Networks) -> Tensor:
    """``(1 + alpha)/2`` of each network."""
    return (1 + networks.alpha) / 2


def rescaled(networks: Networks) -> Networks:
    """The networks with weights divided by ``sqrt(kappa)``: all compute the same small map."""
    root = kappas(networks).sqrt()[:, None, None]
    return replace(networks, first=networks.first / root, last=networks.last / root)


def weight_distance(networks: Networks, linear: Networks) -> Tensor:
    """``|sqrt(kappa) W - W_lin| / |W_lin|`` of each network over both layers, ``(B,)``."""
    root = kappas(networks).sqrt()[:, None]

    def flat(these: Networks) -> Tensor:
        return torch.cat([these.first.flatten(1), these.last.flatten(1)], dim=1)

    return (root * flat(networks) - flat(linear)).norm(dim=1) / flat(linear).norm(dim=1)


def shade(alpha: float) -> tuple[float, ...]:
    """The colour of a slope, from that of ReLU to that of a linear network."""
    first, second = (torch.tensor(mpl.colors.to_rgb(colour)) for colour in (RELU, LINEAR))
    return tuple(((1 - alpha) * first + alpha * second).tolist())


def plane(axes: Axes, values: Tensor, reach: float, scale: float) -> AxesImage:
    """The image of values on the square ``[-reach, reach]^2``, the first coordinate along a row.

    White is zero, the colour of ``v`` that of ``tanh(v / scale)``.
    """
    colours = LinearSegmentedColormap.from_list("signs", [LINEAR, "#ffffff", RELU])
    image = axes.imshow(
        torch.tanh(values / scale), extent=(-reach, reach, -reach, reach), origin="lower",
        cmap=colours, vmin=-1.5, vmax=1.5, interpolation="bilinear",
    )  # fmt: skip
    axes.set(xticks=[], yticks=[], xlim=(-reach, reach), ylim=(-reach, reach))
    axes.grid(visible=False)
    axes.spines[:].set(visible=True, color=ROLES["rule"], linewidth=0.6)
    return image


def pixels(reach: float, count: int) -> Tensor:
    """The points ``(count^2, 2)`` of such a square, row by row."""
    axis = torch.linspace(-reach, reach, count, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis).flip(1)


def name(axes: Axes, title: str, **labels: Any) -> None:
    """Set title and labels of a panel."""
    axes.set_title(title, fontsize=9.5, color=ROLES["ink"], loc="left")
    axes.set(**labels)


def network(sizes: Sequence[int], *, bias: bool) -> nn.Sequential:
    """ReLU layers of these sizes, the inputs first, in float64."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs, bias=bias, dtype=torch.float64), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def fit(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    steps: int,
    lr: float,
) -> Tensor:
    """The loss before each step of full-batch Adam, on a cosine schedule over the last half."""
    optimizer = torch.optim.Adam(model.parameters(), lr)
    half = steps // 2
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda k: (
            0.5 + 0.5 * float(torch.cos(torch.tensor(torch.pi * max(0, k - half) / (steps - half))))
        ),
    )
    # Numbers kept one by one would split the memory that each step needs in one piece.
    losses = y.new_empty(steps)
    for step in range(steps):
        optimizer.zero_grad(set_to_none=True)
        value = loss(model(x)[:, 0], y)
        losses[step] = value.detach()
        value.backward()
        optimizer.step()
        schedule.step()
    return losses

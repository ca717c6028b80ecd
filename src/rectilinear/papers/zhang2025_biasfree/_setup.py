"""What several figures share: the regression task, colours by slope, and distances between networks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import torch
from matplotlib.colors import LinearSegmentedColormap

from rectilinear._seed import generator
from rectilinear.plots.style import ROLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

    from rectilinear.dynamics import Networks

LINEAR, RELU = ROLES["second"], ROLES["first"]


def sine_task(points: int, inputs: int, seed: int) -> tuple[Tensor, Tensor]:
    """``points`` standard normal inputs and their mirrors, ``y = w . x + sin(4 w . x)``, ``w`` uniform on [-.5, .5]."""
    source = generator(seed)
    x = torch.randn(points, inputs, generator=source, dtype=torch.float64)
    z = x @ (torch.rand(inputs, generator=source, dtype=torch.float64) - 0.5)
    y = z + torch.sin(4 * z)
    return torch.cat([x, -x]), torch.cat([y, -y])


def kappas(networks: Networks) -> Tensor:
    """``(1 + alpha)/2`` of each network."""
    return (1 + networks.alpha) / 2


def rescaled(networks: Networks) -> Networks:
    """The same start for every slope: weights divided by ``sqrt(kappa)``, so that all compute the same small map."""
    root = kappas(networks).sqrt()[:, None, None]
    return replace(networks, first=networks.first / root, last=networks.last / root)


def weight_distance(networks: Networks, linear: Networks) -> Tensor:
    """``|sqrt(kappa) W - W_lin| / |W_lin|`` of each network over both layers, ``(B,)``."""
    root = kappas(networks).sqrt()[:, None]

    def flat(these: Networks) -> Tensor:
        return torch.cat([these.first.flatten(1), these.last.flatten(1)], dim=1)

    return (root * flat(networks) - flat(linear)).norm(dim=1) / flat(linear).norm(dim=1)


def shade(alpha: float) -> tuple[float, ...]:
    """From the colour of ReLU to that of a linear network."""
    first, second = (torch.tensor(mpl.colors.to_rgb(colour)) for colour in (RELU, LINEAR))
    return tuple(((1 - alpha) * first + alpha * second).tolist())


def plane(axes: Axes, values: Tensor, reach: float, scale: float) -> None:
    """Values on the square ``[-reach, reach]^2``, the first coordinate along a row; white is zero."""
    colours = LinearSegmentedColormap.from_list("signs", [LINEAR, "#ffffff", RELU])
    axes.imshow(torch.tanh(values / scale), extent=(-reach, reach, -reach, reach), origin="lower", cmap=colours,
                vmin=-1.5, vmax=1.5, interpolation="bilinear")  # fmt: skip
    axes.set(xticks=[], yticks=[], xlim=(-reach, reach), ylim=(-reach, reach))
    axes.grid(visible=False)
    axes.spines[:].set(visible=True, color=ROLES["rule"], linewidth=0.6)


def pixels(reach: float, count: int) -> Tensor:
    """The points ``(count^2, 2)`` of such a square, row by row."""
    axis = torch.linspace(-reach, reach, count, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis).flip(1)


def name(axes: Axes, title: str, **labels: Any) -> None:
    """Title and labels of a panel."""
    axes.set_title(title, fontsize=9.5, color=ROLES["ink"], loc="left")
    axes.set(**labels)

"""What a study compares: closed forms, deep linear nets and ReLU nets, each a line of settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from rectilinear.checks import is_count, is_within
from rectilinear.deeplinear.ensemble import OPTIMIZERS, Optimizer
from rectilinear.deeplinear.initialisation import STARTS, Start
from rectilinear.errors import ConfigError

Kind = Literal["least_squares", "ridge", "deep_linear", "relu"]

MOMENTUM, EPS = 0.9, 1e-8


@dataclass(frozen=True)
class Model:
    """One model of a study.

    Args:
        kind: ``least_squares``, ``ridge``, ``deep_linear`` or ``relu``.
        depth: layers of weights; a deep linear net of depth one is linear regression by descent.
        width: of the hidden layers.
        start: where descent starts.
        optimizer: how it goes on.
        lr: its step on the mean square error, as with ``torch.nn.MSELoss``; None for the best of a
            grid, chosen on other trials than those reported.
        bias: whether layers have one; a ReLU net without is homogeneous.
        penalty: of ridge, on the squared weights beside the sum of squared errors.

    Raises:
        ConfigError: for a name that is unknown or a number out of range.

    Example:
        >>> Model("deep_linear", depth=3, optimizer="adam").name
        'depth 3, adam'
    """

    kind: Kind = "deep_linear"
    depth: int = 1
    width: int = 1
    start: Start = "uniform"
    optimizer: Optimizer = "gd"
    lr: float | None = 1e-3
    bias: bool = True
    penalty: float = 1.0

    def __post_init__(self) -> None:
        kinds = ("least_squares", "ridge", "deep_linear", "relu")
        for name, given, expected, fine in (
            ("kind", self.kind, f"one of {', '.join(kinds)}", self.kind in kinds),
            ("depth", self.depth, "at least one layer", is_count(self.depth, 1)),
            ("width", self.width, "at least one unit", is_count(self.width, 1)),
            ("start", self.start, f"one of {', '.join(STARTS)}", self.start in STARTS),
            (
                "optimizer",
                self.optimizer,
                f"one of {', '.join(OPTIMIZERS)}",
                self.optimizer in OPTIMIZERS,
            ),
            (
                "lr",
                self.lr,
                "a positive step, or None",
                self.lr is None or (is_within(self.lr, 0) and self.lr > 0),
            ),
            ("penalty", self.penalty, "at least 0", is_within(self.penalty, 0)),
        ):
            if not fine:
                raise ConfigError(f"{name} = {given!r}", expected, "Correct this value.")

    @property
    def trained(self) -> bool:
        """Whether there is something to train."""
        return self.kind in ("deep_linear", "relu")

    @property
    def family(self) -> str:
        """Its name without the depth, which a line of a plot over depths has in common."""
        if not self.trained:
            return {"least_squares": "least squares", "ridge": f"ridge {self.penalty:g}"}[self.kind]
        words = [
            "" if self.bias else "bias-free",
            "ReLU" if self.kind == "relu" else "",
            self.optimizer,
        ]
        words += [
            f"width {self.width}" if self.width > 1 else "",
            self.start if self.start != "uniform" else "",
        ]
        words += ["tuned" if self.lr is None else f"lr {self.lr:g}" if self.lr != Model.lr else ""]
        return " ".join(filter(None, words))

    def rule(self, lr: ArrayLike | None = None) -> dict[str, Any]:
        """What :func:`~rectilinear.deeplinear.train` needs to take the same steps: it counts on
        half the loss.
        """
        lr = self.lr if lr is None else lr
        assert lr is not None
        if self.optimizer == "adam":  # halving the gradient changes its step by eps alone
            return {"optimizer": "adam", "lr": lr, "eps": EPS / 2}
        return {"optimizer": self.optimizer, "lr": 2 * np.asarray(lr), "momentum": MOMENTUM}

    @property
    def name(self) -> str:
        """What tells it from every other model."""
        return f"depth {self.depth}, {self.family}" if self.trained else self.family


def deep_linear(
    depths: Iterable[int] = range(1, 11),
    *,
    widths: Iterable[int] = (1,),
    starts: Iterable[Start] = ("uniform",),
    optimizers: Iterable[Optimizer] = ("gd",),
    lr: float | None = 1e-3,
    bias: bool = True,
) -> tuple[Model, ...]:
    """Deep linear nets in every combination, after least squares, which they are measured against.

    Example:
        >>> [model.name for model in deep_linear([1, 2], optimizers=["gd", "adam"])]
        ['least squares', 'depth 1, gd', 'depth 2, gd', 'depth 1, adam', 'depth 2, adam']
    """
    nets = product(widths, starts, optimizers, depths)
    return (
        Model("least_squares", bias=bias),
        *(
            Model("deep_linear", depth, width, start, optimizer, lr, bias)
            for width, start, optimizer, depth in nets
        ),
    )

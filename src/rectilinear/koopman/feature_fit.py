"""Configuration of a fit, and features by ridge regression: bandwidth and penalty."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rectilinear.checks import is_count
from rectilinear.errors import ConfigError
from rectilinear.koopman.model import Features

BANDWIDTHS = (0.5, 1.0, 2.0, 4.0, 8.0, 12.0)
"""Tried standard deviations of the frequencies of random features, times the root of the state's
dimension.
"""
LOOKAHEAD_BANDWIDTHS = BANDWIDTHS[:3]
"""The same for features with lookahead, whose inputs differ less from each other."""
RIDGES = (1e-14, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2, 1e-1, 1.0)
"""Tried ridge penalties of the least squares, relative to the number of windows."""
_TRIAL = 6000  # windows for the least squares of each trial
_EXACT = 1e-20  # smaller mean square errors, in variances, count as equal: they are rounding


@dataclass(frozen=True)
class FitConfig:
    """The configuration of :func:`~rectilinear.koopman.fit`.

    Attributes:
        rank: largest dimension of the linear dynamics, without the constant offset.
        horizon: number of steps ahead that are fitted; None: 100, or less for short series (two
            thirds of their length, one third for fewer than five series).
        backward: number of steps back that are fitted; needed for backward forecasts.
        delays: observations in a state, newest first.
        stable: keep the spectral radius at most 1.
        fourier: random Fourier features.
        lookahead_features: number of predicted states ahead, within the horizon, that features are
            computed on, too; 0 uses the current state only.
        width: width of the network of learned features; 0 for none.
        hidden: its hidden layers after the first.
        seed: of features and validation.

    Raises:
        ConfigError: for numbers out of range.
    """

    rank: int = 32
    horizon: int | None = 100
    backward: int = 0
    delays: int = 1
    stable: bool = True
    fourier: int = 1000
    lookahead_features: int = 10
    width: int = 0
    hidden: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rank", "horizon", "delays", "hidden"):
            value = getattr(self, name)
            if not (value is None and name == "horizon") and not is_count(value, 1):
                raise ConfigError(f"{name} = {value!r}", "an integer, 1 or more")
        for name in ("backward", "fourier", "lookahead_features", "width", "seed"):
            if not is_count(value := getattr(self, name), 0):
                raise ConfigError(f"{name} = {value!r}", "an integer, 0 or more")


def fit_features(
    s: Tensor,
    target: Tensor,
    basis: Tensor,
    design: Tensor,
    unknown: Tensor,
    owner: Tensor,
    config: FitConfig,
    lookahead: dict[str, Any],
) -> Features:
    """Features whose bandwidth and ridge predict the held-out windows best: :func:`ridge_errors`.

    ``unknown`` are the steps of the design that the state does not hold itself.
    """
    steps = (design @ basis.T).unflatten(0, (len(unknown), -1))[unknown]
    still = _still(s, owner)
    d = s.shape[1]

    def make(bandwidth: float | Tensor, fourier: int) -> Features:
        options = lookahead if fourier else {}
        return Features(
            d, basis, fourier, bandwidth, config.width, config.hidden, config.seed, **options
        )

    train, held = held_split(owner)
    trial = train[:: -(-len(train) // _TRIAL)]
    count = min(config.fourier, len(train) // 2)  # of few windows more features learn nothing
    options: list[tuple[float | Tensor, int]] = [(0.0, 0)]
    for b in (LOOKAHEAD_BANDWIDTHS if lookahead else BANDWIDTHS) if count else ():
        options.append((b / d**0.5, count))
        # what is the same all along a series may be a parameter of it, or mean nothing
        if bool(still.any()):
            options.append((torch.where(still, 0.0, b / d**0.5).to(s)[:, None], count))
    best = (float("inf"), 0.0, make(0.0, 0))
    with torch.no_grad():
        seen = make(0.0, count).seen(s)  # the same for all bandwidths
    for bandwidth, fourier in options:
        features = make(bandwidth, fourier)
        inputs = features.fixed(seen if fourier else [s])
        for ridge, error in ridge_errors(inputs, target, trial, held, steps):
            if error < best[0]:
                best = error, ridge, features
    _, ridge, features = best
    inputs = features.fixed(seen if features.fourier else [s])
    features.weight.copy_(next(ridge_path(inputs, target, (ridge,)))[1])
    return features


def _still(s: Tensor, owner: Tensor) -> Tensor:
    """The columns that are constant within every series."""
    if int(owner.max()) == 0:
        return torch.zeros(s.shape[1], dtype=torch.bool)
    first = torch.zeros(int(owner.max()) + 1, dtype=torch.long).index_copy(
        0, owner.flip(0), torch.arange(len(s)).flip(0)
    )
    return ((s - s[first[owner]]).abs() <= 1e-9).all(0)


def held_split(owner: Tensor) -> tuple[Tensor, Tensor]:
    """Windows to fit on and to validate on: every fifth series, of few the last fifths."""
    if int(owner.max()) >= 4:
        held = owner % 5 == 4
    else:
        held = torch.cat(
            [torch.arange(int(n)) >= 0.8 * int(n) for n in owner.unique(return_counts=True)[1]]
        )
    return (~held).nonzero().flatten(), held.nonzero().flatten()


def ridge_errors(
    inputs: Tensor, target: Tensor, train: Tensor, held: Tensor, design: Tensor
) -> Iterator[tuple[float, float]]:
    """Each ridge and the mean over steps of the logarithm of the error on the held-out windows.

    The error of a step is the mean square over windows and columns, each column in its own
    variance, so that a column that is forecast perfectly hides none that is not. ``design`` is
    ``(steps, d, q)``.
    """
    given, wanted = inputs[held], target[held]
    for ridge, weight in ridge_path(inputs[train], target[train], RIDGES):
        error = (given @ weight - wanted) @ design.flatten(0, 1).T
        steps = error.square().mean(0).unflatten(0, design.shape[:2]).mean(1)
        yield ridge, float(steps.clamp(min=_EXACT).log().mean())


def ridge_path(
    inputs: Tensor, target: Tensor, ridges: tuple[float, ...]
) -> Iterator[tuple[float, Tensor]]:
    """``argmin |inputs W - target|^2 + ridge N |W|^2`` for each ridge, from one ``eigh``."""
    values, vectors = torch.linalg.eigh(inputs.T @ inputs)
    right = vectors.T @ (inputs.T @ target)
    for ridge in ridges:
        yield ridge, vectors @ (right / (values.clamp(min=0) + ridge * len(inputs))[:, None])

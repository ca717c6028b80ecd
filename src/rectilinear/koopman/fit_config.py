"""The configuration of a fit of a Koopman model."""

from __future__ import annotations

from dataclasses import dataclass

from rectilinear.checks import is_count
from rectilinear.errors import ConfigError


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

"""Every error a user can cause, in one place.

Each carries what was got, what was expected and what to do, so that one line answers the mistake.
"""

from __future__ import annotations

import copyreg
from typing import Any, Self


class RectilinearError(Exception):
    """An error that the user can act on: ``got``, ``expected`` and ``fix``, in that order.

    Example:
        >>> str(ShapeError(got="z of shape (3, 5)", expected="a last axis of 4", fix="Reshape z."))
        'Got z of shape (3, 5); expected a last axis of 4. Reshape z.'
    """

    def __init__(self, got: str, expected: str, fix: str = "") -> None:
        self.got, self.expected, self.fix = got, expected, fix
        super().__init__(f"Got {got}; expected {expected}." + (f" {fix}" if fix else ""))

    def __reduce__(self) -> tuple[Any, ...]:
        """Whole on its way back from another process."""
        state = {**self.__dict__, "args": self.args}
        return copyreg.__newobj__, (type(self),), state  # type: ignore[attr-defined] # its stub leaves it out


class InputError(RectilinearError, ValueError):
    """A value that the function does not accept."""


class ShapeError(InputError):
    """A tensor or operator of the wrong shape."""


class DtypeError(InputError, TypeError):
    """A tensor of the wrong dtype, or an argument of the wrong type."""


class NonFiniteError(InputError):
    """NaN or infinite entries where finite numbers are needed."""


class ConfigError(InputError):
    """A configuration value that is out of range or unknown."""


class SpaceMismatchError(InputError):
    """Points or maps of different induced spaces."""


class StructureError(InputError):
    """An operator that cannot keep its structure under the asked operation."""


class AssumptionError(InputError):
    """A statement asked for where one of its assumptions does not hold; ``assumption`` names it.

    Example:
        >>> AssumptionError("a bias in layer 1", "none", assumption="no bias").assumption
        'no bias'
    """

    def __init__(self, got: str, expected: str, fix: str = "", *, assumption: str) -> None:
        self.assumption = assumption
        super().__init__(got, expected, fix)


class SingularOperatorError(RectilinearError, ArithmeticError):
    """An operator without the asked inverse, logarithm or power."""


class NotInvertibleError(RectilinearError):
    """A module that has no inverse, or whose inverse does not return to the start."""


class NotInitializedError(RectilinearError, RuntimeError):
    """A layer used before the data-dependent initialisation it needs."""


class DivergedError(RectilinearError, ArithmeticError):
    """A training run or an integration that left the finite numbers."""


class CheckpointError(RectilinearError):
    """A checkpoint that is truncated, tampered with or of another model."""


class DataError(RectilinearError):
    """A data set that is missing, truncated or of the wrong kind."""


class DiskError(RectilinearError, OSError):
    """A disk that is full or cannot be written."""


class LockedError(RectilinearError):
    """A folder that another run is writing."""


class WorkerError(RectilinearError, RuntimeError):
    """Worker processes that die again and again."""


class MissingDependencyError(RectilinearError, ImportError):
    """An optional package that the asked feature needs.

    Example:
        >>> MissingDependencyError.of("to_parquet", "pyarrow", extra="tables").fix
        "Install it: pip install 'rectilinear[tables]'."
    """

    @classmethod
    def of(cls, use: str, package: str, *, extra: str = "", instead: str = "") -> Self:
        """The error of ``use``, which needs ``package``, or an ``extra`` of rectilinear with it."""
        what = f"'rectilinear[{extra}]'" if extra else package
        fix = f"Install it: pip install {what}" + (f", or {instead}." if instead else ".")
        return cls(f"{use} without {package}", f"the package {package}", fix)


class StructureWarning(UserWarning):
    """An operation that has no structured form and was computed on a dense matrix."""


class DataWarning(UserWarning):
    """Data that are taken as they are and may not mean it, such as -999 for a missing value."""


class ForecastWarning(UserWarning):
    """Series that a forecast leaves out, or a model that forecasts worse than no change at all."""

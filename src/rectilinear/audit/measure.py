"""A measurement: a number, how sure it is, and what lies behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

Kind = Literal["exact", "certified", "estimated", "not applicable"]


@dataclass(frozen=True, eq=False)
class Measure:
    """One measurement of an audit.

    Attributes:
        name: its name, the key in ``audit.measures``.
        value: the number; None where it does not apply.
        kind: "exact" (computed or proved, up to rounding), "certified" (the truth lies in the interval, by a bound),
            "estimated" (the interval is one of confidence, 95 %), or "not applicable", with the reason in ``note``.
        interval: the interval, where there is one.
        note: what the number says here, in a sentence.
        details: further numbers, as JSON values.
        tensors: what is too large for JSON, such as matrices.
    """

    name: str
    value: float | None
    kind: Kind
    interval: tuple[float, float] | None = None
    note: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def missing(cls, name: str, reason: str) -> Measure:
        """A measurement that does not apply, and why.

        Example:
            >>> print(Measure.missing("floor", "no labels were given"))
            floor: not applicable (no labels were given)
        """
        return cls(name, None, "not applicable", note=reason)

    @property
    def applies(self) -> bool:
        """Whether there is a number."""
        return self.value is not None

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.name}: not applicable ({self.note})"
        return f"{self.name}: {self.value:.4g}{self.range_text()}, {self.kind}" + (f". {self.note}" * bool(self.note))

    def range_text(self) -> str:
        """The interval in brackets, or nothing."""
        return f" [{self.interval[0]:.4g}, {self.interval[1]:.4g}]" if self.interval else ""

    def to_json(self) -> dict[str, Any]:
        """All but the tensors."""
        return {
            "name": self.name,
            "value": self.value,
            "kind": self.kind,
            "interval": None if self.interval is None else list(self.interval),
            "note": self.note,
            "details": dict(self.details),
        }

"""The result of an audit: its measures and its verdict, as text, JSON and tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rectilinear.analysis.measure import NOT_ASKED_FOR, NOT_FOR_TOKENS, Measure
from rectilinear.analysis.verdict import Verdict
from rectilinear.config import as_frame, nan_to_null, write_json
from rectilinear.scalars import share_text

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Audit:
    """The result of an audit: ``measures`` by name and the ``verdict``; ``print`` shows a table.

    Attributes:
        model: the class of the model.
        parameters: how many it has.
        in_shape: the shape of a row of the input.
        out_shape: that of the output.
        rows: how many rows were audited: samples, such as texts, each of several tokens.
        seed: of every random number.
        verdict: the label and the reasons.
        measures: every measurement by its name.
        start: where the audited map starts, if that is not the model's input: in words.
        vectors: how many tokens there are in all, for data of tokens.
    """

    model: str
    parameters: int
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    rows: int
    seed: int
    verdict: Verdict
    measures: Mapping[str, Measure]
    start: str = ""
    vectors: int | None = None

    @property
    def shown(self) -> list[Measure]:
        """The measurements that were asked for, of those that there are for such data."""
        return [m for m in self.measures.values() if m.note not in (NOT_ASKED_FOR, NOT_FOR_TOKENS)]

    @property
    def subject(self) -> str:
        """The model and the data in a few words."""
        start = f", from {self.start}" if self.start else ""
        data = f"{self.rows:,} rows"
        if self.vectors is not None:
            data = f"{self.rows:,} samples of {self.vectors:,} tokens in all"
        return f"{self.model}, {self.parameters:,} parameters, on {data}{start}"

    def __str__(self) -> str:
        lines = [
            f"{self.subject}: {self.verdict.label}",
            *(f"  - {reason}" for reason in self.verdict.reasons),
            "",
        ]
        table = [
            (
                m.name,
                "" if m.value is None else share_text(m.value),
                m.range_text().strip(),
                m.kind,
                m.note,
            )
            for m in self.shown
        ]
        widths = [max(len(row[i]) for row in table) for i in range(4)]
        return "\n".join(
            [
                *lines,
                *(
                    "  ".join(
                        [
                            name.ljust(widths[0]),
                            *(c.rjust(w) for c, w in zip(cells, widths[1:3], strict=True)),
                        ]
                    )
                    + f"  {kind.ljust(widths[3])}  {note}".rstrip()
                    for name, *cells, kind, note in table
                ),
            ]
        )

    def _repr_html_(self) -> str:
        """The table, as HTML for a notebook."""
        return f"<pre>{escape(str(self))}</pre>"

    def to_json(self, path: Path | str | None = None) -> dict[str, Any]:
        """Everything but the tensors as JSON values; written to ``path`` where one is given.

        Raises:
            DiskError: if the disk is full or cannot be written.
        """
        values = nan_to_null(
            {
                "model": self.model,
                "parameters": self.parameters,
                "in_shape": list(self.in_shape),
                "out_shape": list(self.out_shape),
                "rows": self.rows,
                "start": self.start,
                "vectors": self.vectors,
                "seed": self.seed,
                "verdict": {"label": self.verdict.label, "reasons": list(self.verdict.reasons)},
                "measures": {name: m.to_json() for name, m in self.measures.items()},
            }
        )
        if path is not None:
            write_json(path, values)
        return values

    def to_frame(self) -> pd.DataFrame:
        """One row a measurement.

        Raises:
            MissingDependencyError: without pandas.
        """
        records = [
            {
                "measure": m.name,
                "value": m.value,
                "low": m.interval[0] if m.interval else None,
                "high": m.interval[1] if m.interval else None,
                "kind": m.kind,
                "note": m.note,
            }
            for m in self.shown
        ]
        return as_frame(records, "measure")

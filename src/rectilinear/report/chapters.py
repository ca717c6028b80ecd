"""What the demo's report has beside the generator: a chapter for each other use of the package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rectilinear.report.audit import audit_sections

if TYPE_CHECKING:
    from rectilinear.report.write import Chapter

CHAPTERS: dict[str, Chapter] = {
    "Measure and predict": audit_sections,
}

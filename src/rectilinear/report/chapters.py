"""What the demo's report has beside the generator: a chapter for each other use of the package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rectilinear.report.audit import audit_sections
from rectilinear.report.depth import depth_sections
from rectilinear.report.dynamics import dynamics_sections
from rectilinear.report.projector import projector_sections
from rectilinear.report.style import style_sections

if TYPE_CHECKING:
    from rectilinear.report.write import Chapter

CHAPTERS: dict[str, Chapter] = {
    "Project": projector_sections,
    "Style": style_sections,
    "Forecast": dynamics_sections,
    "Measure and predict": audit_sections,
    "Study depth": depth_sections,
}

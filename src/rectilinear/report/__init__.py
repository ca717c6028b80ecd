"""One self-contained HTML page from a run."""

from rectilinear.report.evaluate import Evaluation, evaluate
from rectilinear.report.write import write_report

__all__ = ["Evaluation", "evaluate", "write_report"]

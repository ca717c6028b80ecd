"""One self-contained HTML page from a run."""

from rectilinear.report.write import Evaluation, evaluate, write_report

__all__ = ["Evaluation", "evaluate", "write_report"]

"""One self-contained HTML page from a run."""

from rectilinear.report.evaluate import Evaluation, check_rank, evaluate, finishes, standard_noise
from rectilinear.report.write import write_report

__all__ = ["Evaluation", "check_rank", "evaluate", "finishes", "standard_noise", "write_report"]

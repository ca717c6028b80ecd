"""The audit of a network's linearity: measures and verdict."""

from rectilinear.analysis.audit import audit
from rectilinear.analysis.loss_floor import LossFloor, loss_floor
from rectilinear.analysis.measure import Measure
from rectilinear.analysis.result import Audit
from rectilinear.analysis.two_layer import Split, split
from rectilinear.analysis.verdict import Verdict

__all__ = ["Audit", "LossFloor", "Measure", "Split", "Verdict", "audit", "loss_floor", "split"]

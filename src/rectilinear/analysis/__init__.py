"""How linear a network is: the audit, its measures and its verdict."""

from rectilinear.analysis.audit import Audit, audit
from rectilinear.analysis.loss_floor import Floor, floor
from rectilinear.analysis.measure import Measure
from rectilinear.analysis.split import Split, split
from rectilinear.analysis.verdict import Verdict

__all__ = ["Audit", "Floor", "Measure", "Split", "Verdict", "audit", "floor", "split"]

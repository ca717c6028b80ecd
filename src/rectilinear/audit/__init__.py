"""How linear a network is: measure it, take it apart, and act on it.

The folder and its verb share a name: ``rl.audit(model, x)`` runs an audit, and ``rl.audit.Audit`` looks inside.
"""

import sys
from types import ModuleType

from rectilinear.audit.audit import Audit, audit
from rectilinear.audit.floors import Floor, floor
from rectilinear.audit.fuse import Fused, fuse
from rectilinear.audit.linearize import Linearized, linearize
from rectilinear.audit.local import LocalMap, local_map
from rectilinear.audit.measure import Measure
from rectilinear.audit.split import Split, split
from rectilinear.audit.verdict import Verdict

__all__ = [
    "Audit",
    "Floor",
    "Fused",
    "Linearized",
    "LocalMap",
    "Measure",
    "Split",
    "Verdict",
    "audit",
    "floor",
    "fuse",
    "linearize",
    "local_map",
    "split",
]


class _Callable(ModuleType):
    """A module that runs an audit when it is called: importing a folder binds its name to the module, always."""

    __call__ = staticmethod(audit)


sys.modules[__name__].__class__ = _Callable

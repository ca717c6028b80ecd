"""Invertible networks of other libraries, recognised by what they can do: no library is imported."""

from rectilinear.invertible.adapters.callables import from_callables
from rectilinear.invertible.adapters.freia import from_freia
from rectilinear.invertible.adapters.module import from_module
from rectilinear.invertible.adapters.normflows import from_normflows
from rectilinear.invertible.adapters.zuko import from_zuko

__all__ = ["from_callables", "from_freia", "from_module", "from_normflows", "from_zuko"]

"""The linear map inside a network: at a point, in place of a block, folded into its neighbours."""

from rectilinear.maps.fuse import Fused, fuse
from rectilinear.maps.linearize import Linearized, linearize
from rectilinear.maps.local_map import LocalMap, local_map

__all__ = ["Fused", "Linearized", "LocalMap", "fuse", "linearize", "local_map"]

"""The linear map inside a network: at a point, in place of a block, folded into its neighbours."""

from rectilinear.maps import frozen_norms as frozen_norms  # the rules of rectilinear.maps.frozen
from rectilinear.maps import frozen_rules as frozen_rules
from rectilinear.maps.fuse import Fused, fuse
from rectilinear.maps.linearize import Linearized, linearize
from rectilinear.maps.local_map import LocalMap, Shares, local_map
from rectilinear.maps.span_costs import SpanCosts, span_costs

__all__ = [
    "Fused",
    "Linearized",
    "LocalMap",
    "Shares",
    "SpanCosts",
    "fuse",
    "linearize",
    "local_map",
    "span_costs",
]

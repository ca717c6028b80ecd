"""Linear maps inside a network: at a point, in place of a block, folded into another layer."""

from rectilinear.maps import frozen_norms as frozen_norms  # the rules of rectilinear.maps.frozen
from rectilinear.maps import frozen_recurrent as frozen_recurrent
from rectilinear.maps import frozen_rules as frozen_rules
from rectilinear.maps.fuse import Fused, fuse
from rectilinear.maps.jacobian_lens import JacobianLens, read_jacobian_lens, write_jacobian_lens
from rectilinear.maps.layer_profile import LayerProfile, layer_profile
from rectilinear.maps.linear_map import linear_map
from rectilinear.maps.linearize import Linearized, linearize
from rectilinear.maps.local_map import LocalMap, Shares, local_map
from rectilinear.maps.map_report import LinearMap, MapReport
from rectilinear.maps.span_costs import SpanCosts, span_costs

__all__ = [
    "Fused",
    "JacobianLens",
    "LayerProfile",
    "LinearMap",
    "Linearized",
    "LocalMap",
    "MapReport",
    "Shares",
    "SpanCosts",
    "fuse",
    "layer_profile",
    "linear_map",
    "linearize",
    "local_map",
    "read_jacobian_lens",
    "span_costs",
    "write_jacobian_lens",
]

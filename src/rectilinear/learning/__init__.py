"""How two-layer leaky ReLU networks and linear networks of any depth learn: closed forms, and a
slow reference.

Everywhere time is the learning rate times the number of steps, the loss is half the mean square
error, ``beta = <y x^T>`` and ``sigma = <x x^T>``.
"""

from rectilinear.learning.deep_linear import (
    deep_mode,
    deep_relu,
    deep_time,
    half_time,
    plateau,
    two_blocks,
)
from rectilinear.learning.gradient_flow import Flow, gradient_flow, half_square
from rectilinear.learning.leaky_relu import (
    delta,
    growing_start,
    odd_slope,
    pair,
    stays_odd,
    weight_error,
)
from rectilinear.learning.linear_flow import imbalance, linear_descent, linear_flow, riccati
from rectilinear.learning.mirror import Moments, unmirrored
from rectilinear.learning.network import Network, read_network
from rectilinear.learning.networks import Networks
from rectilinear.learning.predict import Prediction, predict
from rectilinear.learning.simulate import Optimizer, Simulation, simulate
from rectilinear.learning.two_layer import (
    aligned,
    any_covariance,
    independent,
    independent_neurons,
    white,
)

__all__ = [
    "Flow",
    "Moments",
    "Network",
    "Networks",
    "Optimizer",
    "Prediction",
    "Simulation",
    "aligned",
    "any_covariance",
    "deep_mode",
    "deep_relu",
    "deep_time",
    "delta",
    "gradient_flow",
    "growing_start",
    "half_square",
    "half_time",
    "imbalance",
    "independent",
    "independent_neurons",
    "linear_descent",
    "linear_flow",
    "odd_slope",
    "pair",
    "plateau",
    "predict",
    "read_network",
    "riccati",
    "simulate",
    "stays_odd",
    "two_blocks",
    "unmirrored",
    "weight_error",
    "white",
]

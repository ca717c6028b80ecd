"""How two-layer leaky ReLU networks and linear networks of any depth learn: closed forms, and a slow reference.

Everywhere time is the learning rate times the number of steps, the loss is half the mean square error,
``beta = <y x^T>`` and ``sigma = <x x^T>``.
"""

from rectilinear.dynamics.gradient_flow import Flow, gradient_flow, half_square
from rectilinear.dynamics.independent import independent, independent_neurons
from rectilinear.dynamics.leaky_relu import delta, growing_start, odd_slope, pair, stays_odd, weight_error
from rectilinear.dynamics.linear_deep import deep_mode, deep_relu, deep_time, two_blocks
from rectilinear.dynamics.linear_flow import linear_descent, linear_flow
from rectilinear.dynamics.linear_two_layer import aligned, any_covariance, white
from rectilinear.dynamics.moments import Moments, unmirrored
from rectilinear.dynamics.network import Network, read_network
from rectilinear.dynamics.networks import Networks
from rectilinear.dynamics.predict import predict
from rectilinear.dynamics.prediction import Prediction
from rectilinear.dynamics.riccati import imbalance, riccati
from rectilinear.dynamics.simulate import Optimizer, Simulation, simulate
from rectilinear.dynamics.timescales import half_time, plateau

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

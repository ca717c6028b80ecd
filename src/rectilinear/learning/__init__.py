"""Learning of two-layer ReLU and deep linear networks: prediction, closed forms, simulation.

Everywhere time is the learning rate times the number of steps, the loss is half the mean square
error, ``beta = <y x^T>`` and ``sigma = <x x^T>``.
"""

from rectilinear.learning.deep_linear import (
    deep_mode_solution,
    deep_relu_solution,
    half_time,
    plateau_time,
    two_block_init,
)
from rectilinear.learning.gradient_flow import gradient_flow
from rectilinear.learning.gradient_flow import half_squared_error as half_squared_error
from rectilinear.learning.linear_network import (
    Moments as Moments,
)
from rectilinear.learning.linear_network import (
    linear_network_descent,
    linear_network_flow,
)
from rectilinear.learning.mirror import asymmetric_fraction
from rectilinear.learning.network_batch import Networks
from rectilinear.learning.predict import Prediction, predict
from rectilinear.learning.simulate import Optimizer, Simulation, simulate
from rectilinear.learning.two_layer import (
    antisymmetric_pairs,
    general_covariance_solution,
    orthogonal_points_solution,
    rank_one_solution,
    riccati_solution,
    sign_imbalance,
    white_input_solution,
)

__all__ = [
    "Networks",
    "Optimizer",
    "Prediction",
    "Simulation",
    "antisymmetric_pairs",
    "asymmetric_fraction",
    "deep_mode_solution",
    "deep_relu_solution",
    "general_covariance_solution",
    "gradient_flow",
    "half_time",
    "linear_network_descent",
    "linear_network_flow",
    "orthogonal_points_solution",
    "plateau_time",
    "predict",
    "rank_one_solution",
    "riccati_solution",
    "sign_imbalance",
    "simulate",
    "two_block_init",
    "white_input_solution",
]

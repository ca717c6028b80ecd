"""A seed that is not an integer is one clear error, wherever a seed is accepted."""

import pytest
import torch
from torch import nn

import rectilinear as rl
from rectilinear import datasets, koopman, learning, metrics
from rectilinear.deeplinear import DepthStudy, initial_weights
from rectilinear.errors import ConfigError
from rectilinear.random import generator, seed_all

X = torch.randn(20, 4)

TAKE = {
    "all": seed_all,
    "generator": generator,
    "toy2d": lambda seed: datasets.toy2d("moons", 10, seed=seed),
    "simulate": lambda seed: datasets.simulate_system("pendulum", 2, 5, seed=seed),
    "sliced": lambda seed: metrics.sliced_wasserstein(X, X, seed=seed),
    "networks": lambda seed: learning.Networks.gaussian(3, seed=seed),
    "koopman": lambda seed: koopman.KoopmanRegressor(rank=2, horizon=5, seed=seed).fit(X[:, 0]),
    "draw": lambda seed: initial_weights("torch", (2, 3, 1), seed=seed),
    "study": lambda seed: DepthStudy(seed=seed),
    "audit": lambda seed: rl.audit(nn.Linear(4, 2), X, seed=seed),
    "flow": lambda seed: rl.invertible.VectorFlow(dim=4, blocks=2, width=8, seed=seed),
}


@pytest.mark.parametrize("seed", ["a", 1.5, None, -(2**70)])
@pytest.mark.parametrize("name", TAKE)
def test_a_seed_that_is_no_integer_is_refused(name, seed):
    with pytest.raises(ConfigError, match="seed"):
        TAKE[name](seed)

import math

import pytest
import torch

from rectilinear.errors import ConfigError, NonFiniteError
from rectilinear.metrics import bits_per_dimension


def test_the_integral_over_a_cell_is_the_code_length():
    levels, dim = 16, 3
    probability = torch.rand(levels, dtype=torch.float64) + 0.1
    probability /= probability.sum()
    density = probability * levels  # constant on each cell of width 1 / levels
    codes = torch.randint(levels, (50, dim))
    bits = bits_per_dimension(density[codes].log().sum(1), dim, levels)
    assert torch.allclose(bits, -probability[codes].log2().mean(1))


def test_scale_and_errors():
    assert bits_per_dimension(torch.tensor(10 * math.log(2.0)), dim=10).item() == pytest.approx(7)
    with pytest.raises(ConfigError, match="dim = 0"):
        bits_per_dimension(torch.zeros(2), dim=0)
    with pytest.raises(NonFiniteError):
        bits_per_dimension(torch.tensor(-math.inf), dim=1)

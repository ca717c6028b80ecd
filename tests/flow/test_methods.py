import pytest
import torch

from rectilinear.errors import ConfigError
from rectilinear.flow.integrators import METHODS, RungeKutta, method_named


@pytest.mark.parametrize("name", [name for name, m in METHODS.items() if isinstance(m, RungeKutta)])
def test_a_step_agrees_with_the_exponential_to_its_order(name):
    method, rate = METHODS[name], torch.tensor(-0.7, dtype=torch.float64)

    def error(h):
        step = method.step(
            [lambda z: rate * z] * len(method.nodes), h, torch.ones((), dtype=torch.float64)
        )
        return float((step - torch.exp(rate * h)).abs())

    observed = torch.log2(torch.tensor(error(0.1) / error(0.05)))
    assert float(observed) == pytest.approx(method.order + 1, abs=0.2)


@pytest.mark.parametrize("name", [name for name, m in METHODS.items() if isinstance(m, RungeKutta)])
def test_the_tableau_is_consistent(name):
    method = METHODS[name]
    assert sum(method.weights) == pytest.approx(1.0)
    assert [sum(row) for row in method.stages] == pytest.approx(list(method.nodes))


def test_an_unknown_method_is_named():
    with pytest.raises(
        ConfigError, match="'heun'; expected one of euler, midpoint, rk4, magnus2, magnus4"
    ):
        method_named("heun")

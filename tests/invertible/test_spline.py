"""Spline couplings: against a slow twin, at and beyond the edges of the box, and their errors."""

import math

import numpy as np
import pytest
import torch

from makers_invertible import perturb
from rectilinear.errors import ConfigError
from rectilinear.invertible import MLP, SplineCoupling


def coupling(bins: int = 4, box: float = 2.0) -> SplineCoupling:
    conditioner = MLP(1, 2 * (3 * bins + 1), width=8)
    return perturb(SplineCoupling(3, conditioner, keep=1, bins=bins, box=box).double(), scale=1.0)


def test_it_is_the_rational_quadratic_through_its_knots() -> None:
    g = coupling()
    x = torch.randn(40, 3, dtype=torch.float64) * 2
    log_scale, shift, knots = g._read(x[:, :1])
    inputs = x[:, 1:] * log_scale.exp() + shift
    z = g(x)[:, 1:]
    for row, column in np.ndindex(40, 2):
        at, (u, v, d) = inputs[row, column].item(), (t[row, column].tolist() for t in knots)
        expected = at
        for x0, x1, y0, y1, d0, d1 in zip(u, u[1:], v, v[1:], d, d[1:], strict=False):
            if x0 <= at < x1:  # Gregory and Delbourgo's interpolant
                s, t = (y1 - y0) / (x1 - x0), (at - x0) / (x1 - x0)
                above = y1 * t**2 * s + (y0 * d1 + y1 * d0) * t * (1 - t) + y0 * s * (1 - t) ** 2
                expected = above / (s * t**2 + (d0 + d1) * t * (1 - t) + s * (1 - t) ** 2)
        assert z[row, column].item() == pytest.approx(expected, abs=1e-12)


def test_its_log_determinant_is_that_of_the_jacobian() -> None:
    g = coupling()
    x = torch.randn(20, 3, dtype=torch.float64) * 2
    _, logdet = g.forward_and_logdet(x)
    jacobians = torch.func.vmap(torch.func.jacrev(lambda v: g(v[None])[0]))(x)
    torch.testing.assert_close(logdet, torch.linalg.slogdet(jacobians)[1])


def test_round_trips_inside_at_the_edge_and_outside() -> None:
    g = coupling()
    z = torch.tensor(
        [[0.3, edge, -edge] for edge in (0.0, 1.0, 2.0, 2.0 - 1e-12, 2.0 + 1e-12, 50.0)]
    ).double()
    torch.testing.assert_close(g(g.inverse(z)), z)
    assert torch.equal(g._unspline(z[-1:, 1:], *g._read(z[-1:, :1])[2]), z[-1:, 1:])


def test_gradients_of_both_directions() -> None:
    g = coupling()
    x = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(g, x)
    assert torch.autograd.gradcheck(g.inverse, x)


def test_float32_comes_back() -> None:
    g = perturb(SplineCoupling(4, MLP(2, 2 * 25, width=8)), scale=1.0)
    x = torch.randn(2000, 4) * 2
    assert (
        g.inverse(g(x)) - x
    ).abs().max() < 1e-3  # a thousand roundings, where the spline is flattest


def test_the_slope_is_bounded_below() -> None:
    g = coupling(bins=8, box=5.0)
    with torch.no_grad():
        for p in g.parameters():
            p *= 10
    v = torch.linspace(-4.999, 4.999, 2000, dtype=torch.float64).expand(2, 2000).T
    knots = g._read(torch.randn(2000, 1, dtype=torch.float64))[2]
    assert g._spline(v, *knots)[1].min() > math.log(1e-4)


@pytest.mark.parametrize(
    "options", [{"bins": 1}, {"box": 0.0}, {"bound": -1.0}, {"precision": "exact"}]
)
def test_settings_out_of_range(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        SplineCoupling(4, torch.nn.Identity(), **options)

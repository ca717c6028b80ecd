import pytest
import torch

from rectilinear.checks import tolerance
from rectilinear.errors import ShapeError
from rectilinear.metrics import linearity


class Sinh:
    """A bijection of the line, value by value."""

    def __call__(self, x):
        return torch.sinh(x)

    def inverse(self, z):
        return torch.asinh(z)


G, A = Sinh(), torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
X, Y = torch.randn(2, 20, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def in_its_space(x):
    return torch.asinh(torch.sinh(x) @ A)


def test_linear_where_it_is_and_only_there():
    eps = tolerance(torch.float64, scale=10.0)
    assert linearity(lambda x: x @ A, X, Y).max() < eps
    assert linearity(in_its_space, X, Y, G, G).max() < eps
    assert linearity(lambda x: torch.sinh(x) @ A, X, Y, g_in=G).max() < eps
    assert linearity(lambda x: torch.asinh(x @ A), X, Y, g_out=G).max() < eps
    assert linearity(in_its_space, X, Y).min() > 1e-3  # a curve seen as a line
    assert linearity(lambda x: x @ A, X, Y, G, G).min() > 1e-3


def test_the_number_is_the_definition():
    f = torch.relu
    for i, error in enumerate(linearity(f, X, Y, a=2.0, b=3.0)):
        x, y = X[i], Y[i]
        left, right = f(2 * x + 3 * y), 2 * f(x) + 3 * f(y)
        size = (2 * f(x)).norm() + (3 * f(y)).norm()
        assert error == pytest.approx(float((left - right).norm() / size) if size else 0.0)


def test_the_zero_map_is_linear_and_shapes_are_checked():
    assert linearity(torch.zeros_like, X, Y).tolist() == [0.0] * 20
    with pytest.raises(ShapeError):
        linearity(torch.relu, X, Y[:3])
    with pytest.raises(ShapeError):
        linearity(torch.relu, X, Y[:, :2])

"""The one start from principal axes: what few axes leave out is kept as variance."""

import pytest
import torch

from rectilinear.checks import tolerance
from rectilinear.errors import RectilinearError
from rectilinear.invertible import Reflections, Rotation
from rectilinear.invertible.rotation import onto_axes
from rectilinear.metrics.pca import principal_axes

X = torch.randn(60, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
X = X * torch.arange(12.0, 0.0, -1.0, dtype=torch.float64).reshape(3, 4) + 5
CLOSE = tolerance(torch.float64, scale=1000, n=60)


@pytest.mark.parametrize("count", [1, 5, 11, 12, 99, None])
def test_axes_are_those_of_the_covariance_and_the_variance_is_all_of_it(count):
    mean, axes, std = principal_axes(X, count)
    values, vectors = torch.linalg.eigh(X.flatten(1).T.cov())
    k = axes.shape[1]
    assert k == min(count or 12, 12)
    assert (mean - X.flatten(1).mean(0)).abs().max() < CLOSE
    assert ((axes * vectors.flip(1)[:, :k]).sum(0).abs() - 1).abs().max() < CLOSE
    assert (std[:k].square() - values.flip(0)[:k]).abs().max() < CLOSE
    assert (std[k:].square() - values[: 12 - k].mean()).abs().max() < CLOSE if k < 12 else True
    assert std.square().sum().item() == pytest.approx(values.sum().item())


def test_fewer_rows_than_axes_give_as_many_as_there_are():
    found = principal_axes(X[:4], 9)
    assert (found.axes.shape, found.std.shape) == ((12, 3), (12,))
    assert found.std[3:].abs().max() < 1e-6  # a square root of rounding
    assert principal_axes(X[:4]).axes.shape == (12, 12)
    with pytest.raises(RectilinearError, match="axes"):
        principal_axes(X, 0)


@pytest.mark.parametrize(("count", "kind"), [(5, Reflections), (12, Rotation)])
def test_the_network_onto_them_gives_principal_coordinates(count, kind):
    mean, axes, std = principal_axes(X, count)
    network = onto_axes(axes, mean)
    z = network(X.flatten(1))
    assert type(network) is kind
    assert (z[:, :count] - (X.flatten(1) - mean) @ axes).abs().max() < CLOSE
    assert (z.var(0)[:count] - std[:count].square()).abs().max() < CLOSE

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from rectilinear import datasets, metrics
from rectilinear.errors import ConfigError


def test_a_few_components_are_the_leading_ones():
    x = (
        torch.randn(60, 40, dtype=torch.float64)
        * torch.linspace(4, 0.1, 40, dtype=torch.float64) ** 2
    )
    few, every = metrics.pca(x, 5), metrics.pca(x)
    assert torch.allclose(few.std, every.std[:5], rtol=1e-6)
    assert torch.allclose(
        (few.axes.T @ every.axes[:, :5]).abs(), torch.eye(5, dtype=torch.float64), atol=1e-4
    )
    for wrong in (0, 41):
        with pytest.raises(ConfigError, match=f"components={wrong}"):
            metrics.pca(x, wrong)


@pytest.mark.parametrize("n", [20, 200])
def test_pca_equals_scikit_learn(n):
    x = torch.as_tensor(np.random.default_rng(0).normal(size=(n, 50))) @ torch.diag(
        torch.linspace(1, 3, 50).double()
    )
    mean, axes, std = metrics.pca(x)
    peer = PCA(10, svd_solver="full").fit(x.numpy())
    assert np.allclose(mean, peer.mean_)
    assert np.allclose(std[:10] ** 2, peer.explained_variance_)
    assert np.allclose(abs(axes[:, :10].T.numpy() @ peer.components_.T), np.eye(10), atol=1e-6)
    assert torch.allclose(axes.T @ axes, torch.eye(min(n, 50), dtype=torch.float64))


@pytest.mark.parametrize("size", [1500, 40])
def test_pca_curve_equals_scikit_learn_on_digits(size):
    train, test = datasets.load("digits").images[:size], datasets.load("digits", "test").images
    ranks = [1, 8, 16, 32, 39]
    flat = test.flatten(1).double().numpy()
    expected = []
    for k in ranks:
        peer = PCA(k, svd_solver="full").fit(train.flatten(1).double().numpy())
        expected.append(np.mean((peer.inverse_transform(peer.transform(flat)) - flat) ** 2))
    assert np.allclose(metrics.pca_curve(train, test, ranks), expected)
    alone = np.mean(
        (flat - train.flatten(1).double().numpy().mean(0)) ** 2
    )  # what the mean explains by itself
    assert metrics.pca_curve(train, test, [0]).item() == pytest.approx(alone)


def test_bad_ranks():
    x = torch.rand(5, 3)
    with pytest.raises(ConfigError, match="rank 4"):
        metrics.pca_curve(x, x, [1, 4])
    with pytest.raises(ConfigError, match="rank -1"):
        metrics.pca_curve(x, x, [-1])

"""Where depth helps: the gradients written by hand against autograd."""

import numpy as np
import pytest
import torch

from rectilinear.papers.lakkapragada2023_depth import helps

SEED = np.random.SeedSequence(3)


@pytest.mark.parametrize("depth", [2, 3])
def test_sparse_recovery(depth: int) -> None:
    found = helps.sparse_recovery(
        depth, 2, SEED, dim=7, rows=4, nonzero=2, init_scale=0.1, steps=20
    )
    rng = np.random.default_rng(SEED)
    X, truth = torch.from_numpy(rng.normal(size=(2, 4, 7))), torch.zeros(2, 7, dtype=torch.float64)
    truth[:, :2] = torch.from_numpy(rng.choice([-1.0, 1.0], size=(2, 2)))
    u, v = (
        torch.full((2, 7), 0.1 ** (1 / depth), dtype=torch.float64, requires_grad=True)
        for _ in range(2)
    )
    for _ in range(20):
        loss = torch.einsum("tnd,td->tn", X, u**depth - v**depth - truth).square().mean(1).sum()
        slopes = torch.autograd.grad(loss, (u, v))
        u, v = (
            (w - 0.02 * slope).detach().requires_grad_()
            for w, slope in zip((u, v), slopes, strict=True)
        )
    by_hand = (u**depth - v**depth - truth).square().sum(1)
    np.testing.assert_allclose(found, by_hand.detach(), rtol=1e-10)


@pytest.mark.parametrize("depth", [1, 3])
def test_matrix_completion(depth: int) -> None:
    found = helps.matrix_completion(
        depth, 2, SEED, dim=5, rank=1, init_scale=0.5, lr=0.05, steps=20
    )
    rng = np.random.default_rng(SEED)
    truth = torch.from_numpy(rng.normal(size=(2, 5, 1)) @ rng.normal(size=(2, 1, 5)))
    seen = torch.from_numpy(rng.random((2, 5, 5)) < 0.5)
    factors = [
        torch.from_numpy(0.5 ** (1 / depth) / 5**0.5 * rng.normal(size=(2, 5, 5))).requires_grad_()
        for _ in range(depth)
    ]

    def product() -> torch.Tensor:
        whole = factors[0]
        for factor in factors[1:]:
            whole = factor @ whole
        return whole

    for _ in range(20):
        loss = ((product() - truth).square() * seen).sum() / (0.5 * 5)
        slopes = torch.autograd.grad(loss, factors)
        factors = [
            (w - 0.05 * slope).detach().requires_grad_()
            for w, slope in zip(factors, slopes, strict=True)
        ]
    wrong = ((product() - truth).square() * ~seen).sum((1, 2)) / (truth.square() * ~seen).sum(
        (1, 2)
    )
    np.testing.assert_allclose(found, wrong.detach(), rtol=1e-10)


def test_without_depth_recovery_is_least_norm() -> None:
    rng = np.random.default_rng(SEED)
    X, truth = rng.normal(size=(4, 7)), np.zeros(7)
    truth[:2] = rng.choice([-1.0, 1.0], size=2)
    outside = truth - np.linalg.lstsq(X, X @ truth, rcond=None)[0]
    assert helps.sparse_recovery(1, 1, SEED, dim=7, rows=4, nonzero=2)[0] == pytest.approx(
        outside @ outside
    )

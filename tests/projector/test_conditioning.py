"""Posteriors by the few likely components of a mixture of many."""

import pytest
import torch

from rectilinear.invertible import MixtureMap
from rectilinear.operators import Diagonal
from rectilinear.projector import ImagePrior, conditioning
from rectilinear.projector.conditioning import Natural


def mixture_of_many(rank: int, apart: bool) -> MixtureMap:
    """Thirty components, which differ in the leading third of coordinates only, or in all."""
    draw = torch.Generator().manual_seed(0)
    size = 1 / (1 + torch.arange(rank, dtype=torch.float64))
    means = size * torch.randn(30, rank, dtype=torch.float64, generator=draw)
    spread = size * (0.5 + torch.rand(30, rank, dtype=torch.float64, generator=draw)) / 3
    if apart:
        means[:, rank // 3 :] = means[0, rank // 3 :].clone()
        spread[:, rank // 3 :] = spread[0, rank // 3 :].clone()
    weights = torch.rand(30, dtype=torch.float64, generator=draw) + 0.1
    return MixtureMap.from_moments(weights / weights.sum(), means, spread.square().diag_embed())


def rows_with_masks(rank: int, mixture: MixtureMap) -> tuple[ImagePrior, torch.Tensor, Diagonal]:
    draw = torch.Generator().manual_seed(1)
    axes = torch.linalg.qr(torch.randn(32, rank, dtype=torch.float64, generator=draw)).Q
    residual = torch.full((32,), 0.05, dtype=torch.float64)
    prior = ImagePrior(torch.zeros(1, 4, 8, dtype=torch.float64), axes, residual, mixture)
    y = prior.sample(40, draw)
    K = Diagonal((torch.rand(40, 32, dtype=torch.float64, generator=draw) < 0.7).double())
    return prior, y + 0.05 * torch.randn(y.shape, dtype=y.dtype, generator=draw), K


@pytest.mark.parametrize("apart", [True, False])
def test_the_likely_components_of_many_give_the_posterior_of_all(
    apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    prior, y, K = rows_with_masks(24, mixture_of_many(24, apart))
    found = prior.posterior(y, K, 0.1)
    monkeypatch.setattr(conditioning, "_MANY", 31)
    expected = prior.posterior(y, K, 0.1)
    for name in ("mean", "std", "log_evidence"):
        mine, its = getattr(found, name), getattr(expected, name)
        torch.testing.assert_close(mine, its, atol=1e-3 if apart else 1e-2, rtol=0)


def test_what_leading_coordinates_say_of_components_is_exact_where_the_others_say_nothing() -> None:
    prior, y, K = rows_with_masks(24, mixture_of_many(24, apart=True))
    natural = Natural.of(prior.mixture)
    data = prior._information(y.flatten(1), K.values.detach(), 0.01)[0]
    roots = torch.linalg.cholesky(natural.precisions + data.gram[:, None])
    rhs = (natural.shifts + data.h[:, None])[..., None]
    u = torch.linalg.solve_triangular(roots, rhs, upper=False)[..., 0]
    order = conditioning._joint(natural.constants, roots, u).topk(5, 1).indices
    assert torch.equal(conditioning.Marginal.of(natural, 8).likely(data, 5), order)

"""Every invertible network in every dtype and at every scale, against itself in float64."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from makers_data import every, rand
from makers_invertible import BLOCKS, IMAGE_NETWORKS, VECTOR_NETWORKS
from rectilinear import invertible as inv
from rectilinear.errors import NonFiniteError

OWN = VECTOR_NETWORKS + IMAGE_NETWORKS + BLOCKS
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@every(OWN)
@pytest.mark.each_value
def test_latents_and_round_trip_are_right_to_the_dtype(make, dtype: torch.dtype) -> None:
    g = make().to(dtype)
    exact = deepcopy(g).double()
    eps = torch.finfo(dtype).eps
    for size in (1e-30, 1.0):
        x = (size * rand(4, *g.shape)).to(dtype)
        with torch.no_grad():
            z, logdet = g.forward_and_logdet(x)
            back, expected = g.inverse(z), exact(x.double())
        assert z.dtype == logdet.dtype == back.dtype == dtype
        assert (z.double() - expected).abs().max() <= 50 * eps * expected.abs().max().clamp_min(1)
        assert (back - x).abs().max() <= 200 * eps * x.abs().max().clamp_min(1)


@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
def test_a_log_determinant_by_derivatives_is_one_in_half_precision(dtype: torch.dtype) -> None:
    g = inv.from_callables(lambda x: 2 * x + x.roll(1, 1), lambda z: z, (4,))
    expected = torch.linalg.slogdet(2 * torch.eye(4) + torch.eye(4).roll(1, 0)).logabsdet
    logdet = g.forward_and_logdet(torch.ones(3, 4, dtype=dtype))[1]
    assert logdet.dtype == dtype
    torch.testing.assert_close(
        logdet.float(), expected.expand(3), rtol=2 * torch.finfo(dtype).eps, atol=0
    )
    flow = inv.VectorFlow(4, blocks=2, width=8).to(dtype)
    assert inv.check_invertible(flow, torch.ones(3, 4, dtype=dtype), logdet=True).logdet_error == 0


def test_a_network_that_returns_nothing_of_the_data_is_not_invertible_in_any_dtype() -> None:
    g = inv.from_callables(lambda x: x, torch.zeros_like, (64,))
    for dtype in DTYPES:
        assert not inv.check_invertible(g, rand(4, 64).to(dtype)).ok


def test_latents_beyond_the_dtype_are_one_error_that_says_so() -> None:
    g = inv.from_callables(lambda x: 2 * x, lambda z: z / 2, (3,))
    x = torch.full((2, 3), 4e4, dtype=torch.float16)
    with pytest.raises(NonFiniteError, match=r"g\(x\).*float16.*Scale the data down"):
        inv.check_invertible(g, x)
    assert inv.check_invertible(g, x.float()).ok


@pytest.mark.parametrize("first", DTYPES[:3], ids=str)
@pytest.mark.parametrize("then", DTYPES[2:], ids=str)
def test_a_rotation_is_orthogonal_to_the_dtype_that_it_is_converted_to(first, then) -> None:
    q = inv.Rotation(64).to(first).to(then).matrix
    assert (q.T @ q - torch.eye(64, dtype=then)).abs().max() < 20 * torch.finfo(then).eps


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [1e-300, 1e-30, 1e-3, 1e3, 3e4, 1e30, 1e37, 1e300])
def test_actnorm_starts_from_data_of_every_size(dtype: torch.dtype, size: float) -> None:
    x = (size * torch.tensor([1.0, 0.5]) * (rand(64, 2).clamp(-2, 2) + 1)).to(dtype)
    if not x.isfinite().all() or not x.abs().min() > torch.finfo(dtype).tiny:
        pytest.skip("numbers that the dtype has not")
    g = inv.ActNorm(2).to(dtype)
    z = g(x)
    assert bool(z.isfinite().all())
    assert (g.inverse(z) / size - x / size).abs().max() <= 10 * torch.finfo(dtype).eps
    if torch.finfo(dtype).tiny * 1e3 < size < torch.finfo(dtype).max * 1e-3:
        assert bool(
            ((z.float().std(0) > 0.5) & (z.float().std(0) < 2)).all()
        )  # a log-scale of 69 is one of 69.25 in bfloat16


def test_actnorm_starts_from_a_constant_batch_with_its_mean_alone() -> None:
    for x in (torch.tensor([[3.0, -1.0]]), torch.full((10, 2), 0.1), torch.zeros(4, 2)):
        g = inv.ActNorm(2)
        assert torch.equal(g(x + 1), x - x[:1] if len(x) > 1 else torch.zeros(1, 2))
        assert torch.equal(g.log_scale, torch.zeros(2))


def test_actnorm_is_not_started_by_numbers_that_are_none() -> None:
    g = inv.ActNorm(2)
    with pytest.raises(NonFiniteError, match="initialises an ActNorm"):
        g(torch.tensor([[1.0, torch.nan], [0.0, 1.0]]))
    assert not g.initialized
    assert bool(g(torch.randn(9, 2)).isfinite().all())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_grid_is_there_for_every_finite_number(dtype: torch.dtype) -> None:
    x = torch.tensor([0.0, 0.3, -1.7, 100.3, 6e4, -1e30, torch.finfo(dtype).max], dtype=dtype)
    x = x[x.isfinite()]
    nearest = inv.to_grid(x)
    expected = (x.double() * 2.0**16).round() / 2.0**16
    assert torch.equal(
        nearest.double(), torch.where(x.double().abs() < 2.0**36, expected, x.double())
    )

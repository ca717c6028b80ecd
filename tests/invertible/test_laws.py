"""The properties of an invertible network, on every network and block."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import pytest
import torch

from makers_data import every
from makers_invertible import ADAPTERS, BLOCKS, IMAGE_NETWORKS, NETWORKS, VECTOR_NETWORKS, perturb
from rectilinear.checks import tolerance
from rectilinear.errors import DtypeError, ShapeError
from rectilinear.invertible import Invertible, check_invertible
from rectilinear.invertible.base import autograd_logdet

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

ALL = NETWORKS + BLOCKS
OWN = [maker for maker in ALL if maker not in ADAPTERS]


def data(g: Invertible, rows: int = 3, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, *g.shape, generator=generator, dtype=torch.float64)


def slow_jacobian(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The Jacobian at every row of ``x``, ``(b, n, n)``, one row at a time."""
    n = x[0].numel()
    rows = [
        torch.autograd.functional.jacobian(lambda r: function(r[None])[0], row).reshape(n, n)
        for row in x
    ]
    return torch.stack(rows).detach()


@every(ALL)
def test_round_trip(make: Callable[[], Invertible]) -> None:
    g = make()
    x = data(g)
    z = g(x)
    assert z.shape == (3, *g.latent_shape)
    report = check_invertible(g, x, logdet=True, tol=tolerance(x.dtype, scale=100.0, n=g.dim))
    report.raise_if_bad()
    assert g.inverse(z).shape == x.shape


@every(NETWORKS)
def test_latents_are_flat(make: Callable[[], Invertible]) -> None:
    g = make()
    assert g.latent_shape == (g.dim,)


@every(ALL)
def test_logdet_is_that_of_the_jacobian(make: Callable[[], Invertible]) -> None:
    g = make()
    x = data(g)
    z, logdet = g.forward_and_logdet(x)
    torch.testing.assert_close(z, g(x), rtol=0, atol=tolerance(x.dtype))
    exact = torch.linalg.slogdet(slow_jacobian(g, x)).logabsdet
    torch.testing.assert_close(logdet, exact, rtol=0, atol=tolerance(x.dtype, scale=100.0, n=g.dim))
    torch.testing.assert_close(
        autograd_logdet(g, x), exact, rtol=0, atol=tolerance(x.dtype, scale=100.0, n=g.dim)
    )


@every(ALL)
def test_rows_are_independent(make: Callable[[], Invertible]) -> None:
    g = make()
    x = data(g)
    torch.testing.assert_close(g(x)[1:2], g(x[1:2]), rtol=0, atol=tolerance(x.dtype, scale=10.0))


@every(OWN)
def test_training_mode_changes_nothing(make: Callable[[], Invertible]) -> None:
    g = make()
    x = data(g)
    assert torch.equal(g(x), g.train()(x))


@every(ALL)
def test_state_dict_restores_the_function(make: Callable[[], Invertible]) -> None:
    g = make()
    other = perturb(deepcopy(g), seed=7)
    x = data(g)
    assert not list(g.parameters()) or not torch.equal(other(x), g(x))
    other.load_state_dict(g.state_dict())
    assert torch.equal(other.train()(x), g(x))
    assert torch.equal(other(x), g(x))


@every(OWN)
def test_every_parameter_gets_a_gradient(make: Callable[[], Invertible]) -> None:
    g = make()
    x = data(g).requires_grad_()
    z, logdet = g.forward_and_logdet(x)
    (z.square().sum() + logdet.sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in [x, *g.parameters()])


@every(OWN)
def test_vmap_and_forward_derivatives(make: Callable[[], Invertible]) -> None:
    g = make()
    x = data(g)
    v = data(g, seed=2)
    atol = tolerance(x.dtype, scale=100.0, n=g.dim)
    torch.testing.assert_close(torch.func.vmap(g)(x[:, None])[:, 0], g(x), rtol=0, atol=atol)
    z, dz = torch.func.jvp(g, (x,), (v,))
    jacobian = slow_jacobian(g, x)
    exact = (jacobian @ v.flatten(1)[..., None])[..., 0]
    torch.testing.assert_close(dz.flatten(1), exact, rtol=0, atol=atol)
    back = torch.func.jvp(g.inverse, (z,), (dz,))[1]
    torch.testing.assert_close(back, v, rtol=0, atol=100 * atol)
    per_row = torch.func.vmap(torch.func.jacfwd(lambda row: g(row[None])[0].flatten()))(x)
    torch.testing.assert_close(per_row.reshape(3, g.dim, g.dim), jacobian, rtol=0, atol=atol)


@every(ALL)
def test_wrong_input_is_refused(make: Callable[[], Invertible]) -> None:
    g = make()
    x = data(g)
    with pytest.raises(ShapeError, match=r"expected \(batch"):
        g(x[0])
    with pytest.raises(ShapeError):
        g.inverse(torch.zeros(3, *g.latent_shape, 1))
    with pytest.raises(DtypeError):
        g(x.long())
    if list(g.parameters()):
        with pytest.raises(DtypeError, match="float32"):
            g(x.float())


@every(VECTOR_NETWORKS[:2] + IMAGE_NETWORKS[:1])
def test_saved_and_loaded(make: Callable[[], Invertible], tmp_path) -> None:
    g = make()
    g.save_pretrained(tmp_path)
    loaded = Invertible.from_pretrained(tmp_path)
    assert torch.equal(loaded(data(g)), g(data(g)))

import pytest
import torch
from torch.autograd import forward_ad
from torch.nn import functional

from makers_invertible import perturb
from rectilinear.errors import ConfigError
from rectilinear.invertible import MLP, ConvNet, ViT
from rectilinear.invertible.conditioners import attend

MAKERS = {
    "mlp": (lambda: MLP(4, 6, 8), (4,), (6,)),
    "mlp-plain": (lambda: MLP(4, 6, 8, hidden=2, residual=False), (4,), (6,)),
    "conv": (lambda: ConvNet(2, 6, 8, size=(4, 5)), (2, 4, 5), (6, 4, 5)),
    "conv-3": (lambda: ConvNet(2, 6, 8, hidden=2, kernel=3), (2, 4, 5), (6, 4, 5)),
    "vit": (lambda: ViT(5, 4, 6, 8, hidden=1, heads=2), (5, 4), (5, 6)),
    "vit-fewer": (lambda: ViT(5, 4, 6, 8, hidden=1, heads=2, out_tokens=4), (5, 4), (4, 6)),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_starts_at_zero_and_depends_on_every_entry(kind: str) -> None:
    make, shape, out = MAKERS[kind]
    net = make().double()
    x = torch.randn(3, *shape, dtype=torch.float64)
    assert torch.equal(net(x), torch.zeros(3, *out, dtype=torch.float64))
    perturb(net, 0.5)
    jacobian = torch.autograd.functional.jacobian(lambda row: net(row[None])[0], x[0])
    assert (jacobian.reshape(-1, x[0].numel()) != 0).any(0).all()


def test_the_position_is_seen() -> None:
    x = torch.ones(1, 5, 4, dtype=torch.float64)
    y = perturb(ViT(5, 4, 6, 8, hidden=1, heads=2).double())(x)[0]
    assert (y[0] - y[1]).abs().max() > 1e-3
    z = perturb(ConvNet(2, 1, 8, size=(6, 6)).double())(
        torch.ones(1, 2, 6, 6, dtype=torch.float64)
    )[0, 0]
    assert (z[2, 2] - z[3, 3]).abs() > 1e-3  # away from the border


def test_attention_is_its_formula_and_differentiates_forward() -> None:
    q, k, v = torch.randn(3, 2, 4, 5, 6, dtype=torch.float64)
    exact = torch.softmax(q @ k.mT / 6**0.5, dim=-1) @ v
    torch.testing.assert_close(attend(q, k, v), exact)
    torch.testing.assert_close(torch.func.vmap(attend)(q, k, v), exact)
    with forward_ad.dual_level():
        dual = attend(forward_ad.make_dual(q, q), k, v)
        tangent = forward_ad.unpack_dual(dual).tangent
    h = 1e-6
    slow = (functional.scaled_dot_product_attention(q * (1 + h), k, v) - exact) / h
    torch.testing.assert_close(tangent, slow, rtol=0, atol=1e-4)  # a finite difference


def test_a_width_that_the_heads_do_not_divide_names_one_that_they_do() -> None:
    with pytest.raises(ConfigError, match=r"Use width=8\.$"):
        ViT(5, 4, 6, 7, heads=4)
    assert ViT(5, 4, 6, 8, heads=4)(torch.zeros(1, 5, 4)).shape == (1, 5, 6)

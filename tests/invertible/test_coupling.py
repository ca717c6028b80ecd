import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from makers_invertible import perturb
from rectilinear.checks import tolerance
from rectilinear.errors import ConfigError, ShapeError
from rectilinear.invertible import MLP, AdditiveCoupling, AffineCoupling, ImageFlow, VectorFlow


class Fixed(nn.Module):
    """A conditioner that says the same whatever it is given."""

    def __init__(self, value: list[float]) -> None:
        super().__init__()
        self.value = torch.tensor(value, dtype=torch.float64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.value.expand(x.shape[0], -1)


X = torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)


def test_additive_coupling_by_hand() -> None:
    assert AdditiveCoupling(4, Fixed([10.0, 20.0]))(X).tolist() == [[1.0, 2.0, 13.0, 24.0]]
    assert AdditiveCoupling(4, Fixed([10.0]), keep=3)(X).tolist() == [[1.0, 2.0, 3.0, 14.0]]


def test_affine_coupling_by_hand() -> None:
    z, logdet = AffineCoupling(4, Fixed([0.5, -0.5, 10.0, 20.0]), bound=2.0).forward_and_logdet(X)
    s = 2 * torch.tanh(torch.tensor(0.25, dtype=torch.float64))
    expected = torch.stack([X[0, 0], X[0, 1], 3 * s.exp() + 10, 4 * (-s).exp() + 20])
    torch.testing.assert_close(z[0], expected)
    assert logdet.abs().item() < tolerance(torch.float64)


@given(scale=st.floats(0.1, 1e6), budget=st.floats(0.1, 5.0))
@settings(deadline=None, max_examples=15)
def test_the_log_scale_keeps_its_budget_whatever_the_weights(scale: float, budget: float) -> None:
    g = perturb(VectorFlow(6, blocks=4, width=8, scale_budget=budget).double(), scale)
    x = torch.randn(10, 6, dtype=torch.float64)
    logdet = g.forward_and_logdet(x)[1]
    assert logdet.abs().max() <= 3 * budget * (
        1 + 1e-12
    )  # three of six coordinates move in each coupling
    assert g(x).isfinite().all()


@given(
    seed=st.integers(0, 1000),
    dim=st.integers(2, 9),
    blocks=st.integers(1, 6),
    additive=st.booleans(),
)
@settings(deadline=None, max_examples=20)
def test_vector_flow_inverts_at_every_size(
    seed: int, dim: int, blocks: int, additive: bool
) -> None:
    g = VectorFlow(
        dim, blocks, 8, coupling="additive" if additive else "affine", seed=seed
    ).double()
    x = torch.randn(4, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(g(x), x)  # starts as the identity, exactly
    perturb(g, seed=seed)
    assert not torch.equal(g(x), x)
    torch.testing.assert_close(g.inverse(g(x)), x, rtol=0, atol=tolerance(x.dtype, scale=100.0))


@pytest.mark.parametrize(
    "options", [{}, {"conditioner": "vit", "patch": 2, "heads": 2}, {"levels": 1}]
)
def test_image_flow_starts_as_flatten(options: dict) -> None:
    g = ImageFlow((3, 4, 8), blocks=5, width=8, **options).double()
    x = torch.rand(2, 3, 4, 8, dtype=torch.float64)
    assert torch.equal(g(x), x.flatten(1))


def test_every_coordinate_depends_on_every_other() -> None:
    for options in ({}, {"conditioner": "vit", "patch": 2, "heads": 2}):
        g = perturb(ImageFlow((1, 8, 8), blocks=8, width=8, **options).double())
        x = torch.rand(1, 1, 8, 8, dtype=torch.float64)
        j = torch.func.jacrev(lambda row, g=g: g(row)[0])(x).reshape(64, 64)
        assert (j != 0).all()


def test_deep_float32_couplings_keep_the_inverse() -> None:
    for coupling, limit in (
        ("affine", 1e-4),
        ("additive", 1e-5),
    ):  # measured 1e-5 and 1e-6; a clamp at 5 gives NaN
        torch.manual_seed(0)
        g = perturb(VectorFlow(32, blocks=16, width=64, coupling=coupling), 0.1)
        x = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
        assert (g.inverse(g(x)) - x).abs().max() < limit


def test_settings_out_of_range_are_refused() -> None:
    for wrong in (
        {"dim": 1},
        {"blocks": 0},
        {"coupling": "cubic"},
        {"scale_budget": 0.0},
        {"precision": "float16"},
        {"precision": "exact"},
        {"precision": "exact", "coupling": "additive", "actnorm": True},
    ):
        with pytest.raises(ConfigError):
            VectorFlow(**{"dim": 4, **wrong})
    with pytest.raises(ConfigError, match="coupling"):
        ImageFlow((1, 8, 8), coupling="spline")
    with pytest.raises(ConfigError, match="conditioner"):
        ImageFlow((1, 8, 8), conditioner="unet")
    with pytest.raises(ConfigError, match="odd"):
        ImageFlow((1, 8, 8), kernel=2)
    with pytest.raises(ConfigError, match="levels"):
        ImageFlow((1, 8, 8), blocks=1, levels=2)
    with pytest.raises(ShapeError, match="divisible"):
        ImageFlow((1, 6, 6), levels=2)
    with pytest.raises(ShapeError, match="not empty"):
        AdditiveCoupling(1, MLP(1, 1))
    with pytest.raises(ConfigError, match="additive"):
        AffineCoupling(4, MLP(2, 4), precision="exact")
    with pytest.raises(ConfigError, match="bound"):
        AffineCoupling(4, MLP(2, 4), bound=0.0)
    with pytest.raises(ConfigError, match="heads"):
        ImageFlow((1, 8, 8), conditioner="vit", width=10)

import pytest
import torch

from makers_invertible import perturb
from rectilinear.invertible import ImageFlow, VectorFlow, to_grid
from rectilinear.invertible.base import GRID, on_grid, snap


def networks(precision: str, coupling: str = "additive") -> list:
    options = {"precision": precision, "coupling": coupling}
    return [
        VectorFlow(24, blocks=8, width=32, **options),
        ImageFlow((3, 8, 8), blocks=8, width=8, **options),
        ImageFlow((3, 8, 8), blocks=4, width=8, channels_last=True, **options),
        ImageFlow((3, 8, 8), blocks=4, width=16, conditioner="vit", patch=2, hidden=1, **options),
    ]


@pytest.mark.parametrize("precision", ["exact", "exact-bf16"])
@pytest.mark.parametrize("kind", range(4))
def test_exact_is_exact_in_both_directions(precision: str, kind: int) -> None:
    g = perturb(networks(precision)[kind], 0.1)
    x = to_grid(torch.randn(16, *g.shape))
    z = g(x)
    assert (z - x.flatten(1)).abs().max() > 0.1
    assert on_grid(z)
    assert torch.equal(g.inverse(z), x)
    latents = to_grid(2 * torch.randn(16, g.dim))  # such as an operator produces, put on the grid
    assert torch.equal(g(g.inverse(latents)), latents)


def test_without_the_exact_mode_it_is_not() -> None:
    g = perturb(networks("float32")[0], 0.1)
    x = to_grid(torch.randn(16, 24))
    assert not torch.equal(g.inverse(g(x)), x)


def test_exact_networks_train() -> None:
    g = perturb(networks("exact")[0], 0.1)
    smooth = networks("float32")[0]
    smooth.load_state_dict(g.state_dict())
    x = to_grid(torch.randn(16, 24))
    for net in (g, smooth):
        net(x).square().mean().backward()
    for p, q in zip(g.parameters(), smooth.parameters(), strict=True):
        torch.testing.assert_close(
            p.grad, q.grad, rtol=1e-2, atol=1e-4
        )  # the grid moves values by 2^-17


def test_the_grid() -> None:
    x = torch.randn(100)
    assert on_grid(to_grid(x))
    assert (to_grid(x) - x).abs().max() <= GRID / 2
    assert torch.equal(to_grid(to_grid(x)), to_grid(x))
    assert not on_grid(x)
    assert not on_grid(torch.tensor([256.0]))
    assert on_grid(torch.tensor([256.0], dtype=torch.float64))
    assert not on_grid(torch.tensor([torch.nan]))


def test_snap_rounds_and_passes_the_gradient() -> None:
    shift = torch.randn(100, requires_grad=True)
    snap(shift).sum().backward()
    assert torch.equal(snap(shift), to_grid(shift))
    assert torch.equal(shift.grad, torch.ones(100))


@pytest.mark.parametrize("kind", range(4))
def test_bf16_conditioners_keep_a_float32_coupling(kind: int) -> None:
    g = perturb(networks("bf16", "affine")[kind], 0.05)
    x = torch.randn(16, *g.shape)
    z = g(x)
    assert z.dtype == torch.float32
    error = (g.inverse(z) - x).abs().max()
    assert (
        error < 2e-2
    )  # a rounding flip in a conditioner is 2^-8 of its output; a coupling in bf16 loses 1e-1
    full = networks("float32", "affine")[kind]
    full.load_state_dict(g.state_dict())
    assert 0 < (full(x) - z).abs().max() < 0.5


def test_autocast_outside_does_not_reach_the_network() -> None:
    g = perturb(networks("float32", "affine")[0], 0.05)
    x = torch.randn(16, 24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = g(x)
    assert torch.equal(inside, g(x))

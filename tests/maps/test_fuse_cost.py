"""fuse runs all of x a few times, whatever it folds, and says what was saved."""

import pytest
import torch
from torch import nn

import rectilinear as rl


class Counting(nn.Module):
    """A network that counts the rows it was run on, and is odd where its input is large."""

    def __init__(self, limit: float = float("inf")) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(*[nn.Linear(6, 6) for _ in range(12)])
        self.limit, self.counts = limit, []

    def __deepcopy__(self, memo):
        copy = Counting(self.limit)
        copy.load_state_dict(self.state_dict())
        copy.counts = self.counts
        return copy.to(next(self.parameters()))

    def forward(self, x):
        self.counts.append(len(x))
        far = (x > self.limit).any(1, keepdim=True)
        return self.layers(x) + torch.where(far, self.layers[0](x), torch.zeros_like(x))


def rows(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))


def test_all_of_x_is_run_a_few_times():
    model = Counting().eval()
    found = rl.fuse(model, rows(1000), report=True)
    assert model.counts.count(1000) <= 4
    assert found.error < 1e-5
    assert found.checked == "x"


def test_the_report_has_parameters_and_operations():
    model = nn.Sequential(*[nn.Linear(6, 6) for _ in range(4)]).eval()
    found = rl.fuse(model, rows(50), report=True)
    assert found.parameters == (4 * 42, 42)
    assert found.flops == (4 * 72, 72)
    assert "operations a row 288 -> 72" in str(found)
    assert rl.fuse(model, report=True).flops is None


def test_a_fold_that_only_some_rows_show_is_taken_back():
    """One row in 64 reads the first layer a second time, which none of the rows that are checked
    while folding does.
    """
    x = rows(640)
    x = x[(x.abs() < 2).all(1)][:512]
    x[100] = 3.0
    model = Counting(2.5).eval()
    with torch.no_grad():
        fused = rl.fuse(model, x)
        assert torch.allclose(fused(x), model(x), atol=1e-5)


@pytest.mark.parametrize("kind", [tuple, dict])
def test_some_rows_of_several_arguments(kind):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x, scale):
            return self.b(self.a(x)) * scale

    x, scale = rows(300), rows(300, 1)[:, :1]
    model = Two().eval()
    found = rl.fuse(model, (x, scale) if kind is tuple else {"x": x, "scale": scale}, report=True)
    assert len(found.folds) == 1
    assert found.error < 1e-5


@pytest.mark.parametrize("shape", [(6,), (3, 6)])
def test_scales_and_shifts_fold(shape):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.GELU(), nn.Linear(6, 6)).double()
    x = torch.randn(200, *shape, dtype=torch.float64)
    scaled = rl.linearize(model, x, blocks="1", form="diagonal", progress=False).model.eval()
    fused = rl.fuse(scaled, x)
    assert sum(p.numel() for p in fused.parameters()) == 42
    assert torch.allclose(fused(x), scaled(x), atol=1e-12)
    first = nn.Sequential(scaled[1], scaled[2])
    assert torch.allclose(rl.fuse(first, x)(x), first(x), atol=1e-12)
    assert len([p for p in rl.fuse(first, x).modules() if isinstance(p, nn.Linear)]) == 1


def test_scales_of_channels_fold_into_convolutions():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Tanh()).double()
    x = torch.randn(60, 8, 12, 12, dtype=torch.float64)
    scaled = rl.linearize(model, x, blocks="1", form="diagonal", progress=False).model.eval()
    fused = rl.fuse(scaled, x)
    assert sum(p.numel() for p in fused.parameters()) == 8 * 72 + 8
    assert torch.allclose(fused(x), scaled(x), atol=1e-12)

"""Small data and modules on which closed forms and training are compared."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from makers_data import rand

Data = tuple[Tensor, Tensor]


@pytest.fixture
def symmetric() -> Callable[..., Data]:
    """Data closed under ``(x, y) -> (-x, -y)``, white or not, with a target that is not linear."""

    def make(
        d: int = 4, outputs: int = 1, n: int = 9, seed: int = 0, *, white: bool = False
    ) -> Data:
        x = rand(n, d, seed=seed) @ torch.diag(1 + torch.arange(d, dtype=torch.float64) / 4)
        if white:
            x = torch.linalg.qr(x).Q * n**0.5
        z = x @ rand(d, outputs, seed=seed + 1)
        y = z + 0.3 * torch.sin(4 * z)
        return torch.cat([x, -x]), torch.cat([y, -y])

    return make


@pytest.fixture
def chain() -> Callable[..., nn.Sequential]:
    """Linear layers of these weights, with an activation between them."""

    def make(
        weights: Sequence[Tensor], activation: Callable[[], nn.Module] = nn.Identity
    ) -> nn.Sequential:
        modules: list[nn.Module] = []
        for weight in weights:
            layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=weight.dtype)
            with torch.no_grad():
                layer.weight.copy_(weight)
            modules += [layer, activation()]
        return nn.Sequential(*modules[:-1])

    return make

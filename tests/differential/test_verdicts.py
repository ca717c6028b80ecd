"""What an audit proves or says of networks whose truth is known, over offsets, scales, dtypes and repeated rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rectilinear as rl
from makers_zoo import D, Map, paired
from rectilinear.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def relu_net(out: int = 3) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(D, 30), nn.ReLU(), nn.Linear(30, out)).double()


def label(model: nn.Module, x: Tensor, **options: object) -> str:
    return rl.audit(model, x, progress=False, **options).verdict.label  # type: ignore[arg-type]


MIXING: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda h: h.mean(0),
    "first": lambda h: h[:1],
    "last": lambda h: h[-1:],
    "neighbour": lambda h: h.roll(1, 0),
    "sum so far": lambda h: h.cumsum(0),
    "nonlinear": lambda h: h.abs().mean(0),
    "products": lambda h: (h @ h.mT) @ h,
}


@pytest.mark.parametrize("how", MIXING)
@pytest.mark.parametrize("strength", [1.0, 1e-5, 1e-12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_that_act_on_each_other_however_little_are_refused(how, strength, dtype):
    model = Map(lambda x, a: (lambda h: h + strength * MIXING[how](h))(a(x)), nn.Linear(D, 3)).to(dtype)
    with pytest.raises(InputError, match="act on each other"):
        rl.audit(model, rand(50, D), progress=False)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_rows_that_do_not_are_let_pass(dtype):
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    model = nn.Sequential(block, nn.Flatten(), nn.Linear(24, 2)).to(dtype)
    rl.audit(model, rand(60, 3, 8), progress=False)
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Conv1d(3, 2, 3), nn.BatchNorm1d(2), nn.Flatten()).to(dtype)
    rl.audit(model, rand(60, 3, 8), progress=False)


LEAVING: dict[str, Callable[[Tensor], Tensor]] = {
    "numpy": lambda h: torch.from_numpy(np.abs(h.detach().numpy())),
    "asarray": lambda h: torch.from_numpy(np.abs(np.asarray(h.detach()))),
    "dlpack": lambda h: torch.from_numpy(np.abs(np.from_dlpack(h.detach()))),
    "lists": lambda h: torch.tensor([[abs(v) for v in row] for row in h.tolist()], dtype=h.dtype),
    "numbers": lambda h: torch.tensor([[abs(float(v)) for v in row] for row in h], dtype=h.dtype),
}


@pytest.mark.parametrize("how", LEAVING)
@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("strength", [1.0, 1e-9])
def test_values_that_leave_torch_are_no_proof(how, offset, strength):
    model = Map(lambda x, a: offset + a(x) + strength * LEAVING[how](a(x)), nn.Linear(D, 3)).double()
    assert label(model, rand(60, D)) != "linear"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e-12])
@pytest.mark.parametrize("offset", [0.0, 1.0, 1e4, 1e12])
def test_a_constant_neither_proves_nor_disproves(dtype, scale, offset):
    """Weights below the rounding of the constant are read off all the same, of one output or of all."""
    x, only = rand(40, D), torch.tensor([1.0, 0.0, 0.0], dtype=dtype)
    for constant in (offset, offset * only):
        curved = Map(lambda x, net, c=constant: net(x) * scale + c, relu_net()).to(dtype)
        assert label(curved, x) != "linear"
        straight = Map(lambda x, net, c=constant: net(x) * scale + c, paired(out=3)).to(dtype)
        assert label(straight, x) == "linear"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_no_licence_to_cancel(dtype):
    """Many neurons in few directions nearly cancel: within the rounding of half precision, but not in truth."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 1000, bias=False), nn.ReLU(), nn.Linear(1000, 1, bias=False)).to(dtype)
    assert label(model, rand(80, 2)) != "linear"
    assert label(paired(out=1).to(dtype), rand(80, D)) == "linear"
    parts = rl.split(model)
    w2, w1 = (model[i].weight.double() for i in (2, 0))
    assert parts.matrix.dtype == dtype
    assert torch.equal(parts.matrix, (w2 @ w1 / 2).to(dtype))

"""Verdicts of audits of networks with known truth, over offsets, scales, dtypes, repeated rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rectilinear as rl
from makers_data import rand
from makers_zoo import D, Map, paired
from rectilinear.analysis.measure import Subject
from rectilinear.analysis.two_layer import collapses
from rectilinear.errors import InputError
from rectilinear.networks import data as points
from rectilinear.networks.network import as_network, evaluating
from rectilinear.networks.weight_matrices import TwoLayer

if TYPE_CHECKING:
    from collections.abc import Callable


def relu_net(out: int = 3) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(D, 30), nn.ReLU(), nn.Linear(30, out)).double()


def label(model: nn.Module, x: Tensor, **options: object) -> str:
    return rl.audit(model, x, progress=False, **options).verdict.label  # type: ignore[arg-type]


def proved(model: nn.Module, x: Tensor) -> bool:
    """Whether an audit calls the model linear, without its measurements."""
    with evaluating(model):
        subject = Subject.of(as_network(model, x), points.read(x, None, 0), None, 0)
        two = subject.two_layer
        return subject.structure.is_affine or (isinstance(two, TwoLayer) and collapses(two))


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
    model = Map(lambda x, a: (lambda h: h + strength * MIXING[how](h))(a(x)), nn.Linear(D, 3)).to(
        dtype
    )
    with pytest.raises(InputError, match="act on each other"):
        rl.audit(model, rand(50, D), progress=False)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_rows_that_do_not_are_let_pass(dtype):
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    model = nn.Sequential(block, nn.Flatten(), nn.Linear(24, 2)).to(dtype)
    as_network(model.eval(), rand(60, 3, 8))
    model = nn.Sequential(
        nn.ReLU(inplace=True), nn.Conv1d(3, 2, 3), nn.BatchNorm1d(2), nn.Flatten()
    ).to(dtype)
    as_network(model.eval(), rand(60, 3, 8))


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
    model = Map(
        lambda x, a: offset + a(x) + strength * LEAVING[how](a(x)), nn.Linear(D, 3)
    ).double()
    assert not proved(model, rand(60, D))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e-12])
@pytest.mark.parametrize("offset", [0.0, 1.0, 1e4, 1e12])
@pytest.mark.each_value
def test_a_constant_neither_proves_nor_disproves(dtype, scale, offset):
    """Weights below the rounding of the constant are read off all the same, of one output or of
    all.
    """
    x, only = rand(40, D), torch.tensor([1.0, 0.0, 0.0], dtype=dtype)
    for constant in (offset, offset * only):
        curved = Map(lambda x, net, c=constant: net(x) * scale + c, relu_net()).to(dtype)
        assert not proved(curved, x)
        straight = Map(lambda x, net, c=constant: net(x) * scale + c, paired(out=3)).to(dtype)
        assert proved(straight, x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_no_licence_to_cancel(dtype):
    """Many neurons in few directions nearly cancel: within the rounding of half precision, but not
    in truth.
    """
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(2, 1000, bias=False), nn.ReLU(), nn.Linear(1000, 1, bias=False)
    ).to(dtype)
    assert not proved(model, rand(80, 2))
    assert proved(paired(out=1).to(dtype), rand(80, D))
    parts = rl.split(model)
    w2, w1 = (model[i].weight.double() for i in (2, 0))
    assert parts.matrix.dtype == dtype
    assert torch.equal(parts.matrix, (w2 @ w1 / 2).to(dtype))


@pytest.mark.parametrize(
    ("rows", "times", "jitter"),
    [(1, 1, 0.0), (1, 50, 0.0), (3, 50, 1e-9), (4, 1, 0.0), (4, 50, 0.0)],
)
def test_a_handful_of_rows_decides_nothing(rows, times, jitter):
    x = rand(rows, D).repeat(times, 1)
    x = x + jitter * (rows > 1) * rand(*x.shape, seed=1)  # of one row, the jitter would be the data
    found = rl.audit(relu_net(), x, progress=False)
    assert found.verdict.label == "undecided"
    assert "distinct row" in found.verdict.reasons[0]
    constant = relu_net()
    nn.init.zeros_(constant[2].weight)
    nn.init.constant_(constant[0].bias, -50.0)
    assert label(Map(lambda x, a: a(x).tanh(), constant), x) == "undecided"
    assert label(paired(), x) == "linear", "proved without data"


@pytest.mark.parametrize(("loader", "times"), [(False, 30), (True, 2)])
def test_repeated_rows_say_no_more_than_once(times, loader):
    """What is held out, and every interval, are those of the distinct rows."""
    x, net = rand(40, D), relu_net(out=2)
    again = x.repeat(times, 1)[
        torch.randperm(40 * times, generator=torch.Generator().manual_seed(0))
    ]
    one = rl.audit(net, x, progress=False)
    many = rl.audit(net, list(again.split(64)) if loader else again, progress=False)
    a, b = one.measures["affine_r2"], many.measures["affine_r2"]
    assert b.value == pytest.approx(a.value, rel=1e-9)
    assert b.interval == pytest.approx(a.interval, abs=0.1)
    assert b.details["worst_r2"] == pytest.approx(a.details["worst_r2"], rel=1e-9)
    assert one.verdict.label == many.verdict.label
    blocks = many.measures["blocks"]
    assert blocks.value < 0.99, "a half of the rows is not judged by its copies in the other"
    assert many.measures["sign_flip"].value > 0.01, (
        "copies of symmetric rows are no evidence against symmetry"
    )


def test_held_out_groups_are_those_of_refits():
    from rectilinear.numerics import Moments

    x, t = rand(12, 3), rand(12, 2, seed=1)
    repeats = torch.tensor([1, 4, 2, 1, 1, 3, 1, 1, 1, 1, 1, 7])
    rows, targets = x.repeat_interleave(repeats, 0), t.repeat_interleave(repeats, 0)
    moments = Moments()
    moments.add(rows, targets)
    left = moments.fit().residuals(x, t, repeats).held_out[0]
    for i in (0, 1, 11):
        keep = torch.arange(12).repeat_interleave(repeats) != i
        design = torch.cat([rows, torch.ones(len(rows), 1).double()], 1)
        a = torch.linalg.lstsq(design[keep], targets[keep]).solution
        assert torch.allclose(
            left[i], t[i] - torch.cat([x[i], torch.ones(1).double()]) @ a, atol=1e-10
        )


@pytest.mark.parametrize(
    ("large", "dtype"), [(1.0, torch.float64), (1e3, torch.float32), (1e8, torch.float64)]
)
def test_a_large_output_hides_no_small_one(large, dtype):
    torch.manual_seed(0)
    x = rand(500, D).to(dtype)

    class Mixed(nn.Module):
        def __init__(self, curved: int) -> None:
            super().__init__()
            self.a, self.b, self.curved = nn.Linear(D, 6), nn.Linear(D, 6), curved

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x) + 1e-3 * self.b(x).sin()
            h = torch.cat([h[:, : self.curved], self.b(x).abs()[:, self.curved :]], 1)
            return torch.cat([large * h[:, :1], h[:, 1:], 0 * h[:, :1] + 3], 1)

    found = rl.audit(Mixed(5).to(dtype), x, progress=False)
    details = found.measures["affine_r2"].details
    assert found.verdict.label == "not linear"
    assert details["worst_output"] == 5
    assert details["constant_outputs"] == [6], "a constant is no failure"
    assert sum(value > 0.99 for value in details["r2_each"][:5]) == 5
    assert rl.audit(Mixed(6).to(dtype), x, progress=False).verdict.label == "effectively linear"
    curved = Mixed(1).to(dtype)
    together = rl.audit(curved, x, outputs="together", progress=False)
    assert together.verdict.label == ("effectively linear" if large >= 1e3 else "not linear")
    equal = rl.audit(curved, x, outputs="standardised", progress=False).measures["affine_r2"]
    each = torch.tensor(together.measures["affine_r2"].details["r2_each"][:6], dtype=torch.float64)
    assert equal.value == pytest.approx(float(each.mean()), abs=2e-3)


def test_each_output_is_what_it_is_alone():
    net, x = relu_net(out=4), rand(150, D)
    details = rl.audit(net, x, progress=False).measures["affine_r2"].details
    for k in (0, 3):
        alone = rl.audit(
            Map(lambda x, a, k=k: a(x)[:, k : k + 1], net), x, progress=False
        ).measures["affine_r2"]
        assert details["r2_each"][k] == pytest.approx(alone.value, rel=1e-3)  # at its own ridge
        assert details["worst_interval"][1] <= alone.interval[1] + 0.1


def test_columns_of_any_units_are_one_data_set():
    """The case of physical units: a column a hundred million times the others, through a batch
    normalisation.
    """
    for ratio in (1e-12, 1e8):
        torch.manual_seed(0)
        x = rand(500, 3) * torch.tensor([ratio, 1.0, 1.0], dtype=torch.float64)
        norm = nn.BatchNorm1d(3, momentum=None, eps=1e-40)
        net = nn.Sequential(norm, nn.Linear(3, 8), nn.Hardtanh(-100, 100), nn.Linear(8, 1)).double()
        net(x)
        net.eval()
        found = rl.audit(net, x, progress=False)
        assert found.verdict.label == "effectively linear", ratio
        assert found.measures["affine_r2"].value > 1 - 1e-12
        assert rl.linearize(net, x, blocks=["2"], progress=False).output_r2 > 1 - 1e-12

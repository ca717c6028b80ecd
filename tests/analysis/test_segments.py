"""The segment test, the choice of measurements, and models that return more than a tensor."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import rectilinear as rl
from makers_data import rand
from rectilinear import errors
from rectilinear.analysis.segments import bound
from rectilinear.networks.network import Resolution


def net(*widths: int, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), act()]
    return nn.Sequential(*layers[:-1]).double()


def none(outputs: int) -> Resolution:
    zero = torch.zeros(outputs, dtype=torch.float64)
    return Resolution(zero, zero, "float64")


@pytest.mark.parametrize("power", [1, 2, 3])
def test_no_affine_map_explains_more_than_the_bound(power: int) -> None:
    a, b = rand(40, 3), rand(40, 3, seed=1)
    points = torch.cat([a, b, (a + b) / 2])
    f = points @ rand(3, 2, seed=2) + 0.3 * points[:, :2] ** power
    found = bound(*f.split(40), none(2), "here", seed=0)
    x = np.c_[points.numpy(), np.ones(len(points))]
    left = f.numpy() - x @ np.linalg.lstsq(x, f.numpy(), rcond=None)[0]
    best = 1 - (left**2).sum() / ((f - f.mean(0)) ** 2).sum().item()
    assert found.value >= best - 1e-12
    assert (found.value > 1 - 1e-12) == (power == 1)
    assert found.interval[0] <= found.value <= found.interval[1]


def test_the_least_square_that_is_left_is_attained() -> None:
    ends, middle = torch.zeros(9, 1).double(), torch.ones(9, 1).double()
    found = bound(ends, ends, middle, none(1), "here", seed=0)
    assert found.value == pytest.approx(0.0)  # two thirds left, of a variance of two thirds


def test_few_points_in_many_dimensions_prove_that_a_network_is_not_linear() -> None:
    found = rl.audit(net(1500, 64, 3), rand(64, 1500), measures="verdict", progress=False)
    assert found.verdict.label == "not linear"
    assert "halfway between" in found.verdict.reasons[0]
    assert not found.measures["affine_r2"].applies  # it could not decide
    assert {m.name for m in found.shown} == {"segments"}
    assert "homogeneity" not in str(found)


def test_a_linear_one_is_not_accused() -> None:
    nearly = net(1500, 64, 3, act=nn.Tanh)
    with torch.no_grad():
        nearly[0].weight.mul_(1e-4)
        nearly[0].bias.zero_()
    found = rl.audit(nearly, rand(64, 1500), measures="verdict", progress=False)
    assert found.verdict.label == "effectively linear"  # by a fit in random subspaces
    assert found.measures["segments"].value > 0.999


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_not_taken_for_curvature(dtype: torch.dtype) -> None:
    affine = nn.Sequential(nn.Linear(1500, 64), nn.Tanh(), nn.Linear(64, 3))
    with torch.no_grad():
        affine[0].weight.mul_(0.02)
        affine[2].bias.add_(20.0)  # outputs vary by a few last digits
    x = rand(64, 1500).to(dtype)
    found = rl.audit(affine.to(dtype), x, measures="verdict", progress=False)
    assert found.verdict.label != "not linear"
    curved = rl.audit(net(1500, 64, 3).to(dtype), x, measures="verdict", progress=False)
    assert curved.verdict.label == "not linear"


def test_measurements_are_chosen_by_name() -> None:
    model, x = net(4, 8, 2), rand(200, 4)
    found = rl.audit(model, x, measures=["parity"], progress=False)
    assert [m.name for m in found.shown] == ["parity", "segments", "affine_r2"]
    whole = rl.audit(model, x, progress=False)
    assert found.measures["parity"].value == whole.measures["parity"].value
    assert found.verdict.label == whole.verdict.label == "not linear"
    with pytest.raises(errors.ConfigError, match="blocks"):
        rl.audit(model, x, measures=["block"], progress=False)


class Returning(nn.Module):
    """Returns its output in another form."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.body = form, net(4, 8, 2)

    def forward(self, inputs: Tensor) -> object:
        out = self.body(inputs)
        return {
            "tuple": (out, inputs),
            "mapping": {"loss": out.sum(), "logits": out},
            "nested": ([out, inputs], 3),
        }[self.form]


@pytest.mark.parametrize("form", ["tuple", "mapping", "nested"])
def test_any_output_and_any_data_give_the_same_audit(form: str) -> None:
    x = rand(60, 4)
    wanted = rl.audit(net(4, 8, 2), x, measures="verdict", progress=False)
    model = Returning(form)
    for data in (
        x,
        x.numpy(),
        {"inputs": x},
        (x,),
        [{"inputs": x[:40]}, {"inputs": x[40:]}],
        DataLoader([{"inputs": row} for row in x], batch_size=7),
    ):
        found = rl.audit(model, data, measures="verdict", progress=False)
        assert found.measures["segments"].value == wanted.measures["segments"].value
        assert found.measures["affine_r2"].value == wanted.measures["affine_r2"].value


def test_output_chooses_and_labels_come_along() -> None:
    x, y = rand(60, 4), torch.arange(60) % 2
    found = rl.audit(
        Returning("mapping"),
        ({"inputs": x}, y),
        output="logits",
        measures=["affine_score"],
        progress=False,
    )
    assert found.measures["affine_score"].applies
    assert found.out_shape == (2,)
    with pytest.raises(errors.ConfigError, match="'logits'"):
        rl.audit(Returning("mapping"), x, output="hidden", progress=False)


def test_recurrent_networks_and_the_axis_of_time() -> None:
    x = rand(40, 6, 4)
    model = nn.LSTM(4, 3, batch_first=True).double()
    assert rl.audit(model, x, measures="verdict", progress=False).out_shape == (6, 3)
    for wrong in (nn.LSTM(4, 3).double(), nn.TransformerEncoderLayer(4, 2, 8).double()):
        with pytest.raises(errors.InputError, match="batch_first=True"):
            rl.audit(wrong, x, measures="verdict", progress=False)


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda m: nn.ModuleDict({"model": m})])
def test_blocks_are_those_of_the_inner_network(wrap: object) -> None:
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = wrap(net(4, 8, 8, 2))

        def forward(self, x: Tensor) -> Tensor:
            inner = self.inner["model"] if isinstance(self.inner, nn.ModuleDict) else self.inner
            return inner(x)

    found = rl.audit(Around(), rand(200, 4), measures=["blocks"], progress=False)
    names = [row["name"] for row in found.measures["blocks"].details["blocks"]]
    assert [n.rpartition(".")[2] for n in names] == ["1", "3"]


class Wrapped(nn.Module):
    """Returns its output in a mapping."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": self.body(x), "input": x}


def test_other_functions_take_such_models_and_arrays_too() -> None:
    body = nn.Sequential(nn.Linear(4, 40, bias=False), nn.ReLU(), nn.Linear(40, 1, bias=False))
    for weight in body.double().parameters():
        nn.init.normal_(weight, std=1e-3)
    x = torch.cat([rand(30, 4), -rand(30, 4)])
    y = x[:, 0]
    wanted = rl.predict(body, x, y, lr=0.1, steps=50)
    for data in ((x, y), (x.numpy(), y.numpy())):
        found = rl.predict(Wrapped(body), *data, lr=0.1, steps=50)
        assert torch.allclose(found.loss, wanted.loss)
        assert torch.allclose(rl.split(Wrapped(body), data[0]).matrix, rl.split(body, x).matrix)
    A = rl.local_map(Wrapped(body), x[0])
    assert torch.allclose(A(x[0]), body(x[0]))
    audit = rl.audit(
        Wrapped(body), x, y, lr=0.1, steps=50, measures=["time_course"], progress=False
    )
    assert "steps" in audit.measures["time_course"].note
    ids = nn.Sequential(nn.Embedding(9, 3), nn.Flatten(), nn.Linear(6, 1))
    with pytest.raises(errors.DtypeError, match=r"rl\.audit and rl\.linear_map take ids"):
        rl.split(ids, torch.tensor([[1, 2], [3, 4]]))

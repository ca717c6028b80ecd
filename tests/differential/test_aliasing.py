"""In-place operations, views, shared modules and hooks: same answers, unchanged arguments."""

import pytest
import torch
from torch import nn

import rectilinear as rl
from makers_data import rand
from makers_zoo import Map, free
from rectilinear.errors import RectilinearError, StructureError
from rectilinear.maps.blocks import is_affine

IN_PLACE = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky": lambda inplace: nn.LeakyReLU(0.2, inplace=inplace),
    "hardtanh": nn.Hardtanh,
    "hardtanh, wide": lambda inplace: nn.Hardtanh(-0.5, 2.0, inplace=inplace),
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "celu": nn.CELU,
    "selu": nn.SELU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid,
    "rrelu": nn.RReLU,
    "threshold": lambda inplace: nn.Threshold(0.1, 0.0, inplace=inplace),
    "dropout": nn.Dropout,
}


def net(activation: type, inplace: bool) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 12), activation(inplace=inplace), nn.Linear(12, 3)).double()


def numbers(value: object) -> object:
    """Values without the names of the measures' notes, which are the same anyway, and rounded to 9
    digits.
    """
    if isinstance(value, dict):
        return {key: numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [numbers(item) for item in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


@pytest.mark.whole
@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_and_not_are_one_network(name):
    x, y = rand(60, 5), torch.arange(60) % 3
    apart, within = (net(IN_PLACE[name], inplace) for inplace in (False, True))
    found = [
        numbers(rl.audit(model, x, y).to_json()["measures"]["blocks"]) for model in (apart, within)
    ]
    assert found[0] == found[1]
    a, b = (rl.linearize(model, x, y, blocks=["1"]) for model in (apart, within))
    assert a.blocks == b.blocks
    assert a.output_r2 == pytest.approx(b.output_r2, abs=1e-9)
    assert torch.allclose(a.model(x), b.model(x), atol=1e-9)


def test_the_whole_audit_of_in_place_is_that_of_not():
    x = rand(120, 5)
    a, b = (numbers(rl.audit(net(nn.ReLU, inplace), x).to_json()) for inplace in (False, True))
    assert a == b


def subtracting(x, layer):
    x -= 0.5
    return layer(x)


def writing_into_a_view(x, layer):
    x[:, 0] = 0
    return layer(x)


def through_a_view(x, layer):
    x.view(-1).mul_(2)
    return layer(x.relu_())


WRITERS = {
    "first module": lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(5, 2)),
    "hardtanh": lambda: nn.Sequential(nn.Hardtanh(inplace=True), nn.Linear(5, 2)),
    "bias-free": lambda: nn.Sequential(
        nn.Identity(), free(5, 8), nn.ReLU(inplace=True), free(8, 2)
    ),
    "subtracts": lambda: Map(subtracting, nn.Linear(5, 2)),
    "view": lambda: Map(writing_into_a_view, nn.Linear(5, 2)),
    "flat view": lambda: Map(through_a_view, nn.Linear(5, 2)),
    "transposed": lambda: Map(lambda x, a: a(x.t().clamp_(min=0).t()), nn.Linear(5, 2)),
}
VERBS = {
    "audit": lambda model, x: rl.audit(model, [x[:20], x[20:]]),
    "split": lambda model, x: rl.split(model, x),
    "linearize": lambda model, x: rl.linearize(model, x, blocks="all", enlarge=True),
    "local_map": lambda model, x: rl.local_map(model, x[0]).svd(1),
    "predict": lambda model, x: rl.predict(model, x, x[:, :2].clone(), lr=0.1, steps=10),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", WRITERS)
def test_the_rows_of_the_user_stay(name, verb):
    model, x = WRITERS[name]().double().eval(), rand(40, 5)
    kept, weights = x.clone(), {k: v.clone() for k, v in model.state_dict().items()}
    said = ""
    try:
        VERBS[verb](model, x)
    except RectilinearError as error:  # no two layers, no chain, no blocks
        said = str(error)
    assert not said or verb in ("split", "predict", "linearize"), said
    assert "random" not in said
    assert torch.equal(x, kept)
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())


def test_what_writes_into_its_input_is_measured_as_what_does_not():
    x = rand(150, 5)
    torch.manual_seed(0)
    layer = nn.Linear(5, 2).double()
    a = rl.audit(Map(subtracting, layer), x)
    b = rl.audit(Map(lambda x, layer: layer(x - 0.5), layer), x)
    assert a.verdict.label == b.verdict.label == "linear"
    assert torch.allclose(rl.local_map(Map(subtracting, layer), x[0]).value, layer(x[0] - 0.5))


class Reusing(nn.Module):
    """Writes every output into one buffer, as graphs of CUDA do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, 2))
        self.out = torch.zeros(4096, 2).double()

    def forward(self, x):
        return self.out[: len(x)].copy_(self.inner(x).detach())


def test_outputs_that_share_one_buffer():
    torch.manual_seed(0)
    model, x = Reusing().double(), rand(300, 5)
    a, b = (numbers(rl.audit(f, x).to_json()["measures"]) for f in (model, model.inner))
    for measure in ("parity", "affine_r2", "odd_linearity", "homogeneity"):
        assert a[measure]["value"] == pytest.approx(b[measure]["value"], rel=1e-9), measure


class Stream(nn.Module):
    """A block that changes the stream in place; the stream goes on beside it."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.a, self.act, self.b = nn.Linear(5, 8), nn.ReLU(inplace=inplace), nn.Linear(8, 2)

    def forward(self, x):
        h = self.a(x)
        out = self.act(h)
        return self.b(out + h)


def test_a_block_that_changes_what_others_read_is_refused():
    torch.manual_seed(0)
    x = rand(200, 5)
    with pytest.raises(StructureError, match="in place"):
        rl.linearize(Stream(True).double(), x, blocks="act")
    found = rl.audit(Stream(True).double(), x).measures["blocks"]
    assert "in place" in found.note
    assert rl.linearize(Stream(False).double(), x, blocks="act").output_r2 > 0.5


def test_residual_added_in_place():
    """``h += block(h)``: the input of the block is read before it is added to."""

    class Residual(nn.Module):
        def __init__(self, inplace):
            super().__init__()
            self.inplace = inplace
            self.a, self.f, self.b = (
                nn.Linear(5, 8),
                nn.Sequential(nn.Linear(8, 8), nn.Tanh()),
                nn.Linear(8, 2),
            )

        def forward(self, x):
            h = self.a(x)
            if self.inplace:
                h += self.f(h)
                h -= 1
            else:
                h = h + self.f(h) - 1
            return self.b(h)

    x, found = rand(300, 5), []
    for inplace in (False, True):
        torch.manual_seed(0)
        found.append(rl.linearize(Residual(inplace).double(), x, blocks="f"))
    assert found[0].blocks == found[1].blocks
    assert found[0].output_r2 == pytest.approx(found[1].output_r2, abs=1e-9)


def test_one_module_in_two_places():
    act = nn.Tanh()
    twice = nn.Sequential(nn.Linear(5, 5), act, nn.Linear(5, 5), act).double()
    for name in ("1", "3"):
        with pytest.raises(StructureError, match="2 times"):
            rl.linearize(twice, rand(60, 5), blocks=name)
    assert "2 times" in rl.audit(twice, rand(60, 5)).measures["blocks"].note

    class Alias(nn.Module):  # registered twice, called once, by its second name
        def __init__(self):
            super().__init__()
            self.first = nn.Sequential(nn.Linear(5, 6), nn.Tanh())
            self.second, self.head = self.first, nn.Linear(6, 2)

        def forward(self, x):
            return self.head(self.second(x))

    torch.manual_seed(0)
    model, x = Alias().double(), rand(400, 5)
    found = rl.linearize(model, x, blocks="second")
    assert found.output_r2 < 0.999, "replaced wherever it is held"
    assert rl.audit(found.model, x).verdict.label == "linear"

    class Listed(Alias):
        def __init__(self):
            super().__init__()
            self.order = [self.first, self.head]  # a plain list, which replacing does not reach

        def forward(self, x):
            for part in self.order:
                x = part(x)
            return x

    with pytest.raises(StructureError, match="elsewhere"):
        rl.linearize(Listed().double(), x, blocks="first")


def test_hooks_of_the_user_belong_to_the_block():
    """A stand-in maps what comes to the block's hooks to what leaves them: it has none."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(5, 7), nn.Identity(), nn.Linear(7, 2)).double(), rand(300, 5)
    model[1].register_forward_pre_hook(lambda _, args: (args[0] * 2,))
    model[1].register_forward_hook(lambda _, __, out: out - 3)
    assert not is_affine(model[1]), "hooks can be anything"
    found = rl.linearize(model, x, blocks="1")
    assert torch.allclose(found.model(x), model(x), atol=1e-9)
    assert found.output_r2 == pytest.approx(1)
    assert rl.audit(model, x).measures["blocks"].value == pytest.approx(1)


def test_rows_that_ask_for_gradients():
    x = rand(100, 5).requires_grad_()
    model = nn.Sequential(free(5, 8), nn.ReLU(), free(8, 1)).double()
    batches = [(x[:50], x[:50, :1]), (x[50:], x[50:, :1])]
    assert rl.audit(model, x, x[:, :1]).verdict.label == "not linear"
    assert rl.audit(model, batches).verdict.label == "not linear"
    assert rl.linearize(model, batches, blocks="1").output_r2 < 1
    assert not rl.split(model, x).matrix.requires_grad
    assert rl.local_map(model, x[0]).svd(1).s.shape == (1,)
    assert x.grad is None

"""A fused model is the same function: known pitfalls of folding, and what it reports."""

import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional

import rectilinear as rl
from makers_data import rand
from makers_fuse import (
    NormAct,
    NormReLU,
    NormTwice,
    Standardised,
    Untraced,
    Valued,
    gap,
    ready,
)
from rectilinear.errors import DtypeError, InputError, NonFiniteError, ShapeError, StructureError


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.bn, self.b = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)

    def forward(self, x):
        return functional.linear(torch.relu(self.bn(self.enc(x))), self.weight().t())

    def weight(self):
        return self.enc.weight


class TiedData(Tied):
    def weight(self):
        return self.enc.weight.data


class TiedComputed(Tied):
    def weight(self):
        return dict(self.named_parameters())["enc.weight"] * 2


class ReadTwice(Tied):
    def forward(self, x):
        return self.bn(self.enc(x)) + functional.linear(torch.relu(x), self.enc.weight)


class ByShape(Tied):
    """Reads a number of a layer that folding changes."""

    def __init__(self):
        super().__init__()
        self.enc, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x):
        return self.b(self.enc(x)).reshape(-1, self.enc.out_features // 3)


class Statistics(Tied):
    def forward(self, x):
        return self.bn(self.enc(x)) - self.bn.running_mean


class ForwardOnly(Tied):
    """Calls a layer past its hooks, too."""

    def forward(self, x):
        return self.bn(self.enc(x)) + self.enc.forward(x.relu())


class Alias(Tied):
    def __init__(self):
        super().__init__()
        self.also = self.enc
        self.norm = self.bn

    def forward(self, x):
        return self.norm(self.also(x))


class InPlace(Tied):
    def forward(self, x):
        h = self.enc(x)
        view = h.view(-1)
        out = self.bn(h)
        view.relu_()
        return out + h


class Indexed(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU())

    def forward(self, x):
        return self[2](self[0](x)) + self[1](x)


class MonteCarlo(nn.Dropout):
    """A subclass that halves."""

    def forward(self, x):
        return x / 2


def hooked():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    model[0].register_forward_hook(lambda _, __, out: out.relu())
    return model


def old_norm(name):
    with pytest.warns(FutureWarning) if name == "weight_norm" else torch.no_grad():
        layer = getattr(nn.utils, name)(nn.Linear(4, 4))
    model = nn.Sequential(layer, nn.BatchNorm1d(4))
    model(
        torch.randn(8, 4)
    ).sum().backward()  # leaves a weight with a gradient, which deepcopy refuses
    return model


AWAY = {
    "tied": Tied,
    "tied, .data": TiedData,
    "tied, computed": TiedComputed,
    "read twice": ReadTwice,
    "by shape": ByShape,
    "statistics read": Statistics,
    "forward called": ForwardOnly,
    "alias": Alias,
    "in place": InPlace,
    "indexed": Indexed,
    "subclass of dropout": lambda: nn.Sequential(nn.Linear(4, 4), MonteCarlo(), nn.Linear(4, 4)),
    "hooked": hooked,
    "spectral_norm": lambda: old_norm("spectral_norm"),
    "weight_norm": lambda: old_norm("weight_norm"),
    "parametrised": lambda: nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.BatchNorm1d(4)
    ),
    "statistics of the batch": lambda: nn.Sequential(
        nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False)
    ),
    "shared": lambda: (lambda a: nn.Sequential(a, nn.Linear(4, 4), a))(nn.Linear(4, 4)),
    "values": lambda: Valued(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))),
    "folds twice": lambda: nn.Sequential(
        nn.Linear(4, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4), nn.Linear(4, 2)
    ),
}


@pytest.mark.parametrize("wrap", [lambda m: m, Untraced], ids=["traced", "untraced"])
@pytest.mark.parametrize("name", AWAY)
def test_never_another_function(name, wrap):
    model = ready(wrap(AWAY[name]()))
    for given_x in (None, rand(5, 4)):
        found = rl.fuse(model, given_x, report=True)
        for x in (rand(5, 4), -rand(5, 4)):
            assert gap(model, found.model, x) < 1e-9, str(found)


IMAGES = {
    "norm with relu": lambda: (nn.Sequential(nn.Conv2d(3, 4, 3), NormReLU(4)), 1),
    "norm with act": lambda: (
        nn.Sequential(nn.Conv2d(3, 4, 3), NormAct(4), nn.Conv2d(4, 2, 1), NormAct(2, nn.SiLU)),
        2,
    ),
    "norm with drop": lambda: (
        nn.Sequential(nn.Conv2d(3, 4, 3), NormAct(4, nn.Hardswish, nn.Dropout)),
        1,
    ),
    "norm and input": lambda: (nn.Sequential(nn.Conv2d(3, 4, 3), NormTwice(4)), 0),
    "standardised": lambda: (nn.Sequential(Standardised(3, 4, 3), nn.BatchNorm2d(4)), 0),
    "padded 1 x 1": lambda: (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1, padding=1)), 0),
    "reflecting": lambda: (
        nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
            nn.BatchNorm2d(4),
            nn.Conv2d(4, 2, 1),
        ),
        2,
    ),
    "transposed": lambda: (nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.BatchNorm2d(4)), 0),
}


@pytest.mark.parametrize("wrap", [lambda m: m, Untraced], ids=["traced", "untraced"])
@pytest.mark.parametrize("name", IMAGES)
def test_classes_with_a_forward_of_their_own(name, wrap):
    model, folds = IMAGES[name]()
    model, x = ready(wrap(model)), rand(2, 3, 8, 12)
    found = rl.fuse(model, x, report=True)
    assert gap(model, found.model, x) < 1e-11
    assert len(found.folds) == folds, str(found)
    if not folds:
        assert found.left[0].reason
    assert len(rl.fuse(model, report=True).folds) == (folds if wrap is not Untraced else 0), (
        "nothing without a proof"
    )


def test_the_activation_of_a_normalisation_stays():
    model = ready(nn.Sequential(nn.Conv2d(3, 4, 3), NormAct(4)))
    fused = rl.fuse(model)
    assert type(fused[1]) is nn.ReLU
    assert type(model[1]) is NormAct


class Rows(nn.Module):
    """``Linear(10, 6)`` and ``BatchNorm1d(6)``, whose channels are the second axis: for 6 tokens
    another one.
    """

    def __init__(self):
        super().__init__()
        self.a, self.n = nn.Linear(10, 6), nn.BatchNorm1d(6)

    def forward(self, x):
        return self.n(self.a(x))


def test_the_axis_that_a_batch_norm_sees():
    model, tokens, rows = ready(Rows()), rand(5, 6, 10), rand(5, 10)
    found = rl.fuse(model, tokens, report=True)
    assert gap(model, found.model, tokens) < 1e-12
    assert not found.folds
    assert "2 axes" in found.left[0].reason
    fused = rl.fuse(model)
    assert gap(model, fused, rows) < 1e-12
    with pytest.raises(ShapeError, match="folded BatchNorm1d"):
        fused(tokens)
    first = ready(nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 6)))
    assert gap(first, rl.fuse(first), rand(5, 6)) < 1e-12
    with pytest.raises(ShapeError):
        rl.fuse(first)(rand(5, 6, 6))


def test_a_batch_norm_of_other_channels_is_left():
    class Reshaping(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.n = nn.Linear(4, 6), nn.BatchNorm1d(3)

        def forward(self, x):
            return self.n(self.a(x))

    model, x = ready(Reshaping()), rand(5, 3, 4)
    for given_x in (None, x):
        found = rl.fuse(model, given_x, report=True)
        assert gap(model, found.model, x) == 0
        assert "6 channels" in found.left[0].reason


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_precisions_and_scales(dtype, scale):
    model = ready(nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.Linear(9, 3))).to(dtype)
    with torch.no_grad():
        model[1].running_var.mul_(scale)
    x = rand(20, 6).to(dtype)
    found = rl.fuse(model, x, report=True)
    with torch.no_grad():
        wanted, out = model.double()(x.double()), found.model.double()(x.double())
    assert found.model[0].weight.isfinite().all()
    assert float((out - wanted).abs().max() / wanted.abs().max()) < 20 * torch.finfo(dtype).eps


def test_complex_weights_stay_complex():
    model = nn.Sequential(nn.Linear(4, 6, dtype=torch.cfloat), nn.Linear(6, 2, dtype=torch.cfloat))
    x = torch.complex(rand(5, 4), rand(5, 4, seed=1)).cfloat()
    fused = rl.fuse(model)
    assert fused[0].weight.dtype == torch.cfloat
    assert torch.allclose(fused(x), model(x), atol=1e-5)


def test_other_arguments_and_outputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.n = nn.Linear(4, 5), nn.BatchNorm1d(5)

        def forward(self, x, scale=None):
            h = self.n(self.a(x))
            return {"h": h if scale is None else h * scale, "ids": h.argmax(1)}

    model, x = ready(Two()), rand(6, 4)
    for call in (x, (x,), (x, rand(5)), {"x": x, "scale": rand(5)}):
        found = rl.fuse(model, call, report=True)
        assert len(found.folds) == 1
        assert found.error < 1e-12


def test_says_what_it_did():
    model = ready(
        Untraced(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.BatchNorm1d(8)))
    )
    without, checked = rl.fuse(model, report=True), rl.fuse(model, rand(5, 4), report=True)
    assert (len(without.folds), len(checked.folds)) == (0, 1)
    assert "pass x" in str(without)
    assert "inner.0, inner.1 folded" in str(checked)
    assert "inner.3 left: it does not see" in str(checked)
    assert without.error is None
    assert isinstance(rl.fuse(model, rand(5, 4)), nn.Module)


def test_what_cannot_be_fused_is_one_line():
    lazy, meta = nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2)), nn.Linear(3, 2, device="meta")
    for model in (lazy, meta):
        with pytest.raises(InputError):
            rl.fuse(model)
    with pytest.raises(StructureError, match="ScriptModule"):
        rl.fuse(torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))))
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    for x in (torch.randn(3, 5), torch.randn(0, 4)):
        with pytest.raises(ShapeError):
            rl.fuse(model, x)
    with pytest.raises(NonFiniteError):
        rl.fuse(model, torch.full((3, 4), float("nan")))
    with pytest.raises(DtypeError):
        rl.fuse(model, "x")

    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 4)

        def forward(self, x):
            return self.a(x) + torch.randn_like(x)

    with pytest.raises(InputError, match="random"):
        rl.fuse(Noisy(), torch.randn(3, 4))


def test_a_fused_model_goes_where_models_go():
    model, x = (
        ready(nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))),
        rand(6, 4),
    )
    fused = rl.fuse(model)
    for other in (
        torch.jit.script(fused),
        torch.jit.trace(fused, x),
        torch.fx.symbolic_trace(fused),
        pickle.loads(pickle.dumps(fused)),
        rl.fuse(fused, x),
    ):
        assert gap(model, other, x) < 1e-12


def test_fusing_leaves_the_model_and_the_random_numbers():
    model = ready(nn.Sequential(nn.Conv2d(3, 4, 3), NormAct(4))).train()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    names = [set(vars(part)) for part in model.modules()]
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    rl.fuse(model, rand(2, 3, 8, 8))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert [set(vars(part)) for part in model.modules()] == names
    assert model.training
    assert model[1].training

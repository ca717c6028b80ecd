"""fuse and linearize, on the kinds of networks that users have."""

import pytest
import torch
from torch import nn

import rectilinear as rl
from makers_data import rand
from rectilinear.errors import ConfigError, InputError, StructureError
from rectilinear.maps.affine_block import AffineBlock, Shapes
from rectilinear.maps.blocks import block_names
from rectilinear.maps.map_forms import MapMoments, module_of
from rectilinear.networks.batches import Batch, read_batches
from rectilinear.networks.sample_split import SampleSplit


def held_out(model, x):
    """The mask of the samples that linearize holds out."""
    return SampleSplit.of(read_batches(x, model), seed=0)(Batch((x,)))


class BasicBlock(nn.Module):
    """As in a ResNet."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(out), nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        same = stride == 1 and channels == out
        self.downsample = (
            None
            if same
            else nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        )

    def forward(self, x):
        kept = x if self.downsample is None else self.downsample(x)
        h = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        h += kept
        return self.relu(h)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu = (
            nn.Conv2d(1, 4, 3, 1, 1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
        )
        self.layer1 = nn.Sequential(BasicBlock(4, 4, 1), BasicBlock(4, 4, 1))
        self.layer2 = nn.Sequential(BasicBlock(4, 8, 2))
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 3)

    def forward(self, x):
        h = self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x)))))
        return self.fc(self.pool(h).flatten(1))


def resnet():
    torch.manual_seed(0)
    model = ResNet().double()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    return model.eval(), rand(200, 1, 8, 8)


def mlp():
    torch.manual_seed(0)
    layers = (
        nn.Linear(6, 12),
        nn.BatchNorm1d(12),
        nn.GELU(),
        nn.Linear(12, 12),
        nn.Dropout(),
        nn.Linear(12, 3),
    )
    return nn.Sequential(*layers).double().eval(), rand(300, 6)


class Tagger(nn.Module):
    """A transformer encoder and a head on the mean token."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder, self.head = (
            nn.TransformerEncoder(layer, 3, enable_nested_tensor=False),
            nn.Linear(8, 3),
        )

    def forward(self, x):
        return self.head(self.encoder(x).mean(1))


def transformer():
    torch.manual_seed(0)
    return Tagger().double().eval(), rand(200, 5, 8)


NETWORKS = {"resnet": resnet, "mlp": mlp, "transformer": transformer}


@pytest.mark.parametrize("name", NETWORKS)
def test_audit_measures_their_blocks(name):
    model, x = NETWORKS[name]()
    found = rl.audit(model, x, torch.arange(len(x)) % 3).measures["blocks"]
    assert found.kind == "estimated", found.note
    for row in found.details["blocks"]:
        assert row["r2"] <= 1
        assert 0 <= row["procrustes"] <= row["linearity_score"] + 1e-9 <= 1 + 1e-8
        assert {"loss", "loss_after", "output_r2"} <= set(row)
    assert not found.details["refused"]


def test_names_of_blocks():
    model, _ = resnet()
    assert block_names(model) == [
        "conv1",
        "bn1",
        "relu",
        "layer1.0",
        "layer1.1",
        "layer2.0",
        "pool",
        "fc",
    ]
    model, _ = transformer()
    assert block_names(model) == [
        "encoder.layers.0",
        "encoder.layers.1",
        "encoder.layers.2",
        "head",
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_fuse_keeps_the_function(name):
    model, x = NETWORKS[name]()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fused = rl.fuse(model)
    with torch.no_grad():
        assert torch.allclose(fused(x), model(x), atol=1e-11)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) for part in fused.modules())


FUSED = {
    "linear": (nn.Sequential(nn.Linear(6, 9), nn.Linear(9, 4)), (6,), 28),
    "no biases": (
        nn.Sequential(nn.Linear(6, 9, bias=False), nn.Linear(9, 4, bias=False)),
        (6,),
        24,
    ),
    "one bias": (nn.Sequential(nn.Linear(6, 9), nn.Linear(9, 4, bias=False)), (6,), 28),
    "three": (
        nn.Sequential(nn.Linear(6, 9), nn.Linear(9, 9), nn.Dropout(), nn.Linear(9, 4)),
        (6,),
        28,
    ),
    "through a slope of one": (
        nn.Sequential(nn.Linear(6, 9), nn.LeakyReLU(1.0), nn.Linear(9, 4)),
        (6,),
        28,
    ),
    "norm first": (nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 4)), (6,), 28),
    "pointwise": (nn.Sequential(nn.Conv2d(2, 9, 3, padding=1), nn.Conv2d(9, 3, 1)), (2, 5, 5), 57),
    "norm and pointwise": (
        nn.Sequential(nn.Conv2d(2, 9, 3), nn.BatchNorm2d(9), nn.Conv2d(9, 3, 1), nn.BatchNorm2d(3)),
        (2, 5, 5),
        57,
    ),
    "bottleneck stays": (nn.Sequential(nn.Linear(20, 2), nn.Linear(2, 20)), (20,), 102),
    "activation between": (nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6)), (6,), 84),
    "grouped": (nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.Conv2d(4, 3, 1)), (2, 5, 5), 55),
}


@pytest.mark.parametrize("name", FUSED)
def test_what_is_folded(name):
    model, shape, parameters = FUSED[name]
    model = model.double().eval()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    fused = rl.fuse(model)
    assert torch.allclose(fused(rand(7, *shape)), model(rand(7, *shape)), atol=1e-12)
    assert sum(p.numel() for p in fused.parameters()) == parameters


def test_fuse_leaves_what_others_use():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            h = self.a(x)
            return self.b(h) + h + self.b(x)

    class Branches(Shared):
        def forward(self, x):
            return self.b(self.a(x)) if x.sum() > 0 else self.a(x)

    for model in (Shared().double(), Branches().double()):
        fused = rl.fuse(model)
        assert torch.allclose(fused(rand(5, 4)), model(rand(5, 4)), atol=1e-14)
        assert torch.allclose(fused(-rand(5, 4)), model(-rand(5, 4)), atol=1e-14)
    with pytest.raises(InputError):
        rl.fuse(nn.ReLU())


CASES = [
    ("resnet", "layer1.1"),
    ("resnet", "layer2.0"),
    ("mlp", "2"),
    *(("transformer", f"encoder.layers.{i}") for i in (0, 2)),
]


@pytest.mark.parametrize(("name", "block"), CASES)
def test_linearize_replaces_a_block(name, block):
    model, x = NETWORKS[name]()
    found = rl.linearize(model, x, torch.arange(len(x)) % 3, blocks=block, form="affine")
    assert [b.name for b in found.blocks] == [block]
    assert type(found.model.get_submodule(block)) is (nn.Linear if name == "mlp" else AffineBlock)
    assert not isinstance(model.get_submodule(block), AffineBlock)
    assert 0 < found.blocks[0].r2 <= 1
    assert found.loss_before is not None
    assert found.seconds_before > 0
    counts = [sum(p.numel() for p in m.parameters()) for m in (model, found.model)]
    assert [found.parameters_before, found.parameters_after] == counts
    rows = x[held_out(model, x)]
    assert found.held_out == len(rows) == len(x) // 4
    with torch.no_grad():
        out, base = found.model.eval()(rows), model(rows)
    left = (out - base).square().sum() / (base - base.mean(0)).square().sum()
    assert found.output_r2 == pytest.approx(1 - float(left), abs=1e-9)
    assert "R²" in str(found)


def test_linearizing_everything_linear_changes_nothing():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 9), nn.LeakyReLU(1.0), nn.Linear(9, 2)).double()
    found = rl.linearize(model, rand(300, 5), blocks=["0", "1", "2"], form="affine")
    assert torch.allclose(found.model(rand(9, 5, seed=1)), model(rand(9, 5, seed=1)), atol=1e-10)
    assert found.output_r2 == pytest.approx(1)
    assert sum(p.numel() for p in rl.fuse(found.model).parameters()) == 12, "and folds into one"


def test_later_blocks_make_up_for_earlier_ones():
    model, x = mlp()
    one = rl.linearize(model, x, blocks=["0", "1", "2", "3", "5"], form="affine")
    rows = x[~held_out(model, x)]
    flat = torch.linalg.lstsq(
        torch.cat([rows, torch.ones(len(rows), 1).double()], 1), model(rows).detach()
    )
    best = torch.cat([x, torch.ones(len(x), 1).double()], 1) @ flat.solution
    assert torch.allclose(one.model(x), best, atol=1e-8), (
        "all blocks affine: the best affine map of all"
    )


def test_rank_streams_and_names():
    model, x = mlp()
    low = rl.linearize(model, x, blocks="2", rank=3)
    assert sum(p.numel() for p in low.model.get_submodule("2").parameters()) == 3 * 12 * 2 + 12
    assert low.output_r2 < rl.linearize(model, x, blocks="2").output_r2
    batches = [x[i : i + 50] for i in range(0, 300, 50)]
    whole, streamed = (
        rl.linearize(model, data, blocks="all", enlarge=True).model for data in (x, batches)
    )
    assert torch.allclose(whole(x), streamed(x), atol=1e-9)
    for wrong in ({"blocks": "7"}, {"blocks": []}, {"blocks": "2", "rank": 0}, {"blocks": ""}):
        with pytest.raises(ConfigError):
            rl.linearize(model, x, **wrong)
    with pytest.raises(ConfigError, match="inside"):
        rl.linearize(transformer()[0], rand(20, 5, 8), blocks=["encoder", "encoder.layers.0"])


def test_a_block_that_runs_twice_is_refused():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 4)

        def forward(self, x):
            return self.a(torch.tanh(self.a(x)))

    with pytest.raises(StructureError, match="2 times"):
        rl.linearize(Twice().double(), rand(30, 4), blocks="a")


SHAPES = [
    ((6,), (3,)),
    ((4, 6), (4, 3)),
    ((20, 12, 12), (7, 12, 12)),
    ((20, 12, 12), (7, 6, 6)),
    ((2, 4, 4), (3, 2)),
]


@pytest.mark.parametrize(("inside", "outside"), SHAPES)
def test_affine_blocks_find_their_own_kind(inside, outside):
    shapes = Shapes.between(inside, outside)
    k = shapes.features(rand(1, *inside)).shape[1]
    o = shapes.targets(rand(1, *outside)).shape[1]
    made = AffineBlock(shapes, rand(o, k, seed=3), rand(o, seed=4))
    x = rand(120, *inside)
    with torch.no_grad():
        out = made(x)
        assert out.shape == (120, *outside)
        moments = MapMoments(shapes)
        for rows in x.split(50):
            moments.add(rows, made(rows))
        again = module_of(moments.fitted("affine"), shapes, torch.zeros(()).double())
        assert torch.allclose(again(x), out, atol=1e-8)
        assert moments.score().r2 == pytest.approx(1)
        low = AffineBlock(shapes, made.factors[0].detach(), made.bias.detach(), rank=min(o, k) - 1)
        assert low(x).shape == out.shape

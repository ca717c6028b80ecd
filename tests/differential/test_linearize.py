"""linearize against least squares by hand: its numbers are those of held-out rows."""

import pytest
import torch
from torch import nn

import rectilinear as rl
from makers_data import rand
from rectilinear.errors import ConfigError, InputError, StructureError
from rectilinear.networks.batches import Batch, read_batches
from rectilinear.networks.data import HeldOut, repeated
from rectilinear.networks.sample_split import SampleSplit


def held_out(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The mask of the samples that linearize holds out."""
    return SampleSplit.of(read_batches(x, model), seed=0)(Batch((x,)))


def r2(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return 1 - float((found - wanted).square().sum() / (wanted - wanted.mean(0)).square().sum())


class Residual(nn.Module):
    """A stream that a block hardly changes, and by a map of high rank."""

    def __init__(self, width: int = 16, size: float = 0.2) -> None:
        super().__init__()
        self.size = size
        self.f = nn.Sequential(nn.Linear(width, 40), nn.GELU(), nn.Linear(40, width))

    def forward(self, x):
        return x + self.size * self.f(x)


def stream() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 16), Residual(), Residual(), nn.Linear(16, 3)).double()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("rank", [1, 4, 12, 16, None])
def test_every_number_is_of_what_is_put_in(rank, scale):
    model, x = stream(), scale * rand(400, 16)
    found = rl.linearize(model, x, x[:, :3].clone(), blocks=["1"], rank=rank)
    held = held_out(model, x)
    test = x[held]
    with torch.no_grad():
        inside = model[0](test)
        assert found.blocks[0].r2 == pytest.approx(
            r2(found.model[1](inside), model[1](inside)), abs=1e-9
        )
        assert found.output_r2 == pytest.approx(r2(found.model(test), model(test)), abs=1e-9)
        loss = (found.model(test) - test[:, :3]).square().sum(1).mean() / 2
    assert found.loss_after == pytest.approx(float(loss))
    assert found.held_out == int(held.sum())


def test_a_full_map_is_least_squares_on_the_other_rows():
    model, x = stream(), rand(300, 16)
    found = rl.linearize(model, x, blocks=["1"], form="affine")
    rows = x[~held_out(model, x)]
    with torch.no_grad():
        inside = model[0](rows)
        ones = torch.ones(len(rows), 1, dtype=torch.float64)
        best = torch.linalg.lstsq(torch.cat([inside, ones], 1), model[1](inside)).solution
        assert torch.allclose(
            found.model[1](inside), torch.cat([inside, ones], 1) @ best, atol=1e-9
        )


@pytest.mark.parametrize("rank", [1, 2, 4, 8])
def test_low_rank_keeps_the_stream(rank):
    """Deleting the block is the identity with a map of rank zero: a stand-in is nearer than that."""
    model, x = stream(), rand(2000, 16)
    found = rl.linearize(model, x, blocks=["1", "2"], rank=rank)
    test = x[held_out(model, x)]
    with torch.no_grad():
        deleted = r2(model[3](model[0](test)), model(test))
    assert found.output_r2 >= deleted
    assert all(block.form.startswith("identity + ") for block in found.blocks)
    more = rl.linearize(model, x, blocks=["1", "2"], rank=rank + 1)
    assert more.blocks[0].r2 >= found.blocks[0].r2 - 1e-3


def test_the_rank_decides():
    model, x = stream(), rand(1000, 16)
    scores = [
        rl.linearize(model, x, blocks=["0"], rank=rank).blocks[0].r2 for rank in (1, 4, 8, 15, 16)
    ]
    assert scores == sorted(scores)
    assert scores[0] < 0.5
    assert scores[-1] == pytest.approx(1)


@pytest.mark.parametrize("rank", [2, None])
@pytest.mark.parametrize("shape", [(16,), (5, 16), (20, 8, 8)])
def test_identity_and_low_rank_for_every_form(shape, rank):
    """Blocks that are the identity plus a map of rank two are found exactly."""
    u, v = (
        rand(shape[-1] if len(shape) < 3 else shape[0], 2, seed=1),
        rand(2, shape[-1] if len(shape) < 3 else shape[0]),
    )

    class Block(nn.Module):
        def forward(self, x):
            moved = x.movedim(1, -1) if len(shape) == 3 else x
            out = moved + moved @ v.T @ u.T / 10 + 1
            return out.movedim(-1, 1) if len(shape) == 3 else out

    model = nn.Sequential(Block(), nn.Flatten(), nn.Linear(torch.Size(shape).numel(), 2)).double()
    form = "auto" if rank else "affine"
    found = rl.linearize(model, rand(120, *shape), blocks="0", rank=rank, form=form)
    assert found.blocks[0].r2 == pytest.approx(1, abs=1e-9)
    assert found.output_r2 == pytest.approx(1, abs=1e-9)
    assert found.blocks[0].form.startswith("identity") == (rank is not None)


def test_nothing_grows_without_being_asked():
    torch.manual_seed(0)
    layers = (nn.Linear(6, 30), nn.PReLU(30), nn.Linear(30, 6), Residual(6), nn.Linear(6, 2))
    model, x = nn.Sequential(*layers).double(), rand(300, 6)
    found = rl.linearize(model, x, blocks="all")
    assert found.parameters_after < found.parameters_before
    assert [kept.name for kept in found.kept] == ["1"], "a scale and a shift have 60 parameters"
    assert "930 parameters for a block of 30" in found.kept[0].reason
    assert "1 (PReLU) kept" in str(found)
    larger = rl.linearize(model, x, blocks="all", enlarge=True)
    assert not larger.kept
    named = rl.linearize(model, x, blocks="1", form="affine")
    assert (named.blocks[0].parameters_before, named.blocks[0].parameters_after) == (30, 930)
    assert "parameters 30 -> 930" in str(named)
    assert "(larger)" in str(named)
    assert sum(p.numel() for p in named.model.parameters()) == named.parameters_after


@pytest.mark.parametrize("rank", [20, 29])
def test_a_rank_is_not_stored_larger_than_the_matrix(rank):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 30), nn.Tanh(), nn.Linear(30, 2)).double()
    found = rl.linearize(model, rand(300, 6), blocks="1", rank=rank)
    assert found.blocks[0].parameters_after == 930


def test_rows_that_repeat_are_on_one_side():
    x = rand(40, 3).repeat(5, 1)
    held = HeldOut.of(x, seed=1)(x)
    assert int(held.sum()) == 50
    assert all(torch.equal(held[:40], part) for part in held.split(40))
    assert torch.equal(HeldOut.of(-0.0 * x[:, :1] + x, seed=1)(x), held)
    assert not repeated(x[held], x[~held]).any()
    for rows in (rand(1, 4), rand(3, 4).repeat(100, 1)):
        with pytest.raises(InputError, match="distinct"):
            rl.linearize(
                nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)).double(),
                rows,
                blocks="1",
            )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_held_out_rows_do_not_depend_on_the_order_or_the_batches(dtype):
    x = rand(500, 7).to(dtype)
    held = HeldOut.of(x, seed=0)
    order = torch.randperm(500)
    assert torch.equal(held(x)[order], held(x[order]))
    assert torch.equal(torch.cat([held(part) for part in x.split(33)]), held(x))
    assert 100 <= int(held(x).sum()) <= 150


def test_shuffled_batches_do_not_leak():
    """Overfitting shows: 60 rows of 40 numbers, whose labels are noise to a linear map."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(40, 40), nn.Sequential(nn.Linear(40, 200), nn.Tanh(), nn.Linear(200, 40))
    )
    model, x = model.double(), rand(60, 40)
    with torch.no_grad():
        model[1][0].weight *= 10
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x), batch_size=7, shuffle=True
    )
    for data in (x, loader):
        assert rl.linearize(model, data, blocks="1").blocks[0].r2 < 0.5


class Head(nn.Module):
    """A classifier of two classes; ``squeeze()`` also takes a batch of one away."""

    def __init__(self, axis):
        super().__init__()
        self.body, self.act, self.out, self.axis = nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, 1), axis

    def forward(self, x):
        out = self.out(self.act(self.body(x)))
        return out.squeeze() if self.axis is None else out.squeeze(self.axis)


class Squeeze(nn.Module):
    def forward(self, x):
        return x.squeeze(-1)


@pytest.mark.parametrize("n", [8, 257, 1025])
@pytest.mark.parametrize("axis", [-1, 1, None])
def test_heads_that_end_in_a_squeeze(axis, n):
    torch.manual_seed(0)
    model, x = Head(axis).double(), rand(n, 5)
    found = rl.linearize(model, x, (x[:, 0] > 0).long(), blocks=["act", "out"])
    assert found.model(x).shape == (n,)
    assert rl.local_map(model, x[0]).svd(1).s.shape == (1,)
    if n < 1000:
        assert rl.audit(model, x).verdict.label


def test_a_squeeze_is_a_block():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 1), Squeeze()).double()
    assert rl.linearize(model, rand(300, 5), blocks="3").output_r2 == pytest.approx(1)
    assert rl.audit(model, rand(300, 5)).measures["blocks"].applies


@pytest.mark.parametrize("verb", ["audit", "linearize", "split", "local_map", "predict"])
def test_one_clear_line(verb):
    def net(first, device="cpu"):
        return nn.Sequential(first, nn.ReLU(), nn.Linear(6, 1, bias=False, device=device))

    calls = {
        "audit": lambda m, x: rl.audit(m, x),
        "linearize": lambda m, x: rl.linearize(m, x, blocks="1"),
        "split": lambda m, x: rl.split(m, x),
        "local_map": lambda m, x: rl.local_map(m, x[0]),
        "predict": lambda m, x: rl.predict(m, x, x[:, :1], lr=0.1, steps=5),
    }
    x = torch.randn(50, 4)
    x = torch.cat([x, -x])
    plain = net(nn.Linear(4, 6, bias=False))
    for model, rows in (
        (net(nn.LazyLinear(6, bias=False)), x),
        (net(nn.Linear(4, 6, bias=False, device="meta"), "meta"), x),
        (plain, x.to("meta")),
    ):
        with pytest.raises(InputError, match=r"lazy|Lazy|meta"):
            calls[verb](model, rows)
    scripted = torch.jit.script(plain)
    if verb == "linearize":
        with pytest.raises(StructureError, match="ScriptModule"):
            calls[verb](scripted, x)
    elif verb == "predict":
        with pytest.raises(InputError):
            calls[verb](scripted, x)
    else:
        calls[verb](scripted, x)


def test_names_of_blocks_are_checked_in_every_verb():
    model, x = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)).double(), rand(50, 4)
    for blocks in (["7"], "7", [""]):
        with pytest.raises(ConfigError, match="no block named"):
            rl.audit(model, x, blocks=blocks)
    assert len(rl.audit(model, x, blocks=["1"]).measures["blocks"].details["blocks"]) == 1


def test_a_network_that_reads_the_weight_of_a_block_is_refused():
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.b(self.a(x).relu() + x @ self.a.weight)

    for rank in (2, 1):
        with pytest.raises(StructureError, match="reads more"):
            rl.linearize(Reads().double(), rand(100, 4), blocks="a", rank=rank)

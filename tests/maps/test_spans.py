"""Spans of blocks: named, replaced by one map, and folded into a smaller network."""

import pytest
import torch
from torch import nn

import rectilinear as rl
from makers_data import rand
from rectilinear.errors import ConfigError, StructureError
from rectilinear.maps.spans import main_list, span_of, spans_within


class Block(nn.Module):
    """A pre-norm residual block that answers a tuple and is called by keyword."""

    def __init__(self, width=6, as_tuple=False):
        super().__init__()
        self.norm, self.up = nn.LayerNorm(width), nn.Linear(width, 24)
        self.down, self.as_tuple = nn.Linear(24, width), as_tuple

    def forward(self, hidden_states, scale=1.0):
        out = hidden_states + scale * self.down(self.up(self.norm(hidden_states)).tanh())
        return (out, None) if self.as_tuple else out


class Net(nn.Module):
    def __init__(self, depth=5, as_tuple=False):
        super().__init__()
        torch.manual_seed(0)
        self.num_layers, self.body = depth, nn.ModuleList(Block(6, as_tuple) for _ in range(depth))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        for block in self.body:
            x = block(hidden_states=x, scale=1.0)
            x = x if isinstance(x, torch.Tensor) else x[0]
        return self.head(x)


def net(**options):
    return Net(**options).double().eval()


def test_names_of_spans():
    model = nn.ModuleDict({"a": net(), "b": nn.Linear(2, 2)})
    assert main_list(model) == "a.body"
    assert span_of(model, "body.1:body.3").names == ("a.body.1", "a.body.2")
    assert str(span_of(model, "a.body.1:3")) == "a.body.1:a.body.3"
    assert span_of(model, "body.3:").names == ("a.body.3", "a.body.4")
    assert span_of(model, "body.3:body.5").names == ("a.body.3", "a.body.4")
    assert span_of(model, ":body.2").names == ("a.body.0", "a.body.1")
    assert span_of(model, ":body.2").before is None
    assert len(list(spans_within(model))) == 15
    for wrong in ("body.3:body.3", "body.3:body.1", ":", "b:", "body.9:", "body.1:body.9", "b:a"):
        with pytest.raises(ConfigError):
            span_of(model, wrong)
    with pytest.raises(ConfigError, match=r"End the span with a block of 'a\.body'"):
        span_of(nn.ModuleDict({"a": net(), "c": net()}), "a.body.1:c.body.3")


@pytest.mark.parametrize("as_tuple", [False, True])
def test_a_span_becomes_one_map(as_tuple):
    model, x = net(as_tuple=as_tuple), rand(300, 6)
    found = rl.linearize(model, x, blocks="body.1:body.4")
    assert found.blocks[0].name == "body.1:body.4"
    assert found.blocks[0].parameters_before == 3 * sum(p.numel() for p in Block().parameters())
    assert found.parameters_after < found.parameters_before
    assert found.flops_after < found.flops_before
    assert 0.5 < found.blocks[0].r2 < 1
    assert 0.5 < found.output_r2 < 1
    with torch.no_grad():
        h = x
        for block in model.body[:1]:
            h = block(h)[0] if as_tuple else block(h)
        made = found.model.body[1](hidden_states=h)
        made = made[0] if as_tuple else made
        after = model.body[4](made)
        assert torch.allclose(found.model(x), model.head(after[0] if as_tuple else after))


@pytest.mark.parametrize("as_tuple", [False, True])
def test_a_fold_takes_the_blocks_out(as_tuple):
    model, x = net(as_tuple=as_tuple), rand(300, 6)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = rl.linearize(model, x, torch.arange(300) % 3, blocks="body.2:body.4", fold=True)
    assert [len(found.model.body), found.model.num_layers] == [3, 3]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    size = sum(p.numel() for p in Block().parameters())
    assert found.parameters_after == found.parameters_before - 2 * size
    assert "folded into body.1.down (pre-norm)" in str(found)
    deleted = net(as_tuple=as_tuple)
    del deleted.body[2:4]
    with torch.no_grad():
        wanted, out, without = (f(x) for f in (model, found.model, deleted))
    assert (out - wanted).square().sum() < (without - wanted).square().sum()
    assert found.stock is None
    assert found.loss_after > 0


def test_spans_that_are_a_shift_fold_exactly():
    """A block that adds a constant is affine in what the layer in front adds to the stream."""
    model, x = net(), rand(200, 6)
    with torch.no_grad():
        for block in model.body[1:3]:
            block.down.weight.zero_()
    found = rl.linearize(model, x, blocks="body.1:body.3", fold=True)
    assert len(found.model.body) == 3
    assert torch.allclose(found.model(x), model(x), atol=1e-10)
    assert found.output_r2 == pytest.approx(1, abs=1e-12)


def test_linear_layers_fold_exactly():
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(5, 5) for _ in range(5)], nn.ReLU()).double()
    found = rl.linearize(model, rand(100, 5), blocks="1:4", fold=True)
    assert len(found.model) == 3
    assert torch.allclose(found.model(rand(9, 5, seed=1)), model(rand(9, 5, seed=1)), atol=1e-10)


class Skips(Net):
    """The head also reads the third block's output."""

    def forward(self, x):
        kept = x
        for i, block in enumerate(self.body):
            x = block(x)
            kept = x if i == 2 else kept
        return self.head(x) + self.head(kept.tanh())


def test_what_cannot_be_folded():
    model, x = net(), rand(100, 6)
    with pytest.raises(StructureError, match="in front of it"):
        rl.linearize(model, x, blocks=":body.2", fold=True)
    with pytest.raises(StructureError, match="reads more"):
        rl.linearize(Skips().double().eval(), x, blocks="body.2:body.4", fold=True)
    with pytest.raises(ConfigError, match="one span"):
        rl.linearize(model, x, blocks=["body.1", "body.3"], fold=True)
    with pytest.raises(ConfigError, match="form"):
        rl.linearize(model, x, blocks="body.1", form="dense")
    shared = net()
    shared.body[1].down = shared.body[3].down
    with pytest.raises(StructureError, match="shared"):
        rl.linearize(shared, x, blocks="body.2:body.3", fold=True)
    widens = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 9), nn.Linear(9, 3)).double()
    with pytest.raises(StructureError, match="one shape"):
        rl.linearize(widens, x, blocks="1:2", fold=True)


def test_post_norm_fold():
    class Post(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.down, self.norm = nn.Linear(6, 24), nn.Linear(24, 6), nn.LayerNorm(6)

        def forward(self, x):
            return self.norm(x + self.down(self.up(x).tanh()))

    torch.manual_seed(0)
    model = nn.Sequential(*[Post() for _ in range(4)]).double()
    x = rand(300, 6)
    found = rl.linearize(model, x, blocks="2:3", fold=True)
    assert "folded into 1.down (post-norm)" in str(found)
    deleted = nn.Sequential(*model[:2], model[3])
    left = (found.model(x) - model(x)).square().sum()
    assert left < 0.5 * (deleted(x) - model(x)).square().sum()
    with torch.no_grad():  # a normalisation of what is normalised is the identity
        model[2].down.weight.zero_(), model[2].down.bias.zero_()
    exact = rl.linearize(model, x, blocks="2:3", fold=True)
    assert torch.allclose(exact.model(x), model(x), atol=1e-4)


def test_the_search_knows_the_cheapest_span():
    model, x = net(), rand(400, 6)
    with torch.no_grad():
        for i, size in enumerate((3.0, 3.0, 0.01, 0.02, 3.0)):
            model.body[i].down.weight.mul_(size), model.body[i].down.bias.mul_(size)
    found = rl.span_costs(model, x, lengths=(1, 2), progress=False)
    assert [found.best(1).name, found.best(2).name] == ["body.2:body.3", "body.2:body.4"]
    assert [span.length for span in found.curve()] == [1, 2]
    assert found.within(0.1).name == "body.2:body.4"
    assert found.within(-1.0) is None
    assert found.reference == pytest.approx(1)
    for span in found.spans:
        assert span.value > span.deleted
    assert "body.2:body.4" in str(found)
    assert len(found.spans) == 9
    folds = rl.span_costs(model, x, lengths=(1,), fold=True, progress=False)
    assert [span.name for span in folds.spans] == [f"body.{i}:body.{i + 1}" for i in (1, 2, 3)] + [
        "body.4:"
    ]


def test_the_measures_of_the_search():
    model, x, y = net(), rand(200, 6), torch.arange(200) % 3
    by_loss = rl.span_costs(model, x, y, lengths=(1,), progress=False)
    assert by_loss.by == "loss"
    best = by_loss.best(1)
    assert best.value == min(span.value for span in by_loss.spans)
    assert by_loss.within(best.value - by_loss.reference + 1e-9).value == best.value
    alike = rl.span_costs(model, x, lengths=(1,), by="agreement", progress=False)
    assert alike.reference == 1
    assert 0 <= alike.best(1).value <= 1
    near = rl.span_costs(model, x, lengths=(1,), score=lambda a, b: -(a - b).norm(), progress=False)
    assert near.by == "score"
    assert near.best(1).value < 0
    for wrong, said in (
        ({"by": "size"}, "one of 'r2'"),
        ({"by": "score"}, "Pass score="),
        ({"by": "loss"}, "Pass y, or use by='r2'"),
        ({"lengths": (9,)}, "Use lengths from 1 to 4"),
    ):
        with pytest.raises(ConfigError, match=said):
            rl.span_costs(model, x, **({"lengths": (1,)} | wrong), progress=False)
    with pytest.raises(ConfigError, match="length = 4"):
        by_loss.best(4)
    with pytest.raises(StructureError, match="list of blocks"):
        rl.span_costs(nn.Linear(6, 3).double(), x)


def test_all_blocks_of_a_model_of_ids_keeps_its_embeddings():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 3))
    found = rl.linearize(model, torch.arange(400).reshape(80, 5) % 50, blocks="all", enlarge=True)
    assert [block.module for block in found.blocks] == ["GELU"]
    assert [kept.name for kept in found.kept] == ["0"]
    assert "no floating-point tensor" in found.kept[0].reason

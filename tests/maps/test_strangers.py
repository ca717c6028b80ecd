"""Habits of other models: shared layers, attributes read of a block, keywords, subclasses."""

import copy

import pytest
import torch
from torch import nn

import rectilinear as rl
from makers_data import rand
from rectilinear.errors import StructureError
from rectilinear.maps.layer_profile import stack_of
from rectilinear.maps.network_costs import r2
from rectilinear.networks.places import block_names


class FalconLinear(nn.Linear):
    """A subclass that computes the same."""

    def forward(self, x):
        out = x @ self.weight.T
        return out if self.bias is None else out + self.bias


class Block(nn.Module):
    """A residual block; ``kind`` is read by the network, and ``shift`` is a parameter of it."""

    def __init__(self, d=6, linear=nn.Linear, behind=False):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(d), nn.Linear(d, 2 * d), linear(2 * d, d)
        self.behind = nn.LayerNorm(d) if behind else nn.Identity()
        self.kind = "full"

    def forward(self, h, shift=None):
        h = h if shift is None else h + shift
        return h + self.behind(self.down(self.up(self.norm(h)).tanh()))


class Net(nn.Module):
    def __init__(self, depth=3, shared=False, **options):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.shift = nn.Linear(4, 6), nn.Parameter(torch.randn(6))
        blocks = [Block(**options) for _ in range(1 if shared else depth)]
        self.layers, self.times = nn.ModuleList(blocks), depth if shared else 1

    def forward(self, x):
        h = self.first(x)
        for layer in [*self.layers] * self.times:
            h = layer(h, self.shift) if layer.kind == "full" else h
        return h


def net(**options):
    return Net(**options).double().eval()


def test_facts_that_the_network_reads_of_a_block():
    """Gemma, Qwen and ModernBERT choose a mask by an attribute of the layer."""
    found = rl.linearize(net(), rand(300, 4), blocks=["layers.1"], progress=False)
    assert found.output_r2 > 0.9
    assert found.model.layers[1].kind == "full"


def test_operations_of_a_network_that_hands_on_a_parameter():
    """DeBERTa gives its layers a parameter, which torch's counter stumbles over."""
    found = rl.linearize(net(), rand(300, 4), blocks=["layers.1"], progress=False)
    assert found.flops_after < found.flops_before
    assert rl.fuse(net(), rand(20, 4), report=True).flops[0] > 0


def test_a_layer_that_runs_several_times():
    """ALBERT's layers are one: each of its calls is a layer of the profile."""
    x = rand(200, 5, 4)
    found = rl.layer_profile(net(shared=True), x, samples=4, progress=False)
    assert list(found.maps) == ["layers.0#0@input", "layers.0#0", "layers.0#1"]
    assert found.target == "layers.0#2"
    several = rl.layer_profile(net(shared=False), x, samples=4, progress=False)
    assert list(several.maps) == ["layers.0@input", "layers.0", "layers.1"]


def test_an_encoder_and_a_decoder_are_two_stacks():
    model = nn.Transformer(8, 2, 2, 3, 16, batch_first=True)
    assert stack_of(model) == [f"decoder.layers.{i}" for i in range(3)]
    model = nn.Transformer(8, 2, 2, 2, 16, batch_first=True)
    assert stack_of(model) == ["encoder.layers.0", "encoder.layers.1"]


def test_a_block_that_lists_its_parts_is_one_block():
    """T5 keeps attention and MLP of a block in a list; stages of Swin list equal blocks."""

    def block():
        return nn.ModuleDict({"layer": nn.ModuleList([nn.LayerNorm(4), nn.Linear(4, 4)])})

    def stage():
        return nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])})

    class Holder(nn.Module):
        def __init__(self, parts):
            super().__init__()
            for name, part in parts.items():
                setattr(self, name, part)

    blocks = nn.ModuleList([Holder(dict(block().items())) for _ in range(2)])
    stages = nn.ModuleList([Holder(dict(stage().items())) for _ in range(2)])
    assert block_names(Holder({"block": blocks})) == ["block.0", "block.1"]
    assert block_names(Holder({"stages": stages})) == [
        f"stages.{i}.blocks.{j}" for i in range(2) for j in range(2)
    ]


class Merging(nn.Module):
    """Blocks before and after tokens are merged in pairs, as in Swin."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(Block() for _ in range(4))

    def forward(self, x):
        for i, layer in enumerate(self.layers):
            x = x.unflatten(1, (-1, 2)).mean(2) if i == 2 else x
            x = layer(x)
        return x


def test_layers_with_other_tokens_are_left_out_and_named():
    found = rl.layer_profile(Merging().double(), rand(100, 6, 6), samples=4, progress=False)
    assert list(found.maps) == ["layers.2", "layers.3"]
    assert "layers.0@input, layers.0, layers.1" in str(found)


class Keywords(nn.Module):
    """Functions called by keyword throughout, as Bloom calls ``baddbmm``."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
        self.offset = nn.Parameter(torch.randn(1, 5, 5))

    def forward(self, x):
        q, v = self.a(x), self.b(x)
        scores = torch.baddbmm(input=self.offset, batch1=q, batch2=x.mT, beta=0.5, alpha=0.3)
        weights = nn.functional.softmax(input=scores, dim=-1)
        h = nn.functional.gelu(input=torch.matmul(input=weights, other=v))
        return torch.add(input=h, other=torch.mul(input=x, other=0.5))


def test_functions_called_by_keyword_are_followed():
    found = rl.local_map(Keywords().double(), rand(5, 6), freeze=True)
    assert found.error < 1e-12
    assert "b.bias" in found.shares().biases


class Custom(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, u):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return u * (s + x * s * (1 - s))


def test_a_function_with_its_own_derivative_is_refused_by_what_it_is():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            return Custom.apply(self.layer(x))

    with pytest.raises(StructureError, match=r"autograd\.Function"):
        rl.local_map(Own().double(), rand(3), freeze=True)


def test_a_subclass_of_linear_takes_a_fold():
    model, x = net(linear=FalconLinear), rand(300, 4)
    found = rl.linearize(model, x, blocks="layers.1:layers.2", fold=True, progress=False)
    assert found.output_r2 > 0.9
    assert len(found.model.layers) == 2

    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    model = net(linear=Doubled)
    with pytest.raises(StructureError, match="no linear layer"):
        rl.linearize(model, x, blocks="layers.1:layers.2", fold=True, progress=False)


def test_the_search_for_a_fold_leaves_out_what_cannot_be_folded():
    """Gemma 2 normalises what it adds, so that no layer in front takes a map in."""
    x = rand(300, 4)
    with pytest.raises(StructureError, match="no linear layer"):
        rl.span_costs(net(behind=True), x, fold=True, progress=False)
    model = net(depth=4)
    model.layers[1].behind = nn.LayerNorm(6).double()
    found = rl.span_costs(model, x, lengths=(1,), fold=True, progress=False)
    assert [s.name for s in found.spans] == ["layers.1:layers.2", "layers.3:"]


def test_results_print_what_they_are():
    A = rl.local_map(net(), rand(4), freeze=True)
    assert str(A).startswith("LocalMap: 6 x 4, Net, gates held, f = J x + biases to ")
    inside = rl.local_map(net(), rand(1, 5, 4), source="layers.0", target="layers.2")
    assert str(inside) == "LocalMap: 30 x 30, Net from layers.0 to layers.2"
    costs = rl.span_costs(net(), rand(300, 4), progress=False)
    assert "with a map in place" in str(costs.best(1))
    assert costs.best(1).name in str(costs)


@pytest.mark.skipif(not hasattr(torch, "_grouped_mm"), reason="a torch without grouped products")
def test_experts_are_followed():
    """Mixtral multiplies the tokens of all experts in one call."""

    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.up, self.down = (nn.Parameter(torch.randn(2, 8, 8)) for _ in range(2))

        def forward(self, x):
            ends = torch.tensor([len(x), 2 * len(x)], dtype=torch.int32)
            h = torch._grouped_mm(torch.cat([x, x]), self.up, offs=ends)
            h = torch._grouped_mm(nn.functional.silu(h), self.down, offs=ends)
            return h[: len(x)] + 0.5 * h[len(x) :]

    x = torch.randn(8, generator=torch.Generator().manual_seed(0))
    found = rl.local_map(Experts(), x, freeze=True)
    assert found.error < 1e-5
    torch.testing.assert_close(found(x), Experts()(x[None])[0], rtol=1e-4, atol=1e-4)


def test_stages_side_by_side_are_one_stack():
    """A ResNet keeps its stages as ``layer1`` to ``layer4``, each a sequence of equal blocks."""

    def stage():
        return nn.Sequential(*[Block(4) for _ in range(2)])

    class Staged(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer1, self.layer2, self.head = stage(), stage(), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.layer2(self.layer1(x)))

    names = ["layer1.0", "layer1.1", "layer2.0", "layer2.1"]
    assert stack_of(Staged()) == names
    found = rl.layer_profile(Staged(), torch.randn(100, 4), samples=4, progress=False)
    assert (list(found.maps)[1:], found.target) == (names[:-1], "layer2.1")


class Windows(nn.Module):
    """A residual block on images whose channels come last, as in a Swin transformer."""

    def __init__(self, d=6):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(d), nn.Linear(d, 12), nn.Linear(12, d)

    def forward(self, h):
        flat = h.flatten(1, 2)
        return h + self.down(self.up(self.norm(flat)).tanh()).view_as(h)


class ChannelsLast(nn.Module):
    """Two stages of such blocks behind a convolution of patches."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 6, 2, 2)
        stages = (nn.Sequential(*[Windows() for _ in range(n)]) for n in (2, 3))
        self.layers, self.act = nn.Sequential(*stages), nn.Identity()
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        h = self.layers(self.patches(x).permute(0, 2, 3, 1))
        return self.head(self.act(h).mean((1, 2)))


def test_channels_that_come_last():
    """The axis of the channels is read off the widths of the layers, not off their number."""
    model, x = ChannelsLast().double().eval(), rand(60, 3, 8, 8)
    for source in ("patches", "layers.1.0", "act"):
        A = rl.linear_map(model, source, "@output", x, progress=False)
        assert A.weight.shape == (4, 6)
    assert rl.linear_map(model, "act", "@output", x, progress=False).r2 > 1 - 1e-6
    for method in ("mean_jacobian", "frozen_jacobian"):
        made = rl.linear_map(model, "act", "@output", x, method=method, samples=4, progress=False)
        head = model.head.weight.detach()
        assert torch.allclose(made.weight / made.weight.norm(), head / head.norm(), atol=1e-8)
    found = rl.linearize(model, x, blocks="layers.1.1", progress=False)
    assert (found.blocks[0].acts_on, found.blocks[0].r2 > 0.9) == ("tokens", True)


def test_blocks_inside_of_stages_are_the_spans():
    model, x = ChannelsLast().double().eval(), rand(60, 3, 8, 8)
    costs = rl.span_costs(model, x, lengths=(1,), fold=True, progress=False)
    second = {"layers.1.1:layers.1.2", "layers.1.2:"}
    assert {span.name for span in costs.spans} == {"layers.0.1:", *second}
    of_one = rl.span_costs(model, x, lengths=(1,), container="layers.1", fold=True, progress=False)
    alike = [span for span in costs.spans if span.name in second]
    assert [s.value for s in of_one.spans] == pytest.approx([s.value for s in alike])
    smaller = rl.linearize(model, x, blocks=of_one.best(1).name, fold=True, progress=False)
    assert len(smaller.model.layers[1]) == 2
    assert smaller.output_r2 > 0.5


def test_channels_of_signals_come_first():
    torch.manual_seed(0)
    layers = [nn.Conv1d(2, 5, 3, padding=1), nn.ReLU(), nn.Conv1d(5, 4, 1)]
    net = nn.Sequential(*layers).double()
    A = rl.linear_map(net, "1", "2", rand(80, 2, 9), progress=False)
    assert torch.allclose(A.weight, layers[2].weight[..., 0].detach(), atol=1e-8)


def test_a_block_on_signals_is_replaced_by_a_convolution():
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv1d(5, 5, 1, bias=False), nn.Conv1d(5, 4, 3, 2, padding=1))
    net = nn.Sequential(nn.Conv1d(2, 5, 3, padding=1), nn.ReLU(), block).double()
    found = rl.linearize(net, rand(80, 2, 30), blocks="2", form="affine", progress=False)
    fresh = rand(3, 2, 30, seed=1)
    assert torch.allclose(found.model(fresh), net(fresh), atol=1e-9)
    assert (found.blocks[0].acts_on, found.blocks[0].parameters_after) == ("convolution", 64)


class TwoStacks(nn.Module):
    """Blocks on images of two sizes, and blocks on tokens behind them, read by two queries."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        kinds = (nn.Conv2d(3, 6, 2, 2), nn.Conv2d(6, 6, 2, 2), nn.Conv2d(6, 6, 1))
        self.stages = nn.ModuleList([nn.Sequential(conv, nn.ReLU()) for conv in kinds])
        self.layers = nn.ModuleList([Block(6), Block(6)])
        self.queries = nn.Linear(4, 2)

    def forward(self, x):
        for stage in self.stages:
            x = stage(x)
        h = x.flatten(2).mT
        for layer in self.layers:
            h = layer(h)
        return self.queries(h.mT).mT


def test_a_stack_that_does_not_reach_the_end_is_passed_over():
    """DETR: no layer of the backbone has as many vectors as there are boxes."""
    found = rl.layer_profile(
        TwoStacks().double(), rand(60, 3, 8, 8), methods=["least_squares"], progress=False
    )
    assert (list(found.maps), found.target) == (["layers.0@input", "layers.0"], "layers.1")


def test_a_profile_of_a_network_with_one_number_a_sample():
    class Scalar(Net):
        def forward(self, x):
            return super().forward(x).sum(-1)

    model = Scalar().double().eval()
    found = rl.layer_profile(model, rand(60, 4), methods=["least_squares"], progress=False)
    assert found.target == "layers.2"


class LayerScaled(nn.Module):
    """A residual block on images with a scale of each channel, as in ConvNeXt."""

    def __init__(self, d=6, scale=1.0):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(d, d, 3, padding=1, groups=d), nn.LayerNorm(d)
        self.up, self.down = nn.Linear(d, 12), nn.Linear(12, d)
        self.gamma = nn.Parameter(scale * torch.linspace(-1, 2, d))

    def forward(self, h):
        change = self.norm(self.conv(h).permute(0, 2, 3, 1))
        change = self.gamma * self.down(self.up(change).tanh())
        return h + change.permute(0, 3, 1, 2)


@pytest.mark.parametrize("scale", [1.0, 1e-4])
def test_spans_fold_behind_a_scale_of_the_channels(scale):
    """As where the scale is part of the layer's weights."""
    torch.manual_seed(0)
    stages = nn.Sequential(*[LayerScaled(scale=scale) for _ in range(3)])
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    model = nn.Sequential(nn.Conv2d(3, 6, 2, 2), stages, head).double().eval()
    merged = copy.deepcopy(model)
    for block in merged[1]:
        block.down.weight.data *= block.gamma.data[:, None]
        block.down.bias.data *= block.gamma.data
        block.gamma.data[:] = 1
    x = rand(60, 3, 8, 8)
    assert torch.allclose(model(x), merged(x))
    a, b = (
        rl.linearize(net, x, blocks="1.1", fold=True, progress=False) for net in (model, merged)
    )
    assert torch.allclose(a.model(x), b.model(x), atol=1e-7 * scale)
    deleted = copy.deepcopy(model)
    deleted[1][1] = nn.Identity()
    with torch.no_grad():
        assert a.output_r2 > r2(deleted(x), model(x))

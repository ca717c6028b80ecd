"""Consecutive linear layers folded into one, exactly."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from rectilinear.audit.network import check_module, uncompiled

if TYPE_CHECKING:
    from torch import Tensor

Place = tuple[nn.Module, str]


def fuse(model: nn.Module) -> nn.Module:
    """A copy of the model, in evaluation mode, with consecutive linear layers folded into one: the same function.

    Folded are linear into linear layers, batch normalisation into the linear layer or convolution before it (or the
    linear layer after it), and 1 x 1 convolutions into the convolution before; what does nothing in evaluation mode
    (dropout, a leaky ReLU of slope one) is passed over. A folded layer leaves ``nn.Identity`` behind: names stay.
    Products are taken in float64, and only where the result has no more numbers than the two layers.

    The order of the layers is read off the model's graph, where ``torch.fx`` can follow it, else off its sequences.

    Raises:
        DtypeError, InputError: if the model is no module, or has no parameters.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2), nn.ReLU(), nn.Linear(2, 3)).eval()
        >>> fused, x = fuse(net), torch.randn(5, 4)
        >>> fused[0], fused[1], torch.allclose(fused(x), net(x), atol=1e-6)
        (Linear(in_features=4, out_features=2, bias=True), Identity(), True)
    """
    check_module(model)
    copy = deepcopy(uncompiled(model)).eval()
    while any(_fold(copy, first, second) for first, second in _neighbours(copy)):
        pass
    return copy


def _neighbours(model: nn.Module) -> list[tuple[str, str]]:
    """Names of modules of which the second sees the output of the first and nothing else does."""
    try:
        graph = fx.Tracer().trace(model)
    except (TypeError, ValueError, NameError, AttributeError, RuntimeError, AssertionError):  # control flow: fx is lost
        return _in_sequences(model)
    calls: dict[str, int] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            calls[node.target] = calls.get(node.target, 0) + 1
    pairs = []
    for node in graph.nodes:
        if node.op != "call_module" or calls[node.target] > 1 or _does_nothing(model.get_submodule(node.target)):
            continue
        source = node.args[0] if node.args else None
        while (
            isinstance(source, fx.Node)
            and source.op == "call_module"
            and len(source.users) == 1
            and _does_nothing(model.get_submodule(str(source.target)))
        ):
            source = source.args[0] if source.args else None
        if (
            isinstance(source, fx.Node)
            and source.op == "call_module"
            and len(source.users) == 1
            and calls[str(source.target)] == 1
        ):
            pairs.append((str(source.target), str(node.target)))
    return pairs


def _in_sequences(model: nn.Module) -> list[tuple[str, str]]:
    shared = [id(m) for m in model.modules()]
    pairs = []
    for name, sequence in model.named_modules():
        if type(sequence) is nn.Sequential:
            prefix = f"{name}." if name else ""
            live = [f"{prefix}{i}" for i, part in sequence.named_children() if not _does_nothing(part)]
            pairs += [(a, b) for a, b in pairwise(live) if shared.count(id(model.get_submodule(a))) == 1]
    return pairs


def _does_nothing(module: nn.Module) -> bool:
    dropout = nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d | nn.AlphaDropout | nn.Identity
    return isinstance(module, dropout) or (isinstance(module, nn.LeakyReLU) and module.negative_slope == 1)


def _fold(model: nn.Module, first: str, second: str) -> bool:
    """Replace the pair by one layer and an identity, where there is a rule for it."""
    a, b = model.get_submodule(first), model.get_submodule(second)
    one = _folded(a, b)
    if one is None:
        return False
    _put(model, first, one)
    _put(model, second, nn.Identity())
    return True


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module.eval())


def _folded(a: nn.Module, b: nn.Module) -> nn.Module | None:
    if any(module._forward_hooks or module._forward_pre_hooks for module in (a, b)):
        return None  # what is hooked, such as a parametrised layer, is more than its weights
    norms = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
    convolutions = nn.Conv1d | nn.Conv2d | nn.Conv3d
    if isinstance(b, norms) and b.track_running_stats:
        if type(a) is nn.Linear and isinstance(b, nn.BatchNorm1d):
            return fuse_linear_bn_eval(deepcopy(a).double(), deepcopy(b).double()).to(a.weight)
        return (
            fuse_conv_bn_eval(deepcopy(a).double(), deepcopy(b).double()).to(a.weight)
            if isinstance(a, convolutions)
            else None
        )
    if type(b) is nn.Linear:
        if type(a) is nn.Linear and a.in_features * b.out_features <= a.weight.numel() + b.weight.numel():
            return _linear(b.weight.double() @ a.weight.double(), _through(b.weight, a.bias, b.bias), a.weight)
        if isinstance(a, nn.BatchNorm1d) and a.track_running_stats:
            scale, shift = _scale_and_shift(a)
            weight = b.weight.double()
            return _linear(weight * scale, _through(b.weight, shift, b.bias), b.weight)
    if isinstance(a, convolutions) and type(a) is type(b) and _is_pointwise(b):
        return _convolution(a, b)
    return None


def _convolution(a: nn.Module, b: nn.Module) -> nn.Module | None:
    """A convolution and a 1 x 1 one after it: the kernels' products over the channels between."""
    assert isinstance(a, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    assert isinstance(b, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    size = b.out_channels * a.weight[0].numel()
    if a.groups != 1 or size > a.weight.numel() + b.weight.numel():
        return None
    mixing = b.weight.flatten(1)
    weight = (mixing.double() @ a.weight.flatten(1).double()).reshape(b.out_channels, *a.weight.shape[1:])
    bias = _through(mixing, a.bias, b.bias)
    one = type(a)(
        *(a.in_channels, b.out_channels, a.kernel_size),  # type: ignore[arg-type] # a tuple of the right length
        stride=a.stride,  # type: ignore[arg-type]
        padding=a.padding,  # type: ignore[arg-type]
        dilation=a.dilation,  # type: ignore[arg-type]
        padding_mode=a.padding_mode,
        bias=bias is not None,
    ).to(a.weight)
    with torch.no_grad():
        one.weight.copy_(weight)
        if bias is not None and one.bias is not None:
            one.bias.copy_(bias)
    return one


def _is_pointwise(b: nn.Module) -> bool:
    assert isinstance(b, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    plain = all(p == 0 for p in b.padding) if not isinstance(b.padding, str) else True
    return b.weight[0, 0].numel() == 1 and b.groups == 1 and plain and all(s == 1 for s in b.stride)


def _scale_and_shift(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, var = norm.running_mean.double(), norm.running_var.double()
    gain = torch.ones_like(mean) if norm.weight is None else norm.weight.double()
    offset = torch.zeros_like(mean) if norm.bias is None else norm.bias.double()
    scale = gain / (var + norm.eps).sqrt()
    return scale, offset - mean * scale


def _through(weight: Tensor, before: Tensor | None, after: Tensor | None) -> Tensor | None:
    """The bias of the two layers together."""
    if before is None:
        return None if after is None else after.double()
    moved = weight.double() @ before.double()
    return moved if after is None else moved + after.double()


def _linear(weight: Tensor, bias: Tensor | None, like: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None).to(like)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer

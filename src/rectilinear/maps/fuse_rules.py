"""Rules that fold two consecutive linear layers into one, exactly.

Batch normalisations with an activation in one class are split into the two.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from copy import deepcopy
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch._jit_internal import is_scripting
from torch.nn.functional import batch_norm
from torch.nn.modules.batchnorm import _BatchNorm

from rectilinear.errors import ShapeError
from rectilinear.maps.map_forms import Diagonal
from rectilinear.random import generator

if TYPE_CHECKING:
    from torch.nn.modules.batchnorm import _BatchNorm


CHECKS = {
    torch._assert,
    operator.eq,
    operator.ne,
    getattr,
    "dim",
    "size",
}  # what may stand beside the computation
BOUND = ("running_mean", "running_var", "weight", "bias")
ERRORS = (
    TypeError,
    ValueError,
    NameError,
    AttributeError,
    RuntimeError,
    AssertionError,
    KeyError,
    IndexError,
)


class _Tracer(fx.Tracer):
    """A tracer that treats every submodule as a leaf."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
        return True


def after_norm(norm: _BatchNorm) -> nn.Module | None:
    """The module that a batch-normalisation subclass applies after normalising, or None.

    In evaluation mode, its ``forward`` must normalise its one argument by its own statistics and
    then apply something that depends on nothing else, such as submodules. The answer is checked on
    random numbers.

    Example:
        >>> class NormAct(nn.BatchNorm2d):
        ...     def forward(self, x): return super().forward(x).relu()
        >>> after_norm(NormAct(3))(torch.tensor([-1.0, 1.0])).tolist()
        [0.0, 1.0]
        >>> class Twice(nn.BatchNorm2d):
        ...     def forward(self, x): return super().forward(x) + x
        >>> print(after_norm(Twice(3)))
        None
    """
    module = deepcopy(norm).eval()
    vars(module)["_check_input_dim"] = lambda _: (
        None
    )  # it asks for the number of axes, which a trace does not know
    try:
        graph = _Tracer().trace(module)
        nodes = _after(graph, module)
        if nodes is None:
            return None
        tail = _as_module(module, graph, nodes)
        return tail if _is_right(norm, tail) else None
    except ERRORS:
        return None


def _after(graph: fx.Graph, module: nn.Module) -> list[fx.Node] | None:
    """The nodes of the graph after the normalisation."""
    output = next(node for node in graph.nodes if node.op == "output")
    needed, waiting = {output}, [output]
    while waiting:
        new = set(waiting.pop().all_input_nodes) - needed
        needed |= new
        waiting += new
    if any(
        node.target not in CHECKS
        for node in graph.nodes
        if node not in needed and node.op.startswith("call")
    ):
        return None
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    norms = [
        node
        for node in needed
        if node.op == "call_function" and node.target in (batch_norm, torch.batch_norm)
    ]
    if len(inputs) != 1 or len(norms) != 1 or not _normalises(norms[0], inputs[0], module):
        return None
    before = {*inputs, *norms[0].all_input_nodes}
    nodes = [node for node in graph.nodes if node in needed - before - {*norms, output}]
    seen = {norms[0], *nodes}
    if (
        any(not set(node.all_input_nodes) <= seen for node in (*nodes, output))
        or output.args[0] not in seen
    ):
        return None
    return nodes


def _normalises(node: fx.Node, x: fx.Node, module: nn.Module) -> bool:
    if node.target is not batch_norm:
        return False
    given = signature(batch_norm).bind(*node.args, **node.kwargs)
    given.apply_defaults()
    values = given.arguments
    own = all(_is_own(values[name], name, module) for name in BOUND)
    return (
        values["input"] is x and own and values["training"] is False and values["eps"] == module.eps
    )


def _is_own(value: Any, name: str, module: nn.Module) -> bool:
    if value is None:
        return getattr(module, name) is None
    return isinstance(value, fx.Node) and value.op == "get_attr" and value.target == name


def _as_module(module: nn.Module, graph: fx.Graph, nodes: list[fx.Node]) -> nn.Module:
    """The modules of a chain of modules; else the rest of the graph."""
    if all(node.op == "call_module" and len(node.args) == 1 and not node.kwargs for node in nodes):
        parts = [deepcopy(module.get_submodule(str(node.target))) for node in nodes]
        parts = [part for part in parts if type(part) not in (nn.Identity, nn.Dropout)]
        return parts[0] if len(parts) == 1 else nn.Sequential(*parts) if parts else nn.Identity()
    rest = fx.Graph()
    norm = nodes[0].all_input_nodes[0]
    made = {norm: rest.placeholder("x")}
    for node in nodes:
        made[node] = rest.node_copy(node, lambda n: made[n])
    output = next(node for node in graph.nodes if node.op == "output")
    rest.output(made[output.args[0]])
    return fx.GraphModule(module, rest, "AfterNorm")


def _is_right(norm: _BatchNorm, tail: nn.Module) -> bool:
    """True if normalisation and ``after`` give what the class gives, on random numbers."""
    whole, tail = deepcopy(norm).eval().cpu().double(), deepcopy(tail).eval().cpu().double()
    axes = 2 if isinstance(norm, nn.BatchNorm1d) else 4 if isinstance(norm, nn.BatchNorm2d) else 5
    random = generator(0)
    x = torch.randn(4, norm.num_features, *[3] * (axes - 2), generator=random, dtype=torch.float64)
    with torch.no_grad():
        normalised = batch_norm(
            x,
            whole.running_mean,
            whole.running_var,
            whole.weight,
            whole.bias,
            False,
            0.0,
            whole.eps,
        )
        wanted, found = whole(x.clone()), tail(normalised)
    return (
        isinstance(wanted, Tensor)
        and wanted.shape == found.shape
        and torch.allclose(wanted, found, atol=1e-12)
    )


NORM_OF = {
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
    nn.Linear: nn.BatchNorm1d,
}
NOTHING = (
    nn.Identity,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class RowsOnly(nn.Identity):
    """The identity in place of a folded ``BatchNorm1d``, for tensors of so many axes only.

    Example:
        >>> RowsOnly(2)(torch.zeros(1, 2, 3))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        rectilinear.errors.ShapeError: Got a tensor of shape (1, 2, 3) at a folded BatchNorm1d; ...
    """

    def __init__(self, axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 # the name of torch
        """The tensor ``x``, after a check of its axes."""
        if not is_scripting():
            self._check(input)
        return input

    @torch.jit.unused
    def _check(self, x: Tensor) -> None:
        if isinstance(x, Tensor) and x.ndim != self.axes:
            raise ShapeError(
                f"a tensor of shape {tuple(x.shape)} at a folded BatchNorm1d",
                f"{self.axes} axes",
                "Pass rows like these to fuse as x.",
            )

    def extra_repr(self) -> str:
        return f"{self.axes}"


def does_nothing(module: nn.Module) -> bool:
    """True if a torch module (not a subclass) returns its input in evaluation mode.

    Example:
        >>> does_nothing(nn.Dropout(0.5)), does_nothing(nn.ReLU())
        (True, False)
    """
    if is_hooked(module):
        return False
    return type(module) in (*NOTHING, RowsOnly) or (
        type(module) is nn.LeakyReLU and module.negative_slope == 1
    )


def is_hooked(module: nn.Module) -> bool:
    """True if a module does more than its class's ``forward``, as under spectral norm.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> layer.forward = lambda x: x
        >>> is_hooked(layer), is_hooked(nn.Linear(2, 2))
        (True, False)
    """
    return "forward" in vars(module) or any(getattr(module, hooks) for hooks in HOOKS)


def may_fold(a: nn.Module, b: nn.Module) -> bool:
    """True for two layers of kinds that can be folded."""
    convolutions = nn.Conv1d | nn.Conv2d | nn.Conv3d
    if isinstance(b, _BatchNorm | Diagonal):
        return isinstance(a, nn.Linear | convolutions)
    if isinstance(a, Diagonal):
        return isinstance(b, nn.Linear)
    if isinstance(b, nn.Linear):
        return isinstance(a, nn.Linear | nn.BatchNorm1d)
    return isinstance(a, convolutions) and isinstance(b, convolutions)


def folded(a: nn.Module, b: nn.Module, dtype: torch.dtype) -> tuple[nn.Module, nn.Module] | str:
    """The two modules that replace the two layers, or the reason to keep these.

    Numbers must be finite in ``dtype``.

    Example:
        >>> folded(nn.Linear(4, 8), nn.Linear(8, 2), torch.float32)
        (Linear(in_features=4, out_features=2, bias=True), Identity())
        >>> folded(nn.Linear(4, 8), nn.BatchNorm1d(7), torch.float32)
        '8 channels before a normalisation of 7'
    """
    for module in (a, b):
        if is_hooked(module):
            return f"hooks on {type(module).__name__}"
    found = _rule(a, b)
    if isinstance(found, str):
        return found
    layer = found[0] if hasattr(found[0], "weight") else found[1]
    if not all(bool(torch.isfinite(p.detach().to(dtype)).all()) for p in layer.parameters()):
        return f"its weights would not be finite in {dtype}".replace("torch.", "")
    return found[0].eval(), found[1].eval()


def _rule(a: nn.Module, b: nn.Module) -> tuple[nn.Module, nn.Module] | str:
    if isinstance(b, _BatchNorm):
        return _with_norm(a, b)
    if isinstance(a, Diagonal) or isinstance(b, Diagonal):
        return _with_diagonal(a, b)
    for module in (a, b):
        if type(module) not in NORM_OF and type(module) is not nn.BatchNorm1d:
            return f"{type(module).__name__}, a class with a forward of its own"
    if isinstance(a, nn.BatchNorm1d) and isinstance(b, nn.Linear):
        return _norm_first(a, b)
    if isinstance(a, nn.Linear) and isinstance(b, nn.Linear):
        return _product(a, b)
    if type(a) is not type(b):
        return f"{type(a).__name__} before {type(b).__name__}"
    return _pointwise(a, b)


def _with_norm(a: nn.Module, b: _BatchNorm) -> tuple[nn.Module, nn.Module] | str:
    """A linear layer or convolution, folded with the normalisation after it."""
    kind = NORM_OF.get(type(a))
    if kind is None:
        return f"{type(a).__name__}, a class with a forward of its own"
    if not isinstance(b, kind):
        return f"{type(b).__name__} after {type(a).__name__}"
    assert isinstance(a, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
    if b.running_mean is None or b.running_var is None:
        return "a normalisation by the statistics of the batch"
    if len(a.weight) != b.num_features:
        return f"{len(a.weight)} channels before a normalisation of {b.num_features}"
    tail = nn.Identity() if type(b) is kind else after_norm(b)
    if tail is None:
        return f"{type(b).__name__}, a class with a forward of its own"
    scale, shift = _scale_and_shift(b)
    weight = _wide(a.weight) * scale.reshape(-1, *[1] * (a.weight.ndim - 1))
    bias = shift if a.bias is None else _wide(a.bias) * scale + shift
    if kind is nn.BatchNorm1d:
        guard = RowsOnly(2 if isinstance(a, nn.Linear) else 3)
        tail = guard if type(tail) is nn.Identity else nn.Sequential(guard, tail)
    return _layer(a, weight, bias, (a, b)), tail


def _with_diagonal(a: nn.Module, b: nn.Module) -> tuple[nn.Module, nn.Module] | str:
    """A linear layer or convolution, folded with an elementwise scale and shift beside it."""
    diagonal, layer = (a, b) if isinstance(a, Diagonal) else (b, a)
    assert isinstance(diagonal, Diagonal)
    if type(layer) not in (nn.Linear, nn.Conv1d, nn.Conv2d):
        return f"{type(layer).__name__} beside a Diagonal"
    assert isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d)
    images = diagonal.form == "convolution"
    if images == isinstance(layer, nn.Linear) or (
        diagonal.form == "rows" and len(diagonal.inside) != 1
    ):
        return (
            f"a Diagonal on {diagonal.form} of shape {diagonal.inside} beside "
            f"{type(layer).__name__}"
        )
    scale, shift, weight = _wide(diagonal.scale), _wide(diagonal.bias), _wide(layer.weight)
    sides = (weight.shape[1], weight.shape[0])
    if len(scale) != sides[layer is a]:
        return f"a Diagonal of {len(scale)} beside a layer from {sides[0]} to {sides[1]}"
    if layer is b:
        return nn.Identity(), _layer(b, weight * scale, _through(weight, shift, b.bias), (a, b))
    bias = shift if layer.bias is None else _wide(layer.bias) * scale + shift
    rows = scale.reshape(-1, *[1] * (weight.ndim - 1))
    return _layer(layer, weight * rows, bias, (a, b)), nn.Identity()


def _norm_first(a: nn.BatchNorm1d, b: nn.Linear) -> tuple[nn.Module, nn.Module] | str:
    if a.running_mean is None or a.running_var is None:
        return "a normalisation by the statistics of the batch"
    if a.num_features != b.in_features:
        return f"a normalisation of {a.num_features} before {b.in_features} features"
    scale, shift = _scale_and_shift(a)
    weight = _wide(b.weight)
    return RowsOnly(2), _layer(b, weight * scale, _through(weight, shift, b.bias), (a, b))


def _product(a: nn.Linear, b: nn.Linear) -> tuple[nn.Module, nn.Module] | str:
    if a.out_features != b.in_features:
        return f"{a.out_features} features before {b.in_features}"
    if a.in_features * b.out_features > a.weight.numel() + b.weight.numel():
        return "the product is larger than the two"
    weight = _wide(b.weight) @ _wide(a.weight)
    layer = _layer(a, weight, _through(_wide(b.weight), a.bias, b.bias), (a, b))
    layer.out_features = b.out_features  # type: ignore[assignment] # torch types attributes as tensors
    return layer, nn.Identity()


def _pointwise(a: nn.Module, b: nn.Module) -> tuple[nn.Module, nn.Module] | str:
    """A convolution folded with the 1 x 1 convolution after it."""
    assert isinstance(a, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    assert isinstance(b, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    padded = not isinstance(b.padding, str) and any(p != 0 for p in b.padding)
    if b.weight[0, 0].numel() != 1 or b.groups != 1 or padded or any(s != 1 for s in b.stride):
        return "the second convolution is not a plain one of 1 x 1"
    if a.groups != 1:
        return "the first convolution has groups"
    if a.out_channels != b.in_channels:
        return f"{a.out_channels} channels before {b.in_channels}"
    if b.out_channels * a.weight[0].numel() > a.weight.numel() + b.weight.numel():
        return "the product is larger than the two"
    mixing = _wide(b.weight).flatten(1)
    weight = (mixing @ _wide(a.weight).flatten(1)).reshape(b.out_channels, *a.weight.shape[1:])
    layer = _layer(a, weight, _through(mixing, a.bias, b.bias), (a, b))
    layer.out_channels = b.out_channels  # type: ignore[assignment]
    return layer, nn.Identity()


def _scale_and_shift(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, var = _wide(norm.running_mean), _wide(norm.running_var)
    gain = torch.ones_like(mean) if norm.weight is None else _wide(norm.weight)
    offset = torch.zeros_like(mean) if norm.bias is None else _wide(norm.bias)
    scale = gain / (var + norm.eps).sqrt()
    return scale, offset - mean * scale


def _through(weight: Tensor, before: Tensor | None, after: Tensor | None) -> Tensor | None:
    """The bias of the two layers together."""
    if before is None:
        return None if after is None else _wide(after)
    moved = weight @ _wide(before)
    return moved if after is None else moved + _wide(after)


def _wide(t: Tensor) -> Tensor:
    return t.detach().cpu().to(torch.complex128 if t.is_complex() else torch.float64)


def _layer(
    like: nn.Module, weight: Tensor, bias: Tensor | None, sources: Iterable[nn.Module]
) -> nn.Module:
    """A layer like ``like`` with other values; trainable if one of the sources is."""
    layer = deepcopy(like)
    trainable = any(p.requires_grad for source in sources for p in source.parameters(recurse=False))
    old = layer.weight
    assert isinstance(old, Tensor)
    layer.weight = nn.Parameter(weight.to(old), trainable)
    layer.bias = None if bias is None else nn.Parameter(bias.to(old), trainable)  # type: ignore[assignment]
    return layer

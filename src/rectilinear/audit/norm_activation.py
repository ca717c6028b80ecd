"""Batch normalisations with an activation in one class: what they do after normalising."""

from __future__ import annotations

import operator
from copy import deepcopy
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.nn.functional import batch_norm

if TYPE_CHECKING:
    from torch.nn.modules.batchnorm import _BatchNorm

CHECKS = {torch._assert, operator.eq, operator.ne, getattr, "dim", "size"}  # what may stand beside the computation
BOUND = ("running_mean", "running_var", "weight", "bias")
ERRORS = (TypeError, ValueError, NameError, AttributeError, RuntimeError, AssertionError, KeyError, IndexError)


class _Tracer(fx.Tracer):
    """Keeps every module inside whole."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
        return True


def after_norm(norm: _BatchNorm) -> nn.Module | None:
    """What a subclass of a batch normalisation does after normalising, as a module; None where that cannot be told.

    Its ``forward`` must be, in evaluation mode, the normalisation of its one argument by its own statistics, and then
    something that depends on nothing else, such as modules of its own. The answer is checked at random numbers.

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
    vars(module)["_check_input_dim"] = lambda _: None  # it asks for the number of axes, which a trace does not know
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
    """The nodes of the graph behind the normalisation."""
    output = next(node for node in graph.nodes if node.op == "output")
    needed, waiting = {output}, [output]
    while waiting:
        new = set(waiting.pop().all_input_nodes) - needed
        needed |= new
        waiting += new
    if any(node.target not in CHECKS for node in graph.nodes if node not in needed and node.op.startswith("call")):
        return None
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    norms = [node for node in needed if node.op == "call_function" and node.target in (batch_norm, torch.batch_norm)]
    if len(inputs) != 1 or len(norms) != 1 or not _normalises(norms[0], inputs[0], module):
        return None
    before = {*inputs, *norms[0].all_input_nodes}
    nodes = [node for node in graph.nodes if node in needed - before - {*norms, output}]
    seen = {norms[0], *nodes}
    if any(not set(node.all_input_nodes) <= seen for node in (*nodes, output)) or output.args[0] not in seen:
        return None
    return nodes


def _normalises(node: fx.Node, x: fx.Node, module: nn.Module) -> bool:
    if node.target is not batch_norm:
        return False
    given = signature(batch_norm).bind(*node.args, **node.kwargs)
    given.apply_defaults()
    values = given.arguments
    own = all(_is_own(values[name], name, module) for name in BOUND)
    return values["input"] is x and own and values["training"] is False and values["eps"] == module.eps


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
    """Whether the two together do what the class does, at random numbers."""
    whole, tail = deepcopy(norm).eval().cpu().double(), deepcopy(tail).eval().cpu().double()
    axes = 2 if isinstance(norm, nn.BatchNorm1d) else 4 if isinstance(norm, nn.BatchNorm2d) else 5
    random = torch.Generator().manual_seed(0)
    x = torch.randn(4, norm.num_features, *[3] * (axes - 2), generator=random, dtype=torch.float64)
    with torch.no_grad():
        normalised = batch_norm(
            x, whole.running_mean, whole.running_var, whole.weight, whole.bias, False, 0.0, whole.eps
        )
        wanted, found = whole(x.clone()), tail(normalised)
    return isinstance(wanted, Tensor) and wanted.shape == found.shape and torch.allclose(wanted, found, atol=1e-12)

"""The operations that a network applies to its input: affine ones, and known activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

OTHERS = frozenset(
    {
        "tanh",
        "sigmoid",
        "elu",
        "mish",
        "hardtanh",
        "hardsigmoid",
        "erf",
        "sin",
        "cos",
        "exp",
        "relu6",
    }
)
SMOOTH = (
    15  # threshold of a softplus from which on its jump, 3e-7, is no more than rounding of float32
)
MAX_POOLS = frozenset(
    {"max_pool2d_with_indices", "max_pool3d_with_indices", "max_pool1d_with_indices"}
)


@dataclass(frozen=True, eq=False)
class Activation:
    """An elementwise function ``s``; if ``s(z) - s(-z) = 2 kappa z``, its odd part is ``kappa z``.

    Attributes:
        name: such as "relu".
        apply: the function.
        slope: ``alpha`` of ``s(z) = max(z, alpha z)``, a number or one for each unit; None for
            another function.
        kappa: half the difference above over ``z``; None where the odd part is not linear.
        homogeneous: ``s(c z) = c s(z)`` for ``c > 0``.
    """

    name: str
    apply: Callable[[Tensor], Tensor]
    slope: float | Tensor | None = None
    kappa: float | Tensor | None = None
    homogeneous: bool = False

    def even(self, z: Tensor) -> Tensor:
        """``(s(z) + s(-z)) / 2``.

        Example:
            >>> leaky(0.2).even(torch.tensor([-2.0, 2.0]))
            tensor([0.8000, 0.8000])
        """
        if self.slope is not None:
            return (1 - self.slope) / 2 * z.abs()
        return (self.apply(z) + self.apply(-z)) / 2


def leaky(slope: float | Tensor, name: str = "leaky_relu") -> Activation:
    """``max(z, alpha z)``: ReLU at 0, the identity at 1, the absolute value at -1.

    Example:
        >>> leaky(0.2).apply(torch.tensor([-1.0, 1.0])), leaky(0.2).kappa
        (tensor([-0.2000,  1.0000]), 0.6)
    """

    def apply(z: Tensor) -> Tensor:
        return torch.where(z >= 0, z, slope * z)

    return Activation(name, apply, slope, (1 + slope) / 2, homogeneous=True)


def recognise(
    name: str, run: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Activation | None:
    """The activation that the operation ``name`` of ATen is with these arguments, or None.

    Of complex numbers there is none: their size is no function of each of the two parts.
    """
    rest = args[1:]
    if args[0].is_complex():
        return None

    def apply(z: Tensor) -> Tensor:
        return run(z.clone(), *rest, **kwargs)

    if name in _FIXED:
        return leaky(_FIXED[name], name)
    if name in ("gelu", "silu", "hardswish") or (
        name == "softplus" and _threshold(args, kwargs) >= SMOOTH
    ):
        return Activation(name, apply, kappa=0.5)
    if name in OTHERS or name == "softplus":
        return Activation(name, apply)
    if name in MAX_POOLS:
        return Activation("max_pool", apply, homogeneous=True)
    slope = _slope(name, args, kwargs)
    return (
        None
        if slope is None
        else leaky(slope, "relu" if isinstance(slope, float) and slope == 0 else name)
    )


_FIXED = {"relu": 0.0, "abs": -1.0}


def _threshold(args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    """From where on torch takes ``softplus(z)`` for ``z``.

    Its odd part jumps there by ``log(1 + e^-threshold)``.
    """
    return float(args[2] if len(args) > 2 else kwargs.get("threshold", 20))


def _slope(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float | Tensor | None:
    """``alpha`` of the operations that have one among their arguments."""
    if name == "leaky_relu":
        return float(args[1] if len(args) > 1 else kwargs.get("negative_slope", 0.01))
    if name in ("_prelu_kernel", "prelu"):
        weight = args[1].detach()
        return (
            float(weight) if weight.numel() == 1 else weight.expand(1, *args[0].shape[1:]).flatten()
        )
    if name == "rrelu_with_noise" and not (
        args[4] if len(args) > 4 else kwargs.get("training", False)
    ):
        lower, upper = (args[2], args[3]) if len(args) > 3 else (1 / 8, 1 / 3)
        return float(lower + upper) / 2
    if name == "threshold" and args[1] == 0 and args[2] == 0:
        return 0.0
    if (
        name in ("clamp_min", "clamp")
        and len(args) > 1
        and isinstance(args[1], int | float)
        and args[1] == 0
    ):
        return 0.0 if (args[2] if len(args) > 2 else kwargs.get("max")) is None else None
    if name == "clamp" and kwargs.get("min") == 0 and kwargs.get("max") is None and len(args) == 1:
        return 0.0
    if name == "maximum" and not bool(args[1].any()):
        return (
            0.0 if torch.broadcast_shapes(args[0].shape, args[1].shape) == args[0].shape else None
        )
    return None


Sources = frozenset[int]
INPUT = -1
UNKNOWN: Sources = frozenset({-2})

# Linear in all their tensors together.
_JOINTLY = frozenset({"add", "sub", "rsub", "cat", "stack", "copy", "neg", "hstack", "vstack"})
# Linear in the first where the others do not depend on the input. Names without the underscore of
# in-place operations.
_FIRST = """
view _unsafe_view reshape _reshape_alias t transpose permute expand squeeze unsqueeze slice select
split unbind chunk split_with_sizes narrow alias detach clone contiguous flatten unflatten unfold
as_strided diagonal flip roll repeat index_select gather index constant_pad_nd reflection_pad1d
reflection_pad2d replication_pad1d replication_pad2d pad avg_pool1d avg_pool2d avg_pool3d
adaptive_avg_pool1d _adaptive_avg_pool2d _adaptive_avg_pool3d mean sum cumsum im2col col2im
upsample_nearest1d upsample_nearest2d upsample_bilinear2d upsample_linear1d upsample_bicubic2d
_upsample_nearest_exact2d pixel_shuffle pixel_unshuffle channel_shuffle lift_fresh _to_copy tril
triu trace div masked_fill movedim swapaxes swapdims
"""
_IN_THE_FIRST = frozenset(_FIRST.split())
# Shaped like their argument, whatever its values.
_CONSTANT = frozenset(
    {
        "empty_like",
        "zeros_like",
        "ones_like",
        "full_like",
        "new_zeros",
        "new_ones",
        "new_empty",
        "new_full",
    }
)
# Linear in each factor: at most one of them may depend on the input.
_FACTORS = {
    "mm": (0, 1),
    "bmm": (0, 1),
    "mv": (0, 1),
    "dot": (0, 1),
    "matmul": (0, 1),
    "mul": (0, 1),
    "linear": (0, 1),
    "convolution": (0, 1),
    "_convolution": (0, 1),
    "addmm": (1, 2),
    "addmv": (1, 2),
    "baddbmm": (1, 2),
}
# What gives the values of a tensor to code that is not torch's.
_LEAVES_TORCH = frozenset(
    {"numpy", "__array__", "__dlpack__", "tolist", "data_ptr", "__cuda_array_interface__"}
)
_BATCH_NORMS = frozenset({"native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm"})
_INFERENCE_NORMS = frozenset({"_native_batch_norm_legit_no_training"})


@dataclass(frozen=True, eq=False)
class Node:
    """An activation in the network: its kind, the sources of its input, and the shape of one row.

    ``by_row`` is False if the first axis of its input is not the batch.
    """

    activation: Activation
    sources: Sources
    shape: tuple[int, ...]
    by_row: bool = True


@dataclass(frozen=True, eq=False)
class Structure:
    """The activations in the order of their computation, and what the output is an affine map of.

    Sources are indices of ``nodes``, and ``INPUT``. ``output`` is None where an operation without a
    rule lies between the input and the output, or where the operations depend on the values of the
    input.
    """

    nodes: tuple[Node, ...]
    output: Sources | None
    reason: str = ""

    @property
    def is_affine(self) -> bool:
        """True if every operation on the way is affine: a proof."""
        return self.output is not None and self.output <= {INPUT}

    @property
    def depth(self) -> int:
        """The most activations that a path from the input to the output goes through."""
        depths: dict[int, int] = {INPUT: 0}
        for k, node in enumerate(self.nodes):
            depths[k] = 1 + max((depths[s] for s in node.sources), default=0)
        return max((depths[s] for s in self.output or ()), default=0)


class Trace(TorchDispatchMode):
    """A mode that follows affine dependence on ``x``, and may replace results of activations.

    Dependence is kept for each storage, so that views and in-place operations are seen: writing
    into a storage joins the sources, unless it overwrites all of it.

    Args:
        x: the input of the forward pass that is watched.
        outputs: what activation ``k`` is to return instead, by ``k``.
    """

    def __init__(self, x: Tensor, outputs: Mapping[int, Tensor] | None = None) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.inputs: list[Tensor] = []
        self.operations: list[str] = []
        self.branches = False
        self.leaves = False
        self.reason = ""
        self._outputs = outputs or {}
        self._batch = len(x)
        self._depends: dict[int, Sources] = {x.untyped_storage()._cdata: frozenset({INPUT})}
        self._alive: list[Tensor] = [x]  # no storage is freed, so that none is mistaken for another

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Always False: nothing here is compiled.

        Torch would load its compiler, for seconds, to exempt this class from it.
        """
        return False

    def sources(self, tensor: Tensor) -> Sources:
        """The nodes that ``tensor`` is an affine map of, ``UNKNOWN`` among them if not known."""
        return self._depends.get(tensor.untyped_storage()._cdata, frozenset())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        before = {id(t): self.sources(t) for t in _tensors((args, kwargs))}
        name = func.overloadpacket.__name__
        if not any(before.values()) or name in _CONSTANT:
            return func(*args, **kwargs)
        name = name[:-1] if func._schema.is_mutable and name.endswith("_") else name
        self.operations.append(name)
        activation = (
            recognise(name, func, args, kwargs) if _only_first(args, kwargs, before) else None
        )
        if activation is not None:
            return self._activate(activation, name, func, args, kwargs, before[id(args[0])])
        found = _rule(name, args, kwargs, before)
        out = func(*args, **kwargs)
        written = _written(func, args, kwargs)
        results = _tensors(out)
        self.branches |= not results and not written
        if found >= UNKNOWN and not self.reason and results:
            self.reason = f"there is no rule for the operation '{name}'"
        if any(t.is_floating_point() is False and not t.is_complex() for t in results):
            found = UNKNOWN
        for tensor in (*results, *written):
            self._write(tensor, found, whole=any(tensor is t for t in written))
        return out

    def _activate(
        self,
        activation: Activation,
        name: str,
        func: Callable[..., Any],
        args: Any,
        kwargs: Any,
        sources: Sources,
    ) -> Any:
        k = len(self.nodes)
        by_row = args[0].ndim > 0 and len(args[0]) == self._batch
        self.nodes.append(Node(activation, sources, tuple(args[0].shape[1:]), by_row))
        self.inputs.append(args[0].clone())
        mutated = _written(func, args, kwargs)
        in_place = any(t is args[0] for t in mutated)
        out = func(*args, **kwargs)
        first = out[0] if name in MAX_POOLS else out
        if k in self._outputs:
            first.copy_(self._outputs[k].reshape(first.shape))
        new = UNKNOWN if sources >= UNKNOWN else frozenset({k})
        self._write(first, new, whole=in_place)
        if name in MAX_POOLS:
            self._write(out[1], UNKNOWN, whole=False)
        return out

    def _write(self, tensor: Tensor, sources: Sources, whole: bool) -> None:
        storage = tensor.untyped_storage()
        covers = whole and tensor.numel() * tensor.element_size() == storage.nbytes()
        old = frozenset() if covers else self._depends.get(storage._cdata, frozenset())
        self._depends[storage._cdata] = old | sources
        self._alive.append(tensor)


class _Leaving(TorchFunctionMode):
    """Notes in a trace when values that depend on the input leave torch."""

    def __init__(self, seen: Trace) -> None:
        super().__init__()
        self._seen = seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        name = (
            getattr(getattr(func, "__self__", None), "__name__", name)
            if name == "__get__"
            else name
        )
        if name in _LEAVES_TORCH and any(self._seen.sources(t) for t in _tensors(args)):
            self._seen.leaves = True
        return func(*args, **(kwargs or {}))


def trace(forward: Callable[[Tensor], Tensor], x: Tensor) -> Structure:
    """The structure of ``forward`` at rows ``x``, which must be the same at ``-x`` and at ``10 x``.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
        >>> structure = trace(net, torch.randn(2, 3))
        >>> [node.activation.name for node in structure.nodes], structure.output, structure.depth
        (['relu'], frozenset({0}), 1)
    """
    runs = []
    for scale in (1.0, -1.0, 10.0):
        rows = scale * x
        with torch.no_grad(), Trace(rows) as seen, _Leaving(seen):
            out = forward(rows)
        runs.append((seen, seen.sources(out)))
    seen, output = runs[0]
    nodes = tuple(seen.nodes)
    if any(run.leaves for run, _ in runs):
        return Structure(nodes, None, "values of its input leave torch")
    if seen.branches or any(run.operations != seen.operations for run, _ in runs):
        return Structure(nodes, None, "what it does depends on the value of its input")
    if output >= UNKNOWN:
        return Structure(nodes, None, seen.reason)
    return Structure(nodes, output)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _written(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """The arguments that the operation changes."""
    if not func._schema.is_mutable:
        return []
    changed = []
    for i, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            changed += _tensors(kwargs.get(argument.name, args[i] if i < len(args) else None))
    return changed


def _only_first(args: Any, kwargs: Any, before: dict[int, Sources]) -> bool:
    """True if the first argument is a tensor that depends on the input, and no other one does."""
    tensors = _tensors((args, kwargs))
    return (
        bool(args)
        and isinstance(args[0], Tensor)
        and bool(before[id(args[0])])
        and not any(before[id(t)] for t in tensors if t is not args[0])
    )


def _rounds(name: str, args: Any, kwargs: Any) -> bool:
    """True if an otherwise linear operation rounds to integers or 8 bits, or reinterprets bits."""
    if name == "div":
        return kwargs.get("rounding_mode") is not None
    dtype = next((a for a in (*args[1:], *kwargs.values()) if isinstance(a, torch.dtype)), None)
    return dtype is not None and (
        name == "view" or (dtype.is_floating_point and torch.finfo(dtype).bits < 16)
    )


def _rule(name: str, args: Any, kwargs: Any, before: dict[int, Sources]) -> Sources:
    """The nodes that the result is an affine map of."""
    tensors = _tensors((args, kwargs))
    everything: Sources = frozenset().union(*(before[id(t)] for t in tensors))
    if name in _JOINTLY:
        return everything
    if name in _IN_THE_FIRST and _only_first(args, kwargs, before):
        return UNKNOWN if _rounds(name, args, kwargs) else everything
    if name in _FACTORS:
        i, j = _FACTORS[name]
        both = all(isinstance(args[k], Tensor) and before[id(args[k])] for k in (i, j))
        return UNKNOWN if both else everything
    if name in _INFERENCE_NORMS or (name in _BATCH_NORMS and not args[5]):
        return everything if _only_first(args, kwargs, before) else UNKNOWN
    if name == "where" and len(args) == 3 and not before[id(args[0])]:
        return everything
    return UNKNOWN

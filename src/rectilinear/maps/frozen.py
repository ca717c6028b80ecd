"""Networks with their gates frozen: a mode in which a model is linear in its input and biases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from rectilinear.errors import RectilinearError, StructureError
from rectilinear.networks.forward_pass import FAILURES

TAG = "_rectilinear_tag"  # the attribute of a tensor that says what it is in which mode
TOKENS = count()


def names(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


# Read without becoming a part of anything: shapes, dtypes, places in memory.
FACTS = set(
    names("""
    size dim ndimension numel nelement stride storage_offset element_size is_contiguous len data_ptr
    is_floating_point is_complex get_device is_same_size is_nonzero bool hash repr format
    is_inference is_pinned result_type broadcast_tensors_shape
    .shape .dtype .device .ndim .requires_grad .is_cuda .is_leaf .layout .grad_fn .grad .is_nested
    .is_sparse .is_quantized .is_meta .is_mps .is_xpu .is_cpu .itemsize .nbytes .names .output_nr
    ._version .is_mkldnn .is_hpu .is_xla .is_ipu .is_maia .is_vulkan .is_mtia .is_sparse_csr
""")
)


NUMBERS = ("item", "tolist", "numpy")


class Tag(NamedTuple):
    """The status of a tensor inside one :class:`Frozen` mode.

    Attributes:
        token: of the mode.
        linear: whether it is linear in the input and the biases; else it is held at its value.
        reason: for a held tensor, the operation that it was held at.
        gate: whether it is an activation of something, which a product holds.
    """

    token: int
    linear: bool
    reason: str = ""
    gate: bool = False


class Source(NamedTuple):
    """A constant that is added inside a network: an input of the frozen map.

    Attributes:
        name: of the parameter or buffer that it comes from, or "constant".
        value: a leaf that gradients are taken by.
    """

    name: str
    value: Tensor


class Call(NamedTuple):
    """A torch function about to run, with its arguments."""

    func: Callable[..., Any]
    name: str
    in_place: bool
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """The result of the function, with other arguments if given."""
        return self.func(*(args or self.args), **(kwargs or self.kwargs))


Rule = Callable[["Frozen", Call], Any]
RULES: dict[str, Rule] = {}
"""What to do with a function on the linear part, by its name; ``frozen_rules`` fills it."""


class Frozen(TorchFunctionMode):
    """A mode in which gates, attention weights and normalisation scales are held at their values.

    Values inside the mode equal those outside. A tensor made by :meth:`leaf` is followed through
    the network: sums, products with weights, pooling and views keep it *linear*; an activation
    becomes its input times a held number, ``phi(x) = x (phi(x) / x)``; softmax, norms and other
    nonlinear functions are *held*, and so is the gate of two factors. Each added bias or constant
    becomes a :class:`Source`. So the output is exactly ``f = J x + sum_b J_b b``, and gradients
    inside the mode are those of that map.

    A float64 network stays in float64: casts to float32, as in the norms of Llama and T5, are
    skipped, and ``widened`` is then true. Parameters are not changed.

    Args:
        model: of which parameters and buffers have their names.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 8), nn.GELU(), nn.Linear(8, 2))
        >>> with Frozen(model) as frozen:
        ...     x = frozen.leaf(torch.ones(1, 3, requires_grad=True))
        ...     out = frozen.linear_output(model(x))
        >>> torch.allclose(out, model(torch.ones(1, 3)), atol=1e-6)
        True
        >>> [b.name for b in frozen.sources]
        ['0.bias', '2.bias']
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._token = next(TOKENS)
        self._names = {id(t): name for name, t in _named_tensors(model)}
        self.sources: list[Source] = []
        self.widened = False

    def leaf(self, x: Tensor) -> Tensor:
        """A copy of ``x`` as an input of the linear map, with gradients to ``x``.

        The copy may be changed in place.
        """
        assert x.requires_grad
        tag = Tag(self._token, linear=True)
        self._tag(x, tag)
        return self._tag(x.clone(), tag)

    def linear_output(self, out: Tensor) -> Tensor:
        """The output of a network, after a check that it is linear in the leaves."""
        tag = self.tag(out)
        if tag is not None and tag.linear:
            return out
        where = f"passes '{tag.reason}'" if tag else "does not depend on the input"
        raise StructureError(
            f"a network whose output {where}, which has no linear form with its gates held",
            "products of a linear part with gates, attention weights and scales",
            "Take the output before it: for classes the logits, not their softmax.",
        )

    def tag(self, x: object) -> Tag | None:
        """The tag of a tensor; None if it does not depend on the input."""
        tag = getattr(x, TAG, None) if isinstance(x, Tensor) else None
        return tag if isinstance(tag, Tag) and tag.token == self._token else None

    def is_linear(self, x: object) -> bool:
        """True if the tensor is linear in the leaves."""
        tag = self.tag(x)
        return tag is not None and tag.linear

    def source(self, x: Any, like: Tensor) -> Any:
        """A constant as an input of the linear map; held tensors are returned unchanged."""
        if isinstance(x, bool) or not isinstance(x, int | float | Tensor) or self.tag(x):
            return x
        if x.numel() == 0 if isinstance(x, Tensor) else x == 0:
            return x
        if isinstance(x, int | float):
            value, name = torch.tensor(float(x), dtype=like.dtype, device=like.device), "constant"
        else:
            value, name = x.detach().to(like.dtype), self.name_of(x) or "constant"
        leaf = value.clone().requires_grad_()
        self.sources.append(Source(name, leaf))
        return self._tag(leaf, Tag(self._token, linear=True))

    def name_of(self, x: Tensor) -> str:
        """The name of the parameter or buffer that a constant comes from."""
        return self._names.get(id(x)) or str(getattr(x, "_rectilinear_name", ""))

    def held(self, x: Any) -> Any:
        """The arguments with all linear tensors held at their values, without gradient."""
        return tree_map(lambda t: t.detach() if isinstance(t, Tensor) else t, x)

    def hold(self, call: Call, reason: str = "") -> Any:
        """The result of the function on held arguments, as a held tensor."""
        out = call.run(*self.held(call.args), **self.held(call.kwargs))
        tag = Tag(self._token, linear=False, reason=reason or call.name)
        return tree_map(lambda t: self._tag(t, tag), out)

    def reason_of(self, tensors: Sequence[Tensor], name: str) -> str:
        """The operation at which the first of the tensors was held."""
        tags = [tag for t in tensors if (tag := self.tag(t)) is not None and not tag.linear]
        return tags[0].reason if tags else name

    def keep(self, out: Any, name: str, gate: bool = False) -> Any:
        """The results of a linear operation, tagged as linear."""
        linear = Tag(self._token, linear=True, gate=gate)
        why = f"{name} without gradients, as in torch.no_grad or a torch.autograd.Function"
        held = Tag(self._token, linear=False, reason=name if torch.is_grad_enabled() else why)
        return tree_map(
            lambda t: (
                self._tag(t, linear if t.requires_grad else held) if isinstance(t, Tensor) else t
            ),
            out,
        )

    def linear_in(self, values: Any) -> list[Tensor]:
        """The linear tensors among the arguments."""
        return [t for t in tree_leaves(values) if self.is_linear(t)]

    def held_in(self, values: Any) -> list[Tensor]:
        """The held tensors among the arguments."""
        tensors = [t for t in tree_leaves(values) if isinstance(t, Tensor)]
        return [t for t in tensors if self.tag(t) and not self.is_linear(t)]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name, in_place = _name_of(func)
        if name in FACTS:
            return func(*args, **(kwargs or {}))
        args = tree_map(self._plain, args)
        kwargs = tree_map(self._plain, kwargs or {})
        call = Call(func, name, in_place, args, kwargs)
        leaves = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        if any(map(self.is_linear, leaves)):
            return self._follow(call)
        held = self.held_in(leaves)
        if name in NUMBERS and any(t.is_floating_point() for t in held):
            return RULES[name](self, call)
        out = func(*args, **kwargs)
        if held:
            tag = Tag(self._token, linear=False, reason=self.reason_of(leaves, name))
            changed = [args[0]] if out is None and args else []
            for t in (*tree_leaves(out), *changed):
                self._tag(t, tag)
            return out
        floating = sorted(leaves, key=lambda t: not t.is_floating_point())
        named = next((n for t in floating if (n := self.name_of(t))), "")
        for t in tree_leaves(out) if named else ():
            if isinstance(t, Tensor) and id(t) not in self._names:
                t._rectilinear_name = named  # type: ignore[attr-defined] # an attribute of ours
        return out

    def _follow(self, call: Call) -> Any:
        rule = RULES.get(call.name)
        if rule is None:
            raise StructureError(
                f"the operation '{call.name}' on what depends linearly on the input, which has no "
                "rule for gates that are held",
                "operations of convolutional networks and transformers",
                "Take the map up to it, or use freeze=False or method='mean_jacobian'.",
            )
        try:
            return rule(self, _by_position(call))
        except FAILURES as error:
            if isinstance(error, RectilinearError):
                raise
            raise StructureError(
                f"the operation '{call.name}', called in a way that has no rule for gates that are "
                f"held: {type(error).__name__}: {error}",
                "operations of convolutional networks and transformers",
                "Use freeze=False or method='mean_jacobian'.",
            ) from error

    def _plain(self, x: Any) -> Any:
        """A constant without gradient; linear and held tensors are returned unchanged."""
        if not isinstance(x, Tensor) or self.tag(x) or not x.requires_grad:
            return x
        if x.grad_fn is not None and not isinstance(x, nn.Parameter) and not self._is_own(x):
            raise StructureError(
                f"the operation '{x.grad_fn.name()}', which cannot be followed",
                "functions of torch",
                "Write it with functions of torch, or use freeze=False.",
            )
        plain = x.detach()
        if name := self.name_of(x):
            plain._rectilinear_name = name  # type: ignore[attr-defined] # an attribute of ours
        return plain

    def _is_own(self, x: Tensor) -> bool:
        return id(x) in self._names

    def _tag(self, x: Any, tag: Tag) -> Any:
        if isinstance(x, Tensor):
            setattr(x, TAG, tag)
        return x


PLACES = {  # names of the leading arguments, where they are not a tensor and another
    "addmm": ("input", "mat1", "mat2"),
    "addmv": ("input", "mat", "vec"),
    "baddbmm": ("input", "batch1", "batch2"),
    "addbmm": ("input", "batch1", "batch2"),
    "bmm": ("input", "mat2"),
    "mm": ("input", "mat2"),
    "mv": ("input", "vec"),
    "where": ("condition", "input", "other"),
    "masked_fill": ("input", "mask", "value"),
    "scaled_dot_product_attention": (),
    "multi_head_attention_forward": (),
}


def _by_position(call: Call) -> Call:
    """The call with its leading arguments passed by position."""
    args, kwargs = list(call.args), dict(call.kwargs)
    for name in PLACES.get(call.name, ("input", "other"))[len(args) :]:
        if name not in kwargs:
            break
        args.append(kwargs.pop(name))
    return call._replace(args=tuple(args), kwargs=kwargs)


def _named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_buffers()
    yield from model.named_parameters()


def _name_of(func: Callable[..., Any]) -> tuple[str, bool]:
    """The canonical name of a function, and whether it works in place.

    Example:
        >>> _name_of(torch.Tensor.__iadd__), _name_of(torch.relu_), _name_of(torch.Tensor.mul)
        (('add', True), ('relu', True), ('mul', False))
    """
    name = getattr(func, "__name__", type(func).__name__)
    if name in ("__get__", "__set__", "__delete__"):
        owner = getattr(func, "__self__", None)
        kind = "" if name == "__get__" else "set "
        return f"{kind}.{getattr(owner, '__name__', '')}", False
    if name.startswith("__") and name.endswith("__"):
        name = name.strip("_")
        if name.startswith("i") and name[1:] in _IN_PLACE:
            return name[1:], True
        return ("item" if name in _TO_PYTHON else name), name == "setitem"
    name = name.removeprefix("_")
    return name.rstrip("_"), name.endswith("_")


_TO_PYTHON = ("float", "int", "complex", "index", "array")
_IN_PLACE = ("add", "sub", "mul", "truediv", "div", "and", "or", "xor", "pow", "matmul")


def dropout_on() -> StructureError:
    """The error of dropout that is on."""
    return StructureError(
        "dropout that is on",
        "a network in evaluation mode",
        "Call model.eval(); give functional dropout training=self.training.",
    )

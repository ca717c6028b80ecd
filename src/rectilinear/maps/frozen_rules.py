"""Frozen-gate rules for torch functions, by kind: linear, product, gate or held."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's name

from rectilinear.errors import StructureError
from rectilinear.maps.frozen import NUMBERS, RULES, Call, Frozen, Rule, dropout_on, names

# Linear in the one tensor that is followed: views, sums, selections, pooling, resampling.
VIEWS = names("""
    alias as_strided atleast_1d atleast_2d atleast_3d broadcast_to chunk clone contiguous cpu cuda
    cumsum diag_embed diagonal double expand expand_as flatten flip fliplr flipud float fold gather
    getitem half bfloat16 hsplit index_select mean moveaxis movedim narrow neg negative pad permute
    pixel_shuffle pixel_unshuffle channel_shuffle positive pos ravel repeat repeat_interleave
    reshape reshape_as roll rot90 select split split_with_sizes squeeze sum swapaxes swapdims t
    take_along_dim tensor_split tile to transpose tril triu type type_as unbind unflatten unfold
    unsqueeze view view_as vsplit dsplit zeros_like ones_like empty_like new_zeros new_ones
    masked_select nansum
    avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices
    max_pool3d_with_indices adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
    adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices
    adaptive_max_pool3d_with_indices amax amin max min sort topk
    interpolate upsample upsample_nearest upsample_bilinear
    .T .mT .H .mH .real
""")
# Nonlinear, without a form x times a number: held at their values.
HELD = names("""
    softmax log_softmax softmin sigmoid logsigmoid hardsigmoid softplus exp exp2 expm1 log log1p
    log2 log10 sqrt rsqrt reciprocal pow square norm linalg_norm vector_norm linalg_vector_norm
    matrix_norm var std var_mean std_mean erf erfc erfinv cos sin tan cosh sinh acos asin atan sign
    sgn floor ceil round trunc frac rtruediv rdiv rpow rfloordiv floordiv floor_divide remainder mod
    fmod prod cumprod logsumexp logcumsumexp cosine_similarity cdist pairwise_distance nan_to_num
    eq ne lt le gt ge isnan isinf isfinite isclose allclose equal logical_not logical_and logical_or
    any all argmax argmin argsort nonzero count_nonzero detach .data gumbel_softmax one_hot long int
    bincount histc sinc median quantile cummax logit
""")
ACTIVATIONS = names("""
    relu gelu silu mish elu celu selu leaky_relu prelu hardtanh relu6 hardswish tanh softsign
    tanhshrink hardshrink softshrink abs absolute threshold clamp clip clamp_min clamp_max
""")
CASTS = names("to float half bfloat16 type type_as")
BOUNDS = ("clamp", "clip", "clamp_min", "clamp_max", "threshold")
SUMS = names("add sub subtract radd rsub maximum minimum")
JOINED = names("cat concat concatenate stack hstack vstack dstack column_stack row_stack")
PRODUCTS = names("""
    mul multiply rmul matmul rmatmul mm bmm mv dot outer inner einsum tensordot kron grouped_mm
""")
QUOTIENTS = names("div divide true_divide truediv")
CONVOLUTIONS = names("""
    linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
""")
DROPOUTS = names("""
    dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout
    native_dropout
""")
ELEMENTWISE = ("mul", "multiply", "rmul")


def _view(frozen: Frozen, call: Call) -> Any:
    """Functions of one linear tensor with shapes, indices or windows as other arguments."""
    if call.name in ("max", "min") and len(call.args) > 1 and isinstance(call.args[1], Tensor):
        return _sum(frozen, call)
    if call.name == "pad" and argument(call, 3, "value", None):
        return frozen.hold(call)
    if call.name == "to" and not frozen.is_linear(call.args[0]):  # x.to(other)
        return call.run(*frozen.held(call.args))
    if not frozen.is_linear(call.args[0] if call.args else call.kwargs.get("input")):
        return frozen.hold(call)
    out = call.run()
    if call.name in CASTS and out.dtype != torch.float64 == call.args[0].dtype:
        frozen.widened = True  # a norm that is written for half precision
        return call.args[0]
    gate = all(_is_gate(frozen, t) for t in frozen.linear_in((call.args, call.kwargs)))
    if call.name in ("zeros_like", "ones_like", "empty_like", "new_zeros", "new_ones"):
        return out
    return frozen.keep(out, call.name, gate)


def _hold(frozen: Frozen, call: Call) -> Any:
    _check_not_in_place(call)
    return frozen.hold(call)


def _activation(frozen: Frozen, call: Call) -> Any:
    """``phi(x) = x (phi(x) / x)`` with the second factor held; at zero it is the derivative."""
    x, kwargs = call.args[0], dict(call.kwargs)
    flags = [value for value in call.args[1:] if isinstance(value, bool)]  # whether in place
    in_place = call.in_place or bool(kwargs.pop("inplace", False)) or any(flags)
    func: Callable[..., Tensor] = getattr(F, call.name, None) or getattr(torch, call.name)
    others = tuple(v for v in frozen.held(call.args[1:]) if not isinstance(v, bool))
    if not frozen.is_linear(x):  # a slope or a bound that is followed
        return frozen.hold(call)
    value = x.detach()
    y = func(value, *others, **frozen.held(kwargs))
    zero = value == 0
    slope = y
    if bool(zero.any()) or call.name in BOUNDS:
        at_zero, slope = _at_zero(func, value, others, frozen.held(kwargs))
        if bool((at_zero != 0).any()):
            return frozen.hold(call)
    ratio = torch.where(zero, slope, y / torch.where(zero, torch.ones_like(value), value))
    if in_place:
        return frozen.keep(x.mul_(ratio), call.name, gate=True)
    return frozen.keep(x * ratio, call.name, gate=True)


def _at_zero(
    func: Callable[..., Tensor], like: Tensor, others: Any, kwargs: Any
) -> tuple[Tensor, Tensor]:
    """The value of an activation and its derivative at zero."""
    with torch.enable_grad():
        zero = torch.zeros_like(like).requires_grad_()
        y = func(zero, *others, **kwargs)
        if not y.requires_grad:
            return y, torch.zeros_like(y)
        (slope,) = torch.autograd.grad(y.sum(), zero)
    return y.detach(), slope


def _sum(frozen: Frozen, call: Call) -> Any:
    """Sums: constants become inputs; a sum with a held term is held."""
    terms = call.args[:2]
    others = frozen.held_in(terms)
    if others:
        return _held_sum(frozen, call)
    linear = frozen.linear_in(terms)
    target = call.args[0]
    if call.in_place and not frozen.is_linear(target):
        _check_zero(target, call.name)
        return frozen.keep(call.run(), call.name)
    gate = all(_is_gate(frozen, t) for t in linear)
    terms = tuple(frozen.source(t, linear[0]) for t in terms)
    kwargs = dict(call.kwargs)
    if "other" in kwargs:
        kwargs["other"] = frozen.source(kwargs["other"], linear[0])
    out = call.func(*terms, *call.args[2:], **kwargs)
    return frozen.keep(out, call.name, gate)


def _held_sum(frozen: Frozen, call: Call) -> Any:
    _check_not_in_place(call)
    reason = frozen.reason_of(frozen.held_in((call.args, call.kwargs)), call.name)
    return frozen.hold(call, reason)


def _joined(frozen: Frozen, call: Call) -> Any:
    """Concatenations: a constant part, such as a class token, is an input."""
    parts = list(call.args[0] if call.args else call.kwargs["tensors"])
    if frozen.held_in(parts):
        return _held_sum(frozen, call)
    linear = frozen.linear_in(parts)
    gate = len(linear) == len(parts) and all(_is_gate(frozen, t) for t in linear)
    made = [frozen.source(t, linear[0]) for t in parts]
    kwargs = {k: v for k, v in call.kwargs.items() if k != "tensors"}
    return frozen.keep(call.func(made, *call.args[1:], **kwargs), call.name, gate)


def _where(frozen: Frozen, call: Call) -> Any:
    condition, *terms = call.args
    if frozen.held_in(terms) or frozen.is_linear(condition):
        return _held_sum(frozen, call)
    linear = frozen.linear_in(terms)
    made = [frozen.source(t, linear[0]) for t in terms]
    return frozen.keep(call.func(frozen.held(condition), *made, **call.kwargs), call.name)


def _masked_fill(frozen: Frozen, call: Call) -> Any:
    x, mask = call.args[:2]
    value = argument(call, 2, "value", 0)
    if not frozen.is_linear(x) or frozen.is_linear(value) or frozen.is_linear(mask):
        return _held_sum(frozen, call)
    if isinstance(value, Tensor):
        value = value.item() if frozen.tag(value) is None else torch.nan
    if value != 0:  # scores of attention, whose softmax is held in any case
        return _held_sum(frozen, call)
    return frozen.keep(call.func(x, frozen.held(mask), 0.0), call.name)


def _set_item(frozen: Frozen, call: Call) -> Any:
    """``x[i] = y``: the entries that remain must be linear or zero."""
    target, index, value = call.args
    if frozen.held_in((target, value)) and not isinstance(value, int | float):
        raise _lost(call.name, "a held value among what is linear")
    if not frozen.is_linear(target):
        _check_zero(target, call.name)
        like = value
    else:
        like = target
    call.func(target, frozen.held(index), frozen.source(value, like))
    return frozen.keep(target, call.name)


def _copied(frozen: Frozen, call: Call) -> Any:
    """``x.copy_(y)``: all entries are overwritten."""
    if call.name in ("zero", "fill"):
        raise _lost(call.name, "a number over what is linear")
    if not frozen.is_linear(call.args[1]):
        raise _lost(call.name, "a constant over what is linear")
    return frozen.keep(call.run(), call.name)


def _accumulated(frozen: Frozen, call: Call) -> Any:
    """``index_add`` and alike: both the existing and the added entries must be linear or zero."""
    target, added = call.args[0], call.args[-1] if len(call.args) > 3 else call.kwargs.get("source")
    if frozen.held_in((target, added)) or not frozen.is_linear(added):
        raise _lost(call.name, "a held value or a constant among what is linear")
    if not frozen.is_linear(target):
        _check_zero(target, call.name)
    out = call.run()
    return frozen.keep(out, call.name)


def _product(frozen: Frozen, call: Call) -> Any:
    """Products of a linear factor with a held one; of two linear factors, the gate is held."""
    linear = frozen.linear_in((call.args, call.kwargs))
    gates = [t for t in linear if _is_gate(frozen, t)]
    if len(linear) == 1:
        if call.in_place and not frozen.is_linear(call.args[0]):
            raise _lost(call.name, "a product in place of a constant")
        gate = call.name in ELEMENTWISE and (bool(gates) or _gates(frozen, call, linear[0]))
        return frozen.keep(call.run(), call.name, gate)
    if len(linear) == 2 and len(gates) == 1 and call.name in ELEMENTWISE:
        args = tuple(t.detach() if t is gates[0] else t for t in call.args)
        if call.in_place and gates[0] is call.args[0]:
            raise _lost(call.name, "a gate multiplied in place")
        return frozen.keep(call.func(*args, **call.kwargs), call.name)
    _check_not_in_place(call)
    return frozen.hold(call, f"{call.name} of two activations")


def _quotient(frozen: Frozen, call: Call) -> Any:
    """Quotients by a number or a held tensor."""
    x, by = call.args[0], argument(call, 1, "other", None)
    if not frozen.is_linear(x) or call.kwargs.get("rounding_mode"):
        return _hold(frozen, call)
    gate = _is_gate(frozen, x) and not frozen.is_linear(by)
    return frozen.keep(call.func(x, frozen.held(by)), call.name, gate)


def _biased(frozen: Frozen, call: Call) -> Any:
    """``linear`` and convolutions: their bias is an input."""
    if len(frozen.linear_in((call.args, call.kwargs))) > 1:
        return frozen.hold(call, f"{call.name} of two activations")
    args, kwargs = list(call.args), dict(call.kwargs)
    bias = argument(call, 2, "bias", None)
    x = args[0] if args else kwargs["input"]
    if not frozen.is_linear(x):  # a weight that depends on the input
        return frozen.hold(call)
    if bias is not None:
        if frozen.tag(bias):
            return _held_sum(frozen, call)
        made = frozen.source(bias, x)
        if len(args) > 2:
            args[2] = made
        else:
            kwargs["bias"] = made
    return frozen.keep(call.func(*args, **kwargs), call.name)


def _add_product(frozen: Frozen, call: Call) -> Any:
    """``addmm`` and ``baddbmm``: a sum and a product."""
    bias, a, b = call.args[:3]
    if frozen.held_in((bias,)) or len(frozen.linear_in((a, b))) != 1:
        return frozen.hold(call, f"{call.name} of two activations")
    like = a if frozen.is_linear(a) else b
    return frozen.keep(call.func(frozen.source(bias, like), a, b, **call.kwargs), call.name)


def _dropout(frozen: Frozen, call: Call) -> Any:
    x = call.args[0]
    if bool(argument(call, 2, "training", True)) and float(argument(call, 1, "p", 0.5)) > 0:
        raise dropout_on()
    return frozen.keep(x, call.name, _is_gate(frozen, x)) if frozen.is_linear(x) else x


def _normalize(frozen: Frozen, call: Call) -> Any:
    """``x / max(|x|, eps)`` with the length held."""
    x = call.args[0]
    p, dim = argument(call, 1, "p", 2.0), argument(call, 2, "dim", 1)
    eps = argument(call, 3, "eps", 1e-12)
    size = x.detach().norm(p, dim, keepdim=True).clamp_min(eps)
    return frozen.keep(x / size, call.name)


def _glu(frozen: Frozen, call: Call) -> Any:
    """``a sigmoid(b)`` with the second factor held."""
    a, b = call.args[0].chunk(2, argument(call, 1, "dim", -1))
    return frozen.keep(a * b.detach().sigmoid(), call.name)


def _number(_: Frozen, call: Call) -> Any:
    raise StructureError(
        f"the operation '{call.name}', which makes a number of Python of what depends on the input",
        "tensors",
        "Keep the number in a tensor, or use freeze=False.",
    )


def _gates(frozen: Frozen, call: Call, x: Tensor) -> bool:
    """True if a held factor has one entry for each of ``x``: a gate, not a scale."""
    return any(t.shape == x.shape for t in frozen.held_in(call.args))


def _is_gate(frozen: Frozen, x: Tensor) -> bool:
    tag = frozen.tag(x)
    return tag is not None and tag.gate


def argument(call: Call, place: int, name: str, default: Any) -> Any:
    """An argument by its position or its name."""
    return call.args[place] if len(call.args) > place else call.kwargs.get(name, default)


def _check_not_in_place(call: Call) -> None:
    if call.in_place:
        raise _lost(call.name, "a nonlinear operation in place of what is linear")


def _check_zero(x: Tensor, name: str) -> None:
    if bool((x != 0).any()):
        raise _lost(name, "what is linear written into a constant")


def _lost(name: str, what: str) -> StructureError:
    return StructureError(
        f"{what} by '{name}', which would be lost",
        "an operation that returns a new tensor",
        "Use freeze=False, or mean Jacobians.",
    )


_GROUPS: tuple[tuple[list[str], Rule], ...] = (
    (VIEWS, _view),
    (HELD, _hold),
    (ACTIVATIONS, _activation),
    (SUMS, _sum),
    (JOINED, _joined),
    (PRODUCTS, _product),
    (QUOTIENTS, _quotient),
    (CONVOLUTIONS, _biased),
    (DROPOUTS, _dropout),
    (["addmm", "baddbmm", "addbmm", "addmv"], _add_product),
    (["copy", "zero", "fill"], _copied),
    (["where"], _where),
    (["index_add", "index_copy", "scatter_add"], _accumulated),
    (["masked_fill"], _masked_fill),
    (["setitem"], _set_item),
    (["normalize"], _normalize),
    (["glu"], _glu),
    (list(NUMBERS), _number),
)
for _names, _rule in _GROUPS:
    RULES |= dict.fromkeys(_names, _rule)

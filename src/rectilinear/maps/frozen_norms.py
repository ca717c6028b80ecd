"""Frozen-gate rules for normalisation and attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's name

from rectilinear.errors import StructureError
from rectilinear.maps.frozen import RULES, Call, Frozen, dropout_on, names
from rectilinear.maps.frozen_rules import argument

ATTENTION = names("""
    query key value embed_dim_to_check num_heads in_proj_weight in_proj_bias bias_k bias_v
    add_zero_attn dropout_p out_proj_weight out_proj_bias
""")
NORMS = names("layer_norm rms_norm group_norm instance_norm batch_norm")


def _norm(frozen: Frozen, call: Call) -> Any:
    """Normalisations ``(x - mean) scale weight + bias``: scale held, bias as an input."""
    x = call.args[0]
    given = frozen.linear_in((call.args[1:], call.kwargs)) + frozen.held_in(
        (call.args, call.kwargs)
    )
    if not frozen.is_linear(x) or given:
        return frozen.hold(call)
    if call.name in ("layer_norm", "rms_norm"):
        return frozen.keep(_layer_norm(frozen, call, x), call.name)
    if call.name == "group_norm":
        return frozen.keep(_group_norm(frozen, call, x), call.name)
    return frozen.keep(_batch_norm(frozen, call, x), call.name)


def _layer_norm(frozen: Frozen, call: Call, x: Tensor) -> Tensor:
    shape = argument(call, 1, "normalized_shape", ())
    weight = argument(call, 2, "weight", None)
    dims = tuple(range(-len(shape), 0))
    if call.name == "rms_norm":
        eps = argument(call, 3, "eps", None)
        eps = torch.finfo(x.dtype).eps if eps is None else eps
        scale = (x.detach().square().mean(dims, keepdim=True) + eps).rsqrt()
        return x * scale if weight is None else x * scale * weight
    bias, eps = argument(call, 3, "bias", None), argument(call, 4, "eps", 1e-5)
    return _scaled(frozen, x, dims, eps, weight, bias)


def _scaled(
    frozen: Frozen, x: Tensor, dims: tuple[int, ...], eps: float, weight: Any, bias: Any
) -> Tensor:
    centred = x - x.mean(dims, keepdim=True)
    scale = (centred.detach().square().mean(dims, keepdim=True) + eps).rsqrt()
    out = centred * scale
    out = out if weight is None else out * weight
    return out if bias is None else out + frozen.source(bias, x)


def _group_norm(frozen: Frozen, call: Call, x: Tensor) -> Tensor:
    groups = argument(call, 1, "num_groups", 1)
    weight, bias = argument(call, 2, "weight", None), argument(call, 3, "bias", None)
    eps = argument(call, 4, "eps", 1e-5)
    apart = x.reshape(len(x), groups, -1)
    out = _scaled(frozen, apart, (-1,), eps, None, None).reshape(x.shape)
    return _per_channel(frozen, out, weight, bias)


def _batch_norm(frozen: Frozen, call: Call, x: Tensor) -> Tensor:
    """Batch normalisation: affine with running statistics; else its scale is held."""
    mean, var = argument(call, 1, "running_mean", None), argument(call, 2, "running_var", None)
    weight, bias = argument(call, 3, "weight", None), argument(call, 4, "bias", None)
    own = argument(call, 5, "training" if call.name == "batch_norm" else "use_input_stats", False)
    eps = argument(call, 7, "eps", 1e-5)
    places = tuple(range(2, x.ndim))
    if own or mean is None:
        dims = places if call.name == "instance_norm" else (0, *places)
        out = _scaled(frozen, x, dims, eps, None, None)
        return _per_channel(frozen, out, weight, bias)
    scale = (var + eps).rsqrt() if weight is None else weight * (var + eps).rsqrt()
    offset = -mean * scale if bias is None else bias - mean * scale
    named = bias if bias is not None else mean
    offset._rectilinear_name = frozen.name_of(named)
    return _per_channel(frozen, x, scale, offset)


def _per_channel(frozen: Frozen, x: Tensor, weight: Any, bias: Any) -> Tensor:
    shape = (1, -1, *[1] * (x.ndim - 2))
    out = x if weight is None else x * weight.reshape(shape)
    return out if bias is None else out + frozen.source(bias, x).reshape(shape)


def _attention(frozen: Frozen, call: Call) -> Any:
    """``weights v`` with held weights, which identities as values give."""
    first = ("query", "key", "value")
    q, k, v = (argument(call, i, name, None) for i, name in enumerate(first))
    kwargs = {key: value for key, value in call.kwargs.items() if key not in first}
    for i, key in enumerate(("attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")):
        if len(call.args) > 3 + i:
            kwargs[key] = call.args[3 + i]
    if kwargs.get("dropout_p"):
        raise dropout_on()
    if not frozen.is_linear(v):
        return frozen.hold(call)
    eye = torch.eye(k.shape[-2], dtype=v.dtype, device=v.device)
    eye = eye.expand(*v.shape[:-2], *eye.shape)
    weights = call.func(q.detach(), k.detach(), eye, **frozen.held(kwargs))
    if kwargs.get("enable_gqa"):
        v = v.repeat_interleave(q.shape[-3] // v.shape[-3], -3)
    return frozen.keep(weights @ v, call.name)


def _multi_head(frozen: Frozen, call: Call) -> Any:
    """``nn.MultiheadAttention``: held weights, and values through their projection."""
    given = dict(zip(ATTENTION, call.args, strict=False)) | call.kwargs
    if any(given.get(name) is not None for name in ("bias_k", "bias_v", "static_k", "static_v")):
        raise StructureError(
            "attention with bias_k, bias_v, static_k or static_v",
            "attention without them",
            "Use freeze=False, or mean Jacobians.",
        )
    if given.get("add_zero_attn") or (given.get("training") and given.get("dropout_p")):
        raise StructureError(
            "attention with dropout or add_zero_attn",
            "attention without them",
            "Use freeze=False, or mean Jacobians.",
        )
    v, heads, width = given["value"], given["num_heads"], given["embed_dim_to_check"]
    asked = {"need_weights": True, "average_attn_weights": False}
    _, weights = call.func(**frozen.held(given) | asked)
    if not frozen.is_linear(v):
        return frozen.hold(call)
    alone = v.ndim == 2
    v = v[:, None] if alone else v
    weights = weights[None] if alone else weights
    separate = given.get("use_separate_proj_weight")
    weight = given["v_proj_weight"] if separate else given["in_proj_weight"][2 * width :]
    values = F.linear(v, weight)
    if given.get("in_proj_bias") is not None:
        bias = given["in_proj_bias"][2 * width :]
        bias._rectilinear_name = frozen.name_of(given["in_proj_bias"])
        values = values + frozen.source(bias, v)
    s, b, _ = values.shape
    values = values.reshape(s, b, heads, -1).permute(1, 2, 0, 3)
    mixed = (weights @ values).permute(2, 0, 1, 3).reshape(-1, b, width)
    out = F.linear(mixed, given["out_proj_weight"])
    if given.get("out_proj_bias") is not None:
        out = out + frozen.source(given["out_proj_bias"], v)
    out = frozen.keep(out[:, 0] if alone else out, call.name)
    if not given.get("need_weights", True):
        return out, None
    shown = weights.mean(1) if given.get("average_attn_weights", True) else weights
    return out, frozen.held(shown[0] if alone else shown)


RULES |= dict.fromkeys(NORMS, _norm)
RULES |= {
    "scaled_dot_product_attention": _attention,
    "multi_head_attention_forward": _multi_head,
}

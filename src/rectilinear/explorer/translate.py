"""A generator in the words of the page: its layers as JSON, for the scripts in ``explorer/web``.

Each layer that the page knows has one function here and one in ``web/layers.js``. A layer that it
does not know is one clear error.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from rectilinear import invertible as inv
from rectilinear.errors import StructureError
from rectilinear.explorer.weights import Weights
from rectilinear.flow import LinearFlow, SolvedVelocity
from rectilinear.invertible.conditioners import ConvNet
from rectilinear.operators import Diagonal, Operator, svd

Json = dict[str, Any]
MAX_SIDE = 64  # pixels of an image that the page decodes while a slider moves
MAX_DENSE = 1024  # dimensions of an operator without a diagonal form
M = TypeVar("M", bound=nn.Module)
Table = dict[type[nn.Module], Callable[[Any, Weights], Json]]
_LAYERS: Table = {}
_NETS: Table = {}


def translate(flow: LinearFlow, operator: Operator, weights: Weights) -> Json:
    """The parts of a generator, ``operator`` all of its steps; their numbers go into ``weights``.

    Raises:
        StructureError: for a layer that the page does not know, or a large operator that is not
            diagonal.
    """
    return {
        "shape": tuple(flow.g_data.shape),
        "data": layer(flow.g_data, weights),
        "noise": layer(flow.g_noise, weights),
        "operator": _operator(operator, weights),
        "velocity": _velocity(flow, weights),
    }


def check_images(flow: LinearFlow) -> None:
    """Raise StructureError unless the data are images of at most 64 x 64 pixels."""
    shape = tuple(flow.g_data.shape)
    if len(shape) != 3 or shape[0] not in (1, 3) or max(shape[1:]) > MAX_SIDE:
        raise StructureError(
            f"a generator of arrays of shape {shape}",
            f"images (1 or 3, h, w) of at most {MAX_SIDE} x {MAX_SIDE} pixels",
            "Train one at a smaller size: rectilinear train images --set size=64.",
        )


def layer(block: nn.Module, weights: Weights) -> Json:
    """One invertible layer."""
    return _known(_LAYERS, block, "layer")(block, weights)


def _net(net: nn.Module, weights: Weights) -> Json:
    return _known(_NETS, net, "network inside a coupling")(net, weights)


def _known(table: Table, part: nn.Module, what: str) -> Callable[[Any, Weights], Json]:
    if type(part) not in table:
        raise StructureError(
            f"a {what} of type {type(part).__name__}",
            f"one that the explorer can run: {', '.join(sorted(kind.__name__ for kind in table))}",
            "rectilinear sample, invert and interpolate take every generator.",
        )
    return table[type(part)]


def _for(
    *kinds: type[nn.Module], table: Table = _LAYERS
) -> Callable[[Callable[[M, Weights], Json]], Callable[[M, Weights], Json]]:
    """Enter the function into the table for these types alone: a subclass may do something else."""

    def register(function: Callable[[M, Weights], Json]) -> Callable[[M, Weights], Json]:
        table.update(dict.fromkeys(kinds, function))
        return function

    return register


def _operator(operator: Operator, weights: Weights) -> Json:
    """The singular value decomposition of all steps in one."""
    u, s, v = svd(operator)
    if isinstance(operator, Diagonal):
        sign = torch.where(operator.values < 0, -1.0, 1.0)
        order = operator.values.abs().argsort(descending=True, stable=True)
        return {
            "kind": "diagonal",
            "sigma": weights.add(operator.values.abs()[order]),
            "order": weights.add(order),
            "sign": weights.add(sign),
        }
    if operator.in_dim > MAX_DENSE or operator.in_dim != len(s):
        raise StructureError(
            f"a {type(operator).__name__} operator in {operator.in_dim} dimensions",
            f"a diagonal one, or one of full rank in at most {MAX_DENSE} dimensions",
            "Use smaller images.",
        )
    eye = torch.eye(len(s), dtype=s.dtype, device=s.device)
    sides = {"left": weights.add(u(eye), fine=True), "right": weights.add(v(eye), fine=True)}
    return {"kind": "dense", "sigma": weights.add(s), **sides}


def _velocity(flow: LinearFlow, weights: Weights) -> Json | None:
    """The numbers that a step of the integrator needs, where they are few: None elsewhere."""
    velocity = flow.velocity
    if isinstance(velocity, SolvedVelocity) and velocity.s0.ndim == velocity.s1.ndim == 1:
        return {"s0": weights.add(velocity.s0), "s1": weights.add(velocity.s1)}
    return None


@_for(inv.Identity, inv.Reshape)
def _same(block: nn.Module, weights: Weights) -> Json:  # noqa: ARG001 - as all layers
    return {"kind": "identity"}


@_for(inv.Chain)
def _chain(block: inv.Chain, weights: Weights) -> Json:
    return {"kind": "chain", "blocks": [layer(b, weights) for b in block.blocks]}


@_for(inv.VectorFlow, inv.ImageFlow)
def _flow(block: inv.VectorFlow | inv.ImageFlow, weights: Weights) -> Json:
    return layer(block.chain, weights)


@_for(inv.Inverse)
def _inverse(block: inv.Inverse, weights: Weights) -> Json:
    return {"kind": "inverse", "block": layer(block.network, weights)}


@_for(inv.Leading)
def _leading(block: inv.Leading, weights: Weights) -> Json:
    return {"kind": "leading", "block": layer(block.network, weights), "keep": block.network.dim}


@_for(inv.Permutation, inv.Squeeze, inv.Patches)
def _order(block: inv.Invertible, weights: Weights) -> Json:
    """Entries in another order, which the layer itself shows."""
    places = torch.arange(block.dim, dtype=torch.float64).reshape(1, *block.shape)
    return {"kind": "order", "index": weights.add(block(places).flatten().int())}


@_for(inv.Scaling)
def _scaling(block: inv.Scaling, weights: Weights) -> Json:
    return _affine(block.scale, torch.zeros_like(block.scale), weights)


@_for(inv.ActNorm)
def _actnorm(block: inv.ActNorm, weights: Weights) -> Json:
    scale, mean = (t.expand(block.shape) for t in (block.log_scale.exp(), block.mean))
    return _affine(scale, mean, weights)


def _affine(scale: Tensor, mean: Tensor, weights: Weights) -> Json:
    return {"kind": "affine", "scale": weights.add(scale), "mean": weights.add(mean)}


@_for(inv.Rotation)
def _rotation(block: inv.Rotation, weights: Weights) -> Json:
    matrix, mean = weights.add(block.matrix, fine=True), weights.add(block.mean)
    rotation = {"kind": "rotation", "matrix": matrix, "mean": mean}
    if block.vectors is None:
        return rotation
    return {"kind": "chain", "blocks": [rotation, _reflect(block.vectors, weights)]}


@_for(inv.Reflections)
def _reflections(block: inv.Reflections, weights: Weights) -> Json:
    ones, zeros = torch.ones_like(block.signs), torch.zeros_like(block.signs)
    centre, signs = _affine(ones, block.mean, weights), _affine(block.signs, zeros, weights)
    return {"kind": "chain", "blocks": [centre, _reflect(block.vectors, weights), signs]}


def _reflect(vectors: Tensor, weights: Weights) -> Json:
    return {
        "kind": "reflections",
        "vectors": weights.add(vectors, fine=True),
        "count": len(vectors),
    }


@_for(inv.Conv1x1)
def _mix(block: inv.Conv1x1, weights: Weights) -> Json:
    weight = block._weight(block.rotation.mean)
    return {"kind": "mix", "weight": weights.add(weight), "channels": block.shape[0]}


@_for(inv.AdditiveCoupling, inv.AffineCoupling)
def _coupling(block: inv.AdditiveCoupling | inv.AffineCoupling, weights: Weights) -> Json:
    bound = block.bound if isinstance(block, inv.AffineCoupling) else 0
    return {"kind": "coupling", "bound": bound, **_split(block, weights)}


@_for(inv.SplineCoupling)
def _spline(block: inv.SplineCoupling, weights: Weights) -> Json:
    numbers = {"bins": block.bins, "box": block.box, "bound": block.bound}
    return {"kind": "spline", **numbers, **_split(block, weights)}


def _split(
    block: inv.AdditiveCoupling | inv.AffineCoupling | inv.SplineCoupling, weights: Weights
) -> Json:
    if block.axis or block.precision != "float32":
        raise StructureError(
            f"a {type(block).__name__} on axis {block.axis} with precision {block.precision}",
            "couplings on the first axis in float32",
            "rectilinear sample, invert and interpolate take every generator.",
        )
    _, *size = block.shape
    net = _net(block.conditioner, weights) | dict(zip(("height", "width"), size, strict=False))
    return {"keep": block.keep * prod(size), "net": net}


@_for(inv.MixtureMap)
def _mixture(block: inv.MixtureMap, weights: Weights) -> Json:
    names = ("log_weights", "means", "log_scales", "lower", "classes")
    return {"kind": "mixture", **{name: weights.add(getattr(block, name)) for name in names}}


@_for(nn.Linear, table=_NETS)
def _linear(net: nn.Linear, weights: Weights) -> Json:
    return {"kind": "linear", **_dense(net, weights)}


def _dense(linear: nn.Linear, weights: Weights) -> Json:
    bias = linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias
    return {"weight": weights.add(linear.weight), "bias": weights.add(bias)}


@_for(inv.MLP, table=_NETS)
def _mlp(net: inv.MLP, weights: Weights) -> Json:
    layers = [_dense(linear, weights) for linear in (net.enter, *net.middle, net.leave)]
    return {"kind": "mlp", "layers": layers, "residual": net.residual}


@_for(ConvNet, table=_NETS)
def _conv(net: ConvNet, weights: Weights) -> Json:
    layers = []
    for conv in (net.enter, *net.middle, net.leave):
        assert isinstance(conv, nn.Conv2d)
        size = {"kernel": conv.kernel_size[0], "from": conv.in_channels, "to": conv.out_channels}
        layers.append({"weight": weights.add(conv.weight), "bias": weights.add(conv.bias), **size})
    return {"kind": "conv", "layers": layers, "position": weights.add(net.position)}

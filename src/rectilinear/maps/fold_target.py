"""The linear layer before a span of blocks that its map can be folded into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from rectilinear.errors import DtypeError, ShapeError, StructureError
from rectilinear.maps.spans import Span
from rectilinear.networks.batches import Batch
from rectilinear.networks.forward_pass import Output, forward
from rectilinear.networks.places import held_twice, inner
from rectilinear.networks.token_vectors import Layout, layout_of, on_vectors, vectors
from rectilinear.random import stream

SAMPLES = 2  # samples that the layer is tried on
CHANGE = 0.1  # of the size of the stream: what is added to the layer's output
AGREE = 3e-2  # times the root of machine precision: equal but for rounding
LEAST_SCALE = 1e-6  # of the largest scale of a channel: less carries nothing
HALF, HALF_AGREE = 1e-5, 0.1  # machine precision of half formats; the share of a change they round


@dataclass(frozen=True, eq=False)
class Neighbour:
    """A linear layer whose output is added to the stream right before a span.

    Between the two each channel may be scaled, as by the layer scale of ConvNeXt and DINOv2.

    Attributes:
        layer: its name.
        block: the name of the block that it is in.
        norm: the name of the normalisation between it and the span; None where there is none.
        layout: which axis of the stream holds its vectors.
        own: which axis of the layer's output does.
        scale: the factor of each channel between the layer and the sum, ``(d,)``; None where there
            is none.
    """

    layer: str
    block: str
    norm: str | None
    layout: Layout
    own: Layout
    scale: Tensor | None = None

    @property
    def kind(self) -> Literal["pre-norm", "post-norm"]:
        """The stream before the span: ``pre-norm`` as it is, ``post-norm`` if normalised."""
        return "pre-norm" if self.norm is None else "post-norm"

    @property
    def sum(self) -> str:
        """The place of the sum of its output and the stream."""
        return f"{self.block}@output" if self.norm is None else f"{self.norm}@input"


def neighbour_of(model: nn.Module, batch: Batch, span: Span, output: Output = None) -> Neighbour:
    """The layer before the span that its map can be folded into, found by perturbation.

    A change of its output must be the same change, but for a scale of each channel, of its block's
    output, or of the input of the block's last normalisation. So it is the MLP's down-projection in
    a transformer, and the last convolution of 1 x 1 in a convolutional network.
    """
    if span.before is None:
        raise StructureError(
            f"the span {span} at the start of {span.container or 'the model'}",
            "a block in front of it, whose last linear layer takes the map in",
            "Start it one block later, or pass fold=False.",
        )
    model = inner(model)
    block = model.get_submodule(span.before)
    head = batch.take(slice(SAMPLES))
    several = held_twice(model)
    place = f"{span.before}@output"
    layout = forward(model, head, [place], output=output).layout(place)
    norms = [n for n, m in block.named_modules() if type(m) is nn.LayerNorm and n]
    reasons: list[str] = []
    for name, layer in reversed(list(block.named_modules())):
        full = f"{span.before}.{name}" if name else span.before
        if not is_foldable(layer):
            continue
        if full in several:
            reasons.append(f"{full} is shared with another block")
            continue
        for norm in (None, *(f"{span.before}.{n}" for n in reversed(norms))):
            found = _adding(model, head, Neighbour(full, span.before, norm, layout, layout), output)
            if found is not None:
                return found
    raise StructureError(
        f"{span.before} ({type(block).__name__}), in which no linear layer's output is added to "
        "the stream right before the span" + (f": {'; '.join(reasons)}" if reasons else ""),
        "a linear layer, or a convolution of 1 x 1, at its end",
        "Fold batch normalisations first with fuse, or pass fold=False.",
    )


def is_foldable(layer: nn.Module) -> bool:
    """True if a layer is linear in each vector separately, and owns its weight.

    Example:
        >>> is_foldable(nn.Linear(2, 3)), is_foldable(nn.Conv2d(2, 3, 3))
        (True, False)
    """
    conv = type(layer).__name__ == "Conv1D" and hasattr(layer, "nf")  # of transformers: x W + b
    if isinstance(layer, nn.Linear) or conv:
        return isinstance(getattr(layer, "weight", None), nn.Parameter)
    if type(layer) not in (nn.Conv1d, nn.Conv2d):
        return False
    assert isinstance(layer, nn.Conv1d | nn.Conv2d)
    padded = layer.padding != "valid" and (isinstance(layer.padding, str) or any(layer.padding))
    return (
        layer.weight[0, 0].numel() == 1
        and layer.groups == 1
        and not padded
        and all(step == 1 for step in layer.stride)
    )


def weight_of(layer: nn.Module) -> Tensor:
    """The matrix ``(o, k)`` of a foldable layer, in float64."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    matrix = weight.detach().flatten(1).double()
    return matrix.mT if type(layer).__name__ == "Conv1D" else matrix


def set_weight(layer: nn.Module, matrix: Tensor, constant: Tensor | None) -> None:
    """Write a matrix ``(o, k)`` and a constant ``(o,)`` into a layer."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, nn.Parameter)
    found = matrix.mT if type(layer).__name__ == "Conv1D" else matrix
    weight.data = found.reshape(weight.shape).to(weight).contiguous()
    if constant is not None:
        assert isinstance(bias, nn.Parameter)
        bias.data = constant.to(bias)


def _adding(model: nn.Module, batch: Batch, found: Neighbour, output: Output) -> Neighbour | None:
    """The layer with its scale, if a change of its output changes the sum that enters the span."""
    layer, norm = found.layer, found.norm
    places = [found.sum, f"{found.block}@output", f"{layer}@input", f"{layer}@output"]
    places += [f"{norm}@output"] if norm else []
    try:
        plain = forward(model, batch, places, output=output).at
        own = layout_of(plain[f"{layer}@output"], model.get_submodule(layer))
        found = replace(found, own=own)
        scale = _scale(model, batch, found, output, plain)
    except (StructureError, DtypeError, ShapeError):  # not called once, or not with numbers
        return None
    if scale is None or not _is_product(model.get_submodule(layer), plain, layer):
        return None
    if norm and not torch.equal(plain[f"{norm}@output"], plain[f"{found.block}@output"]):
        return None
    return found if bool((scale == 1).all()) else replace(found, scale=scale)


def _scale(
    model: nn.Module, batch: Batch, found: Neighbour, output: Output, plain: Mapping[str, Tensor]
) -> Tensor | None:
    """The factor of each channel by which a change of the layer's output changes the sum.

    Ones where it is the same change; None if the change is no multiple of it.
    """
    total = plain[found.sum]
    size = CHANGE * float(total.double().square().mean().sqrt().clamp_min(1e-3))
    shape = vectors(plain[f"{found.layer}@output"], None, found.own).rows.shape
    noise = torch.randn(shape, generator=stream(0, "a change"), dtype=torch.float64)
    scale = torch.ones(shape[1], dtype=torch.float64)
    for _ in range(2):  # the second time with one size behind the scale, so that none is rounded
        step = (size * noise / scale).to(total)
        change = {f"{found.layer}@output": partial(_moved, step=step, layout=found.own)}
        other = forward(model, batch, [found.sum], change, output=output).at[found.sum]
        seen = vectors(other - total, None, found.layout).rows
        if seen.shape != step.shape:
            return None
        if _agree(seen, step, total):
            return torch.ones_like(scale)
        products = (seen * step).double().sum(0).cpu()
        scale = products / step.double().square().sum(0).cpu().clamp_min(1e-300)
        if not bool((scale.abs() > LEAST_SCALE * scale.abs().max()).all()):
            return None
    return scale if _agree(seen, step * scale.to(step), total) else None


def _moved(value: Tensor, step: Tensor, layout: Layout) -> Tensor:
    return on_vectors(lambda rows: rows + step.to(rows), value, layout)


def _agree(seen: Tensor, wanted: Tensor, total: Tensor) -> bool:
    """True if two changes of the sum are equal but for its rounding."""
    eps = torch.finfo(seen.dtype).eps
    if eps > HALF:
        return float((seen - wanted).float().norm()) <= HALF_AGREE * float(wanted.float().norm())
    allowed = AGREE * eps**0.5 * float(total.abs().max())
    return float((seen - wanted).abs().max()) <= allowed


def _is_product(layer: nn.Module, at: Mapping[str, Tensor], name: str) -> bool:
    """True if a subclass of a linear layer computes ``W x + b`` only."""
    if type(layer) is not nn.Linear and isinstance(layer, nn.Linear):
        x, out = at[f"{name}@input"], at[f"{name}@output"]
        with torch.no_grad():
            made = nn.functional.linear(x, layer.weight, layer.bias)
        allowed = AGREE * torch.finfo(out.dtype).eps ** 0.5 * float(out.abs().max())
        return made.shape == out.shape and float((made - out).abs().max()) <= allowed
    return True

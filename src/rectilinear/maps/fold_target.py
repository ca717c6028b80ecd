"""The linear layer before a span of blocks that its map can be folded into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from rectilinear.errors import DtypeError, StructureError
from rectilinear.maps.spans import Span
from rectilinear.networks.batches import Batch
from rectilinear.networks.forward_pass import Output, forward
from rectilinear.networks.places import held_twice, inner
from rectilinear.networks.token_vectors import Layout
from rectilinear.random import stream

SAMPLES = 2  # samples that the layer is tried on
CHANGE = 0.1  # of the size of the stream: what is added to the layer's output
AGREE = 3e-2  # times the root of machine precision: equal but for rounding
HALF, HALF_AGREE = 1e-5, 0.1  # machine precision of half formats; the share of a change they round


@dataclass(frozen=True)
class Neighbour:
    """A linear layer whose output is added to the stream right before a span.

    Attributes:
        layer: its name.
        block: the name of the block that it is in.
        norm: the name of the normalisation between it and the span; None where there is none.
        layout: which axis of the stream holds its vectors.
    """

    layer: str
    block: str
    norm: str | None
    layout: Layout

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

    A change of its output must be the same change of its block's output, or of the input of the
    block's last normalisation. So it is the MLP's down-projection in a transformer, and the last
    convolution in a convolutional network whose batch normalisations were folded.
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
            found = Neighbour(full, span.before, norm, layout)
            if _adds(model, head, found, output):
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


def _adds(model: nn.Module, batch: Batch, found: Neighbour, output: Output) -> bool:
    """True if a change of the layer's output is the change of the sum that enters the span."""
    places = [found.sum, f"{found.block}@output", f"{found.layer}@output"]
    places += [f"{found.layer}@input"]
    places += [f"{found.norm}@output"] if found.norm else []
    change: list[Tensor] = []

    def moved(value: Tensor) -> Tensor:
        step = torch.randn(value.shape, generator=stream(0, "a change"), dtype=torch.float64)
        change.append((size * step.to(value.device)).to(value))
        return value + change[0]

    try:
        plain = forward(model, batch, places, output=output).at
        size = CHANGE * plain[found.sum].double().square().mean().sqrt().clamp_min(1e-3)
        other = forward(model, batch, places, {f"{found.layer}@output": moved}, output=output).at
    except (StructureError, DtypeError):  # not called once, or not with numbers
        return False
    if not _is_product(model.get_submodule(found.layer), plain, found.layer):
        return False
    seen = other[found.sum] - plain[found.sum]
    if found.layout == "tokens" and seen.shape[-1] == change[0].shape[-1]:  # in windows, or a grid
        seen = seen.flatten(1, -2)
        change[0] = change[0].flatten(1, -2)
    if seen.shape != change[0].shape:
        return False
    eps = torch.finfo(seen.dtype).eps
    if eps > HALF:
        same = float((seen - change[0]).float().norm()) <= HALF_AGREE * float(
            change[0].float().norm()
        )
    else:
        allowed = AGREE * eps**0.5 * float(plain[found.sum].abs().max())
        same = float((seen - change[0]).abs().max()) <= allowed
    if not same:
        return False
    if found.norm is None:
        return True
    return torch.equal(plain[f"{found.norm}@output"], plain[f"{found.block}@output"])


def _is_product(layer: nn.Module, at: Mapping[str, Tensor], name: str) -> bool:
    """True if a subclass of a linear layer computes ``W x + b`` only."""
    if type(layer) is not nn.Linear and isinstance(layer, nn.Linear):
        x, out = at[f"{name}@input"], at[f"{name}@output"]
        with torch.no_grad():
            made = nn.functional.linear(x, layer.weight, layer.bias)
        allowed = AGREE * torch.finfo(out.dtype).eps ** 0.5 * float(out.abs().max())
        return made.shape == out.shape and float((made - out).abs().max()) <= allowed
    return True

"""A value inside a network as vectors: of tokens, of the places of an image, or of whole rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from rectilinear.errors import ConfigError, ShapeError

Layout = Literal["rows", "tokens", "channels"]


@dataclass(frozen=True, eq=False)
class Vectors:
    """Vectors ``(n, d)`` and the sample that each comes from, ``(n,)``: counted in the batch."""

    rows: Tensor
    samples: Tensor

    def __len__(self) -> int:
        return len(self.rows)


def layout_of(value: Tensor, *modules: nn.Module) -> Layout:
    """The axis of a value that holds its vectors, by name.

    Example:
        >>> layout_of(torch.zeros(2, 3, 4)), layout_of(torch.zeros(2, 3, 4, 4))
        ('tokens', 'channels')
        >>> layout_of(torch.zeros(2, 7, 7, 4), nn.Linear(4, 4))
        'tokens'
    """
    if value.ndim < 2:
        raise ShapeError(
            f"a value of shape {tuple(value.shape)}",
            "(b, d) or more axes",
            "Return value[:, None] from that module, or choose another place.",
        )
    if value.ndim == 2:
        return "rows"
    for module in modules:
        first = value.shape[1] in _widths(module, CHANNELS)
        if first != (value.shape[-1] in _widths(module, FEATURES)):
            return "channels" if first else "tokens"
    return "channels" if value.ndim > 3 else "tokens"


CHANNELS = (nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.GroupNorm)
FEATURES = (nn.Linear, nn.LayerNorm)
WIDTHS: tuple[str, ...] = (
    *("in_channels", "out_channels", "num_features", "num_channels"),
    *("in_features", "out_features"),
)


def _widths(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> set[int]:
    """The numbers of channels or features of the parts of these kinds."""
    parts = [part for part in module.modules() if isinstance(part, kinds)]
    found = {vars(part)[name] for part in parts for name in WIDTHS if name in vars(part)}
    return found | {part.normalized_shape[-1] for part in parts if isinstance(part, nn.LayerNorm)}


def vectors(value: Tensor, mask: Tensor | None = None, layout: Layout | None = None) -> Vectors:
    """The vectors of a value, padding left out.

    Args:
        value: ``(b, d)``, ``(b, t, d)`` or ``(b, c, h, w)``; other axes as ``layout`` says.
        mask: ``(b, t)``, True at real tokens.
        layout: "rows" ``(b, ...)`` flattened, "tokens" ``(b, ..., d)``, or "channels" ``(b, d,
            ...)``; by default :func:`layout_of`.

    Example:
        >>> mask = torch.tensor([[True, True, True], [True, False, False]])
        >>> found = vectors(torch.zeros(2, 3, 5), mask)
        >>> found.rows.shape, found.samples.tolist()
        (torch.Size([4, 5]), [0, 0, 0, 1])
    """
    rows, places = _flat(value, layout or layout_of(value))
    samples = torch.arange(len(value), device=value.device).repeat_interleave(places)
    if mask is None or places == 1:
        return Vectors(rows, samples)
    if mask.shape != (len(value), places):
        raise ShapeError(
            f"a mask of shape {tuple(mask.shape)} for a value of shape {tuple(value.shape)}",
            "one token for each of the mask's",
            "Choose a place before tokens are pooled or merged, or pass data without padding.",
        )
    real = mask.to(value.device).flatten()
    return Vectors(rows[real], samples[real])


def on_vectors(
    function: Callable[[Tensor], Tensor], value: Tensor, layout: Layout | None = None
) -> Tensor:
    """A function of vectors ``(n, d)`` on all those of a value, which keeps its other axes.

    Example:
        >>> on_vectors(lambda v: v[:, :1], torch.zeros(2, 3, 4, 4)).shape
        torch.Size([2, 1, 4, 4])
    """
    layout = layout or layout_of(value)
    rows, _ = _flat(value, layout)
    out = function(rows)
    if layout == "rows":
        return out.reshape(value.shape) if out[0].numel() == value[0].numel() else out
    if layout == "tokens":
        return out.reshape(*value.shape[:-1], out.shape[1])
    return out.reshape(len(value), *value.shape[2:], out.shape[1]).movedim(-1, 1)


def _flat(value: Tensor, layout: Layout) -> tuple[Tensor, int]:
    """Vectors ``(b p, d)`` and how many places ``p`` a sample has."""
    if layout == "rows":
        return value.reshape(len(value), -1), 1
    if layout not in ("tokens", "channels"):
        raise ConfigError(f"layout = {layout!r}", "'rows', 'tokens' or 'channels'")
    last = value if layout == "tokens" else value.movedim(1, -1)
    places = last[0, ..., 0].numel()
    return last.reshape(len(value) * places, last.shape[-1]), places

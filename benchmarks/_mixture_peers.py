"""The strongest simple peers of the nested generator: a code, and the same Gaussian mixture of it.

A convolutional autoencoder, or principal components, give a code of each image; the mixture of
the recipe of the nested generator is fitted to the codes, class by class. Samples are drawn
in one step, too, but there is no inverse, and an autoencoder's code has no order.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from rectilinear.invertible import MixtureMap
from rectilinear.metrics import pca
from rectilinear.recipes.base import Labels
from rectilinear.recipes.generators import Nested
from rectilinear.recipes.mixture import mixture_of

CHUNK_IMAGES = 500  # through a network at a time
SMALLEST_SIDE = 8  # to which an autoencoder halves its images


class Codec(Protocol):
    """Images to codes ``(b, d)`` and back."""

    def encode(self, images: Tensor) -> Tensor: ...
    def decode(self, codes: Tensor) -> Tensor: ...


class Autoencoder(nn.Module):
    """A convolutional autoencoder, trained on the mean square error of pixels.

    Strided convolutions to at most 8 pixels a side, one hidden layer, ``codes`` numbers; the
    decoder mirrors it. It is an objective for :func:`rectilinear.training.train`.
    """

    def __init__(self, shape: tuple[int, ...], codes: int = 32, width: int = 32) -> None:
        super().__init__()
        c, *sides = shape
        channels = [c]
        while max(sides) > SMALLEST_SIDE:
            sides = [side // 2 for side in sides]
            channels.append(min(64, width * 2 ** (len(channels) - 1)))
        pairs = list(pairwise(channels))
        inside = (channels[-1], *sides)
        self.inside, hidden = inside, inside[0] * inside[1] * inside[2]
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in pairs)
        self.to_code = nn.Sequential(nn.Linear(hidden, 256), nn.GELU(), nn.Linear(256, codes))
        self.from_code = nn.Sequential(nn.Linear(codes, 256), nn.GELU(), nn.Linear(256, hidden))
        widths = [inside[0]] + [max(16, 32 >> i) for i in range(len(pairs))]
        self.mix = nn.ModuleList(_Residual(a) for a in widths[:-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in pairwise(widths))
        self.leave = nn.Conv2d(widths[-1], c, 3, padding=1)

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        return {"loss": (self._decode(self._encode(batch)) - batch).square().mean()}

    def encode(self, images: Tensor) -> Tensor:
        """Codes ``(b, codes)``."""
        with torch.no_grad():
            return torch.cat([self._encode(part) for part in images.split(CHUNK_IMAGES)])

    def decode(self, codes: Tensor) -> Tensor:
        """Images."""
        with torch.no_grad():
            return torch.cat([self._decode(part) for part in codes.split(CHUNK_IMAGES)])

    def _encode(self, x: Tensor) -> Tensor:
        h = 2 * x - 1
        for layer in self.down:
            h = functional.gelu(layer(h))
        return self.to_code(h.flatten(1))

    def _decode(self, codes: Tensor) -> Tensor:
        h = self.from_code(codes).unflatten(1, self.inside)
        for mix, up in zip(self.mix, self.up, strict=True):
            h = up(functional.gelu(mix(h)))
        return self.leave(functional.gelu(h))


class PrincipalComponents:
    """The leading ``codes`` principal components."""

    def __init__(self, images: Tensor, codes: int = 32) -> None:
        self.shape = tuple(images.shape[1:])
        self.mean, self.axes, _ = (part.float() for part in pca(images, codes))

    def encode(self, images: Tensor) -> Tensor:
        """Coordinates ``(b, codes)``."""
        return (images.flatten(1) - self.mean) @ self.axes

    def decode(self, codes: Tensor) -> Tensor:
        """Images."""
        return (codes @ self.axes.T + self.mean).unflatten(1, self.shape)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.conv(functional.gelu(h))


def mixture_of_codes(
    codec: Codec, images: Tensor, labels: Labels | None, recipe: Nested, seed: int
) -> MixtureMap:
    """The mixture of the codes of ``images``, as the nested generator has it of its latents."""
    codes = codec.encode(images)
    fit, _ = mixture_of(codes, labels, recipe.components, recipe.clusters, seed)
    return fit.map.requires_grad_(requires_grad=False)

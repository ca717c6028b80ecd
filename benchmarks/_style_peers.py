"""A feed-forward network for styles, conditioned by FiLM: what one would train without an inverse."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from rectilinear.style import Lessons
from rectilinear.style.fit import GROWN, style_losses
from rectilinear.style.place_flow import PlaceFlow
from rectilinear.style.style_map import as_images


class FeedForward(nn.Module):
    """Six residual blocks on the channels of 4 x 4 blocks of cosines, scaled and shifted by style.

    Reference: E. Perez et al., "FiLM", arXiv 1709.07871; J. Johnson et al., "Perceptual losses for
    real-time style transfer", arXiv 1603.08155.
    """

    def __init__(self, styles: tuple[str, ...], width: int = 64, blocks: int = 6) -> None:
        super().__init__()
        self.styles, self.basis = styles, PlaceFlow(couplings=0)
        places = self.basis.places
        self.enter = nn.Conv2d(places, width, 3, padding=1)
        dilations = [(1, 2, 4)[i % 3] for i in range(2 * blocks)]
        self.middle = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=d, dilation=d) for d in dilations
        )
        self.film = nn.Parameter(torch.zeros(len(styles), blocks, 2, width))
        self.leave = nn.Conv2d(width, places, 3, padding=1)

    def forward(self, x: Tensor, styles: Tensor) -> Tensor:
        """Images whose sides are multiples of 4, each in the style of its number."""
        h = self.enter(self.basis(x))
        for i in range(self.film.shape[1]):
            scale, shift = self.film[styles, i].unbind(1)
            u = functional.gelu(h) * (1 + scale[..., None, None]) + shift[..., None, None]
            h = h + self.middle[2 * i + 1](functional.gelu(self.middle[2 * i](u)))
        return self.basis.inverse(self.leave(functional.gelu(h)))

    @torch.no_grad()
    def paint(self, x: Tensor, style: str) -> Tensor:
        """An image ``(3, h, w)`` of any size."""
        h, w = x.shape[1:]
        grown = functional.pad(as_images(x, 3), (0, -w % 4, 0, -h % 4), mode="reflect")
        return self(grown, torch.tensor([self.styles.index(style)]))[0, :, :h, :w]


class FeedForwardObjective(nn.Module):
    """The loss of :class:`rectilinear.style.StyleObjective` for the feed-forward network."""

    def __init__(
        self, model: FeedForward, lessons: Lessons, features: nn.Module | None, tile: int = 64
    ) -> None:
        super().__init__()
        self.model, self.lessons, self.tile = model, lessons, tile
        self._features, self.progress = (features,), 0.0

    def schedule(self, progress: float) -> None:
        """Set the size of tiles for this part of the training."""
        self.progress = progress

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        tile = self.tile
        if self.progress >= GROWN:
            batch, tile = batch[: max(1, len(batch) // 4)], 2 * tile
        which = torch.randint(len(self.model.styles), (len(batch),))
        x, target = self.lessons.tiles(batch[:, 0].long(), which, tile)
        block = self.model.basis.block
        return style_losses(self.model(x, which), target, self._features[0], block)

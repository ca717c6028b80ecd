"""Training pairs of styles: photos, and each photo in every style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from rectilinear.errors import DataError, DtypeError, ShapeError
from rectilinear.notebook import short_repr
from rectilinear.style.style_map import LEVELS, as_eight_bit


@dataclass(frozen=True, eq=False)
class Lessons:
    """Training pairs: photos of any sizes, and each of them in every style.

    Attributes:
        photos: Bytes ``(c, h, w)`` each.
        paintings: The same photos by name of the style, in the same order and of the same sizes.

    Raises:
        DataError: without photos or styles, or for another number of paintings than of photos.
        ShapeError: for a painting of another size or other channels than its photo.
        DtypeError: for images that are no bytes.

    Example:
        >>> photo = torch.zeros(3, 20, 30, dtype=torch.uint8)
        >>> lessons = Lessons([photo], {"bright": [photo + 90]})
        >>> lessons.tiles(torch.tensor([0, 0]), torch.tensor([0, 0]), 16)[1].shape
        torch.Size([2, 3, 16, 16])
    """

    photos: Sequence[Tensor]
    paintings: Mapping[str, Sequence[Tensor]]

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if not self.photos or not self.paintings:
            raise DataError(
                f"{len(self.photos)} photos and {len(self.paintings)} styles",
                "at least one of each",
            )
        check_bytes(self.photos)
        for name, painted in self.paintings.items():
            if len(painted) != len(self.photos):
                raise DataError(
                    f"{len(painted)} paintings in the style '{name}' of {len(self.photos)} photos",
                    "one of each photo",
                    "Pair them.",
                )
            check_bytes(painted)
            for i, (photo, painting) in enumerate(zip(self.photos, painted, strict=True)):
                if photo.shape != painting.shape:
                    raise ShapeError(
                        f"painting {i} in the style '{name}' of shape {tuple(painting.shape)}",
                        f"{tuple(photo.shape)}, as its photo has",
                        "Scale both to one size.",
                    )

    @property
    def styles(self) -> tuple[str, ...]:
        """The names of the styles."""
        return tuple(self.paintings)

    @property
    def channels(self) -> int:
        """3 for colour, 1 for grey."""
        return len(self.photos[0])

    def rows(self) -> Tensor:
        """A row a photo for :func:`rectilinear.training.train`: its number, means of its images.

        The means tell an unfinished run that is resumed with other images.
        """
        return torch.tensor(
            [
                [
                    float(i),
                    *(x[i].float().mean().item() for x in (self.photos, *self.paintings.values())),
                ]
                for i in range(len(self.photos))
            ]
        )

    def tiles(self, photos: Tensor, styles: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """Squares at random places, of photos and of what is painted there, in [0, 1].

        Photos that are smaller than a tile are mirrored.

        Args:
            photos: their numbers, ``(b,)``.
            styles: the number of a style for each, ``(b,)``.
            side: of the tiles in pixels.

        Returns:
            two arrays ``(b, c, side, side)``.
        """
        names, pairs = self.styles, []
        for i, k in zip(photos.tolist(), styles.tolist(), strict=True):
            photo, painting = (
                _grown(x, side) for x in (self.photos[i], self.paintings[names[k]][i])
            )
            top, left = (int(torch.randint(n - side + 1, ())) for n in photo.shape[1:])
            area = slice(top, top + side), slice(left, left + side)
            pairs.append((photo[:, *area], painting[:, *area]))
        taken, taught = (torch.stack(part).float() / LEVELS for part in zip(*pairs, strict=True))
        return taken.to(photos.device), taught.to(photos.device)


def check_bytes(images: Sequence[Tensor]) -> None:
    """Raise a DtypeError for images that are no bytes.

    Example:
        >>> check_bytes([torch.zeros(3, 4, 4)])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        rectilinear.errors.DtypeError: Got an image of torch.float32; expected bytes ...
    """
    for image in images:
        if image.dtype != torch.uint8:
            raise DtypeError(
                f"an image of {image.dtype}",
                "bytes (torch.uint8) from 0 to 255",
                "Convert images from 0 to 1: (255 * image).round().byte().",
            )


def _grown(image: Tensor, side: int) -> Tensor:
    """The image, with mirror images of itself until both sides are at least ``side``."""
    for axis in (1, 2):
        if (n := image.shape[axis]) < side:
            both = torch.cat([image, image.flip(axis)], axis)
            image = torch.cat([both] * ceil(side / (2 * n)), axis).narrow(axis, 0, side)
    return image


def to_bytes(x: Tensor) -> Tensor:
    """The image as bytes.

    Example:
        >>> to_bytes(torch.tensor([0.0, 0.5, 1.2])).tolist()
        [0, 128, 255]
    """
    return (as_eight_bit(x) * LEVELS).round().to(torch.uint8)

"""What every image data set loads as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.nn.functional import interpolate, pad

from rectilinear.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images of one split; unpacks as ``images, labels``.

    Attributes:
        images: float32 ``(n, c, h, w)`` in ``[0, 1]``.
        labels: int64 ``(n,)``, indices into ``classes``.
        classes: the name of each class.
        name: the name of the data set.

    Example:
        >>> import torch
        >>> images, labels = Images(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]), ("a", "b"), "two")
        >>> images.shape, labels.tolist()
        (torch.Size([2, 1, 8, 8]), [0, 1])
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """``(c, h, w)`` of one image."""
        return tuple(self.images.shape[1:])

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Tensor]:
        yield self.images
        yield self.labels


def fit(images: Tensor, size: int | None) -> Tensor:
    """Square images ``(n, c, s, s)`` at ``size``: grown by a border of zeros, shrunk by antialiased interpolation.

    A border keeps every pixel as it is, where interpolation would make neighbours linearly dependent.

    Raises:
        ConfigError: if ``size`` is not positive.

    Example:
        >>> import torch
        >>> fit(torch.ones(1, 1, 28, 28), 32).sum().item() == 28 * 28
        True
    """
    check_size(size)
    side = images.shape[-1]
    if size is None or size == side:
        return images
    if size < side:
        return interpolate(images, size=(size, size), mode="bilinear", antialias=True).clamp(0, 1)
    before = (size - side) // 2
    after = size - side - before
    return pad(images, (before, after, before, after))


def check_size(size: int | None) -> None:
    """Raise ConfigError unless ``size`` is None or positive."""
    if size is not None and size < 1:
        raise ConfigError(f"size = {size}", "a positive number of pixels", "Leave it out for the size of the files.")

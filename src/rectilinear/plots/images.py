"""Images side by side."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from rectilinear.errors import NonFiniteError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def grid(images: ArrayLike, columns: int, gap: int = 1) -> NDArray[np.uint8]:
    """The images in rows of ``columns``, row by row: ``(n, c, h, w)`` in ``[0, 1]`` gives ``(H, W, 4)`` bytes.

    ``c`` is 1 or 3; values outside the range are clipped; the gaps of ``gap`` pixels, and places of the last row that
    no image fills, are transparent.

    Raises:
        ShapeError: if the images are not of shape ``(n, 1 or 3, h, w)``.
        NonFiniteError: if a pixel is NaN or infinite.

    Example:
        >>> grid(np.zeros((5, 1, 8, 8)), columns=3).shape
        (17, 26, 4)
    """
    array = np.asarray(images, dtype=np.float64)
    if array.ndim != 4 or array.shape[1] not in (1, 3) or array.shape[0] == 0:
        raise ShapeError(f"images of shape {array.shape}", "(n, 1 or 3, height, width)", "Put the channel axis second.")
    if not np.isfinite(array).all():
        raise NonFiniteError("images with NaN or infinite pixels", "finite pixels", "Look at what made them.")
    n, _, height, width = array.shape
    rows = -(-n // columns)
    pixels = np.rint(255 * array.clip(0, 1)).astype(np.uint8).transpose(0, 2, 3, 1)
    sheet = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, 4), dtype=np.uint8)
    for i, image in enumerate(pixels):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        sheet[top : top + height, left : left + width, :3] = image
        sheet[top : top + height, left : left + width, 3] = 255
    return sheet


def png(pixels: NDArray[np.uint8], scale: int = 1) -> bytes:
    """The pixels ``(H, W, 3 or 4)`` as a PNG file, each one a square of ``scale x scale``.

    Example:
        >>> png(np.zeros((2, 2, 3), dtype=np.uint8))[1:4]
        b'PNG'
    """
    buffer = io.BytesIO()
    Image.fromarray(np.repeat(np.repeat(pixels, scale, axis=0), scale, axis=1)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()

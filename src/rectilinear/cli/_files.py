"""Images that a command leaves: a picture to look at and the array itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rectilinear.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


def write_images(folder: Path, name: str, strips: Tensor, columns: int | None = None) -> dict[str, str]:
    """Write ``(rows, frames, c, h, w)`` as ``name.png`` and ``name.npy``, each whole or not at all.

    Strips are one under the other, unless ``columns`` says how many images make a row.
    """
    import numpy as np

    from rectilinear import plots
    from rectilinear.config import atomic_write

    array = strips.float().cpu().numpy()
    images = array.reshape(-1, *array.shape[2:])
    with atomic_write(folder / f"{name}.png") as tmp:
        tmp.write_bytes(plots.png(plots.grid(images, columns or array.shape[1]), scale=max(1, 64 // array.shape[-1])))
    with atomic_write(folder / f"{name}.npy") as tmp:
        np.save(tmp, array, allow_pickle=False)
    return {"picture": str(folder / f"{name}.png"), "array": str(folder / f"{name}.npy")}


def read_images(folder: Path, shape: tuple[int, int, int]) -> Tensor:
    """The pictures in ``folder`` in order of their names, ``(n, *shape)`` in ``[0, 1]``.

    Raises:
        DataError: if there is none, or one cannot be read.
    """
    import torch

    from rectilinear.datasets.folder import EXTENSIONS

    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS)
    if not paths:
        raise DataError(f"no picture in {folder}", f"files that end in {', '.join(sorted(EXTENSIONS))}")
    return torch.stack([read_image(path, shape) for path in paths])


def read_image(path: Path, shape: tuple[int, int, int]) -> Tensor:
    """One picture, scaled and cropped at the centre to ``shape``, grey for one channel.

    Raises:
        DataError: if it cannot be read.
    """
    import numpy as np
    import torch
    from PIL import Image, ImageOps

    c, h, w = shape
    try:
        with Image.open(path) as picture:
            fitted = ImageOps.fit(picture.convert("L" if c == 1 else "RGB"), (w, h))
    except OSError as error:
        raise DataError(f"{path}, which cannot be read: {error}", "a picture", "Save it again.") from error
    pixels = torch.from_numpy(np.array(fitted, dtype=np.float32) / 255)
    return pixels[None] if c == 1 else pixels.permute(2, 0, 1)

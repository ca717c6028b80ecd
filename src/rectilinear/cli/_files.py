"""Images that a command leaves: a picture to look at and the array itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

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

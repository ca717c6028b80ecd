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


def named_images(path: Path, shape: tuple[int, int, int], out: Path, taken: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The image in a file, or those in a folder and its sub-folders, scaled and cropped to ``shape``, each by a name.

    Args:
        path: of the file or folder.
        shape: ``(c, h, w)``; grey for one channel.
        out: where results will lie.
        taken: names that no image may have.

    Raises:
        DataError: if there is none, one cannot be read, or results would lie among them, to be read the next time.
    """
    from rectilinear.datasets.folder import read_images
    from rectilinear.datasets.read_image import distinct_names, image_files

    files = image_files(path)
    if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
        raise DataError(
            got=f"--out {out}, which is the folder of the input or in it",
            expected="another folder",
            fix="Results there would be read with the images the next time.",
        )
    c, h, w = shape
    return dict(zip(distinct_names(files, path, taken), read_images(files, (h, w), grey=c == 1), strict=True))

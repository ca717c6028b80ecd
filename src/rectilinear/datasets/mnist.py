"""MNIST and Fashion-MNIST: their files, where these lie, and what they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rectilinear.datasets.idx import read_idx
from rectilinear.datasets.images import Images
from rectilinear.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


@dataclass(frozen=True)
class Family:
    """The classes of a data set in MNIST's format, the MD5 of each uncompressed file, and where they can be had."""

    classes: tuple[str, ...]
    md5: dict[str, str]
    mirrors: tuple[str, ...]


FAMILIES = {
    "mnist": Family(
        classes=tuple("0123456789"),
        md5={
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
    ),
    "fashion_mnist": Family(
        classes=("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        md5={
            "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        },
        mirrors=(
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
    ),
}


def mnist(name: str, split: Literal["train", "test"], root: Path) -> Images:
    """One split of MNIST or Fashion-MNIST from IDX files under ``root``, their content checked.

    Raises:
        DataError: if a file is missing, truncated or of another content.
    """
    family = FAMILIES[name]
    images, labels = (read_idx(find(name, file, root), family.md5[file]) for file in FILES[split])
    return Images(images[:, None].float() / 255, labels.long(), family.classes, name)


def find(name: str, file: str, root: Path) -> Path:
    """The path of ``file`` of the set ``name``, plain or ``.gz``, in the folder of that name or in ``root`` itself.

    Raises:
        DataError: if it is in none of these places.
    """
    for place in (root / name, root / name.replace("_", "-"), root):
        for path in (place / file, place / f"{file}.gz"):
            if path.is_file():
                return path
    raise DataError(
        got=f"no {file} (or .gz) in {root / name} or {root}",
        expected=f"the files of {name}",
        fix=f"Run `rectilinear data {name}` to download them, or name their folder by --data-dir or $RECTILINEAR_DATA.",
    )

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
SIZES = {
    "train-images-idx3-ubyte": 16 + 60_000 * 28 * 28,
    "train-labels-idx1-ubyte": 8 + 60_000,
    "t10k-images-idx3-ubyte": 16 + 10_000 * 28 * 28,
    "t10k-labels-idx1-ubyte": 8 + 10_000,
}
"""Bytes of each uncompressed file; none is longer when compressed."""


@dataclass(frozen=True)
class Family:
    """The classes of a data set in MNIST's format, the MD5 of each uncompressed file, and where they can be had.

    ``sha256`` is of each uncompressed file, or of the ``.gz`` as the mirrors have it.
    """

    classes: tuple[str, ...]
    md5: dict[str, str]
    mirrors: tuple[str, ...]
    sha256: dict[str, str]


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
        sha256={
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
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
        sha256={
            "train-images-idx3-ubyte": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
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

"""The IDX format of MNIST: a header and unsigned bytes.

MNIST and Fashion-MNIST: their files, where these lie, and what they hold.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from rectilinear.datasets.images import Images
from rectilinear.errors import DataError

UNSIGNED_BYTE = 0x08
GZIP_MAGIC = b"\x1f\x8b"


def read_bytes(path: Path, limit: int | None = None) -> bytes:
    """The content of ``path``, uncompressed if it is gzip, of at most ``limit`` bytes.

    Raises:
        DataError: if it cannot be read or uncompressed, or is longer.
    """
    size = -1 if limit is None else limit + 1
    try:
        with path.open("rb") as file:
            is_packed = file.read(2) == GZIP_MAGIC
        with gzip.open(path) if is_packed else path.open("rb") as file:
            data: bytes = file.read(size)
        if limit is not None and len(data) > limit:
            raise EOFError(f"it holds more than {limit:,} bytes")
        return data
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            got=f"{path}, which cannot be read ({error})",
            expected="an IDX file, plain or .gz",
            fix="Delete it and download it again.",
        ) from error


def read_idx(path: Path, md5: str | None = None) -> Tensor:
    """The array of an IDX file, uint8, of the shape that its header says.

    Two zero bytes, the type (8, unsigned byte), the number of axes, each axis as a big-endian
    32-bit integer, the data.

    Args:
        path: the file, plain or ``.gz``.
        md5: the MD5 of the uncompressed content, checked if given.

    Raises:
        DataError: if the file is unreadable, truncated, of another type or of another content.

    Reference: Y. LeCun, C. Cortes, C. Burges, The MNIST database, 1998.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "labels"
        >>> _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]))
        >>> read_idx(path)
        tensor([7, 8, 9], dtype=torch.uint8)
    """
    data = read_bytes(path)
    start = 4 + 4 * data[3] if len(data) >= 4 else 4
    if len(data) < start or data[:3] != bytes([0, 0, UNSIGNED_BYTE]):
        raise DataError(
            got=f"{path}, which starts with '{data[:4].hex()}'",
            expected="the header of an IDX file of unsigned bytes, '000008' and the number of axes",
            fix="Delete it and download it again.",
        )
    shape = [int.from_bytes(data[i : i + 4], "big") for i in range(4, start, 4)]
    if len(data) - start != prod(shape):
        raise DataError(
            got=f"{path} with {len(data) - start:,} bytes of data",
            expected=f"{prod(shape):,} for its shape {tuple(shape)}",
            fix="It is truncated or damaged: delete it and download it again.",
        )
    if md5 is not None and (found := checksum(data)) != md5:
        raise DataError(
            got=f"{path} with the MD5 {found}",
            expected=f"{md5} for its uncompressed content",
            fix="It is another file or damaged: delete it and download it again.",
        )
    return torch.frombuffer(bytearray(data), dtype=torch.uint8, offset=start).reshape(shape)


def checksum(data: bytes) -> str:
    """The MD5 of ``data`` in hexadecimal: against damage, not against an attacker.

    Example:
        >>> checksum(b"")
        'd41d8cd98f00b204e9800998ecf8427e'
    """
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


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
    """The classes of a data set in MNIST's format, the MD5 of each uncompressed file, and where
    they can be had.

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
        classes=(
            "T-shirt",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
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
    """The path of ``file`` of the set ``name``, plain or ``.gz``, in the folder of that name or in
    ``root`` itself.

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

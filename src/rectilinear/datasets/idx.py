"""The IDX format of MNIST: a header and unsigned bytes."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from math import prod
from typing import TYPE_CHECKING

import torch

from rectilinear.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

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

    Two zero bytes, the type (8, unsigned byte), the number of axes, each axis as a big-endian 32-bit integer, the data.

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

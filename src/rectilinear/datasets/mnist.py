"""MNIST and Fashion-MNIST: IDX files, checked by checksum, and their download, which resumes.

An IDX file has a header (two zero bytes, the type, the number of axes, each axis as a big-endian
32-bit integer) and unsigned bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import ssl
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from rectilinear.datasets.images import Images
from rectilinear.errors import ConfigError, DataError, LockedError
from rectilinear.files import atomic_write, disk_errors, locked, remove_leftovers

UNSIGNED_BYTE = 0x08
GZIP_MAGIC = b"\x1f\x8b"
TIMEOUT_SECONDS = 30.0
CHUNK_BYTES = 1 << 18
NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ssl.SSLError,
    TimeoutError,
    ConnectionError,
)
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
    """A data set in MNIST's format: its classes, checksums and mirrors.

    ``md5`` is of each uncompressed file, ``sha256`` of it or of the ``.gz`` as the mirrors have it.
    """

    classes: tuple[str, ...]
    md5: dict[str, str]
    mirrors: tuple[str, ...]
    sha256: dict[str, str]


def _by_file(*checksums: str) -> dict[str, str]:
    """Checksums by file, in the order of :data:`SIZES`."""
    return dict(zip(SIZES, checksums, strict=True))


FAMILIES = {
    "mnist": Family(
        classes=tuple("0123456789"),
        md5=_by_file(
            "6bbc9ace898e44ae57da46a324031adb",
            "a25bea736e30d166cdddb491f175f624",
            "2646ac647ad5339dbf082846283269ea",
            "27ae3e4e09519cfbb04c329615203637",
        ),
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        sha256=_by_file(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
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
        md5=_by_file(
            "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "9018921c3c673c538a1fc5bad174d6f9",
            "8181f5470baa50b63fa0f6fddb340f0a",
            "15d484375f8d13e6eb1aabb0c3f46965",
        ),
        mirrors=(
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        sha256=_by_file(
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
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
    """The path of a file of the set ``name``, in the folder of that name or in ``root`` itself."""
    for place in (root / name, root / name.replace("_", "-"), root):
        for path in (place / file, place / f"{file}.gz"):
            if path.is_file():
                return path
    raise DataError(
        got=f"no {file} (or .gz) in {root / name} or {root}",
        expected=f"the files of {name}",
        fix=f"Run `rectilinear data {name}` to download them, or name their folder by --data-dir "
        "or $RECTILINEAR_DATA.",
    )


def download(name: str, dest: str | Path, mirrors: Sequence[str] | None = None) -> Path:
    """Fetch ``"mnist"`` or ``"fashion_mnist"`` into the folder ``dest/name``, which is returned.

    Correct files are kept. An interrupted download leaves ``FILE.gz.part`` and is resumed the next
    time, from any mirror; a file takes its name only once it has the known SHA-256. Several
    processes may download at once: one of them resumes, the others begin again, all of them
    succeed.

    Args:
        name: the data set.
        dest: the folder of data sets, for instance ``$RECTILINEAR_DATA``.
        mirrors: addresses tried in turn, in place of the public ones.

    Raises:
        ConfigError: if ``name`` is no data set with a mirror.
        DataError: if no mirror gives the right file, for instance without a network.
        DiskError: if the folder cannot be written.
    """
    name = name.replace("-", "_")
    if name not in FAMILIES:
        raise ConfigError(
            f"the data set '{name}'", f"one of {', '.join(FAMILIES)}", "Only these are downloaded."
        )
    folder = Path(dest).expanduser() / name
    family = FAMILIES[name]
    sites = family.mirrors if mirrors is None else mirrors
    missing = {
        file: folder / f"{file}.gz"
        for file in family.md5
        if not _is_there(folder / f"{file}.gz", family, file)
    }
    if not missing:
        return folder
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder))
            remove_leftovers(folder)
            is_alone = True
        except LockedError:  # another process downloads: each writes files of its own
            is_alone = False
        for file, path in missing.items():
            if is_alone:
                part = path.with_name(f"{path.name}.part")
                _fetch(file, part, path, family, sites)
                with disk_errors(path):
                    part.replace(path)
            elif not _is_there(path, family, file):
                with atomic_write(path) as part:
                    _fetch(file, part, path, family, sites)
    return folder


def read_bytes(path: Path, limit: int | None = None) -> bytes:
    """The content of ``path``, uncompressed if it is gzip, of at most ``limit`` bytes."""
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

    Args:
        path: the file, plain or ``.gz``.
        md5: the MD5 of the uncompressed content, checked if given.

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


def _fetch(file: str, part: Path, path: Path, family: Family, mirrors: Sequence[str]) -> None:
    """Bring ``part`` to the whole of ``file``, from any mirror."""
    problems = []
    for mirror in mirrors:
        for _ in range(2):  # a part that another file began is dropped, and the whole is asked for
            resumed = part.exists()
            try:
                _stream(f"{mirror.rstrip('/')}/{path.name}", part, SIZES[file])
            except _TooLongError as error:
                part.unlink()
                problems.append(f"{mirror}: {error}")
            except NETWORK_ERRORS as error:
                problems.append(f"{mirror}: {error}")
                break
            else:
                if _is_trusted(part, family.sha256[file], SIZES[file]):
                    return
                part.unlink()
                problems.append(f"{mirror}: a file of another content")
            if not resumed:
                break
            problems.pop()
    raise DataError(
        got=f"no {path.name} from any mirror ({'; '.join(problems)})",
        expected=f"a network and a file of SHA-256 {family.sha256[file]}",
        fix=f"Try again to resume, or put the file at {path} yourself.",
    )


class _TooLongError(Exception):
    """More bytes than the file has."""


def _stream(url: str, part: Path, limit: int) -> None:
    """Append to ``part`` what it lacks of ``url``."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310 - the mirrors are constants, or the caller's own
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)  # noqa: S310 - as above
    except urllib.error.HTTPError as error:
        if have and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is lacking
        raise
    with response:
        goes_on = response.status == http.HTTPStatus.PARTIAL_CONTENT
        length = int(response.headers.get("Content-Length", -1))
        room = limit - (have if goes_on else 0)
        received = 0
        with disk_errors(part):
            file = part.open("ab" if goes_on else "wb")
        with file:
            while block := response.read(CHUNK_BYTES):
                received += len(block)
                if received > room:
                    raise _TooLongError(f"more than {limit:,} bytes")
                with disk_errors(part):
                    file.write(block)
                    file.flush()
    if received < length:
        raise ConnectionError(f"closed after {received:,} of {length:,} bytes")


def _is_there(path: Path, family: Family, file: str) -> bool:
    """True if the file is at ``path`` and holds what it should."""
    try:
        return path.is_file() and checksum(read_bytes(path, SIZES[file])) == family.md5[file]
    except DataError:
        return False


def _is_trusted(part: Path, sha256: str, limit: int) -> bool:
    """True if the file that came, or its uncompressed content, has this checksum."""
    try:
        return sha256 in (_sha256(part.read_bytes()), _sha256(read_bytes(part, limit)))
    except (DataError, OSError):
        return False


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

"""Downloads that resume, are checked, and appear whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rectilinear.datasets.mnist import FAMILIES, SIZES, Family, checksum, read_bytes
from rectilinear.errors import ConfigError, DataError, LockedError
from rectilinear.files import atomic_write, disk_errors, locked, remove_leftovers

TIMEOUT = 30.0
CHUNK = 1 << 18
NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ssl.SSLError,
    TimeoutError,
    ConnectionError,
)


def download(name: str, dest: str | Path, mirrors: Sequence[str] | None = None) -> Path:
    """Fetch the files of ``"mnist"`` or ``"fashion_mnist"`` into the folder ``dest/name``, which is
    returned.

    Files that are there and right stay. An interrupted download leaves ``FILE.gz.part`` and goes on
    from there the next time, from any mirror; a file takes its name only once it has the known
    SHA-256. Several processes may download at
    once: one of them resumes, the others begin anew, all of them succeed.

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
        except (
            LockedError
        ):  # another process downloads: each writes files of its own, and the last one stays
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


def _fetch(file: str, part: Path, path: Path, family: Family, mirrors: Sequence[str]) -> None:
    """Bring ``part`` to the whole of ``file``, from any mirror."""
    problems = []
    for mirror in mirrors:
        for _ in range(
            2
        ):  # a part that another file began is dropped, and the mirror is asked for the whole
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
    """Append to ``part`` what it lacks of ``url``.

    Raises:
        ConnectionError: if the connection closes early; what came stays.
        _TooLongError: if ``part`` would have more than ``limit`` bytes.
    """
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310 - the mirrors are constants, or the caller's own
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)  # noqa: S310 - as above
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
            while block := response.read(CHUNK):
                received += len(block)
                if received > room:
                    raise _TooLongError(f"more than {limit:,} bytes")
                with disk_errors(part):
                    file.write(block)
                    file.flush()
    if received < length:
        raise ConnectionError(f"closed after {received:,} of {length:,} bytes")


def _is_there(path: Path, family: Family, file: str) -> bool:
    """Whether the file is at ``path`` and holds what it should."""
    try:
        return path.is_file() and checksum(read_bytes(path, SIZES[file])) == family.md5[file]
    except DataError:
        return False


def _is_trusted(part: Path, sha256: str, limit: int) -> bool:
    """Whether the file that came, or its uncompressed content, has this checksum."""
    try:
        return sha256 in (_sha256(part.read_bytes()), _sha256(read_bytes(part, limit)))
    except (DataError, OSError):
        return False


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

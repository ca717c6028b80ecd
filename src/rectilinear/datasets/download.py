"""Downloads that resume, are checked, and appear whole or not at all."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from rectilinear.config import disk_errors
from rectilinear.datasets.idx import checksum, read_bytes
from rectilinear.datasets.mnist import FAMILIES
from rectilinear.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    """Fetch the files of ``"mnist"`` or ``"fashion_mnist"`` into the folder ``dest/name``, which is returned.

    Files that are there and right stay. An interrupted download leaves ``FILE.gz.part`` and goes on from there the next
    time, from any mirror; a file takes its name only once its uncompressed content has the known MD5.

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
        raise ConfigError(f"the data set '{name}'", f"one of {', '.join(FAMILIES)}", "Only these are downloaded.")
    folder = Path(dest).expanduser() / name
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for file, md5 in FAMILIES[name].md5.items():
        path = folder / f"{file}.gz"
        if not (path.is_file() and _is_right(path, md5)):
            _download_file(path, md5, FAMILIES[name].mirrors if mirrors is None else mirrors)
    return folder


def _download_file(path: Path, md5: str, mirrors: Sequence[str]) -> None:
    part = path.with_name(f"{path.name}.part")
    problems = []
    for mirror in mirrors:
        for _ in range(2):  # a part that another file began is dropped, and the mirror is asked for the whole
            resumed = part.exists()
            try:
                _stream(f"{mirror.rstrip('/')}/{path.name}", part)
            except NETWORK_ERRORS as error:
                problems.append(f"{mirror}: {error}")
                break
            if _is_right(part, md5):
                with disk_errors(path):
                    part.replace(path)
                return
            part.unlink()
            if not resumed:
                problems.append(f"{mirror}: a file of another content")
                break
    raise DataError(
        got=f"no {path.name} from any mirror ({'; '.join(problems)})",
        expected=f"a network and a file of MD5 {md5} (uncompressed)",
        fix=f"Try again to resume, or put the file at {path} yourself.",
    )


def _stream(url: str, part: Path) -> None:
    """Append to ``part`` what it lacks of ``url``.

    Raises:
        ConnectionError: if the connection closes early; what came stays.
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
        length = int(response.headers.get("Content-Length", -1))
        received = 0
        with disk_errors(part):
            file = part.open("ab" if response.status == http.HTTPStatus.PARTIAL_CONTENT else "wb")
        with file:
            while block := response.read(CHUNK):
                received += len(block)
                with disk_errors(part):
                    file.write(block)
                    file.flush()
    if received < length:
        raise ConnectionError(f"closed after {received:,} of {length:,} bytes")


def _is_right(path: Path, md5: str) -> bool:
    try:
        return checksum(read_bytes(path)) == md5
    except DataError:
        return False

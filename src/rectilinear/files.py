"""Files that are whole or absent, errors of the disk, and locks of folders.

A file is written beside its place and moved there in one step. One run writes a folder at a time,
and a run that dies leaves it free.
"""

from __future__ import annotations

import os
import platform
import re
import secrets
import stat
import time
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from rectilinear.errors import DiskError, LockedError, RectilinearError

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment] # tested before each use

_HOST = f"{zlib.crc32(platform.node().encode(errors='replace')):08x}"
_TEMPORARY = re.compile(r"\.rectilinear-(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{16}\.tmp(\.|$)")
_WRITING: set[str] = set()
"""Names of the temporary files that this process is writing."""
_MAX_SUFFIX_BYTES = 32
_DAY_SECONDS = 86_400.0
LOCK = ".rectilinear.lock"
_HELD: ContextVar[frozenset[tuple[int, str]]] = ContextVar("held", default=frozenset())
"""Process and folder of each lock of the caller."""
_OPEN: set[int] = set()
"""Descriptors of the locks of this process."""


def write_text(path: Path | str, text: str) -> None:
    r"""Write ``text`` to ``path`` as UTF-8: the whole file, or none of it.

    Bytes of a path that are no UTF-8 are written as ``\udcXX``, which JSON reads back.

    Raises:
        DiskError: if the disk is full or cannot be written.
    """
    with atomic_write(path) as tmp:
        tmp.write_text(text, encoding="utf-8", errors="backslashreplace")


@contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, which replaces ``path`` in one step at the end.

    A process killed at any instant leaves the old file or the new one (and perhaps the temporary
    one, which :func:`remove_leftovers` removes). If the block fails, the old one stays and nothing
    else is left. Any number of threads and processes may write one path: the last one wins, whole.
    Missing folders are made; the file has the permissions of any new file.

    Raises:
        DiskError: if the disk is full or cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "notes.txt"
        >>> with atomic_write(path) as tmp: _ = tmp.write_text("whole")
        >>> path.read_text()
        'whole'
    """
    path = Path(path)
    suffix = path.suffix if len(os.fsencode(path.suffix)) <= _MAX_SUFFIX_BYTES else ""
    tmp = path.parent / f".rectilinear-{_HOST}-{os.getpid()}-{secrets.token_hex(8)}.tmp{suffix}"
    _WRITING.add(tmp.name)
    try:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            mode = _mode_of_new_files(tmp)
            yield tmp
            if stat.S_IMODE(tmp.stat().st_mode) != mode:
                tmp.chmod(mode)  # some writers make files that their owner alone can read
            _sync(tmp)
            os.replace(tmp, path)  # noqa: PTH105 - the system call whose atomicity this function is about
            with suppress(PermissionError):  # a folder that may be written and not read
                _sync(path.parent)
    finally:
        with suppress(OSError):  # the folder itself may be what failed
            tmp.unlink()
        _WRITING.discard(tmp.name)


def remove_leftovers(folder: Path | str) -> None:
    """Remove the temporary files that killed processes left in ``folder``, and no other file.

    Those of another machine are removed once they are a day old.
    """
    for path in Path(folder).glob(".rectilinear-*"):
        if (match := _TEMPORARY.match(path.name)) and _is_abandoned(
            path, match["host"], int(match["pid"])
        ):
            path.unlink(missing_ok=True)


@contextmanager
def writable(folders: Iterable[Path]) -> Iterator[None]:
    """Make the folders and write a few bytes into each, so that a full disk is noticed early.

    Folders that were made and are still empty after the block are removed.

    Raises:
        DiskError: if one cannot be made or written, or has no room.
    """
    made: list[Path] = []
    try:
        for folder in folders:
            with disk_errors(folder):
                missing = [p for p in (folder, *folder.parents) if not p.exists()]
                folder.mkdir(parents=True, exist_ok=True)
            made += missing
            with suppress(_ProbedError), atomic_write(folder / "probe") as tmp:
                tmp.write_bytes(bytes(4096))
                _sync(tmp)
                raise _ProbedError
        yield
    finally:
        for folder in made:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


class _ProbedError(Exception):
    """Raised so that a file that was written for a try is not kept."""


@contextmanager
def disk_errors(path: Path | str) -> Iterator[None]:
    """Turn the operating system's errors inside the block into a DiskError that names ``path``."""
    try:
        yield
    except RectilinearError:
        raise
    except OSError as error:
        in_the_way = isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError)
        raise DiskError(
            got=f"'{error.strerror or error}' while writing {path}",
            expected="folders and files in their places"
            if in_the_way
            else "a disk with room that can be written",
            fix=(
                "Choose another place" if in_the_way else "Free some space or choose another folder"
            )
            + "; what was there before is untouched.",
        ) from error


@contextmanager
def locked(folder: Path | str) -> Iterator[None]:
    """Hold ``folder`` exclusively inside the block; nested calls of the holder pass.

    The operating system keeps the lock (``flock``) and frees it when the process ends in any way.
    While it is held, the file ``.rectilinear.lock`` in the folder names the holder. On network file
    systems without such locks, a warning is given.

    Raises:
        LockedError: if another process or thread holds it.
        DiskError: if the folder cannot be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with locked(folder): [path.name for path in folder.iterdir()]
        ['.rectilinear.lock']
        >>> list(folder.iterdir())
        []
    """
    folder = Path(folder)
    key = (os.getpid(), os.path.realpath(folder))
    if key in _HELD.get():
        yield
        return
    path = folder / LOCK
    with writable([folder]):
        with disk_errors(folder):
            descriptor = _acquire(path)
        token = _HELD.set(_HELD.get() | {key})
        try:
            yield
        finally:
            _HELD.reset(token)
            if descriptor is not None and key[0] == os.getpid():
                _release(path, descriptor)


def _is_abandoned(path: Path, host: str, pid: int) -> bool:
    if host != _HOST:
        with suppress(OSError):
            return time.time() - path.stat().st_mtime > _DAY_SECONDS
        return False
    if pid == os.getpid():
        return path.name not in _WRITING
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # it runs, for another user
        return False
    return False


def _mode_of_new_files(path: Path) -> int:
    """The permissions of a new file at ``path``: those of the umask, or of the folder's rules."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)
        path.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _acquire(path: Path) -> int | None:
    """The descriptor of the lock; None where there are none."""
    if fcntl is None:
        _warn(path)
        return None
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, descriptor):
                with suppress(OSError):  # on a full disk the lock has no name in it
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, f"{os.getpid()} {platform.node()}\n".encode(), 0)
                _OPEN.add(descriptor)
                return descriptor
            os.close(descriptor)  # its last holder has removed it since: again
        except (BlockingIOError, PermissionError):
            holder = os.pread(descriptor, 300, 0).decode(errors="replace")
            os.close(descriptor)
            raise LockedError(
                got=f"the folder {path.parent}, which {_name(holder)} is writing",
                expected="one run a folder at a time",
                fix="Wait until it ends, or choose another folder.",
            ) from None
        except OSError as error:
            os.close(descriptor)
            if error.errno not in _NO_LOCKS:
                raise
            _warn(path)
            return None


def _release(path: Path, descriptor: int) -> None:
    with suppress(OSError):  # the folder may be gone
        if _is_at(path, descriptor):
            path.unlink()
    _OPEN.discard(descriptor)
    os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    """True if the open file is the one that has the name ``path``."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _name(holder: str) -> str:
    pid, _, machine = holder.strip().partition(" ")
    if not pid:
        return "another process"
    if machine != platform.node():
        return f"process {pid} on {machine}"
    return f"process {pid}" if pid != str(os.getpid()) else f"this process ({pid})"


def _warn(path: Path) -> None:
    path.unlink(missing_ok=True)
    warnings.warn(f"No locks in {path.parent}: do not start a second run there.", stacklevel=5)


def _let_go_in_child() -> None:
    """A forked child keeps no lock of its parent: it would outlive a parent that is killed."""
    for descriptor in _OPEN:
        with suppress(OSError):
            os.close(descriptor)
    _OPEN.clear()


if fcntl is not None:
    import errno

    _NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
    os.register_at_fork(after_in_child=_let_go_in_child)

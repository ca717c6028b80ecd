"""Locks of folders: one run writes a folder at a time, and a run that dies leaves it free."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from rectilinear.config import disk_errors, writable
from rectilinear.errors import LockedError

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment] # tested before each use


LOCK = ".rectilinear.lock"
_HELD: ContextVar[frozenset[tuple[int, str]]] = ContextVar("held", default=frozenset())
"""Process and folder of each lock of the caller."""
_OPEN: set[int] = set()
"""Descriptors of the locks of this process."""


@contextmanager
def locked(folder: Path | str) -> Iterator[None]:
    """Hold ``folder`` alone inside the block; a caller that holds it already goes through.

    The operating system keeps the lock (``flock``) and frees it when the process ends, however it
    ends. While it is held, the file ``.rectilinear.lock`` in the folder says by whom. Where there
    are no such locks, on some network file systems, a warning says so.

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
    """Whether the open file is the one that has the name ``path``."""
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

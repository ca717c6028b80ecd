"""The log of a run: one JSON object a line, a progress display, and trackers where asked for."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from rectilinear.config import nan_to_null
from rectilinear.errors import MissingDependencyError
from rectilinear.files import atomic_write, disk_errors
from rectilinear.progress import Progress

METRICS = "metrics.jsonl"


def read_log(out: Path | str) -> list[dict[str, Any]]:
    """The records of ``metrics.jsonl`` in the run folder ``out``, without incomplete lines."""
    path = Path(out) / METRICS
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [record for record in map(_record, lines) if record is not None]


def _record(line: bytes) -> dict[str, Any] | None:
    """The record that :func:`_line` wrote; None for anything else."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and type(record.get("step")) is int else None


class RunLog:
    """Writes the records of a run that continues after step ``step``; later records are dropped.

    Raises:
        DiskError: if the disk is full; the log then ends with a whole line.
        MissingDependencyError: for a tracker that is not installed.
    """

    def __init__(
        self, out: Path, step: int, config: dict[str, Any], trackers: Sequence[str], show: bool
    ) -> None:
        self._trackers = [_TRACKERS[name](out, step, config) for name in trackers]
        kept = [_line(record) for record in read_log(out) if record["step"] <= step]
        with atomic_write(out / METRICS) as tmp:
            tmp.write_bytes(b"".join(kept))
        self._path = out / METRICS
        self._file = self._path.open("ab", buffering=0)
        self._display = Progress("training", 1.0, shown=show, stays=True)

    def __enter__(self) -> Self:
        self._display.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._display.__exit__(kind)
        self._file.close()
        for _track, close in self._trackers:
            close()

    def write(self, record: dict[str, float], progress: float) -> None:
        """Append one record."""
        line = _line(record)
        with disk_errors(self._path):
            size = os.fstat(self._file.fileno()).st_size
            try:
                if self._file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                os.ftruncate(self._file.fileno(), size)
                raise
        for track, _close in self._trackers:
            track(record)
        self._display.update(progress, f"step {record['step']}  loss {record['loss']:.4g}")

    def sync(self) -> None:
        """Wait until the records are on the disk."""
        with disk_errors(self._path):
            os.fsync(self._file.fileno())


def _line(record: dict[str, Any]) -> bytes:
    """Strict JSON: a number that is not finite becomes null."""
    return (json.dumps(nan_to_null(record)) + "\n").encode()


_Tracker = tuple["Callable[[dict[str, float]], object]", "Callable[[], object]"]


def _tensorboard(out: Path, step: int, config: dict[str, Any]) -> _Tracker:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise _missing("tensorboard") from error
    writer = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)
    writer.add_text("config", json.dumps(config, indent=2))

    def track(record: dict[str, float]) -> None:
        for name, value in record.items():
            if name != "step":
                writer.add_scalar(name, value, int(record["step"]))

    return track, writer.close


def _wandb(out: Path, step: int, config: dict[str, Any]) -> _Tracker:  # noqa: ARG001 - the service drops repeated steps
    try:
        import wandb
    except ImportError as error:
        raise _missing("wandb") from error
    key = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:12]
    run = wandb.init(
        project="rectilinear", name=out.name, id=key, resume="allow", dir=str(out), config=config
    )

    def track(record: dict[str, float]) -> None:
        run.log(
            {name: value for name, value in record.items() if name != "step"},
            step=int(record["step"]),
        )

    return track, run.finish


_TRACKERS = {"tensorboard": _tensorboard, "wandb": _wandb}


def _missing(name: str) -> MissingDependencyError:
    return MissingDependencyError.of("the tracker", name, instead="leave it out of the trackers")

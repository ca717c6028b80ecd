"""Workers of a depth study, and the folder that keeps their finished chunks.

Chunks are spread over processes on this machine by joblib, or over a cluster of Dask or Ray. The
folder has the settings of the study, and every finished chunk in a file of its own.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import joblib
import numpy as np
from joblib.externals.loky.process_executor import TerminatedWorkerError
from threadpoolctl import threadpool_limits

from rectilinear.config import write_json
from rectilinear.deeplinear.study.measure import Columns
from rectilinear.errors import CheckpointError, ConfigError, MissingDependencyError, WorkerError
from rectilinear.files import atomic_write, remove_leftovers
from rectilinear.scalars import is_count

# What a backend gives: the results of a function on items by number, as they come.
Results = Callable[[Callable[[Any], Any], dict[int, Any]], Iterator[tuple[int, Any]]]

Backend = Literal["loky", "dask", "ray"]
Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_ATTEMPTS = 3  # in a row, without a chunk finished
SCHEDULER_TIMEOUT = 10  # seconds for a scheduler to answer
FORMER_SETTINGS = {"start": "init"}  # fields of a model in studies of earlier versions


class Store:
    """The folder of one study: its settings, and finished chunks, whole or absent.

    Args:
        folder: made if it does not exist.
        settings: of the study, as JSON.

    Raises:
        ConfigError: if the folder holds another study.
        DiskError: if the disk is full or cannot be written.

    Example:
        >>> import tempfile
        >>> store = Store(tempfile.mkdtemp(), {"seed": 0})
        >>> store.save(3, {"gap": np.ones(2)})
        >>> store.finished(), store.load(3)["gap"].tolist()
        ({3}, [1.0, 1.0])
    """

    def __init__(self, folder: Path | str, settings: dict[str, Any]) -> None:
        self.folder = Path(folder)
        path = self.folder / "study.json"
        if path.exists() and (kept := read_settings(folder)) != settings:
            names = sorted(
                name for name in {*kept, *settings} if kept.get(name) != settings.get(name)
            )
            raise ConfigError(
                got=f"a folder {folder} with a study of other {', '.join(names)}",
                expected="one study a folder",
                fix="Choose another --out, or remove this one.",
            )
        if not path.exists():
            write_json(path, settings)
        remove_leftovers(self.folder / "chunks")

    def finished(self) -> set[int]:
        """The numbers of the chunks that are stored."""
        return {
            int(path.stem)
            for path in (self.folder / "chunks").glob("[0-9]*.npz")
            if zipfile.is_zipfile(path)
        }

    def save(self, number: int, columns: Columns) -> None:
        """Store a finished chunk."""
        with atomic_write(self._path(number)) as tmp, tmp.open("wb") as file:
            np.savez(file, **columns)  # type: ignore[arg-type] # its stub takes a column for the flag allow_pickle

    def load(self, number: int) -> Columns:
        """The columns of a stored chunk."""
        try:
            with np.load(self._path(number), allow_pickle=False) as file:
                return dict(file)
        except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise CheckpointError(
                f"{self._path(number)}, which cannot be read",
                "a finished chunk",
                "Remove it; the study computes it again.",
            ) from error

    def choose(self, steps: dict[str, float]) -> None:
        """Store the step sizes that were chosen, by the names of their models."""
        write_json(self.folder / "step_sizes.json", steps)

    def chosen(self) -> dict[str, float] | None:
        """The step sizes that :meth:`choose` stored, or None."""
        path = self.folder / "step_sizes.json"
        if not path.exists():
            return None
        try:
            steps = json.loads(path.read_text(encoding="utf-8"))
            return {str(name): float(step) for name, step in steps.items()}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointError(
                f"{path}, which cannot be read",
                "the step sizes that were chosen",
                "Remove it; the study computes it again.",
            ) from error

    def _path(self, number: int) -> Path:
        return self.folder / "chunks" / f"{number:06d}.npz"


def read_settings(folder: Path | str) -> dict[str, Any]:
    """The settings in ``study.json``, with the fields of earlier versions under their new names."""
    path = Path(folder) / "study.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"no study in {folder}", f"{path.name}", "Give the --out of a study."
        ) from error
    if not isinstance(settings, dict):
        raise CheckpointError(
            f"{path} without settings", "a JSON object", "Give the --out of a study."
        )
    models = settings.get("models")
    for model in models if isinstance(models, list) else []:
        for old, new in FORMER_SETTINGS.items():
            if isinstance(model, dict) and old in model:
                model[new] = model.pop(old)
    return settings


def map_chunks(
    work: Callable[[Item], Result],
    items: Mapping[int, Item],
    *,
    n_jobs: int = 1,
    backend: Backend = "loky",
    address: str | None = None,
) -> Iterator[tuple[int, Result]]:
    """The results of ``work`` on every item, each as soon as it is finished, with its number.

    Every item runs on one thread, so that a result does not depend on where and beside what it was
    computed. A worker that dies is replaced and its items begin again; where workers die without
    finishing anything, that is an error.

    Args:
        work: a function that can be sent to another process.
        items: by number.
        n_jobs: processes on this machine, -1 for one a core; a cluster has its own.
        backend: ``loky`` for processes on this machine, ``dask`` or ``ray`` for a cluster.
        address: of a Dask scheduler; without, one is started here with ``n_jobs`` workers.

    Raises:
        WorkerError: if workers die again and again.
        ConfigError: for a cluster that does not answer, an address without ``dask``, or no workers.
        MissingDependencyError: for a backend that is not installed.

    Example:
        >>> sorted(map_chunks(abs, {0: -3, 1: 4}))
        [(0, 3), (1, 4)]
    """
    if backend not in ("loky", "dask", "ray"):
        raise ConfigError(f"backend = {backend!r}", "loky, dask or ray")
    if n_jobs != -1 and not is_count(n_jobs, 1):
        raise ConfigError(f"n_jobs = {n_jobs}", "a number of workers, or -1 for one a core")
    if address is not None and backend != "dask":
        raise ConfigError(
            f"a Dask address and backend {backend}", "backend dask", "Leave one of them out."
        )
    if backend == "loky" and (n_jobs == 1 or len(items) == 1):
        for number, item in items.items():
            yield _one(work, number, item)
        return
    left, attempts = dict(items), 0
    with {"loky": _loky, "dask": _dask, "ray": _ray}[backend](n_jobs, address) as results:
        while left:
            before = len(left)
            try:
                for number, result in results(work, dict(left)):
                    del left[number]
                    yield number, result
            except _deaths() as error:
                attempts = 0 if len(left) < before else attempts + 1
                if attempts == MAX_ATTEMPTS:
                    raise WorkerError(
                        got=f"workers that died {attempts} times with {len(left)} chunks left",
                        expected="workers that finish a chunk",
                        fix="Use fewer (--n-jobs) if memory ran out, and run the command again: "
                        "it resumes where it stopped.",
                    ) from error


@contextmanager
def _loky(n_jobs: int, _: str | None) -> Iterator[Results]:
    def results(work: Callable[[Any], Any], items: dict[int, Any]) -> Iterator[tuple[int, Any]]:
        tasks = (joblib.delayed(_one)(work, number, item) for number, item in items.items())
        return joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered", batch_size=1)(tasks)

    yield results


@contextmanager
def _dask(n_jobs: int, address: str | None) -> Iterator[Results]:
    """Dask's own futures: joblib's backend waits for ever for a task that killed its workers."""
    try:
        from distributed import Client, as_completed
    except ImportError as error:
        raise _missing("dask", "dask[distributed]") from error
    with ExitStack() as opened:
        try:
            if address is None:
                address = opened.enter_context(_local_dask(n_jobs))
            client = opened.enter_context(Client(address, timeout=SCHEDULER_TIMEOUT))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"no answer from a Dask scheduler at {address or 'this machine'}",
                "a scheduler's address, such as tcp://10.0.0.1:8786",
                "Start one with 'dask scheduler', or leave --dask-address out.",
            ) from error

        def results(work: Callable[[Any], Any], items: dict[int, Any]) -> Iterator[tuple[int, Any]]:
            futures = [
                client.submit(_one, work, number, item, pure=False)
                for number, item in items.items()
            ]
            try:
                for future in as_completed(futures):
                    yield future.result()
                    future.release()
            finally:
                client.cancel(futures)

        yield results


@contextmanager
def _local_dask(n_jobs: int) -> Iterator[str]:
    """The address of a scheduler here, with workers that the command ``dask worker`` runs.

    Dask's own local workers import the script that began them again, so that a script without
    ``if __name__ == "__main__"`` would wait for them for ever.
    """
    from distributed import LocalCluster

    workers = joblib.cpu_count() if n_jobs == -1 else n_jobs
    with LocalCluster(
        n_workers=0, dashboard_address=None, silence_logs=logging.CRITICAL
    ) as cluster:
        options = ["--nworkers", str(workers), "--nthreads", "1", "--no-dashboard"]
        process = subprocess.Popen(  # noqa: S603 # this Python and an address of ours
            [sys.executable, "-m", "dask", "worker", cluster.scheduler_address, *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield cluster.scheduler_address
        finally:
            process.terminate()
            process.wait()


@contextmanager
def _ray(n_jobs: int, _: str | None) -> Iterator[Results]:
    try:
        import ray
    except ImportError as error:
        raise _missing("ray", "ray") from error

    def results(work: Callable[[Any], Any], items: dict[int, Any]) -> Iterator[tuple[int, Any]]:
        task: Any = ray.remote(_one)
        waiting = [task.remote(work, number, item) for number, item in items.items()]
        while waiting:
            (first, *_), waiting = ray.wait(waiting)
            yield ray.get(first)

    ours = not ray.is_initialized()
    if ours:
        ray.init(
            num_cpus=None if n_jobs == -1 else n_jobs,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
        )
    try:
        yield results
    finally:
        if ours:
            ray.shutdown()


def _one(work: Callable[[Item], Result], number: int, item: Item) -> tuple[int, Result]:
    with threadpool_limits(1):
        return number, work(item)


def _missing(backend: str, package: str) -> MissingDependencyError:
    return MissingDependencyError.of(f"the backend {backend}", package, extra="cluster")


def _deaths() -> tuple[type[BaseException], ...]:
    """The errors that mean that workers died, of the backends that are loaded."""
    known = [("distributed", "KilledWorker"), ("ray.exceptions", "WorkerCrashedError")]
    return TerminatedWorkerError, *(
        getattr(sys.modules[m], name) for m, name in known if m in sys.modules
    )

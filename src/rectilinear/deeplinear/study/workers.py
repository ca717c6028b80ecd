"""Chunks of work over processes or machines, through joblib and its backends."""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import joblib
from joblib.externals.loky.process_executor import TerminatedWorkerError
from threadpoolctl import threadpool_limits

from rectilinear.errors import ConfigError, MissingDependencyError, WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Backend = Literal["loky", "dask", "ray"]
Item = TypeVar("Item")
Result = TypeVar("Result")


def spread(
    work: Callable[[Item], Result],
    items: Mapping[int, Item],
    *,
    n_jobs: int = 1,
    backend: Backend = "loky",
    address: str | None = None,
) -> Iterator[tuple[int, Result]]:
    """``work`` on every item, each result as soon as it is there, with the number of its item.

    Every item runs on one thread, so that a result does not depend on where and beside what it was computed. A worker
    that dies is replaced and its items start again; where workers die without finishing anything, that is an error.

    Args:
        work: a function that can be sent to another process.
        items: by number.
        n_jobs: processes on this machine, -1 for one a core; a cluster has its own.
        backend: ``loky`` for processes here, ``dask`` or ``ray`` for a cluster.
        address: of a Dask scheduler; without, one is started here with ``n_jobs`` workers.

    Raises:
        WorkerError: if workers die again and again.
        ConfigError: for a cluster that does not answer, or a number of workers that is none.
        MissingDependencyError: for a backend that is not installed.

    Example:
        >>> sorted(spread(abs, {0: -3, 1: 4}))
        [(0, 3), (1, 4)]
    """
    if n_jobs == 0 or n_jobs < -1:
        raise ConfigError(f"n_jobs = {n_jobs}", "a number of workers, or -1 for one a core", "Correct this value.")
    if backend == "loky" and (n_jobs == 1 or len(items) == 1):
        for number, item in items.items():
            yield _one(work, number, item)
        return
    left = dict(items)
    with ExitStack() as stack:
        if backend != "loky":
            stack.enter_context(_cluster(backend, n_jobs, address))
        attempts = 0
        while left:
            before = len(left)
            try:
                for number, result in _results(work, dict(left), n_jobs, backend):
                    del left[number]
                    yield number, result
            except _deaths() as error:
                attempts = 0 if len(left) < before else attempts + 1
                if attempts == _ATTEMPTS:
                    raise WorkerError(
                        got=f"workers that died {attempts} times with {len(left)} chunks left",
                        expected="workers that finish a chunk",
                        fix="Use fewer (--n-jobs) if memory ran out; the same command goes on where this one stopped.",
                    ) from error


_ATTEMPTS = 3  # in a row, without a chunk finished
_PATIENCE = 10  # seconds for a scheduler to answer


def _results(
    work: Callable[[Item], Result], items: dict[int, Item], n_jobs: int, backend: Backend
) -> Iterator[tuple[int, Result]]:
    tasks = [joblib.delayed(_one)(work, number, item) for number, item in items.items()]
    if backend != "ray":
        yield from joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered", batch_size=1)(tasks)
        return
    # Ray gives joblib its results only all at once: in waves, so that a kill loses one wave.
    size = 2 * joblib.effective_n_jobs(n_jobs)
    for at in range(0, len(tasks), size):
        yield from joblib.Parallel(n_jobs=n_jobs)(tasks[at : at + size])


def _one(work: Callable[[Item], Result], number: int, item: Item) -> tuple[int, Result]:
    with threadpool_limits(1):
        return number, work(item)


def _cluster(backend: Backend, n_jobs: int, address: str | None) -> ExitStack:
    """Joblib on a cluster, for as long as the context lasts."""
    with ExitStack() as stack:
        if backend == "dask":
            stack.enter_context(_dask(n_jobs, address))
        else:
            _ray(n_jobs)
        stack.enter_context(joblib.parallel_config(backend))
        return stack.pop_all()


def _dask(n_jobs: int, address: str | None) -> Any:
    try:
        from distributed import Client
    except ImportError as error:
        raise _missing("dask", "dask[distributed]") from error
    try:
        if address is not None:
            return Client(address, timeout=_PATIENCE)
        workers = joblib.cpu_count() if n_jobs == -1 else n_jobs
        return Client(n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=logging.ERROR)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no answer from a Dask scheduler at {address or 'this machine'}",
            "a scheduler's address, such as tcp://10.0.0.1:8786",
            "Start one with 'dask scheduler', or leave --dask-address out.",
        ) from error


def _ray(n_jobs: int) -> None:
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise _missing("ray", "ray") from error
    if not ray.is_initialized():
        ray.init(num_cpus=None if n_jobs == -1 else n_jobs, log_to_driver=False)
    register_ray()


def _missing(backend: str, package: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"the backend {backend} without {package}", package, "Install it: pip install 'rectilinear[cluster]'."
    )


def _deaths() -> tuple[type[BaseException], ...]:
    """What joblib raises where workers died, of the backends that are loaded."""
    known = [
        ("distributed", "KilledWorker"),
        ("ray.exceptions", "RayActorError"),
        ("ray.exceptions", "WorkerCrashedError"),
    ]
    return TerminatedWorkerError, *(getattr(sys.modules[m], name) for m, name in known if m in sys.modules)

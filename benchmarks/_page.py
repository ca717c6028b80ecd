"""The options, the line of what was run, and the CPU seconds of all benchmarks."""

from __future__ import annotations

import argparse
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
RESULTS = Path(__file__).parent / "results"


def options(doc: str | None, page: str | None = None) -> argparse.ArgumentParser:
    """The parser of a benchmark, with ``--out`` if it writes a page of ``results``."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if page:
        parser.add_argument("--out", type=Path, default=RESULTS / page)
    return parser


def ran(command: str, facts: str, machine: str | None = None) -> str:
    """The command, the day, the machine, facts and the version of torch, without a full stop."""
    machine = machine or f"{platform.machine()} with {os.cpu_count()} cores"
    when = f"{datetime.now(tz=UTC):%Y-%m-%d}"
    called = f"`python benchmarks/{command.strip()}`"
    return f"{called}, {when}, {machine}, {facts}, torch {torch.__version__}"


def processor() -> str:
    """The name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.split(": ")[1] for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def timed(run: Callable[[], T]) -> tuple[T, float]:
    """The result of a call and its CPU seconds; other processes do not count."""
    start = time.process_time()
    result = run()
    return result, time.process_time() - start


def fastest(run: Callable[[], object], repeats: int) -> float:
    """The least CPU seconds of several calls."""
    return min(timed(run)[1] for _ in range(repeats))

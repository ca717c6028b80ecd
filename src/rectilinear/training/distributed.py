"""Data-parallel training with an unchanged script: ``torchrun --nproc-per-node=2 script.py``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rectilinear.errors import ConfigError


@dataclass(frozen=True)
class Group:
    """The processes that train together, seen from one of them."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def is_main(self) -> bool:
        """True if this process writes the run folder."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module with gradients averaged over the processes."""
        if self.world == 1:
            return module
        return DistributedDataParallel(
            module, device_ids=[self.device] if self.device.type == "cuda" else None
        )

    def mean(self, x: Tensor) -> Tensor:
        """The mean of ``x`` over the processes."""
        if self.world > 1:
            dist.all_reduce(x)
        return x / self.world

    def agree(self, seconds: float, stop: bool) -> tuple[float, bool]:
        """One clock for all processes, and whether any of them must stop."""
        if self.world == 1:
            return seconds, stop
        mean = self.mean(
            torch.tensor([seconds, float(stop)], dtype=torch.float64, device=self.device)
        ).tolist()
        return mean[0], mean[1] > 0


def is_main() -> bool:
    """True if this process is the first of those that ``torchrun`` started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def process_group(device: str) -> Iterator[Group]:
    """Join the processes of ``torchrun`` (NCCL on GPUs, gloo elsewhere), or be the only one.

    Raises:
        ConfigError: if there is no such device.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    chosen = device_named(device)
    if world == 1:
        yield Group(chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    began = not dist.is_initialized()
    if began:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Group(chosen, rank, world)
    finally:
        if began:
            dist.destroy_process_group()


def device_named(name: str) -> torch.device:
    """The device of a configuration; "auto" is the GPU of this process, or the CPU.

    Raises:
        ConfigError: if there is no such device.
    """
    try:
        device = torch.device(
            ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
        )
        if device.type == "cuda" and device.index is None:
            device = torch.device(
                "cuda", int(os.environ.get("LOCAL_RANK", torch.cuda.current_device()))
            )
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            got=f"device = {name!r} ({str(error).splitlines()[0]})",
            expected="a device of this machine",
            fix="Choose 'auto', 'cpu' or 'cuda'.",
        ) from error
    return device

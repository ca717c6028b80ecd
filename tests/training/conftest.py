import errno
import json
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from rectilinear.training import TrainConfig


class Denoise(nn.Module):
    """A small objective with everything an objective may have: noise, a buffer, an initial value from the
    data.
    """

    def __init__(self, dim=4, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.Sequential(
            nn.Linear(dim, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, dim)
        ).double()
        self.register_buffer("shift", torch.zeros(dim, dtype=torch.float64))
        self.prepared = 0

    def prepare(self, data):
        self.prepared += 1
        self.shift.copy_(data.mean(0) + 0.01 * torch.randn(data.shape[1], dtype=data.dtype))

    def forward(self, batch):
        noise = torch.randn_like(batch)
        loss = (self.net(batch - self.shift + noise) - noise).square().mean()
        return {"loss": loss, "root": loss.sqrt(), "per_row": noise.mean(1)}

    def diagnostics(self, batch):
        return {"round_trip": (self.net(batch) - batch).abs().max()}


@pytest.fixture
def denoise():
    return Denoise


@pytest.fixture
def data():
    return torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 3


@pytest.fixture
def config():
    """Makes short configurations."""
    return lambda **changes: TrainConfig(
        **{
            "steps": 30,
            "batch_size": 16,
            "lr": 1e-2,
            "device": "cpu",
            "log_every": 5,
            "evaluate_every": 10,
        }
        | changes
    )


@pytest.fixture
def small_disk():
    """No file may grow beyond so many bytes, as on a disk that fills."""

    @contextmanager
    def limit(size):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # it would be cut, too
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            sys.dont_write_bytecode = kept

    return limit


@pytest.fixture
def full_disk(monkeypatch):
    """From now on no file can take its place: there is no room."""

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    return lambda: monkeypatch.setattr(os, "replace", fail)


@pytest.fixture(scope="session")
def processes(tmp_path_factory):
    """Two kills and a run in two processes: their folder and report."""
    folder = tmp_path_factory.mktemp("processes")
    command = [sys.executable, Path(__file__).with_name("processes.py"), "both", folder, "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)

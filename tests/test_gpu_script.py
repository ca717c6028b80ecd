"""The script for a GPU, in small on the CPU."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from types import ModuleType

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def arguments(tmp_path: Path) -> Namespace:
    return Namespace(
        tiny=True, device=torch.device("cpu"), out=tmp_path, images=None, seconds=60.0,
        start=time.monotonic(),
    )  # fmt: skip


def test_a_fold_equals_its_steps(script: ModuleType, arguments: Namespace) -> None:
    assert 0 < script.fold(arguments)["cpu"]["error"] < 1e-5


def test_an_audit_and_a_map(script: ModuleType, arguments: Namespace) -> None:
    assert script.audit(arguments)["cpu"]["verdict"].startswith("not linear")
    assert 0.9 < script.maps(arguments)["cpu"]["r2"] < 1


@pytest.mark.slow
def test_the_whole_script(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--tiny", "--out", str(tmp_path)])
    assert script.main() == 0
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["tests"]["passed"] == 1
    assert found["generator"]["steps"] == 12
    assert (tmp_path / "samples.png").stat().st_size > 1000

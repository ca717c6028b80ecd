import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rectilinear.tensor_files import load_tensors
from rectilinear.training import read_log

SCRIPT = Path(__file__).with_name("processes.py")


def test_runs_killed_twice_end_bit_for_bit_like_one_that_was_not(processes):
    assert_same_runs(*processes, kills=2)


@pytest.mark.slow
def test_runs_killed_20_times_end_bit_for_bit_like_one_that_was_not(tmp_path):
    command = [sys.executable, SCRIPT, "kill", tmp_path, "20"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert_same_runs(tmp_path, json.loads(done.stdout), kills=20)


def assert_same_runs(folder, report, kills):
    assert len(report["killed_at_step"]) == kills
    whole, _ = load_tensors(folder / "whole" / "checkpoint.safetensors")
    log = [(record["step"], record["loss"], record["lr"]) for record in read_log(folder / "whole")]
    assert log[-1][0] == 200
    for number in range(report["runs"]):
        out = folder / f"run{number}"
        assert sorted(p.name for p in out.iterdir()) == [
            "checkpoint.safetensors",
            "config.json",
            "metrics.jsonl",
        ]
        resumed, _ = load_tensors(out / "checkpoint.safetensors")
        assert resumed.keys() == whole.keys()
        assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []
        assert [(record["step"], record["loss"], record["lr"]) for record in read_log(out)] == log

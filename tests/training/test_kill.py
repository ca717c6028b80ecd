import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rectilinear.training import load_tensors, read_log

SCRIPT = Path(__file__).with_name("processes.py")


@pytest.mark.parametrize(("kills", "seed"), [(2, 0), pytest.param(20, 1, marks=pytest.mark.slow)])
def test_runs_killed_at_random_instants_end_bit_for_bit_like_one_that_was_not(tmp_path, kills, seed):
    command = [sys.executable, SCRIPT, "kill", tmp_path, str(kills), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    report = json.loads(done.stdout)
    assert len(report["killed_at_step"]) == kills
    whole, _ = load_tensors(tmp_path / "whole" / "checkpoint.safetensors")
    log = [(record["step"], record["loss"], record["lr"]) for record in read_log(tmp_path / "whole")]
    assert log[-1][0] == 400
    for number in range(report["runs"]):
        out = tmp_path / f"run{number}"
        resumed, _ = load_tensors(out / "checkpoint.safetensors")
        assert resumed.keys() == whole.keys()
        assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []
        assert [(record["step"], record["loss"], record["lr"]) for record in read_log(out)] == log

"""Runs that are killed, and runs in two processes. They share one start of torch, so they share a file."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rectilinear.checks import tolerance
from rectilinear.errors import ConfigError
from rectilinear.tensor_files import load_tensors
from rectilinear.training import load_checkpoint, read_log
from rectilinear.training.batches import Batches

SCRIPT = Path(__file__).with_name("processes.py")


# The gradients are sums of the same numbers in another order: they differ by rounding, which Adam,
# dividing by their size, and 40 steps of a curved loss amplify a thousandfold at most.
ALLOWED = tolerance(torch.float64, scale=1000)


@pytest.mark.whole
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


@pytest.mark.whole
def test_two_processes_follow_the_loss_curve_of_one(processes):
    folder, report = processes
    assert report["exit"] == [0, 0]
    assert_same_run(folder)


@pytest.mark.slow
def test_torchrun_follows_the_loss_curve_of_one(tmp_path):
    subprocess.run([sys.executable, SCRIPT, "pair", tmp_path], check=True, timeout=120)
    (tmp_path / "two").rename(tmp_path / "forked")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run([*torchrun, SCRIPT, "join", tmp_path], check=True, timeout=300)
    assert_same_run(tmp_path)


def assert_same_run(folder):
    one, two = read_log(folder / "one"), read_log(folder / "two")
    assert [record["step"] for record in two] == list(range(1, 41))
    for name in ("loss", "gradient_norm"):
        assert max(abs(a[name] - b[name]) for a, b in zip(one, two, strict=True)) < ALLOWED
    left, right = load_checkpoint(folder / "one"), load_checkpoint(folder / "two")
    assert max((left[name] - right[name]).abs().max() for name in left) < ALLOWED


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(ConfigError, match="batch_size = 5 on 2 processes"):
        Batches(torch.zeros(10), 5, world=2)

"""Run folders: one run at a time, no user file removed, the last good checkpoint found."""

import errno
import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from rectilinear import recipes
from rectilinear.deeplinear import DepthStudy, Synthetic, deep_linear
from rectilinear.errors import CheckpointError, DiskError, LockedError
from rectilinear.files import _HOST, LOCK, atomic_write, locked, remove_leftovers, writable
from rectilinear.tensor_files import load_tensors
from rectilinear.training import TrainConfig, read_log, train

DATA = torch.randn(32, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
STEPS = TrainConfig(steps=12, batch_size=8, log_every=2, checkpoint_every_steps=4, device="cpu")
STUDY = DepthStudy(deep_linear([1]), Synthetic(noise=(0.1,), rows=20), trials=2, steps=2)

HOLD = """
import sys, time
from rectilinear.files import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


class Fit(nn.Module):
    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def forward(self, batch):
        return {"loss": (batch - self.mean + 0.1 * torch.randn_like(batch)).square().mean()}


def fit(out, **options):
    return train(Fit(), DATA, STEPS, out, progress=False, **options)


def weights(out):
    return load_tensors(out / "checkpoint.safetensors")[0]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "whole"
    fit(out)
    return out


@pytest.fixture
def holder(tmp_path):
    """A process that holds the folder ``run``."""
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield out, process
    process.kill()
    process.wait()


RUNS = {
    "training": fit,
    "a recipe": lambda out: recipes.train(
        "digits", recipes.recipe_named("digits", {"training.steps": 1}), out
    ),
    "features": lambda out: recipes.Features(epochs=1).train(out),
    "a study": lambda out: STUDY.run(out=out),
}


def test_a_second_run_in_a_folder_is_refused_and_the_system_frees_it_at_death(holder):
    out, process = holder
    for name, run in RUNS.items():
        with pytest.raises(LockedError, match=rf"process {process.pid} is writing"):
            run(out)
        assert [path.name for path in out.iterdir()] == [LOCK], name
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert fit(out).finished
    assert sorted(path.name for path in out.iterdir()) == [
        "checkpoint.safetensors",
        "config.json",
        "metrics.jsonl",
    ]


def test_threads_of_one_process_exclude_each_other_and_one_goes_through(tmp_path):
    refused = []

    def second():
        try:
            fit(tmp_path)
        except LockedError as error:
            refused.append(str(error))

    with locked(tmp_path), locked(tmp_path / "." / "x" / ".."):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        assert fit(tmp_path).finished, "the holder itself"
    assert len(refused) == 1
    assert "this process" in refused[0]
    assert fit(tmp_path).finished


def test_a_child_keeps_no_lock_of_a_parent_that_is_gone(tmp_path):
    code = (
        "import os, sys, time; from rectilinear.files import locked\n"
        "with locked(sys.argv[1]):\n"
        "    child = os.fork()\n"
        "    if not child: print(os.getpid(), flush=True); time.sleep(20); os._exit(0)\n"
        "    os.kill(os.getpid(), 9)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True
    )
    child = parent.stdout.readline()  # of the child, once it has begun; it keeps the pipe open
    parent.wait()
    try:
        with locked(tmp_path):
            pass
    finally:
        os.kill(int(child), signal.SIGKILL)


def test_eight_threads_take_turns(tmp_path):
    inside, most, turns = 0, 0, 0

    def work():
        nonlocal inside, most, turns
        while True:
            try:
                with locked(tmp_path):
                    inside += 1
                    most = max(most, inside)
                    turns += 1
                    inside -= 1
                return
            except LockedError:
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, turns) == (1, 8)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_said(tmp_path, monkeypatch, code):
    def flock(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(UserWarning, match="No locks in"):
        assert fit(tmp_path).finished
    assert not (tmp_path / LOCK).exists()


MINE = (
    ".notes.tmp.txt",
    ".notes.123.tmp.txt",
    ".checkpoint.tmp",
    ".rectilinear-notes.tmp.txt",
    ".rectilinear-00000000-1-x.tmp",
    "a.tmp.json",
    ".x.tmp/deep",
)


def test_no_file_of_the_user_is_removed(tmp_path):
    for folder in (tmp_path / "run", tmp_path / "study", tmp_path / "study" / "chunks"):
        for name in MINE:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("mine")
    fit(tmp_path / "run")
    STUDY.run(out=tmp_path / "study")
    for folder in (tmp_path / "run", tmp_path / "study", tmp_path / "study" / "chunks"):
        assert [name for name in MINE if (folder / name).read_text() != "mine"] == []


def test_leftovers_of_the_dead_go_and_files_in_the_making_stay(tmp_path):
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], stdout=subprocess.PIPE, check=True
    )
    token = "0123456789abcdef"
    left = tmp_path / f".rectilinear-{_HOST}-{int(dead.stdout)}-{token}.tmp.json"
    mine = tmp_path / f".rectilinear-{_HOST}-{os.getpid()}-{token}.tmp"
    alive = tmp_path / f".rectilinear-{_HOST}-{os.getppid()}-{token}.tmp.npz"
    elsewhere, old = (
        tmp_path / f".rectilinear-{host}-1-{token}.tmp.npz" for host in ("0" * 8, "1" * 8)
    )
    for path in (left, mine, alive, elsewhere, old):
        path.write_text("")
    os.utime(old, (0, 0))
    with atomic_write(tmp_path / "x.json") as tmp:
        tmp.write_text("{}")
        remove_leftovers(tmp_path)
        assert tmp.exists()
    assert {path.name for path in tmp_path.iterdir()} == {alive.name, elsewhere.name, "x.json"}


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_log_does_not_block_a_good_checkpoint(tmp_path, whole, seed):
    out, draw = tmp_path / "run", random.Random(seed)
    fit(out, stop_after=0)
    path = out / "metrics.jsonl"
    kept = path.read_bytes()
    line = draw.choice(
        [
            b"\xff\xfe\n",
            b"[1]\n",
            b"3\n",
            b'{"loss": 1}\n',
            b'{"step": "x"}\n',
            b"[" * 50_000 + b"\n",
            b"\0",
        ]
    )
    data = bytearray(line + kept if draw.random() < 0.5 else kept + line)
    for _ in range(draw.randrange(4)):
        data[draw.randrange(len(data))] = draw.randrange(256)
    path.write_bytes(data)
    assert fit(out).finished
    assert same(weights(out), weights(whole))
    assert read_log(out)[-1]["step"] == 12


def test_a_damaged_line_costs_that_line_alone(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "run")
    path = tmp_path / "run" / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b'{"step": 6, "lo\xff\n', *lines[3:]]))
    assert [record["step"] for record in read_log(tmp_path / "run")] == [2, 4, 8, 10, 12]


def test_a_run_that_the_first_version_began_ends_like_one_of_today(tmp_path, whole):
    out = tmp_path / "run"
    shutil.copytree(Path(__file__).parents[1] / "data" / "first_version" / "half_run", out)
    assert load_tensors(out / "checkpoint.safetensors")[1]["step"] == 1
    assert fit(out).finished
    assert same(weights(out), weights(whole))
    assert [(r["step"], r["loss"]) for r in read_log(out)][2:] == [
        (r["step"], r["loss"]) for r in read_log(whole)
    ][1:]


def test_random_damages_of_a_checkpoint_are_refused(whole, tmp_path):
    content, draw = (whole / "checkpoint.safetensors").read_bytes(), random.Random(1)
    path = tmp_path / "checkpoint.safetensors"
    for _ in range(int(os.environ.get("RECTILINEAR_DAMAGES", "40"))):
        data = bytearray(content)
        where = draw.randrange(len(data))
        if draw.random() < 0.5:
            data[where] ^= 1 << draw.randrange(8)
        else:
            del data[where : where + draw.choice([1, 8, len(data)])]
        path.write_bytes(data)
        with pytest.raises(CheckpointError):
            load_tensors(path)


def test_features_that_were_cut_short_are_trained_again(tmp_path, monkeypatch):
    out = tmp_path / "features"
    out.mkdir()
    (out / "model.safetensors").write_bytes(b"cut")
    assert recipes.Features(epochs=1).train(out).name == "digits"


@pytest.mark.parametrize(
    "content", [b"", b"[" * 50_000, b"\xff", b"{}", b'{"depth 2, gd": "x"}', b"[1]"]
)
def test_unreadable_step_sizes_of_a_study_are_an_error_or_chosen_again(tmp_path, content):
    study = DepthStudy(
        deep_linear([2], lr=None), Synthetic(noise=(0.1,), rows=20), trials=2, steps=2, tuning=2
    )
    expected = study.run(out=tmp_path)
    (tmp_path / "step_sizes.json").write_bytes(content)
    try:
        found = study.run(out=tmp_path)
    except CheckpointError as error:
        assert "step_sizes.json" in str(error)  # noqa: PT017 - either end is right
    else:
        assert np.array_equal(found.columns["gap"], expected.columns["gap"])


def test_a_folder_is_tried_before_and_left_as_it_was(tmp_path):
    with writable([tmp_path / "a" / "b"]):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    for bad in (tmp_path / "file", tmp_path / "file" / "x", tmp_path / ("n" * 300)):
        with pytest.raises(DiskError), writable([tmp_path / "a", bad]):
            pytest.fail("not reached")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with writable([tmp_path / "a"]):
        (tmp_path / "a" / "x").write_text("kept")
    assert json.dumps((tmp_path / "a" / "x").read_text()) == '"kept"'

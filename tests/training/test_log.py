import errno
import json
import os
import sys
from types import SimpleNamespace

import pytest

from rectilinear.errors import DiskError, MissingDependencyError
from rectilinear.training import read_log
from rectilinear.training.log import RunLog


def write(out, *steps, after=0, trackers=(), show=False):
    with RunLog(out, after, {"seed": 1}, trackers, show) as log:
        for step in steps:
            log.write({"step": step, "loss": step / 2}, step / 10)


def test_lines_are_strict_json_and_come_back(tmp_path):
    with RunLog(tmp_path, 0, {}, (), show=False) as log:
        log.write({"step": 1, "loss": 0.5, "error": float("inf")}, 0.1)
        log.write({"step": 2, "loss": 0.25}, 0.2)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {"step": 1, "loss": 0.5, "error": None}
    assert [record["step"] for record in read_log(tmp_path)] == [1, 2]


def test_going_on_drops_what_was_logged_beyond_the_checkpoint_and_a_line_cut_off(tmp_path):
    write(tmp_path, 1, 2, 3)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    assert [record["step"] for record in read_log(tmp_path)] == [1, 2, 3]
    write(tmp_path, 3, 4, after=2)
    assert [record["step"] for record in read_log(tmp_path)] == [1, 2, 3, 4]
    write(tmp_path, 1, after=0)
    assert [record["step"] for record in read_log(tmp_path)] == [1]


def test_no_log_is_an_empty_log(tmp_path):
    assert read_log(tmp_path) == []


def test_a_disk_that_fills_leaves_whole_lines(tmp_path, small_disk):
    with small_disk(60), pytest.raises(DiskError, match=r"File too large|No space left"):
        write(tmp_path, *range(100))
    text = (tmp_path / "metrics.jsonl").read_text()
    assert text.endswith("\n")
    assert [json.loads(line)["step"] for line in text.splitlines()] == [0, 1]


def test_a_sync_that_fails_is_a_disk_error(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.EIO, "Input/output error")

    with RunLog(tmp_path, 0, {}, (), show=False) as log:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(DiskError, match="Input/output"):
            log.sync()


def test_the_display_goes_to_standard_error(tmp_path, capsys):
    write(tmp_path, 5, show=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "step 5  loss 2.5" in captured.err


def test_tensorboard_gets_every_number(tmp_path, monkeypatch):
    calls = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            calls.append((folder, purge_step))

        def add_text(self, name, text):
            calls.append((name, json.loads(text)))

        def add_scalar(self, *call):
            calls.append(call)

        def close(self):
            calls.append("closed")

    monkeypatch.setitem(
        sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=SummaryWriter)
    )
    write(tmp_path, 8, after=7, trackers=("tensorboard",))
    folder = str(tmp_path / "tensorboard")
    assert calls == [(folder, 8), ("config", {"seed": 1}), ("loss", 4.0, 8), "closed"]


def test_wandb_goes_on_with_the_same_run(tmp_path, monkeypatch):
    runs, logged = [], []
    run = SimpleNamespace(
        log=lambda values, step: logged.append((values, step)), finish=lambda: logged.append("done")
    )
    monkeypatch.setitem(
        sys.modules, "wandb", SimpleNamespace(init=lambda **options: runs.append(options) or run)
    )
    write(tmp_path, 1, trackers=("wandb",))
    write(tmp_path, 2, after=1, trackers=("wandb",))
    assert logged == [({"loss": 0.5}, 1), "done", ({"loss": 1.0}, 2), "done"]
    assert runs[0] == runs[1]
    assert runs[0]["resume"] == "allow"


@pytest.mark.parametrize(
    ("name", "module"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb")]
)
def test_a_tracker_that_is_not_installed_is_named(tmp_path, monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=f"pip install {name}"):
        write(tmp_path, 1, trackers=(name,))

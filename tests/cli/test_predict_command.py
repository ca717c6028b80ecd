"""``rectilinear predict`` on a model from a user's file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from rectilinear import cli, learning

Ask = Callable[..., dict[str, Any]]

MODEL = """
import torch
from torch import nn

def small():
    model = nn.Sequential(nn.Linear(3, 40, bias=False), nn.ReLU(), nn.Linear(40, 1, bias=False))
    for p in model.parameters():
        nn.init.normal_(p, std=1e-3)
    return model

def biased():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))

def broken():
    raise KeyError("no such layer")

def number():
    return 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    x = np.random.default_rng(0).normal(size=(50, 3))
    y = x @ [1.0, -0.5, 0.2] > 0
    (tmp_path / "model.py").write_text(MODEL)
    np.save(tmp_path / "x.npy", np.concatenate([x, -x]))
    np.save(tmp_path / "y.npy", np.concatenate([y, ~y]).astype(np.int64))
    return tmp_path


def words(folder: Path, name: str = "small", *more: str) -> list[str]:
    data = ["--data", f"{folder}/x.npy", "--labels", f"{folder}/y.npy"]
    return ["predict", f"{folder}/model.py:{name}", *data, "--lr", "0.02", "--steps", "900", *more]


def test_curve_and_files(folder: Path, ask: Ask) -> None:
    answer = ask(*words(folder, "small", "--out", str(folder / "out")))
    assert answer["kind"] == "estimated"
    assert answer["loss_start"] == pytest.approx(0.5, rel=1e-3), (
        "signs, and a model that gives nothing yet"
    )
    assert answer["loss_end"] < 0.3
    assert len(answer["steps"]) == len(answer["loss"]) == 301
    assert Image.open(answer["image"]).width > 600
    assert json.loads(Path(answer["numbers"]).read_text())["half_time"] == answer["half_time"]
    again = ask(*words(folder, "small", "--seed", "1"))
    assert again["half_time"] != answer["half_time"], "the seed is that of the initial weights"
    assert "image" not in again


def test_weights_from_a_checkpoint(folder: Path, ask: Ask) -> None:
    w1, w2 = learning.antisymmetric_pairs(0.1 * torch.randn(20, 3), 0.1 * torch.randn(1, 20))
    save_file({"0.weight": w1, "2.weight": w2}, folder / "w.safetensors")
    assert (
        ask(*words(folder, "small", "--checkpoint", str(folder / "w.safetensors")))["kind"]
        == "exact"
    )


def test_in_words(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words(folder)) == 0
    said = capsys.readouterr().out
    assert "half time step" in said
    assert "symmetric data, 100 points" in said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("biased", "a bias in the linear layer '0'"),
        ("broken", "KeyError"),
        ("number", "makes a int and not a torch.nn.Module"),
        ("nothing", "AttributeError"),
    ],
)
def test_mistakes(folder: Path, capsys: pytest.CaptureFixture[str], name: str, said: str) -> None:
    assert cli.main(words(folder, name)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_data_that_do_not_fit(folder: Path, ask_error: Callable[..., str]) -> None:
    np.save(folder / "y.npy", np.ones(3))
    assert "Give every point one target" in ask_error(*words(folder))
    (folder / "x.npy").write_bytes(b"not an array")
    assert "cannot be read" in ask_error(*words(folder))
    assert "FILE.py:NAME" in ask_error("predict", "model.py", *words(folder)[2:])
    assert not any(isinstance(value, nn.Module) for value in vars(cli).values())

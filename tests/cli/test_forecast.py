"""Training and forecasting on the command line: a system, a file, and invalid input."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rectilinear import cli

Ask = Callable[..., dict[str, Any]]
SMALL = (
    *(
        "--set",
        "fit.fourier=60",
        "--set",
        "fit.rank=12",
        "--set",
        "fit.horizon=30",
        "--set",
        "fit.width=8",
    ),
    *("--set", "training.steps=5", "--set", "training.batch_size=32"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("swing")
    size = ("--set", "count=40", "--set", "steps=60", "--set", "fit.backward=20")
    assert cli.main(["train", "koopman", *SMALL, *size, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def wave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wave") / "wave.csv"
    t = 0.5 * np.arange(200)
    rows = [f"{s},{np.sin(s)},{np.cos(s)}" for s in t]
    path.write_text("\n".join(["time,a,b", *rows]))
    return path


def test_forecast_of_a_system(run: Path, ask: Ask, tmp_path: Path) -> None:
    answer = ask("forecast", run, "--steps", 30, "--out", tmp_path)
    assert np.load(answer["array"]).shape == (100, 31, 2)
    assert Image.open(answer["image"]).width > 500
    assert json.loads((tmp_path / "forecast.json").read_text())["errors"] == answer["errors"]
    assert {row["step"] for row in answer["errors"]} == {1, 10, 30}
    assert answer["errors"][-1]["error"] < 0.5
    reencoded = ask("forecast", run, "--steps", 30, "--reencode", 10, "--out", tmp_path / "again")
    assert reencoded["errors"][-1]["error"] != answer["errors"][-1]["error"]


def test_backward(run: Path, ask: Ask, tmp_path: Path) -> None:
    answer = ask("forecast", run, "--steps", 20, "--backward", "--out", tmp_path)
    assert answer["errors"][-1]["step"] == -20
    assert answer["errors"][-1]["error"] < 0.5


def test_a_series_of_the_user(wave: Path, ask: Ask, tmp_path: Path) -> None:
    words = ("--set", f"system={wave}", "--set", "fit.delays=2")
    out = tmp_path / "run"
    assert ask("train", "koopman", *SMALL, *words, "--out", out)["dim"] > 4
    answer = ask("forecast", out, "--steps", 40)
    ahead = 0.5 * np.arange(199, 240)
    assert (
        np.abs(np.load(answer["array"])[0] - np.stack([np.sin(ahead), np.cos(ahead)], 1)).max()
        < 0.01
    )
    start = tmp_path / "start.npy"
    np.save(start, np.stack([np.sin([1.0, 1.5]), np.cos([1.0, 1.5])], 1))
    answer = ask("forecast", out, "--steps", 4, "--from", start, "--out", tmp_path)
    assert np.abs(np.load(answer["array"])[0, 4] - [np.sin(3.5), np.cos(3.5)]).max() < 0.01
    assert "errors" not in answer


def test_the_same_command_goes_on_and_ends_alike(run: Path, ask: Ask, tmp_path: Path) -> None:
    size = ("--set", "count=40", "--set", "steps=60", "--set", "fit.backward=20")
    before = np.load(ask("forecast", run, "--steps", 20, "--out", tmp_path)["array"])
    ask("train", "koopman", *SMALL, *size, "--out", run)
    after = np.load(ask("forecast", run, "--steps", 20, "--out", tmp_path)["array"])
    assert np.abs(after - before).max() < 1e-5, "least squares, solved again from the same weights"


def test_mistakes(
    run: Path, wave: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def says(*words: str | Path) -> str:
        capsys.readouterr()
        assert cli.main([*map(str, words)]) == 2
        return capsys.readouterr().err

    assert "one of linear, pendulum" in says(
        "train", "koopman", "--set", "system=chair", "--out", tmp_path / "a"
    )
    gap = tmp_path / "gap.csv"
    gap.write_text("\n".join(f"{k},{'' if k == 17 else k % 5}" for k in range(99)))
    assert "gap" in says(
        "train", "koopman", *SMALL, "--set", f"system={gap}", "--out", tmp_path / "b"
    )
    short = tmp_path / "short.csv"
    short.write_text("1\n2\n3\n")
    assert "Lower horizon" in says(
        "train", "koopman", *SMALL, "--set", f"system={short}", "--out", tmp_path / "c"
    )
    assert "2, as the run has" in says("forecast", run, "--from", short)
    assert "no run" in says("forecast", tmp_path)

"""``rectilinear study``: the protocol of the paper, a table, its files, and invalid input."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rectilinear import cli
from rectilinear.deeplinear.study import page

Ask = Callable[..., dict[str, Any]]
SMALL = ("--trials", "4", "--steps", "50")


@pytest.mark.whole
def test_the_paper(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("study", "paper", "--depths", "1..3", "--optimizers", "adam", "--ridge", "1", *SMALL)
    answer = ask(*words, "--out", tmp_path)
    assert {cell["model"] for cell in answer["cells"]} >= {
        "least squares",
        "depth 3, adam",
        "ridge 1",
    }
    assert len(answer["cells"]) == 4 * 5
    assert answer["cells"][0]["noise"] == 0.05
    for name in ("trials", "summary", "report"):
        assert Path(answer[name]).is_file()
    chunks = {path: path.stat().st_mtime_ns for path in (tmp_path / "chunks").iterdir()}
    monkeypatch.setattr(page, "study_page", lambda result: "")  # once is enough
    assert ask(*words, "--out", tmp_path) == answer
    left = {path: path.stat().st_mtime_ns for path in (tmp_path / "chunks").iterdir()}
    assert left == chunks, "nothing was left to do"


def test_another_distribution(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "study_page", lambda result: "")
    distribution = ("--noise-kind", "ratio", "--inputs", "3", "--condition", "10", "--rows", "50")
    ask("study", "paper", "--depths", "1", *SMALL, *distribution, "--out", tmp_path)
    kept = json.loads((tmp_path / "study.json").read_text())["data"]
    assert (kept["noise_kind"], kept["inputs"], kept["condition"], kept["rows"]) == (
        "ratio",
        3,
        10.0,
        50,
    )


def test_a_table(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "study_page", lambda result: "")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 2))
    lines = [f"{a},{b},name,{a - 2 * b}" for a, b in X]
    (tmp_path / "data.csv").write_text("\n".join(["a,b,c,price", *lines]))
    words = (
        "study",
        tmp_path / "data.csv",
        "--target",
        "price",
        "--drop",
        "c",
        "--depths",
        "1,2",
        *SMALL,
    )
    answer = ask(*words, "--folds", "3", "--out", tmp_path / "out")
    assert [cell["model"] for cell in answer["cells"]] == [
        "least squares",
        "depth 1, gd torch tuned",
        "depth 2, gd torch tuned",
    ]
    assert answer["cells"][0]["noise"] is None
    assert answer["cells"][0]["test_error_median"] < 1e-20, "no noise"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("paper", "--depths", "0..3"), "--depths 0..3"),
        (("paper", "--depths", "3..1"), "--depths 3..1"),
        (("paper", "--widths", "two"), "--widths two"),
        (("paper", "--lr", "fast"), "--lr fast"),
        (("paper", "--lr", "-1"), "lr = -1"),
        (("paper", "--trials", "1"), "trials = 1"),
        (("paper", "--n-jobs", "-2"), "--n-jobs -2"),
        (("paper", "--backend", "spark"), "spark"),
        (("paper", "--starts", "torch"), "is now called --inits"),
        (("none.csv",), "--target is missing"),
        (("none.csv", "--target", "y"), "no file none.csv"),
    ],
)
def test_mistakes_are_one_line(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["study", *words, "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err.strip()
    assert said in message
    assert len(message.splitlines()) == 1
    assert not (tmp_path / "out").exists()

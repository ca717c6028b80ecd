"""Progress on standard error: lines where there is no terminal, a bar where there is one."""

import io
import json
import re
import sys
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

import rectilinear as rl
from rectilinear import cli
from rectilinear import progress as display
from rectilinear.progress import Progress

LINE = re.compile(r"rectilinear: [a-z ]+: (\d+ %|done) after (\d+ min )?\d+ s(, .+)?")


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines without a wait, as of a computation of many minutes, and no terminal."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(display, "LINE_SECONDS", 1e-3)


def until(text: str) -> None:
    """Wait until the text is on standard error."""
    end = monotonic() + 20
    while text not in sys.stderr.getvalue() and monotonic() < end:
        sleep(1e-3)


def fail() -> None:
    until("0 %")
    raise KeyError


def test_lines_say_how_far_it_is(often, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with Progress("audit", 4) as shown:
        for i, step in enumerate(("layers", "segments")):
            shown.advance(step)
            until(f": {25 * i} % after 0 s, {step}\n")
    lines = sys.stderr.getvalue().splitlines()
    assert "rectilinear: audit: 0 % after 0 s, layers" in lines
    assert "rectilinear: audit: 25 % after 0 s, segments" in lines
    assert lines[-1] == "rectilinear: audit: done after 0 s, segments"
    assert all(map(LINE.fullmatch, lines))


def test_minutes_are_written_out(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    times = iter([0.0, 130.4])
    monkeypatch.setattr(display, "monotonic", lambda: next(times))
    with Progress("study", 1, stays=True):
        pass
    assert sys.stderr.getvalue() == "rectilinear: study: done after 2 min 10 s\n"


@pytest.mark.parametrize("shown", [True, False])
def test_what_is_done_at_once_says_nothing(shown, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with Progress("audit", 1, shown=shown) as shown_one:
        shown_one.advance("layers")
    assert sys.stderr.getvalue() == ""


def test_what_fails_is_not_called_done(often, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with pytest.raises(KeyError), Progress("audit", 1):
        fail()
    assert "done" not in sys.stderr.getvalue()
    assert "0 %" in sys.stderr.getvalue()


def test_nobody_reads_it(often, monkeypatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    with Progress("audit", 1, stays=True) as shown:
        sleep(0.02)
        shown.advance("layers")


def test_a_terminal_has_a_bar_and_no_lines(often, monkeypatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with Progress("audit", 2, stays=True) as shown:
        shown.advance("layers")
        shown.update(2, "segments")
        sleep(0.02)
    assert "rectilinear:" not in sys.stderr.getvalue()
    assert "segments" in sys.stderr.getvalue()


def test_a_map_of_many_batches_ends_at_its_total(monkeypatch) -> None:
    seen: list[tuple[float, float]] = []

    def record(self: Progress, text: str, size: float = 1.0) -> None:
        self.update(self._done + self._pending, text)
        self._pending = size
        seen.append((self._done + self._pending, self._total))

    monkeypatch.setattr(Progress, "advance", record)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
    data = DataLoader(torch.randn(100, 3), batch_size=7)
    rl.linear_map(net, "0", "2", data, method="mean_jacobian", samples=16)
    assert seen[-1][0] == pytest.approx(seen[-1][1])  # parts of a step are fractions
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def written(tmp_path: Path) -> None:
    """A network and rows, a series, and photos."""
    (tmp_path / "model.py").write_text(
        "from torch import nn\nnet = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))\n"
    )
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(60, 3)))
    np.save(tmp_path / "wave.npy", np.sin(0.3 * np.arange(120.0)))
    (tmp_path / "photos").mkdir()
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i}.png")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("audit", "audit model.py:net --data x.npy"),
        ("forecast", "forecast wave.npy --steps 5 --kind linear --out out"),
        ("stylize", "stylize styles --input photos --style night --out out"),
        ("training", "train digits --set training.steps=3 --set blocks=2 --set width=8 --out out"),
    ],
)
def test_long_commands_say_so_on_standard_error_alone(
    what, words, often, tmp_path, monkeypatch, capsys
) -> None:
    written(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert cli.main([*words.split(), "--json"]) == 0
    said = capsys.readouterr()
    assert isinstance(json.loads(said.out), dict)
    lines = [line for line in said.err.splitlines() if line.startswith(f"rectilinear: {what}: ")]
    assert lines
    assert all(map(LINE.fullmatch, lines))
    assert "done" in lines[-1]

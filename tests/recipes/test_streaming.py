"""Samples are drawn and written in batches: memory does not grow with their number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from rectilinear.cli import main
from rectilinear.errors import ConfigError
from rectilinear.flow import LinearFlow, SolvedVelocity
from rectilinear.invertible import Flatten

if TYPE_CHECKING:
    from pathlib import Path


def flow(side: int, rank: int | None = None) -> LinearFlow:
    n = 3 * side * side
    velocity = SolvedVelocity(torch.ones(n), torch.linspace(0.1, 2, n))
    shape = (3, side, side)
    return LinearFlow(Flatten(shape), Flatten(shape), velocity, rank=rank, limits=(0.0, 1.0))


@pytest.mark.parametrize("rank", [None, 8])
def test_batches_are_the_rows_of_all_samples(rank: int | None) -> None:
    g = flow(16, rank)
    parts = list(g.sample_batches(1500, seed=3))
    assert [len(part) for part in parts] == [682, 682, 136]
    assert torch.equal(torch.cat(parts), g.sample(1500, seed=3))
    assert not parts[0].requires_grad


def test_arguments_are_checked_before_the_first_batch() -> None:
    for change in ({"n": 0}, {"scale": 0.0}, {"rank": 10**6}):
        with pytest.raises(ConfigError):
            flow(2).sample_batches(**{"n": 3, **change})


def test_files_are_written_as_they_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held: list[int] = []
    whole = LinearFlow.sample_batches

    def counted(self, n: int, *arguments, **options):
        for part in whole(self, n, *arguments, **options):
            held.append(len(list((tmp_path / "samples").iterdir())))
            yield part

    monkeypatch.setattr(LinearFlow, "sample_batches", counted)
    monkeypatch.setattr("rectilinear.flow.generator.BATCH_NUMBERS", 64)
    words = ["sample", "digits", "--count", "600", "--format", "png", "--out", str(tmp_path)]
    assert main([*words, "--json"]) == 0
    capsys.readouterr()
    assert held == [0, 256, 512], "each batch is on the disk before the next is drawn"
    assert len(list((tmp_path / "samples").iterdir())) == 600

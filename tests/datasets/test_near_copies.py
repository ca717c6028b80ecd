"""Near copies of an image are in one split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from rectilinear import datasets
from rectilinear.datasets.images import split_files, usual_side
from rectilinear.datasets.near_copies import leaders, near_copies

if TYPE_CHECKING:
    from pathlib import Path


def drawn(root: Path, count: int, copies: int = 2, side: int = 20) -> Path:
    """``count`` random drawings, each with near copies: recoloured by a few levels."""
    root.mkdir()
    random = np.random.default_rng(0)
    for i in range(count):
        coarse = random.integers(60, 190, (5, 5, 3), dtype=np.uint8)
        large = np.asarray(Image.fromarray(coarse).resize((side, side)))
        for j in range(copies):
            Image.fromarray(large + np.uint8(j)).save(root / f"{i:03}-{j}.png")
    return root


def test_near_copies_share_a_split(tmp_path: Path) -> None:
    root = drawn(tmp_path / "images", 30)
    files = split_files(root)
    splits = {name: {path.name[:3] for path in paths} for name, paths in files.items()}
    assert not splits["train"] & splits["test"]
    assert len(files["test"]) == 6
    assert len(datasets.load(root)) == 54


def test_images_that_are_all_alike_are_split_all_the_same(tmp_path: Path) -> None:
    files = split_files(drawn(tmp_path / "images", 1, copies=6))
    assert (len(files["train"]), len(files["test"])) == (5, 1)


def test_flat_images_are_not_near(tmp_path: Path) -> None:
    for i in range(4):
        Image.new("RGB", (8, 8), (200 + i, 0, 90)).save(tmp_path / f"{i}.png")
    assert len(near_copies(sorted(tmp_path.iterdir()))) == 4


def test_groups_are_led_and_not_chained() -> None:
    steps = np.arange(9)[:, None] * 0.1 * np.array([[1.0, -1.0, 1.0, -1.0]]) + np.array(
        [[0.0, 1.0, 0.0, 1.0]]
    )
    rows = steps.astype(np.float32)
    found = leaders(rows, rows.std(1))
    assert found[:3] == [0, 0, 2]
    many = np.random.default_rng(0).random((1500, 6)).astype(np.float32)
    found = leaders(many, many.std(1))
    distance = np.sqrt(np.square(many - many[found]).mean(1))
    assert (distance <= 0.25 * many[found].std(1) + 1e-3).all()
    assert [found[i] for i in set(found)] == list(set(found))


def test_the_side_of_the_files(tmp_path: Path) -> None:
    assert usual_side(drawn(tmp_path / "a", 3, side=16), 64) == 16
    assert usual_side(drawn(tmp_path / "b", 3, side=33), 64) == 32
    assert usual_side(drawn(tmp_path / "c", 3, side=100), 64) == 64

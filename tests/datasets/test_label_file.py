"""Classes of a folder's images from a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PIL import Image

from rectilinear import datasets, recipes
from rectilinear.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pathlib import Path

N = 40


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    for i in range(N):
        where = folder / "sub" if i % 2 else folder
        Image.new("L", (4, 4), 6 * i).save(where / f"{i:02}.png")
    return folder


def rows(root: Path) -> list[str]:
    """The class of an image is the light or the dark half, whatever its folder is."""
    names = [f"sub/{i:02}.png" if i % 2 else f"{i:02}.png" for i in range(N)]
    assert all((root / name).exists() for name in names)
    return [f"{name},{'light' if i >= N // 2 else 'dark'}" for i, name in enumerate(names)]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("header", [[], ["file,label"]])
def test_labels_follow_the_table(root: Path, header: list[str], separator: str) -> None:
    table = root.parent / "labels.csv"
    text = "\n".join([*header, *reversed(rows(root))])
    table.write_text(text.replace(",", separator), encoding="utf-8-sig")
    for split in ("train", "test"):
        found = datasets.load(root, split, labels=table)
        assert found.classes == ("dark", "light")
        level = (found.images[:, 0, 0, 0] * 255 / 6).round()
        assert found.labels.tolist() == (level >= N // 2).long().tolist()


def test_names_alone_suffice_where_they_are_unique(root: Path) -> None:
    table = root.parent / "labels.csv"
    table.write_text("\n".join(rows(root)).replace("sub/", ""))
    assert datasets.load(root, "train", labels=table).classes == ("dark", "light")


FAULTS = {
    "a row is missing": (lambda lines: lines[1:], "1 of 40 images without a row"),
    "a file is missing": (lambda lines: [*lines, "99.png,dark"], "row 41 .* no image has"),
    "a class is missing": (lambda lines: [*lines[:-1], "sub/39.png"], "without a class"),
    "two classes": (lambda lines: [*lines, "00.png,light"], "'dark' and 'light'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_table_that_does_not_fit_is_an_error(root: Path, fault: str) -> None:
    change, message = FAULTS[fault]
    table = root.parent / "labels.csv"
    table.write_text("\n".join(change(rows(root))))
    with pytest.raises(DataError, match=message):
        datasets.load(root, "train", labels=table)


def test_a_name_of_two_files_is_an_error(root: Path) -> None:
    Image.new("L", (4, 4), 255).save(root / "sub" / "00.png")
    table = root.parent / "labels.csv"
    table.write_text("\n".join([*rows(root)[1:], "00.png,dark", "sub/00.png,light"]))
    classes = datasets.load(root, "train", labels=table).classes
    assert classes == ("dark", "light"), "a path below the folder is exact"
    (root / "other").mkdir()
    (root / "00.png").rename(root / "other" / "00.png")
    with pytest.raises(DataError, match="that 2 files have"):
        datasets.load(root, "train", labels=table)


def test_named_sets_and_other_recipes_take_no_table(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="This set has its own"):
        datasets.load("digits", labels=tmp_path / "labels.csv")
    with pytest.raises(DataError, match="cannot be read"):
        datasets.load(root, labels=tmp_path / "labels.csv")
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(rows(root)))
    recipe = recipes.recipe_named("projector", {"labels": str(table)})
    with pytest.raises(ConfigError, match="uses labels"):
        recipe.load_labelled()


def test_a_run_draws_the_classes_of_its_table(root: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(rows(root)))
    changes = {"data": str(root), "labels": str(table), "blocks": 1, "width": 4, "pixel_width": 2}
    changes |= {"training.steps": 2, "training.device": "cpu", "latents": 2, "lowest": 1}
    run = recipes.train("images", recipes.recipe_named("images", changes), tmp_path / "run")
    assert run.flow.classes == ("dark", "light")
    assert run.load("train").classes == ("dark", "light")
    assert run.flow.given("light").sample(2).shape == (2, 1, 4, 4)

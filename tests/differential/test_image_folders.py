"""Folders of images as users have them: copies, links, photographs, names of splits, pairs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, features

from rectilinear import datasets
from rectilinear.datasets.read_image import image_files
from rectilinear.errors import DataError
from rectilinear.style.photos import pairs


def paint(path: Path, value: int, *, colour: bool = True, size: tuple[int, int] = (6, 5)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB" if colour else "L", size, (value, 0, value) if colour else value).save(path)


def values(root: Path, split: str) -> list[int]:
    images, _ = datasets.load(root, split)  # type: ignore[arg-type]
    return sorted((255 * images[:, 0, 0, 0]).round().int().tolist())


def test_copies_of_a_file_are_in_one_split(tmp_path: Path) -> None:
    for i in range(24):
        paint(tmp_path / f"{i:02}.png", 10 * (i % 12))  # every image twice
    train, test = values(tmp_path, "train"), values(tmp_path, "test")
    assert not set(train) & set(test)
    assert test == [0, 0, 100, 100]
    assert len(train) == 20


def test_files_of_one_length_are_no_copies(tmp_path: Path) -> None:
    for i in range(20):
        (tmp_path / f"{i:02}.pgm").write_bytes(b"P5 2 2 255\n" + bytes([i] * 4))
    assert values(tmp_path, "test") == [0, 10]
    assert len(values(tmp_path, "train")) == 18


def test_copies_of_a_single_image_are_in_either_split(tmp_path: Path) -> None:
    for i in range(11):
        paint(tmp_path / f"{i:02}.png", 7)
    assert (len(values(tmp_path, "train")), len(values(tmp_path, "test"))) == (9, 2)


@pytest.mark.parametrize("names", [("Train", "Test"), ("training", "testing"), ("TRAIN", "test")])
def test_splits_by_other_names_are_no_classes(names: tuple[str, str], tmp_path: Path) -> None:
    for name, first in zip(names, (0, 100), strict=True):
        for i in range(4):
            paint(tmp_path / name / "ab"[i % 2] / f"{i}.png", first + i)
    assert values(tmp_path, "train") == [0, 1, 2, 3]
    assert values(tmp_path, "test") == [100, 101, 102, 103]
    assert datasets.load(tmp_path).classes == ("a", "b")


def test_two_folders_for_one_split_are_refused(tmp_path: Path) -> None:
    for name in ("train", "training", "test"):
        paint(tmp_path / name / "a.png", 3)
    with pytest.raises(DataError, match="two folders"):
        datasets.load(tmp_path)


def test_linked_folders_are_read_and_circles_end(tmp_path: Path) -> None:
    for i in range(3):
        paint(tmp_path / "elsewhere" / f"{i}.png", i)
        paint(tmp_path / "mine" / "a" / f"{i}.png", 100 + i)
    (tmp_path / "mine" / "b").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "mine" / "a" / "up").symlink_to(tmp_path / "mine", target_is_directory=True)
    assert sorted(values(tmp_path / "mine", "train") + values(tmp_path / "mine", "test")) == [
        0,
        1,
        2,
        100,
        101,
        102,
    ]
    assert datasets.load(tmp_path / "mine").classes == ("a", "b")


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", 1)
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"b\.png, which cannot be read"):
        datasets.load(tmp_path)


def test_a_folder_whose_name_ends_like_an_image_is_a_folder(tmp_path: Path) -> None:
    for i in range(2):
        paint(tmp_path / "shots.png" / f"{i}.png", i)
    assert values(tmp_path, "test") + values(tmp_path, "train") == [0, 1]


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".jp2", ".tga", ".pnm", ".avif"])
def test_further_formats_are_read(suffix: str, tmp_path: Path) -> None:
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    if suffix == ".jp2" and not features.check("jpg_2000"):
        pytest.skip("this Pillow has no JPEG 2000")
    kinds = {
        ".jfif": "JPEG",
        ".jpe": "JPEG",
        ".jp2": "JPEG2000",
        ".tga": "TGA",
        ".pnm": "PPM",
        ".avif": "AVIF",
    }
    for i in range(2):
        Image.new("RGB", (16, 16), (200, 100, 50 * i)).save(
            tmp_path / f"{i}{suffix}", format=kinds[suffix]
        )
    pixels = datasets.load(tmp_path, "test").images[0, :, 8, 8] * 255
    assert torch.allclose(pixels, torch.tensor([200.0, 100.0, 0.0]), atol=4)


@pytest.mark.parametrize("name", ["b.HEIC", "sub/b.heif", "b.dng"])
def test_photographs_that_are_not_read_are_not_passed_over(name: str, tmp_path: Path) -> None:
    for i in range(3):
        paint(tmp_path / f"{i}.png", i)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(DataError, match=r"not read.*Convert"):
        datasets.load(tmp_path)
    paint((tmp_path / name).with_suffix(".jpg"), 9)  # as cameras lay them side by side
    assert len(datasets.load(tmp_path)) + len(datasets.load(tmp_path, "test")) == 4


@pytest.mark.parametrize("coloured", [0, 5])
def test_one_coloured_image_colours_both_splits(coloured: int, tmp_path: Path) -> None:
    for i in range(11):
        paint(tmp_path / f"{i:02}.png", i, colour=i == coloured)
    assert datasets.load(tmp_path).shape == datasets.load(tmp_path, "test").shape == (3, 5, 6)


def test_splits_of_two_sizes_need_a_size(tmp_path: Path) -> None:
    for name, size in (("train", (6, 6)), ("test", (8, 8))):
        for i in range(3):
            paint(tmp_path / name / f"{i}.png", i, size=size)
    for split in ("train", "test"):
        with pytest.raises(DataError, match=r"as other images.*size=64"):
            datasets.load(tmp_path, split)
    assert datasets.load(tmp_path, size=4).shape == datasets.load(tmp_path, "test", size=4).shape


@pytest.mark.parametrize(
    "names", [["a", "a.b", "a.c", "a.z"], ["x/1", "y/1", "y/2"], ["B", "a", "ä", "a-1"]]
)
def test_pairs_are_matched_by_name(names: list[str], tmp_path: Path) -> None:
    for i, name in enumerate(names):
        paint(tmp_path / "one" / f"{name}.bmp", 10 * i)
        paint(tmp_path / "two" / f"{name}{'.png' if i % 2 else '.tga'}", 10 * i)
    for split in ("train", "test"):
        found = pairs(tmp_path / "one", {"two": tmp_path / "two"}, split)
        for one, two in zip(found.photos, found.paintings["two"], strict=True):
            assert torch.equal(one, two)


def test_pairs_in_sub_folders_of_other_names_are_refused(tmp_path: Path) -> None:
    for i in range(3):
        paint(tmp_path / "one" / "x" / f"{i}.png", i)
        paint(tmp_path / "two" / "x" / f"{i + 1}.png", i + 1)
    with pytest.raises(DataError, match="not in both"):
        pairs(tmp_path / "one", {"two": tmp_path / "two"})


def test_copies_in_one_style_do_not_part_the_pairs(tmp_path: Path) -> None:
    """The originals are split with their copies together; the other style follows."""
    random = np.random.default_rng(0)
    for i in range(24):
        paint(tmp_path / "one" / f"{i:02}.png", 10 * (i % 12))
        Image.fromarray(random.integers(0, 255, (5, 6, 3), dtype=np.uint8)).save(
            tmp_path / f"{i}.png"
        )
        (tmp_path / "two").mkdir(exist_ok=True)
        (tmp_path / f"{i}.png").rename(tmp_path / "two" / f"{i:02}.png")
    train, test = (
        pairs(tmp_path / "one", {"two": tmp_path / "two"}, split) for split in ("train", "test")
    )
    assert (len(train.paintings["two"]), len(test.paintings["two"])) == (20, 4)
    assert torch.equal(
        torch.stack([*train.photos]).float() / 255, datasets.load(tmp_path / "one").images
    )


def test_all_damaged_files_are_named_at_once(tmp_path):
    for i in range(9):
        Image.new("L", (8, 8), 20 * i).save(tmp_path / f"{i}.png")
    for name in ("3.png", "5.png"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:40])
    with pytest.raises(DataError, match=r"2 files that cannot be read .*3\.png \(.*5\.png \("):
        datasets.load(tmp_path, "train", size=8)
    (tmp_path / "5.png").unlink()
    with pytest.raises(DataError, match=r"Got \S*3\.png, which cannot be read"):
        datasets.load(tmp_path, "train", size=8)


def test_contact_sheets_of_commands_are_no_images_of_the_folder(tmp_path):
    for name in ("a", "stylized", "samples"):
        Image.new("L", (8, 8)).save(tmp_path / f"{name}.png")
    (tmp_path / "stylized.json").write_text("{}")
    assert [path.name for path in image_files(tmp_path)] == ["a.png", "samples.png"]
    assert image_files(tmp_path / "stylized.png") == [tmp_path / "stylized.png"]

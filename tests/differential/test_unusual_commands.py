"""Unusual commands: colour profiles, empty arguments, moved folders, two commands at once."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from makers_data import image_folder
from rectilinear import cli, datasets
from rectilinear.datasets.read_image import read_image
from rectilinear.errors import DataError
from rectilinear.files import locked

TINY = {
    "training.steps": 1,
    "training.batch_size": 4,
    "training.device": "cpu",
    "blocks": 2,
    "width": 4,
    "size": 6,
}


def train(out: Path, data: str = "digits") -> int:
    words = [
        word
        for name, value in {**TINY, "data": data}.items()
        for word in ("--set", f"{name}={value}")
    ]
    return cli.main(["train", "digits", "--out", str(out), *words])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "rün 1"
    assert train(out) == 0
    return out


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_profile_of_srgb_changes_nothing(mode: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    colours = Image.fromarray(random.integers(60, 200, (5, 6, 3), dtype=np.uint8))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    plain, path = colours.convert(mode), tmp_path / "a.png"
    plain.save(path, icc_profile=profile.tobytes())
    found = read_image(path, grey=False).astype(int)
    assert np.abs(found - np.asarray(colours)).max() <= 1


def swapped() -> bytes:
    """The sRGB profile with the primaries of red and green exchanged."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for i in range(int.from_bytes(data[128:132], "big")):
        place = 132 + 12 * i
        other = {b"rXYZ": b"gXYZ", b"gXYZ": b"rXYZ"}.get(bytes(data[place : place + 4]))
        data[place : place + 4] = other or data[place : place + 4]
    return bytes(data)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_profile_means_what_it_says(mode: str, tmp_path: Path) -> None:
    """Where the profile says that the first channel is green, a red pixel of the file is green."""
    Image.new("RGB", (4, 4), (204, 0, 51)).convert(mode).save(
        tmp_path / "a.png", icc_profile=swapped()
    )
    pixel = read_image(tmp_path / "a.png", grey=False)[0, 0].astype(int)
    assert np.abs(pixel - (0, 204, 51)).max() <= 4


def test_profiles_that_say_nothing_leave_the_pixels(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, image, profile in (
        ("unreadable", Image.new("RGB", (3, 3), (9, 99, 199)), b"nothing"),
        ("grey", Image.new("L", (3, 3), 77), srgb),
    ):
        image.save(tmp_path / f"{name}.png", icc_profile=profile)
        assert (
            read_image(tmp_path / f"{name}.png", grey=False)[0, 0]
            == np.asarray(image.convert("RGB"))[0, 0]
        ).all()


@pytest.mark.parametrize(
    "words",
    [["--out", ""], ["--out="], ["--rank", ""]],
)
def test_empty_words_are_refused(
    words: list[str], run: Path, ask_error: Callable[..., str]
) -> None:
    assert "empty word" in ask_error("sample", run, *words)


def test_an_empty_name_is_no_folder() -> None:
    with pytest.raises(DataError, match="data ''"):
        datasets.load("")


def test_a_word_without_effect_or_twice_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["interpolate", str(run), "--frames", "1"]) == 2
    from rectilinear.cli import stylize

    arguments = stylize.Stylize(run=run, style="a", blend=("b=0.3", "b=0.4"))
    with pytest.raises(cli.UsageError, match="twice"):
        stylize._weights(arguments)


def test_a_run_finds_its_data_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_folder(tmp_path / "my phötos", 12, (8, 7))
    monkeypatch.chdir(tmp_path)
    assert train(Path("run"), "my phötos") == 0
    said = json.loads((tmp_path / "run/config.json").read_text(encoding="utf-8"))
    assert said["recipe"]["data"] == str(tmp_path / "my phötos")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").rename(tmp_path / "elsewhere/moved")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert cli.main(["invert", "moved", "--count", "2"]) == 0
    (tmp_path / "my phötos").rename(tmp_path / "elsewhere/images")
    assert train(Path("moved"), "images") == 0  # the same data in another place


def test_commands_that_write_into_a_run_hold_it(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = f"import sys; from rectilinear import cli; sys.exit(cli.main(['sample', {str(run)!r}, '--count', '1']))"
    with locked(run):
        found = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
    assert found.returncode == 2
    assert "is writing" in found.stderr
    assert not list(run.glob("samples*"))


def test_data_takes_a_size_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (20, 9)).save(image_folder(tmp_path / "a b", 12, (8, 7)) / "odd.png")
    assert cli.main(["data", str(tmp_path / "a b"), "--json"]) == 2
    capsys.readouterr()
    assert cli.main(["data", str(tmp_path / "a b"), "--size", "5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["shape"] == [3, 5, 5]
    assert found["folder"] == str(tmp_path / "a b")


def test_a_model_file_cannot_end_an_audit_as_done(
    tmp_path: Path, ask_error: Callable[..., str]
) -> None:
    (tmp_path / "m.py").write_text("import os\ndef f():\n    os._exit(0)\n", encoding="utf-8")
    np.save(tmp_path / "x.npy", np.zeros((9, 2)))
    assert "SystemExit" in ask_error(
        "audit", f"{tmp_path / 'm.py'}:f", "--data", tmp_path / "x.npy"
    )

"""The commands of styles: images keep sizes and names, wrong words are one line."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import rectilinear as rl
from makers_style import draw, photos
from rectilinear.cli import addstyle, main
from rectilinear.errors import (
    CheckpointError,
    DataWarning,
)
from rectilinear.style.photos import read_photos
from rectilinear.style.style_map import as_eight_bit


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A short run of the recipe, by the command line."""
    out = tmp_path_factory.mktemp("style") / "run"
    small = ("size=32", "blocks=2", "width=8", 'styles=["soft","dusk"]', "tile=16")
    steps = ("max_seconds=null", "steps=5", "batch_size=4", "warmup=0", "device=cpu")
    words = [
        word for change in (*small, *(f"training.{x}" for x in steps)) for word in ("--set", change)
    ]
    assert main(["train", "style", *words, "--out", str(out), "--json"]) == 0
    return out


@pytest.mark.whole
def test_stylize_keeps_sizes_and_names(trained, tmp_path, ask):
    draw(tmp_path / "mine" / "sub", ["b"], (11, 17))
    draw(tmp_path / "other", ["a"], (30, 9))
    out = tmp_path / "out"
    images = tmp_path / "mine", tmp_path / "other" / "a.png"
    answer = ask("stylize", trained, "--style", "soft", "--input", *images, "--out", out)
    assert answer["count"] == 2
    assert Image.open(out / "sub" / "b.png").size == (17, 11)
    assert Image.open(out / "a.png").size == (9, 30)
    assert json.loads((out / "stylized.json").read_text())["weights"] == {"soft": 1.0}
    assert Image.open(out / "stylized.png").size[1] == 512


def styled(ask, run, out, *words):
    ask("stylize", run, "--input", out.parent / "p.png", "--out", out, *words)
    return torch.from_numpy(np.asarray(Image.open(out / "p.png")).copy()).permute(2, 0, 1) / 255


def test_removal_warns_of_what_is_no_image_of_the_model(tmp_path, ask):
    x = read_photos("photos", "test", 96)[0] / 255
    pixels = as_eight_bit(rl.load("styles")(x, "charcoal")).mul(255).round().byte()
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    image.save(tmp_path / "own.png")
    image.save(tmp_path / "sent.jpg", quality=90)
    words = "stylize", "styles", "--instead-of", "charcoal", "--out", tmp_path / "out", "--input"
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        ask(*words, tmp_path / "own.png")
    with pytest.warns(DataWarning, match=r"1 of 2 images \(sent\) are not as this model writes"):
        ask(*words, tmp_path / "own.png", tmp_path / "sent.jpg")


@pytest.mark.whole
def test_strength_path_colours_and_exchange(trained, tmp_path, ask):
    photo = read_photos("photos", "test", 40)[0]
    Image.fromarray(photo.permute(1, 2, 0).numpy()).save(tmp_path / "p.png")
    x, model, out = photo / 255, rl.load(trained), tmp_path / "out"
    assert torch.allclose(styled(ask, trained, out, "--style", "dusk", "--strength", "0"), x)
    for kind in ("straight", "power"):
        words = "--style", "dusk", "--strength", "1.3", "--path", kind
        expected = model.path("identity", "dusk", 1.3, kind=kind)(x).clamp(0, 1)
        assert torch.allclose(styled(ask, trained, out, *words), expected, atol=0.003)
    words = "--style", "dusk", "--blend", "soft=0.25", "--strength", "0.5"
    blend = model.blend({"identity": 0.5, "dusk": 0.375, "soft": 0.125})(x).clamp(0, 1)
    assert torch.allclose(styled(ask, trained, out, *words), blend, atol=0.003)
    kept = styled(ask, trained, out, "--style", "dusk", "--keep-colours")
    inside = (kept > 0.01) & (kept < 0.99)
    differences = [(y[0] - y[1])[(inside[0] & inside[1])] for y in (kept, x)]
    assert torch.allclose(*differences, atol=0.01)
    answer = ask(
        "stylize", trained, "--instead-of", "soft", "--style", "dusk",
        "--input", tmp_path / "p.png", "--out", out,
    )  # fmt: skip
    assert answer["way_back"] == "fitted for 8-bit images"
    held_out = ask("stylize", trained, "--style", "soft")
    assert held_out["count"] == 2


@pytest.mark.whole
@pytest.mark.parametrize(
    "words",
    [
        ["--style", "watercolour"],
        ["--style", "soft", "--blend", "watercolour=0.3"],
        ["--style", "soft", "--blend", "dusk"],
        ["--style", "soft", "--blend", "dusk=much"],
        ["--style", "soft", "--blend", "dusk=1.3"],
        ["--style", "soft", "--blend", "soft=0.3"],
        ["--blend", "dusk=0.3"],
        [],
        ["--style", "soft", "--input", "nowhere"],
        ["--style", "soft", "--strength", "1.6"],
        ["--style", "soft", "--strength", "nan"],
        ["--style", "soft", "--path", "round"],
        ["--instead-of", "soft", "--strength", "0.5"],
        ["--style", "soft", "--instead-of", "watercolour"],
    ],
)
def test_stylize_refuses_in_one_line(trained, words, capsys):
    assert main(["stylize", str(trained), *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.whole
def test_results_are_never_among_the_inputs(trained, tmp_path, ask_error):
    draw(tmp_path / "mine", ["a"])
    for image, out in (("mine", "mine/sub"), ("mine/a.png", "mine")):
        words = ["--style", "soft", "--input", str(tmp_path / image), "--out", str(tmp_path / out)]
        assert "--out" in ask_error("stylize", trained, *words)


@pytest.mark.whole
def test_a_damaged_image_is_an_error_before_any_is_painted(trained, tmp_path, ask_error):
    draw(tmp_path / "mine", ["a"])
    (tmp_path / "mine" / "b.png").write_bytes((tmp_path / "mine" / "a.png").read_bytes()[:60])
    words = ["--style", "soft", "--input", str(tmp_path / "mine"), "--out", str(tmp_path / "out")]
    assert "b.png" in ask_error("stylize", trained, *words)
    assert not [*tmp_path.rglob("out/*.png")]


@pytest.mark.whole
def test_a_style_is_added_from_pairs(trained, tmp_path, ask, monkeypatch):
    for folder in ("photos", "paintings"):
        (tmp_path / folder).mkdir()
    for i, x in enumerate(photos(20)):
        for folder, image in (("photos", x), ("paintings", 0.6 * x)):
            pixels = (255 * image).round().byte().permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(tmp_path / folder / f"{i}.png")
    answer = ask(
        "addstyle", trained, "--name", "dim", "--photos", tmp_path / "photos",
        "--paintings", tmp_path / "paintings", "--out", tmp_path / "more",
    )  # fmt: skip
    assert (answer["pairs"], answer["fit"], answer["numbers"]) == (20, "closed form", 48 * 49)
    assert answer["closed_form_db"] > 10
    assert answer["unchanged_db"] < answer["closed_form_db"]
    assert 30 < answer["colours_db"] < 60, "rounding to 8 bits alone"
    monkeypatch.setattr(addstyle, "_measured", lambda *_: {"closed_form_db": 20.0})
    with pytest.warns(DataWarning, match=r"colours alone.* 39\.1 dB .* 20\.0"):
        ask(
            "addstyle", trained, "--name", "dim", "--photos", tmp_path / "photos",
            "--paintings", tmp_path / "paintings", "--out", tmp_path / "again",
        )  # fmt: skip
    model = rl.load(tmp_path / "more")
    x = photos(1)[0].float()
    assert (model(x, "dim") - 0.6 * x).abs().mean() < 0.02
    assert model.removal("dim").fitted is not None
    assert model.names == ("identity", "soft", "dusk", "dim")


def test_models_of_square_tiles_say_what_to_do(tmp_path):
    old = Path(__file__).parents[1] / "data" / "first_version" / "style"
    with pytest.raises(CheckpointError, match="rectilinear train style"):
        rl.load(old)
    record = {"name": "style", "recipe": {"data": "photos", "kernel": 5}}
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="rectilinear train style"):
        rl.open_run(tmp_path)


@pytest.mark.parametrize(
    "change",
    ["teacher=rembrandt", 'styles=["watercolour"]', 'styles=["ink","ink"]', "tile=10", "styles=[]"],
)
def test_the_recipe_refuses_in_one_line(change, tmp_path, capsys):
    words = ["train", "style", "--out", str(tmp_path / "run"), "--set", "size=8", "--set", change]
    assert main(words) == 2
    assert capsys.readouterr().err.strip().count("\n") == 0


def test_a_dithered_image_is_painted_as_the_photo_and_a_drawing_as_it_is(tmp_path, ask):
    rows, columns = np.mgrid[:96, :128] / 96
    grey = (127 + 60 * np.sin(6 * rows + 3 * columns) + 50 * (rows > columns)).astype(np.uint8)
    images = {"photo": Image.fromarray(grey), "drawing": Image.fromarray(grey > 127)}
    images["dots"] = images["photo"].convert("1")
    for name, image in images.items():
        image.save(tmp_path / f"{name}.png")
    files = [tmp_path / f"{name}.png" for name in images]
    ask("stylize", "styles", "--style", "night", "--input", *files, "--out", tmp_path / "o")

    def painted(name):
        return np.asarray(Image.open(tmp_path / "o" / f"{name}.png")) / 255

    model = rl.load("styles")

    def raw(name):
        pixels = torch.from_numpy(np.asarray(images[name].convert("RGB")).copy()) / 255
        with torch.no_grad():
            return model(pixels.permute(2, 0, 1), "night").clamp(0, 1).permute(1, 2, 0).numpy()

    def db(a, b):
        return -10 * np.log10(np.square(a - b).mean())

    assert db(raw("dots"), raw("photo")) < 12
    assert db(painted("dots"), painted("photo")) > 20
    assert np.abs(painted("drawing") - raw("drawing")).max() < 1 / 255

"""The generators that come with the package."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

import rectilinear as rl
from rectilinear.cli import main
from rectilinear.errors import (
    CheckpointError,
    DataError,
    InputError,
    NonFiniteError,
    SingularOperatorError,
)
from rectilinear.recipes import packaged

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MAX_BYTES = 10 * 2**20  # of all weights in a wheel, which is compressed
MAX_GENERATOR_BYTES = 8 * 10**6  # of those of the generators


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "digits" else pytest.mark.whole)
        for name in packaged.SHA256
    ],
)
def test_each_samples_its_classes_and_returns(name: str) -> None:
    g = rl.load(name)
    images = g.sample(30, seed=1)
    assert images.shape == (30, *g.g_data.shape)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert torch.equal(rl.load(name).sample(30, seed=1), images)
    last = len(g.classes) - 1
    made = g.given(g.classes[last]).sample(30, seed=2)
    assert (g.classify(made) == last).float().mean() > 0.8
    with pytest.raises(DataError, match="divide bytes by 255"):
        g.classify(255 * made)
    with pytest.raises(NonFiniteError):
        g.classify(made * torch.nan)
    double = rl.load(name).double()
    noise = rl.flow.invert(double, images.double())
    again = rl.flow.collapse(double)(noise)
    assert (again - images.double()).abs().max() < 1e-8


@pytest.mark.whole
def test_inversion_is_exact_in_float64() -> None:
    g, images = rl.load("digits"), rl.datasets.load("digits", "test").images
    found = rl.flow.inversion(g, images)
    assert found.error < 1e-8
    assert found.noise.dtype == torch.float64
    assert (found.reconstruction - images).abs().max() < 1e-7
    again = rl.flow.collapse(g)(rl.flow.invert(g, images))
    assert found.rounded_error == (again - images).abs().max().item() < 1e-2
    assert (again - images).abs().flatten().quantile(0.99) < 5e-5


def test_matrices_and_triangles_are_rounded() -> None:
    g = packaged.halved(rl.load("digits"))
    bits = {name: 4 if name.endswith("0.lower") else 7 for name, p in g.named_parameters()}
    for name in ("g_data.blocks.1.network.blocks.0.lower", next(n for n in bits if "middle" in n)):
        part = dict(g.named_parameters())[name]
        fraction = part.float().frexp().mantissa * 2 ** bits[name]
        assert part.dtype == torch.float16
        assert part.ndim > 1
        assert torch.equal(fraction, fraction.round())
    means = dict(g.named_parameters())["g_data.blocks.1.network.blocks.0.means"]
    assert torch.equal(means.float(), rl.load("digits").g_data.blocks[1].network.blocks[0].means)


@pytest.mark.whole
def test_together_they_are_small() -> None:
    assert set(packaged.SHA256 | packaged.STYLES) == {
        path.name for path in packaged.FOLDER.iterdir()
    }
    size = {
        folder.name: sum(len(zlib.compress(file.read_bytes())) for file in folder.iterdir())
        for folder in packaged.FOLDER.iterdir()
    }
    assert sum(size.values()) <= MAX_BYTES
    assert sum(size[name] for name in packaged.SHA256) <= MAX_GENERATOR_BYTES


STYLES = ("engraving", "night", "charcoal", "woodcut")
LOOKS = ("soft", "sepia", "negative", "dusk", "ink", "rose")


def test_the_styles_work_on_any_photo() -> None:
    model = rl.load("styles")
    assert model.names == ("identity", *STYLES, *LOOKS)
    photo, _ = rl.style.photos.read_photos("photos", "test", 128)
    x = photo[:, :97, :30].float() / 255
    for name in model.names:
        assert model(x, name).shape == x.shape
        start = model.path("identity", name, 0.0)(x)
        assert rl.metrics.psnr(start[None], x[None]) > 120
        if name != "negative":
            half = model.path("identity", name, 0.5, kind="power")(x)
            assert torch.isfinite(half).all()
    with pytest.raises(SingularOperatorError):  # a reflection has no real root
        model.path("identity", "negative", 0.5, kind="power")
    assert torch.equal(rl.load("styles")(x, "night"), model(x, "night"))


def test_the_styles_look_like_their_teacher_and_are_exchanged_after_eight_bits() -> None:
    model = rl.load("styles")
    _, photo = rl.style.photos.read_photos("photos", "test", 96)
    x = photo[:, :96, :24].float() / 255
    for name in LOOKS:
        taught = rl.style.filtered(x[None], {name: 1.0})[0]
        flat = taught.mean((1, 2), keepdim=True).expand_as(taught)
        made, plain = (rl.metrics.psnr(y[None], taught[None]) for y in (model(x, name), flat))
        assert made > min(20, plain + 1), name
    night, charcoal = (model(x, name) for name in ("night", "charcoal"))
    saved = (night.clamp(0, 1) * 255).round() / 255
    turn = model.between("night", "charcoal")
    fitted, exact = (
        float(rl.metrics.psnr(f(saved)[None], charcoal[None])) for f in (turn, turn.exact)
    )
    assert turn.which(saved) == "fitted"
    assert fitted > 20
    assert fitted > exact + 1


def test_styles_are_no_generator(ask_error: Callable[..., str]) -> None:
    assert "rectilinear stylize" in ask_error("sample", "styles")


def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(packaged.SHA256, "mnist", "0" * 64)
    with pytest.raises(CheckpointError, match="Install rectilinear again"):
        rl.load("mnist")


def test_a_folder_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rl.operators.Diagonal(torch.ones(2)).save_pretrained("mnist")
    assert isinstance(rl.load("mnist"), rl.operators.Diagonal)


@pytest.mark.whole
def test_from_a_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sample", "mnist", "--class", "7", "--count", "3", "--out", str(tmp_path), "--json"]
    assert main([*words, "--format", "png"]) == 0
    files = sorted((tmp_path / "samples").iterdir())
    assert [path.name for path in files] == ["0.png", "1.png", "2.png"]
    first = torch.from_numpy(np.array(Image.open(files[0]))) / 255
    exact = rl.load("mnist").given(7).sample(3, seed=0)[0, 0]
    torch.testing.assert_close(first, exact, rtol=0, atol=0.6 / 255)
    assert main([*words, "--format", "png"]) == 2  # nothing is written over
    capsys.readouterr()
    words = ["invert", "mnist", "--input", str(tmp_path / "samples"), "--out", str(tmp_path)]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["inversion"] < 1e-8
    assert main(["sample", "mnist", "--class", "ten", "--out", str(tmp_path)]) == 2
    with pytest.raises(InputError, match="one of 0, 1"):
        rl.load("mnist").given("ten")


def test_a_name_that_is_no_model_is_answered_with_those_that_are(
    ask_error: Callable[..., str],
) -> None:
    with pytest.raises(CheckpointError, match=r"'mnits'; expected one of digits, .*mnist, styles"):
        rl.load("mnits")
    assert "one of digits, fashion_mnist, mnist" in ask_error("sample", "mnits")

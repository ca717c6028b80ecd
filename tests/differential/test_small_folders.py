"""Small folders: every command gives a result for few images, or an error before it runs."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from makers_data import image_folder
from rectilinear import cli, metrics, recipes, report, training
from rectilinear.errors import RectilinearError
from rectilinear.projector import from_pca
from rectilinear.recipes import run as running

TINY = {
    "training.steps": 2, "training.batch_size": 4, "training.device": "cpu", "training.warmup": 0, "blocks": 2,
    "width": 4,
}  # fmt: skip
DENSITY = {"density.steps": 2, "density.device": "cpu", "density_blocks": 2, "density_width": 4}
SMALL: dict[str, dict[str, Any]] = {
    "digits": {"size": 6},
    "mnist": {"size": 6, "rank": 4, "leading": 8, "latents": 6, "pixel_width": 4, **DENSITY},
    "images": {"size": 6, "rank": 4, "leading": 8, "latents": 6, "pixel_width": 4, **DENSITY},
    "projector": {"size": 6, "rank": 4, **DENSITY},
    "style": {"size": 8, "styles": ["soft", "ink"], "tile": 8},
}


def words(changes: dict[str, Any]) -> list[str]:
    return [
        word for name, value in changes.items() for word in ("--set", f"{name}={json.dumps(value)}")
    ]


def ask(*command: object) -> None:
    assert cli.main([*map(str, command), "--json"]) == 0, command


@pytest.mark.whole
@pytest.mark.parametrize(("name", "count"), [("digits", 3), ("images", 20)])
def test_a_generator_from_few_images(
    name: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = sys.modules[report.evaluate.__module__]
    monkeypatch.setattr(evaluation, "seconds", lambda *_, **__: 1.0)
    monkeypatch.setattr(evaluation, "STEPS", 4)
    data, run = image_folder(tmp_path / "data", count, (9, 9)), tmp_path / "run"
    ask("train", name, "--out", run, *words({**TINY, **SMALL[name], "data": str(data)}))
    ask("sample", run, "--count", 3)
    ask("invert", run)
    ask("interpolate", run, "--count", 9999, *([] if count == 20 else ["--split", "train"]))
    ask("report", run)
    found = json.loads((run / "metrics.json").read_text())
    assert found["collapse_error"] < 1e-3
    assert (found["fd_one_step"] is None) == (count < 8), "fewer than eight images have no distance"
    assert found["random_features"], "a folder without sub-folders is one class"
    page = (run / "report.html").read_text(encoding="utf-8")
    assert ("a network with random weights" in page) == (count >= 8), (
        "a folder without sub-folders is one class"
    )
    sheet = np.asarray(Image.open(run / "samples.png"))
    assert sheet.shape[1] > 3 * sheet.shape[0] - 100


@pytest.mark.whole
@pytest.mark.parametrize("name", ["projector", "style", "mnist"])
def test_other_recipes_from_few_images(name: str, tmp_path: Path) -> None:
    data, run = image_folder(tmp_path / "data", 5, (9, 9)), tmp_path / "run"
    ask("train", name, "--out", run, *words({**TINY, **SMALL[name], "data": str(data)}))
    image = data / "003.png"
    if name == "mnist":
        ask("sample", run, "--count", 2)
    if name == "projector":
        ask("project", run, "--input", image, "--out", tmp_path / "one")
        ask("project", run, "--input", data, "--mask", image, "--out", tmp_path / "all")
        ask("project", run, "--corrupt", "noise=0")
        one, all_ = (np.load(tmp_path / kind / "projected.npy") for kind in ("one", "all"))
        assert (one.shape, all_.shape) == ((1, 3, 6, 6), (5, 3, 6, 6))
        names = [
            row["name"]
            for row in json.loads((tmp_path / "all" / "projected.json").read_text())["images"]
        ]
        assert names == [f"{i:03}" for i in range(5)]
        for values in (
            np.load(tmp_path / "one" / "projected.npy"),
            np.zeros((2, 3, 6, 6), np.uint8),
        ):
            np.save(tmp_path / "a.npy", values.clip(0, 1))
            ask("project", run, "--input", tmp_path / "a.npy", "--out", tmp_path / "array")
    if name == "style":
        Image.open(image).convert("L").save(data / "003.jpg")
        ask("stylize", run, "--style", "ink", "--input", data, "--out", tmp_path / "styled")
        found = {path.name for path in (tmp_path / "styled").glob("*.png")}
        assert found == {
            "003-png.png",
            "003-jpg.png",
            "000.png",
            "001.png",
            "002.png",
            "004.png",
            "stylized.png",
        }
        ask("stylize", run, "--style", "ink", "--input", image, "--out", tmp_path / "single")
        assert (tmp_path / "single" / "003.png").exists()


OUT_OF_RANGE = [
    *((name, {"rank": rank}) for name in ("digits", "mnist", "images", "projector") for rank in (0, -1, 109)),
    *((name, {"noise": noise}) for name in SMALL for noise in (-1.0, float("nan"), float("inf"))),
    *((name, {field: 0}) for name in ("mnist", "images", "projector", "style") for field in ("blocks", "width")),
    *(
        ("images", change)
        for change in (
            {"latents": 1}, {"latents": 109}, {"latents": -1}, {"lowest": 0}, {"lowest": 9}, {"leading": 0},
            {"axes": 0}, {"share": 1.5}, {"nested": -1.0}, {"rank": 2}, {"rank": 9}, {"density_noise": -1.0},
            {"density_blocks": 0}, {"pixel_blocks": -1}, {"size": 0},
        )
    ),
    *(("projector", {name: -1.0}) for name in ("rank_weight", "tightness", "likelihood")),
    ("projector", {"rank": 1}),
    *(
        ("style", change)
        for change in ({"tile": 0}, {"tile": 6}, {"size": 0}, {"styles": []}, {"styles": ["soft", "soft"]},
                       {"styles": ["none"]})
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change"), OUT_OF_RANGE, ids=lambda value: str(value))
def test_options_out_of_range_are_refused_before_the_training(
    name: str, change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: object, **__: object) -> None:
        pytest.fail("trained")

    monkeypatch.setattr(training, "train", started)
    monkeypatch.setattr(running.training, "train", started)
    recipe = recipes.recipe_named(
        name,
        {**TINY, **SMALL[name], "data": str(image_folder(tmp_path / "data", 5, (9, 9))), **change},
    )
    with pytest.raises(RectilinearError, match="expected"):
        recipes.train(name, recipe, tmp_path / "run")


@pytest.mark.whole
def test_a_run_of_a_rank_that_it_has_not_is_sampled_at_another(
    tmp_path: Path, ask_error: Callable[..., str]
) -> None:
    """As runs are whose recipe was not checked when they began."""
    run = tmp_path / "run"
    ask(
        "train",
        "digits",
        "--out",
        run,
        *words({**TINY, **SMALL["digits"], "data": str(image_folder(tmp_path / "d", 5, (9, 9)))}),
    )
    config = json.loads((run / "config.json").read_text())
    config["recipe"]["rank"] = 1000
    (run / "config.json").write_text(json.dumps(config))
    assert "rank 1000; expected 1 to 108" in ask_error("sample", run, "--rank", 1000)
    ask("sample", run, "--count", 2)  # the model carries its own rank, whatever the record says
    ask("sample", run, "--rank", 3, "--count", 2)


def test_one_image_is_too_few(tmp_path: Path, ask_error: Callable[..., str]) -> None:
    data = image_folder(tmp_path / "data", 1, (9, 9))
    for path in (data, data / "000.png"):
        assert "image" in ask_error(
            "train", "digits", "--out", tmp_path / "run", "--set", f"data={path}"
        )


@pytest.mark.parametrize(("n", "d"), [(1, 4), (2, 5), (5, 48), (12, 12), (40, 12)])
def test_completed_axes_are_those_of_a_full_decomposition(n: int, d: int) -> None:
    x = torch.randn(n, d, dtype=torch.float64)
    mean, axes, std = metrics.pca(x, complete=True)
    assert axes.shape == (d, d)
    torch.testing.assert_close(axes.T @ axes, torch.eye(d, dtype=torch.float64), atol=1e-12, rtol=0)
    covariance = axes @ std.square().diag() @ axes.T
    centred = x - x.mean(0)
    torch.testing.assert_close(
        covariance, centred.T @ centred / max(1, n - 1), atol=1e-12, rtol=1e-10
    )
    torch.testing.assert_close(mean, x.mean(0))


@pytest.mark.parametrize("n", [3, 20, 200])
def test_a_projector_of_few_images_is_that_of_pca(n: int) -> None:
    x = torch.rand(n, 1, 6, 6, dtype=torch.float64)
    f, lost = from_pca(x, rank=2, blocks=2, width=4)
    flat = x.flatten(1)
    u = torch.linalg.svd(flat - flat.mean(0)).Vh[:2]
    expected = (flat - flat.mean(0)) @ u.T @ u + flat.mean(0)
    torch.testing.assert_close(f(x).flatten(1), expected, atol=1e-9, rtol=0)
    assert lost.shape == (37,)

"""Each command on a tiny run."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import rectilinear as rl
from rectilinear import cli, datasets, recipes, report
from rectilinear.cli import report as report_command
from rectilinear.errors import ConfigError
from rectilinear.plots.page import Section
from rectilinear.random import generator
from rectilinear.report import write as chapters

Ask = Callable[..., dict[str, Any]]

METRICS = {
    "collapse_error", "inversion", "inversion_float32", "noise_std", "noise_mean_norm", "scored_samples", "fd_one_step", "fd_many_step", "fd_decoded", "fd_real", "recall",
    "nearest_samples", "nearest_held_out", "seconds_train", "seconds_per_1000_one_step", "seconds_per_1000_many_step", "random_features",
}  # fmt: skip


@pytest.mark.whole
def test_one_step_samples_are_those_of_many_steps(tiny_run: Path, ask: Ask, tmp_path: Path) -> None:
    one = ask("sample", tiny_run, "--count", 5, "--seed", 1, "--out", tmp_path / "one")
    many = ask(
        "sample", tiny_run, "--count", 5, "--seed", 1, "--one-by-one", "--out", tmp_path / "many"
    )
    other = ask("sample", tiny_run, "--count", 5, "--seed", 2, "--out", tmp_path / "other")
    first, second, third = (np.load(answer["array"]) for answer in (one, many, other))
    assert first.shape == (5, 1, 1, 8, 8)
    gap = np.abs(first - second)
    assert np.quantile(gap, 0.9) < 1e-4, "float32, the folded operator against a hundred steps"
    assert gap.max() < 4e-3, "between components of the mixture rounding is amplified"
    assert np.abs(first - third).max() > 0.1
    assert Image.open(one["image"]).width > 8 * 8


@pytest.mark.whole
def test_the_same_samples_in_python(tiny_run: Path, ask: Ask, tmp_path: Path) -> None:
    drawn = np.load(ask("sample", tiny_run, "--seed", 0, "--out", tmp_path / "c")["array"])[:, 0]
    run = rl.open_run(str(tiny_run))
    assert np.array_equal(run.sample(64, seed=0).numpy(), drawn)
    for source in (tiny_run, tiny_run / "model"):
        assert np.array_equal(rl.load(source).sample(64, seed=0).numpy(), drawn)
    assert (run.flow.noise_level, run.flow.rank) == (run.recipe.noise, run.recipe.rank)


@pytest.mark.whole
def test_a_run_of_an_older_version_samples_as_its_recipe_says(
    tiny_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_run, tmp_path / "old")
    new = rl.open_run(tiny_run).flow
    flow = rl.flow.LinearFlow(new.g_data, new.g_noise, new.velocity)
    flow.save_pretrained(tmp_path / "old" / "model")
    assert flow.noise_level == 0
    expected = new.sample(5, seed=3)  # clipped to the limits of images, which older runs had not
    for old in (rl.open_run(tmp_path / "old"), rl.load(tmp_path / "old")):
        assert torch.equal(old.sample(5, seed=3).clamp(0, 1), expected)


@pytest.mark.whole
def test_ranks_and_noise_levels_of_samples(tiny_run: Path) -> None:
    parts = rl.open_run(tiny_run).flow
    low = rl.flow.LinearFlow(parts.g_data, parts.g_noise, parts.velocity, rank=3)
    same = rl.flow.LinearFlow(parts.g_data, parts.g_noise, parts.velocity)
    assert torch.equal(low.sample(4), same.sample(4, rank=3))
    f = rl.truncate(rl.flow.collapse(same), 3)
    noise = torch.randn(4, 1, 8, 8, generator=generator(0))
    torch.testing.assert_close(low.sample(4), f(noise), atol=1e-4, rtol=0)
    for wrong in ({"rank": 65}, {"rank": 0}, {"scale": 0.0}, {"n": 0}):
        with pytest.raises(ConfigError):
            same.sample(**wrong)
    for options in ({"noise_level": -1.0}, {"rank": 65}):
        with pytest.raises(ConfigError):
            rl.flow.LinearFlow(parts.g_data, parts.g_noise, parts.velocity, **options)


@pytest.mark.whole
def test_noise_can_be_scaled(tiny_run: Path, ask: Ask, tmp_path: Path) -> None:
    unit, still = (
        np.load(ask("sample", tiny_run, "--scale", scale, "--out", tmp_path / str(scale))["array"])
        for scale in (1.0, 1e-4)
    )
    assert still.std(0).max() < 0.01 * unit.std(0).max()
    assert cli.main(["sample", str(tiny_run), "--scale", "0", "--out", str(tmp_path / "none")]) == 2


@pytest.mark.whole
def test_samples_of_low_rank_differ(tiny_run: Path, ask: Ask, tmp_path: Path) -> None:
    low = np.load(ask("sample", tiny_run, "--rank", 1, "--out", tmp_path / "low")["array"])
    full = np.load(ask("sample", tiny_run, "--out", tmp_path / "full")["array"])
    assert low.std(axis=0).mean() < full.std(axis=0).mean()


@pytest.mark.whole
def test_invert(tiny_run: Path, ask: Ask, tmp_path: Path) -> None:
    answer = ask("invert", tiny_run, "--count", 3, "--out", tmp_path)
    assert answer["inversion"] < 1e-8
    # of three steps of training: .003 to .05, by the seed
    assert answer["inversion_float32"] < 0.1, "rounding is amplified between components"
    assert answer["noise"]["dim"] == 64
    noise = np.load(tmp_path / "noise.npy")
    assert noise.shape[0] == answer["noise"]["n"] == 297
    assert noise.std(ddof=1) == pytest.approx(answer["noise"]["std"], rel=1e-3)


def test_invert_of_few_images_says_what_a_p_value_needs(
    tiny_run: Path, ask: Ask, tmp_path: Path
) -> None:
    digits = datasets.load("digits", "test").images
    (tmp_path / "few").mkdir()
    for i in range(3):
        pixels = (digits[i, 0] * 255).byte().numpy()
        Image.fromarray(pixels).save(tmp_path / "few" / f"{i}.png")
    words = ("invert", tiny_run, "--input", tmp_path / "few", "--out", tmp_path / "out")
    answer = ask(*words)
    assert (answer["noise"]["n"], answer["noise"]["least_n"]) == (3, 5)
    assert answer["noise"]["p_value"] is None
    assert answer["noise"]["rejected"] is None
    assert answer["note"] == "no p-value from 3 images: it needs 5 or more"


@pytest.mark.parametrize("command", ["invert", "interpolate"])
def test_images_foreign_to_the_generator_are_named(
    command: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    own = (rl.load("mnist").sample(4, seed=0)[:, 0] * 255).round().byte().numpy()
    said = []
    for name, pixels in (("own", own), ("foreign", 255 - own)):
        (tmp_path / name).mkdir()
        for i, image in enumerate(pixels):
            Image.fromarray(image).save(tmp_path / name / f"{i}.png")
        words = (command, "mnist", "--input", tmp_path / name, "--out", tmp_path / f"{name}-out")
        assert cli.main([*map(str, words)]) == 0
        said.append([str(one.message) for one in recwarn if "unlike" in str(one.message)])
        recwarn.clear()
    assert said[0] == []
    assert said[1][0].startswith("4 of 4 images are unlike those that the generator was trained on")


def test_train_says_what_ended_each_stage(ask: Ask, tiny_run: Path, tmp_path: Path) -> None:
    changes = ("blocks=2", "width=8", "training.steps=100000", "training.max_seconds=0.5")
    sets = [word for change in changes for word in ("--set", change)]
    (row,) = ask("train", "digits", "--out", tmp_path, *sets)["stages"]
    assert (row["stage"], row["ended_by"]) == ("training", "max_seconds")
    assert 0 < row["steps"] < row["steps_planned"] == 100_000
    assert row["seconds"] >= row["max_seconds"] == 0.5
    assert rl.open_run(tmp_path).stages == [row]
    (row,) = rl.open_run(tiny_run).stages
    assert (row["steps"], row["steps_planned"], row["ended_by"]) == (3, 3, "steps")


def test_interpolate_begins_and_ends_at_images(tiny_run: Path, ask: Ask, tmp_path: Path) -> None:
    answer = ask("interpolate", tiny_run, "--count", 2, "--frames", 4, "--out", tmp_path)
    path = np.load(answer["array"])
    assert path.shape == (2, 4, 1, 8, 8)
    ends = path[:, [0, -1]] * 16
    assert np.abs(ends - ends.round()).max() < 1e-2, "digits are whole sixteenths"
    assert np.abs(path[:, 1] - path[:, 0]).max() > 0.05


@pytest.mark.whole
def test_demo_leaves_report_explorer_and_metrics(
    tiny_run: Path, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recipes, "train", lambda name, recipe, out: recipes.open_run(tiny_run))
    evaluation = sys.modules[report.evaluate.__module__]
    timed = evaluation.seconds
    monkeypatch.setattr(evaluation, "STEPS", 10)
    monkeypatch.setattr(
        evaluation, "seconds", lambda sampler, noise, repeats: timed(sampler, noise[:8], 1)
    )
    some = {
        "Measure": lambda seed: (
            [Section("Title", "Text.", ())],
            {"seed_of_the_chapter": float(seed)},
        )
    }
    monkeypatch.setattr(chapters, "CHAPTERS", some)
    answer = ask("demo", "--seed", 4)
    metrics = json.loads((tiny_run / "metrics.json").read_text())
    assert set(metrics) == METRICS | {"seed_of_the_chapter"}
    assert metrics["seed_of_the_chapter"] == 4
    assert answer == {
        "report": str(tiny_run / "report.html"),
        "explorer": str(Path("runs/demo/explorer.html")),
        **metrics,
        "stages": rl.open_run(tiny_run).stages,
    }
    assert metrics["collapse_error"] < 1e-5
    assert metrics["inversion"] < 1e-8
    assert metrics["fd_one_step"] == pytest.approx(metrics["fd_many_step"], rel=1e-3)
    page = (tiny_run / "report.html").read_text(encoding="utf-8")
    assert '<a href="explorer.html">Explorer</a>' in page
    explorer = (tmp_path / "runs" / "demo" / "explorer.html").read_text(encoding="utf-8")
    assert '<a href="report.html">The report.</a>' in explorer
    assert page.count("<section>") == 11
    assert page.count('class="chapter"') == 2
    assert "&quot;steps&quot;: 3" in page, "the configuration"
    assert "3 of 3 steps in" in page


def test_report_hands_the_run_over(
    tiny_run: Path, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def write_report(
        flow: Any, train: Any, test: Any, features: Any, run: Path, **options: Any
    ) -> dict[str, Any]:
        seen.update(options, run=run, features=features.name, train=len(train), test=len(test))
        return {"report": "here"}

    monkeypatch.setattr(report, "write_report", write_report)
    assert ask("report", tiny_run, "--out", tmp_path, "--seed", 3) == {"report": "here"}
    assert seen == {
        "run": tiny_run,
        "train": 1500,
        "test": 297,
        "out": tmp_path,
        "features": "digits",
        "seed": 3,
        "stages": rl.open_run(tiny_run).stages,
        "chapters": None,
        "links": None,
    }


def test_train_goes_on_where_it_stands_and_refuses_another_run(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    shutil.copytree(tiny_run, out)
    config = json.loads((out / "config.json").read_text())
    assert config["name"] == "digits"
    words = ["train", "digits", "--out", str(out), "--set", "training.steps=4"]
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "config" in said


def test_train_features(ask: Ask, tmp_path: Path) -> None:
    words = ("train", "features", "--set", "epochs=2", "--out", tmp_path / "network")
    first = ask(*words)
    assert first["features"] == "digits"
    assert first["accuracy"] > 0.5
    assert ask(*words) == first, "done already: loaded"


FAULTS = {
    "truncated weights": lambda run: _cut(run / "model" / "model.safetensors"),
    "tampered weights": lambda run: _flip(run / "model" / "model.safetensors"),
    "truncated model config": lambda run: _cut(run / "model" / "config.json"),
    "truncated config": lambda run: _cut(run / "config.json"),
    "config of another kind": lambda run: (run / "config.json").write_text('{"name": "nothing"}'),
    "config that is a list": lambda run: (run / "config.json").write_text("[]"),
    "no model": lambda run: shutil.rmtree(run / "model"),
}


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_run_is_one_line(
    fault: str, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    FAULTS[fault](run)
    assert cli.main(["sample", str(run), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("rectilinear: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.whole
def test_a_disk_that_fills_is_one_line_and_nothing_half_written(
    tiny_run: Path, tmp_path: Path
) -> None:
    code = (
        "import resource, sys; from rectilinear import cli\n"
        "sys.dont_write_bytecode = True  # it would be cut at that size, and left behind\n"
        "import rectilinear.recipes  # what is imported writes caches of its own\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"sys.exit(cli.main(['sample', {str(tiny_run)!r}, '--out', {str(tmp_path)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_scores_in_features_of_a_file(tiny_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from torch import nn\ndef means():\n    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten())\n"
    )
    run = recipes.open_run(tiny_run)
    features = report_command._features(run, f"{path}:means", None, 0)
    assert features.name == "mine.py:means"
    images = run.load("test").images
    assert torch.equal(features.embed(images), torch.nn.AvgPool2d(4)(images).flatten(1))
    same = report_command._features(run, str(tiny_run / "features"), None, 0)
    assert same.name == "digits"

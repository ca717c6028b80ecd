"""``rectilinear project`` on a tiny run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rectilinear import cli, datasets, recipes
from rectilinear.cli import project as commands
from rectilinear.errors import DataError, DataWarning
from rectilinear.progress import Progress
from rectilinear.projector import Projector

Ask = Callable[..., dict[str, Any]]
TINY = (
    "training.steps=3", "training.batch_size=20", "density.steps=3", "density.batch_size=20", "blocks=2", "width=8",
    "density_blocks=2", "density_width=8", "rank=10",
)  # fmt: skip


@pytest.fixture(scope="module")
def projector_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("projector")
    assert (
        cli.main(
            [
                "train",
                "projector",
                "--out",
                str(out),
                *(w for change in TINY for w in ("--set", change)),
            ]
        )
        == 0
    )
    return out


def test_held_out_images(projector_run: Path, ask: Ask, tmp_path: Path) -> None:
    answer = ask("project", projector_run, "--count", 4, "--out", tmp_path)
    assert (answer["count"], answer["rank"]) == (297, 10)
    assert answer["idempotence"] < 1e-5, "float32, a projection once and twice"
    array = np.load(tmp_path / "projected.npy")
    f = recipes.open_run(projector_run).of(Projector)
    x = datasets.load("digits", "test").images
    np.testing.assert_allclose(array, f(x).clamp(0, 1).numpy(), atol=1e-6)
    written = json.loads((tmp_path / "projected.json").read_text())
    assert len(written["images"]) == 297
    scores = {"residual", "complement", "likelihood", "typicality"}
    assert written["images"][3].keys() == scores
    assert Image.open(answer["image"]).height < Image.open(answer["image"]).width
    assert "psnr_after" not in answer


@pytest.mark.parametrize(
    ("words", "passes"),
    [(("--blind",), 1), (("--corrupt", "missing=0.3"), 4), (("--noise", 0.1), 8)],
)
def test_the_progress_counts_images(
    words: tuple[str, ...],
    passes: int,
    projector_run: Path,
    ask: Ask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[float, str]] = []
    advance = Progress.advance

    def record(self: Progress, text: str, size: float = 1.0) -> None:
        advance(self, text, size)
        seen.append(((self._done + self._pending) / self._total, text))

    monkeypatch.setattr(Progress, "advance", record)
    ask("project", projector_run, *words, "--steps", 4, "--out", tmp_path)
    shares, texts = zip(*seen, strict=True)
    assert list(shares) == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    assert texts[:2] == ("anomaly scores: 0 of 297 images", "anomaly scores: 256 of 297 images")
    assert f"restoration, pass {passes} of {passes}: 256 of 297 images" in texts
    assert not any(f"pass {passes + 1}" in text for text in texts)


def test_scores_stand_beside_their_usual_range(
    projector_run: Path, ask: Ask, tmp_path: Path
) -> None:
    f = recipes.open_run(projector_run).of(Projector)
    normal = f.scores(datasets.load("digits", "test").images)
    odd = np.random.default_rng(0).random((7, 8, 8), dtype=np.float32)
    np.save(tmp_path / "noise.npy", odd)
    given = ask(
        "project", projector_run, "--input", tmp_path / "noise.npy", "--out", tmp_path / "a"
    )
    assert given["usual"] == "1 % to 99 % of 297 held-out images of the run's data"
    found = f.scores(torch.from_numpy(odd)[:, None])
    for row in given["scores"]:
        usual = np.quantile(normal[row["score"]].numpy(), [0.01, 0.99])
        assert [row["usual_low"], row["usual_high"]] == pytest.approx(usual, rel=1e-4)
        assert row["mean"] == pytest.approx(float(found[row["score"]].mean()), rel=1e-4)
        assert row["above"] == int((found[row["score"]].numpy() > usual[1]).sum())
    assert {row["score"]: row["above"] for row in given["scores"]}["residual"] == 7
    own = ask("project", projector_run, "--out", tmp_path / "b")
    for row in own["scores"]:
        assert row["above"] == 3, "1 % of 297"
        assert row["usual_low"] < row["mean"] < row["usual_high"]


def test_without_the_data_of_the_run_no_range_is_given(
    projector_run: Path, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise DataError("no data", "a folder of images")

    monkeypatch.setattr(recipes.Run, "load", none)
    np.save(tmp_path / "x.npy", np.zeros((2, 8, 8), dtype=np.float32))
    words = ("--input", tmp_path / "x.npy", "--out", tmp_path / "out")
    with pytest.warns(DataWarning, match="no usual range.*no data"):
        answer = ask("project", projector_run, *words)
    assert "usual" not in answer
    assert all(row.keys() == {"score", "mean"} for row in answer["scores"])


def test_damage_is_repaired_better_when_it_is_known(
    projector_run: Path, ask: Ask, tmp_path: Path
) -> None:
    words = ("project", projector_run, "--corrupt", "missing=0.3", "--steps", 20)
    blind = ask(*words, "--blind", "--out", tmp_path / "blind")
    informed = ask(*words, "--out", tmp_path / "informed")
    assert (
        blind["psnr_before"]
        == informed["psnr_before"]
        < blind["psnr_after"]
        < informed["psnr_after"]
    )


@pytest.mark.parametrize(
    ("words", "passes", "count"),
    [
        (("--corrupt", "occlusion=0.4"), 4, 50),
        (("--corrupt", "blur=0.1", "--noise", 0.1), 8, 25),
        (("--noise", 0.1), 8, 25),
        (("--noise", 0.1, "--count", 100), 8, 99),
        (("--corrupt", "salt=0.1"), 1, 149),
        (("--corrupt", "missing=0.3", "--blind"), 1, 149),
        ((), 1, 149),
    ],
)
def test_a_part_of_large_held_out_images_goes_through_many_passes(
    words: tuple[Any, ...],
    passes: int,
    count: int,
    projector_run: Path,
    ask: Ask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commands, "MAX_PASSED_VALUES", 50 * 4 * 64)
    x = datasets.load("digits", "test").images
    answer = ask("project", projector_run, *words, "--steps", 4, "--out", tmp_path)
    assert answer["count"] == count
    assert answer["held_out"] == f"{count} of 297, for {passes} passes; --input takes all"
    assert answer["usual"].startswith("1 % to 99 % of 297 held-out"), "these take one pass"
    assert np.load(tmp_path / "projected.npy").shape == (count, 1, 8, 8)
    written = json.loads((tmp_path / "projected.json").read_text())
    assert len(written["images"]) == count
    np.save(tmp_path / "x.npy", x.numpy())
    given = ask(
        "project",
        projector_run,
        *words,
        "--steps",
        1,
        "--input",
        tmp_path / "x.npy",
        "--out",
        tmp_path,
    )
    assert given["count"] == 297
    assert "held_out" not in given


def test_a_mask_keeps_the_known_pixels(projector_run: Path, ask: Ask, tmp_path: Path) -> None:
    x = datasets.load("digits", "test").images[:5]
    np.save(tmp_path / "x.npy", x[:, 0].numpy())
    mask = np.ones((8, 8), dtype=np.uint8)
    mask[2:5] = 0
    np.save(tmp_path / "mask.npy", mask)
    Image.fromarray(255 * mask).save(tmp_path / "mask.png")
    arrays = []
    for name in ("mask.npy", "mask.png"):
        words = (
            "--input",
            tmp_path / "x.npy",
            "--mask",
            tmp_path / name,
            "--out",
            tmp_path / name[-3:],
        )
        ask("project", projector_run, *words)
        arrays.append(np.load(tmp_path / name[-3:] / "projected.npy"))
    np.testing.assert_array_equal(*arrays)
    known = np.broadcast_to(mask.astype(bool), x.shape)
    np.testing.assert_allclose(arrays[0][known], x.numpy()[known], atol=1e-6)
    assert np.abs(arrays[0] - x.numpy())[~known].max() > 0.01


def test_a_folder_of_images_and_a_lower_rank(projector_run: Path, ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(3):
        Image.new("RGB", (30, 20), (90 * i, 0, 40)).save(tmp_path / "in" / f"{i}.png")
    full, low = (
        ask(
            "project",
            projector_run,
            "--input",
            tmp_path / "in",
            "--rank",
            k,
            "--out",
            tmp_path / str(k),
        )
        for k in (10, 3)
    )
    assert full["count"] == low["count"] == 3
    assert (full["rank"], low["rank"]) == (10, 3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--corrupt", "rust=1"], "corruption 'rust'"),
        (["--corrupt", "noise"], "KIND=SEVERITY"),
        (["--noise", "25"], "Divide the standard deviation of bytes by 255"),
        (["--corrupt", "missing=2"], "severity 2.0"),
        (["--rank", "11"], "--rank 11"),
        (["--rank", "0"], "at least 1"),
        (["--input", "nothing.npy"], "nothing.npy"),
        (["--mask", "wide.npy"], "a mask of shape"),
        (["--input", "wide.npy"], "wide.npy of shape"),
        (["--mask", "wide.npy", "--corrupt", "noise=1"], "not both"),
    ],
)
def test_mistakes_are_one_line(
    projector_run: Path, words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    np.save("wide.npy", np.zeros((3, 8, 9), dtype=np.float32))
    assert cli.main(["project", str(projector_run), *words]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error


def test_commands_of_generators_say_what_a_projector_is(
    projector_run: Path, tiny_run: Path, ask_error: Callable[..., str]
) -> None:
    assert "Projector" in ask_error("invert", projector_run)
    assert "LinearFlow" in ask_error("project", tiny_run)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["project", "nowhere", "--damage", "noise=1"], "'--damage' is now called --corrupt"),
        (["project", "nowhere", "--damage=noise=1"], "'--damage' is now called --corrupt"),
        (["train", "dynamics"], "its new name 'koopman'"),
    ],
)
def test_former_words_name_the_new_ones(
    words: list[str], said: str, ask_error: Callable[..., str]
) -> None:
    assert said in ask_error(*words)


def test_a_run_with_former_fields_opens(projector_run: Path, tmp_path: Path) -> None:
    shutil.copytree(projector_run, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    record = json.loads(path.read_text())
    record["recipe"]["damages"] = record["recipe"].pop("corruptions")
    path.write_text(json.dumps(record))
    assert recipes.open_run(tmp_path / "run").recipe == recipes.open_run(projector_run).recipe


@pytest.mark.whole
def test_a_folder_of_colour_images_of_64_pixels(ask: Ask, tmp_path: Path) -> None:
    random, photos = np.random.default_rng(0), tmp_path / "photos"
    photos.mkdir()
    for i in range(8):
        small = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC).save(photos / f"{i}.png")
    changes = (*TINY, "training.steps=1", "density.steps=1", f"data={photos}", "size=64", "rank=6")
    words = [w for change in changes for w in ("--set", change)]
    assert cli.main(["train", "projector", "--out", str(tmp_path / "run"), *words]) == 0
    f = recipes.open_run(tmp_path / "run").of(Projector)
    assert f.g.shape == (3, 64, 64)
    answer = ask(
        "project", tmp_path / "run", "--input", photos, "--corrupt", "missing=0.5", "--steps", 3, "--out", tmp_path / "out"
    )  # fmt: skip
    assert answer["count"] == 8
    assert answer["psnr_after"] > answer["psnr_before"] + 3
    assert np.load(tmp_path / "out" / "projected.npy").shape == (8, 3, 64, 64)

"""The whole study: its result, independence of the workers, and what a kill loses."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

import dying_workers
from dying_workers import dies_once, dies_unless_zero
from rectilinear.config import from_json, to_json
from rectilinear.deeplinear import (
    DepthStudy,
    Model,
    StudyResult,
    Synthetic,
    Table,
    deep_linear,
    statistical_tests,
)
from rectilinear.deeplinear.statistics import SufficientStatistics
from rectilinear.deeplinear.study import depth_study as module
from rectilinear.deeplinear.study.measure import STEP_SIZES, stable_step
from rectilinear.deeplinear.study.page import study_page, write_study
from rectilinear.deeplinear.study.verdict import verdict
from rectilinear.deeplinear.study.workers import Store, map_chunks
from rectilinear.errors import (
    CheckpointError,
    ConfigError,
    DiskError,
    MissingDependencyError,
    WorkerError,
)

STUDY = DepthStudy(
    (*deep_linear([1, 3], optimizers=["gd", "adam"]), Model("ridge")),
    Synthetic(noise=(0.05, 0.5), rows=60, test_rows=20),
    trials=10,
    steps=400,
    tol=1e-2,
    checkpoints=8,
    block=4,
)
CLUSTERS = {"dask": "distributed", "ray": "ray"}


@pytest.fixture(scope="module")
def result() -> StudyResult:
    return STUDY.run()


def same(left: StudyResult, right: StudyResult) -> bool:
    assert left.columns.keys() == right.columns.keys()
    equal = [np.array_equal(left.columns[name], right.columns[name], equal_nan=column.dtype.kind == "f")
             for name, column in left.columns.items()]  # fmt: skip
    return all(equal) and np.array_equal(left.curves, right.curves, equal_nan=True)


def test_every_trial_of_every_model_is_there(result: StudyResult) -> None:
    assert len(result.columns["trial"]) == 6 * 2 * 10
    for m in range(6):
        for noise in (0.05, 0.5):
            assert result.cell(m, noise)["trial"].tolist() == list(range(10))
    assert result.curves.shape == (120, len(result.checkpoints))


def test_trials_are_paired(result: StudyResult) -> None:
    """The same data for every model, and the same initial weights for every optimiser."""
    base, deep = result.cell("least squares"), result.cell("depth 3, adam")
    np.testing.assert_allclose(base["train_error"], deep["train_error"] - deep["gap"], rtol=1e-9)
    gd = result.cell("depth 3, gd")
    np.testing.assert_array_equal(gd["curve"][:, 0], deep["curve"][:, 0])
    assert not np.array_equal(gd["curve"][:, -1], deep["curve"][:, -1])


def test_results_do_not_depend_on_the_other_models(result: StudyResult) -> None:
    alone = dataclasses.replace(STUDY, models=deep_linear([3])).run()
    np.testing.assert_array_equal(
        alone.cell("depth 3, gd")["gap"], result.cell("depth 3, gd")["gap"]
    )


def test_summary_is_that_of_the_trials(result: StudyResult) -> None:
    line = next(
        cell for cell in result.summary() if (cell["model"], cell["noise"]) == ("depth 3, gd", 0.5)
    )
    cell = result.cell("depth 3, gd", 0.5)
    rate = statistical_tests.wilson(int((cell["gap"] <= STUDY.tol).sum()), 10)
    assert (line["success"], line["success_low"], line["success_high"]) == (
        rate.value,
        rate.low,
        rate.high,
    )
    assert line["distance_median"] == np.median(cell["distance"])
    assert line["test_error"] == pytest.approx(np.mean(cell["test_error"]))
    assert (
        sum(line[state] for state in ("converged", "saddle", "undertrained", "diverged"))
        == line["trials"]
        == 10
    )


def test_comparisons_are_paired_and_corrected(result: StudyResult) -> None:
    lines = [line for line in result.comparisons() if line["noise"] == 0.5]
    assert [line["model"] for line in lines] == [
        "depth 1, gd",
        "depth 3, gd",
        "depth 1, adam",
        "depth 3, adam",
    ]
    base = result.cell("least squares", 0.5)["test_error"]
    raw = [
        statistical_tests.wilcoxon(result.cell(line["model"], 0.5)["test_error"] - base)
        for line in lines
    ]
    assert [line["test_p"] for line in lines] == pytest.approx(statistical_tests.holm(raw))
    assert [line["steps_against"] for line in lines] == ["", "depth 1, gd", "", "depth 1, adam"]


@pytest.mark.whole
@pytest.mark.parametrize("n_jobs", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_the_same_to_the_last_bit_for_any_number_of_workers(
    result: StudyResult, n_jobs: int
) -> None:
    assert same(STUDY.run(n_jobs=n_jobs), result)


def test_another_seed_is_another_study(result: StudyResult) -> None:
    assert not same(dataclasses.replace(STUDY, seed=1).run(), result)


def test_it_goes_on_where_it_stopped(result: StudyResult, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        assert total == 18
        if done == 7:
            raise StopError

    with pytest.raises(StopError):
        STUDY.run(out=tmp_path, progress=stop)
    finished = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "chunks").iterdir()}
    assert len(finished) == 7
    seen: list[int] = []
    again = STUDY.run(out=tmp_path, progress=lambda done, _: seen.append(done))
    assert seen == list(range(7, 19))
    assert same(again, result)
    assert (
        finished.items()
        <= {path.name: path.stat().st_mtime_ns for path in (tmp_path / "chunks").iterdir()}.items()
    )


def test_a_folder_belongs_to_one_study(tmp_path: Path) -> None:
    DepthStudy(deep_linear([1]), trials=2, steps=5).run(out=tmp_path)
    with pytest.raises(ConfigError, match="a study of other seed, trials"):
        DepthStudy(deep_linear([1]), trials=3, steps=5, seed=1).run(out=tmp_path)


def test_a_broken_chunk(tmp_path: Path) -> None:
    store = Store(tmp_path, {})
    store.save(0, {"a": np.ones(3)})
    path = tmp_path / "chunks" / "000000.npz"
    path.write_bytes(path.read_bytes()[:-30])
    assert store.finished() == set(), "it is made again"
    with pytest.raises(CheckpointError, match="cannot be read"):
        store.load(0)


def test_a_full_disk_keeps_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = np.savez, []

    def savez(file: object, **columns: np.ndarray) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        whole(file, **columns)

    monkeypatch.setattr(np, "savez", savez)
    with pytest.raises(DiskError, match="No space left on device"):
        STUDY.run(out=tmp_path)
    assert len(list((tmp_path / "chunks").iterdir())) == 2


def test_steps_are_chosen_on_other_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = dataclasses.replace(STUDY, models=deep_linear([1, 3], lr=None), tuning=5)
    seen: list[np.random.SeedSequence] = []
    choose = module.choose_step
    monkeypatch.setattr(
        module, "choose_step", lambda chunk: (seen.append(chunk.source.seed), choose(chunk))[1]
    )
    result = study.run(out=tmp_path)
    reported = [
        chunk.source.seed.spawn_key for chunk in study._chunks(result.models, None).values()
    ]
    assert {seed.spawn_key for seed in seen}.isdisjoint(reported)
    steps = [model.lr for model in result.models[1:]]
    assert set(steps) <= set(STEP_SIZES)
    assert result.names[1:] == ["depth 1, gd tuned", "depth 3, gd tuned"]
    for m, model in enumerate(result.models[1:], start=1):
        rivals = [dataclasses.replace(study, models=(dataclasses.replace(model, lr=lr),)).run().cell(0)["gap"]
                  for lr in (model.lr / 30, model.lr * 30)]  # fmt: skip
        assert np.median(result.cell(m)["gap"]) <= min(np.median(gap) for gap in rivals)
    seen.clear()
    assert same(study.run(out=tmp_path), result)
    assert not seen, "kept in the folder"


def test_relu_nets_take_part() -> None:
    nets = tuple(
        Model("relu", depth=2, width=3, init="torch", optimizer="adam", lr=0.01, bias=b)
        for b in (True, False)
    )
    study = DepthStudy((Model("least_squares"), *nets), STUDY.data, trials=2, steps=20, block=2)
    result = study.run(n_jobs=1)
    assert np.isfinite(result.cell(1)["test_error"]).all()
    table = study.run((np.random.default_rng(0).normal(size=(20, 2)), np.arange(20.0)))
    assert np.isfinite(table.cell(2)["train_error"]).all()


def test_a_study_comes_back_from_json() -> None:
    assert from_json(DepthStudy, json.loads(json.dumps(to_json(STUDY)))) == STUDY


@pytest.fixture(scope="module")
def table() -> Table:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(47, 3))
    return Table.from_arrays(X, X @ [1.0, -2.0, 0.5] + 0.3 * rng.normal(size=47))


@pytest.mark.slow
def test_a_table_is_the_same_with_two_workers(table: Table) -> None:
    study = DepthStudy(
        deep_linear([1, 2], inits=["torch"], optimizers=["adam"], lr=0.02), trials=8, steps=200
    )
    assert same(study.run(table, n_jobs=2), study.run(table))


@pytest.mark.whole
def test_a_table_is_cross_validated(table: Table) -> None:
    study = DepthStudy(
        deep_linear([1, 2], inits=["torch"], optimizers=["adam"], lr=0.02),
        trials=8,
        steps=200,
        tol=1e-2,
        folds=4,
    )
    result = study.run(table)
    assert same(study.run((table.X, table.y)), result)
    assert result.cell(0)["trial"].tolist() == list(range(8))
    assert result.cell(1)["success"].all()
    assert result.overlap == pytest.approx(1 / 3)
    line = next(
        line for line in result.comparisons() if line["model"] == "depth 2, adam torch lr 0.02"
    )
    differences = result.cell(2)["test_error"] - result.cell(0)["test_error"]
    raw = [
        statistical_tests.corrected_t(
            result.cell(m)["test_error"] - result.cell(0)["test_error"], 1 / 3
        )
        for m in (1, 2)
    ]
    assert line["test_p"] == pytest.approx(statistical_tests.holm(raw)[1])
    assert line["test_difference"] == pytest.approx(np.median(differences))
    assert 0 < np.mean(result.cell(0)["test_error"]) < 0.1, (
        "of the variance of the target: the noise is 0.3^2 of 5.3"
    )
    assert "share its rows" in study_page(result), (
        "intervals of folds are not of independent trials"
    )
    with pytest.raises(ConfigError, match="at most 23"):
        DepthStudy(folds=40).run(table)


def test_collinear_columns(table: Table) -> None:
    twice = Table.from_arrays(np.column_stack([table.X, table.X[:, 0]]), table.y)
    study = DepthStudy(
        deep_linear([1, 2], optimizers=["adam"], inits=["torch"], lr=0.02),
        trials=5,
        steps=600,
        tol=1e-3,
    )
    result = study.run(twice)
    assert result.cell(1)["success"].all()
    np.testing.assert_allclose(
        result.cell(0)["test_error"], study.run(table).cell(0)["test_error"], rtol=1e-9
    )


@pytest.mark.whole
def test_files(result: StudyResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pandas", None)
    files = write_study(result, tmp_path)
    assert Path(files["trials"]).name == "trials.csv"
    lines = Path(files["trials"]).read_text().splitlines()
    assert len(lines) == 121
    assert (
        float(lines[1].split(",")[lines[0].split(",").index("test_error")])
        == result.columns["test_error"][0]
    )
    summary = json.loads(Path(files["summary"]).read_text())
    assert len(summary["summary"]) == 12
    assert summary["summary"][0]["steps"] is None
    page = Path(files["report"]).read_text(encoding="utf-8")
    assert page.count("<section>") == 8
    assert "share its rows" not in page
    assert page.count("<svg") >= 10
    for word in ("Wilcoxon", "depth\u00a03,\u00a0adam", "Undertrained", "Settings"):
        assert word in page, word
    with pytest.raises(MissingDependencyError, match=r"rectilinear\[tables\]"):
        result.to_frame()
    with pytest.raises(MissingDependencyError, match="pyarrow"):
        result.to_parquet(tmp_path / "a.parquet")


def test_a_report_without_networks() -> None:
    result = DepthStudy((Model("least_squares"), Model("ridge")), trials=2, steps=1).run()
    assert study_page(result).count("<section>") == 3


def test_frames_and_parquet_are_tidy(result: StudyResult, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    frame = result.to_frame()
    assert len(frame) == 120
    assert not frame.duplicated(["model", "noise", "trial"]).any()
    assert set(frame.loc[frame.kind == "deep_linear", "optimizer"]) == {"gd", "adam"}
    result.to_parquet(tmp_path / "a.parquet")
    pandas.testing.assert_frame_equal(
        pandas.read_parquet(tmp_path / "a.parquet"), frame, check_dtype=False
    )


@pytest.mark.whole
def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    items = {i: tmp_path / str(i) for i in range(3)}
    for i in (0, 2):
        items[i].touch()
    assert sorted(map_chunks(dies_once, items, n_jobs=2)) == [(0, 7), (1, 7), (2, 7)]


@pytest.mark.parametrize(
    "backend", [pytest.param(name, marks=pytest.mark.slow) for name in ("loky", *CLUSTERS)]
)
def test_workers_that_die_again_and_again(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if backend in CLUSTERS:
        pytest.importorskip(CLUSTERS[backend], reason=f"{backend} is not installed")
    monkeypatch.setenv(
        "PYTHONPATH", str(Path(dying_workers.__file__).parent)
    )  # Ray's workers know no other path
    done = []
    with pytest.raises(WorkerError, match="died 3 times"):
        done.extend(map_chunks(dies_unless_zero, {0: 0, 1: 1, 2: 2}, n_jobs=2, backend=backend))
    assert done in ([], [(0, 0)])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n_jobs": 0}, "n_jobs = 0"),
        ({"address": "tcp://127.0.0.1:9"}, "backend loky"),
        ({"backend": "dask", "address": "tcp://127.0.0.1:9"}, "no answer from a Dask"),
    ],
)
def test_workers_that_cannot_be(options: dict, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if options.get("backend") == "dask":
        pytest.importorskip("distributed", reason="dask[distributed] is not installed")
    monkeypatch.setattr("rectilinear.deeplinear.study.workers.SCHEDULER_TIMEOUT", 0.2)
    with pytest.raises(ConfigError, match=said):
        list(map_chunks(abs, {0: 1, 1: 2}, **options))


def test_backends_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for module_name, backend in (("distributed", "dask"), ("ray", "ray")):
        monkeypatch.setitem(sys.modules, module_name, None)
        with pytest.raises(MissingDependencyError, match=r"rectilinear\[cluster\]"):
            list(map_chunks(abs, {0: 1, 1: 2}, backend=backend))


LONG = """
import sys
from rectilinear.deeplinear import DepthStudy, Synthetic, deep_linear
study = DepthStudy(deep_linear([2, 3]), Synthetic(noise=(0.1,), rows=50), trials=40, steps=3000, block=2)
study.run(out=sys.argv[1])
"""


@pytest.mark.slow
def test_a_kill_loses_at_most_the_chunk_at_hand(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", LONG, str(tmp_path)])
    chunks = tmp_path / "chunks"
    while not chunks.exists() or len(list(chunks.glob("[0-9]*.npz"))) < 5:
        time.sleep(0.01)
        assert process.poll() is None
    process.kill()
    process.wait()
    study = DepthStudy(
        deep_linear([2, 3]), Synthetic(noise=(0.1,), rows=50), trials=40, steps=3000, block=2
    )
    kept = len(list(chunks.glob("[0-9]*.npz")))
    seen: list[int] = []
    again = study.run(out=tmp_path, progress=lambda done, _: seen.append(done))
    assert seen[0] == kept >= 5
    assert same(again, study.run())


@pytest.mark.slow
def test_dask_with_a_worker_killed_midway(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="dask[distributed] is not installed")
    study = dataclasses.replace(STUDY, trials=40, steps=4000)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        victim = next(iter(cluster.workers.values()))
        killed: list[int] = []

        def progress(done: int, total: int) -> None:
            if done >= total // 4 and not killed:
                killed.append(victim.process.process.pid)
                os.kill(killed[0], signal.SIGKILL)

        options = {"backend": "dask", "address": cluster.scheduler_address}
        result = study.run(out=tmp_path, progress=progress, **options)
    assert killed
    assert same(result, study.run())


@pytest.mark.slow
def test_ray() -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    assert same(STUDY.run(n_jobs=2, backend="ray"), STUDY.run())


@pytest.mark.parametrize(("lr", "stable"), [(0.1, True), (0.3, False), (0.52, False)])
def test_a_step_too_large_to_settle_is_not_still_descending(lr: float, stable: bool) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 1)) + (0.05 if lr < 0.5 else 0.5) * rng.normal(size=(60, 3))
    y = 2 * X[:, 0] + 0.01 * rng.normal(size=60)
    models = deep_linear([2], inits=["torch"], optimizers=["gd"], lr=lr)
    cell = DepthStudy(models, trials=12, steps=3000, tol=1e-3, folds=4).run((X, y)).cell(1)
    assert (cell["stable_lr"] > lr).all() == stable
    failed = ~cell["success"]
    assert failed.any() != stable
    assert np.isin(cell["state"][failed], ["oscillating", "diverged"]).all()
    assert (cell["state"][~failed] == "converged").all()


def diabetes() -> Table:
    return Table.from_arrays(*load_diabetes(return_X_y=True))


def test_a_tuned_step_is_one_that_settles_where_few_trials_leave_the_saddle() -> None:
    """With steps of .3 the oscillation of ten layers has a smaller median gap than the saddle."""
    study = DepthStudy(deep_linear([10], inits=["torch"], lr=None), trials=10, tol=1e-3)
    found = study.run(diabetes())
    (lr,) = [model.lr for model in found.models if model.trained]
    cell = found.cell(1)
    # the largest of the grid below the closed form, 2 / the curvature of a balanced solution
    assert lr == max(step for step in STEP_SIZES if step <= np.median(cell["stable_lr"]))
    assert {"oscillating", "diverged"}.isdisjoint(cell["state"])
    assert cell["success"].mean() > 0.5
    larger = DepthStudy(deep_linear([10], inits=["torch"], lr=0.3), trials=10, tol=1e-3)
    said, stable = verdict(larger.run(diabetes()))[0], np.median(cell["stable_lr"])
    assert "for their step is too large: 0.3 at depth 10" in said
    assert f"where gradient descent is stable below {stable:.2g} (--lr sets it)" in said


def test_a_curvature_of_two_over_the_stable_step_is_that_of_the_balanced_solution() -> None:
    """For ``y = s x`` with unit inputs and L layers, ``1 / (L s^(2 - 2 / L))`` on squared errors."""
    x = np.array([[-1.0], [1.0]] * 20)
    statistics = SufficientStatistics.from_data(x[None], 2 * x[None, :, 0])
    for depth in (1, 2, 4, 8):
        model = Model("deep_linear", depth=depth, bias=False)
        expected = 1 / (depth * 2 ** (2 - 2 / depth))
        np.testing.assert_allclose(stable_step(model, statistics), [expected])

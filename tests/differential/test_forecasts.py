"""Forecasts against solved equations, in every rotation and layout, and invalid series."""

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from rectilinear import cli, recipes
from rectilinear.datasets import simulate_system
from rectilinear.errors import ConfigError, DataError, DtypeError, ForecastWarning, RectilinearError
from rectilinear.koopman import (
    DMD,
    FitConfig,
    KoopmanRegressor,
    as_series,
    embed,
    fit,
    one_step_error,
    windows,
)

T = np.arange(200.0)
WAVE = np.stack([np.sin(0.3 * T), np.cos(0.3 * T)], 1)
DATA = Path(
    os.environ.get("RECTILINEAR_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")
)
ETT = DATA / "ett" / "ETTh1.csv"


def small(**changes: Any) -> KoopmanRegressor:
    return KoopmanRegressor(**{"rank": 2, "horizon": 20, "fourier": 20, **changes})


def slow_manifold(count: int, seed: int) -> np.ndarray:
    """``x1' = -.05 x1, x2' = -(x2 - x1^2)`` from random initial states, solved to 1e-10: ``(count, 121,
    2)``.
    """
    initial = np.random.default_rng(seed).uniform(-1, 1, (count, 2))

    def velocity(_: float, x: np.ndarray) -> list[float]:
        return [-0.05 * x[0], -(x[1] - x[0] ** 2)]

    t = 0.1 * np.arange(121)
    return np.stack(
        [solve_ivp(velocity, (0, 12), x, t_eval=t, rtol=1e-10, atol=1e-12).y.T for x in initial]
    )


@pytest.mark.parametrize(
    "degrees",
    [pytest.param(0, marks=pytest.mark.slow), 37, pytest.param(90, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("units", [(1e12, 1e-12)])
def test_a_slow_manifold_in_every_rotation_and_unit(
    degrees: float, units: tuple[float, float]
) -> None:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[c, -s], [s, c]]) * np.array(units)[:, None]
    x, held = slow_manifold(25, 0) @ turn.T, slow_manifold(8, 9) @ turn.T
    model = KoopmanRegressor(rank=8, horizon=100, fourier=100).fit(x, dt=0.1)
    error = (model.simulate(held[:, 0], 100) - held[:, :101]) / x.reshape(-1, 2).std(0)
    assert np.abs(error).max() < 0.02
    assert (
        np.abs(model.modes_.exponents.numpy()[:, None] - np.array([-0.05, -0.1, -1.0])).min(0).max()
        < 1e-3
    )


@pytest.mark.whole
def test_a_perfect_column_does_not_hide_a_failed_one() -> None:
    x, held = (
        simulate_system("pendulum", n, 70, seed=s).states.numpy() for n, s in ((60, 0), (20, 5))
    )
    rng = np.random.default_rng(0)

    def error(extra: Callable[[int], np.ndarray]) -> float:
        data, test = (
            np.concatenate([v, extra(len(v)) * np.ones((1, 71, 1))], 2) for v in (x, held)
        )
        model = KoopmanRegressor(rank=24, horizon=40, fourier=120).fit(data, dt=0.1)
        return float(np.abs(model.simulate(test[:, 0], 40) - test[:, :41]).max())

    plain = error(lambda n: np.zeros((n, 1, 1)))
    assert plain < 1e-3
    assert error(lambda n: rng.normal(size=(n, 1, 1))) < 1e-2, "constant along a series"
    assert error(lambda n: np.full((n, 1, 1), 0.1)) < 1e-3, "constant everywhere"


def test_times_and_dt_must_agree() -> None:
    for times, dt in ((T, 0.1), (T, 2.0), (0.1 * T, 0.11), (T + 0.3 * np.sin(T), 0.1)):
        with pytest.raises(ConfigError, match="beside times"):
            small().fit(WAVE, times=times, dt=dt)
    assert small().fit(WAVE, times=0.1 * T, dt=0.1).model_.dt == pytest.approx(0.1)
    both = small().fit(WAVE, times=0.1 * T), small().fit(WAVE, dt=0.1)
    assert torch.allclose(both[0].modes_.exponents, both[1].modes_.exponents, atol=1e-9)


@pytest.mark.parametrize(
    ("unit", "start", "kind"), [(0.1, 0.0, "f4"), (1e-3, 1.6e9, "f8"), (1.0, 0.0, "f2")]
)
def test_times_of_little_precision_are_regular(unit: float, start: float, kind: str) -> None:
    clock = (start + unit * T).astype(kind)
    model = small(delays=2).fit(WAVE, times=torch.from_numpy(clock) if kind == "f4" else clock)
    assert float(model.modes_.exponents.imag[0]) * unit == pytest.approx(0.3, rel=1e-5)


def test_irregular_times_against_regular_ones() -> None:
    clock = T + 0.3 * np.random.default_rng(0).uniform(-1, 1, len(T))
    x = np.stack([np.sin(0.3 * clock), np.cos(0.3 * clock)], 1)
    model = small().fit(x, times=clock, dt=1.0)
    assert float(model.modes_.exponents.imag[0]) == pytest.approx(0.3, rel=1e-3)
    assert np.abs(model.simulate(WAVE[:1], 20)[0] - WAVE[:21]).max() < 0.01


@pytest.mark.parametrize(
    "layout",
    [
        lambda x: x.astype("f4"),
        lambda x: x.astype(">f8"),
        lambda x: np.asfortranarray(x),
        lambda x: x[::-1].copy()[::-1],
        lambda x: x.astype(object),
        lambda x: torch.from_numpy(x).float(),
        lambda x: [x, x[:100]],
        lambda x: [x.tolist(), x.tolist()],
        lambda x: np.repeat(x, 2, axis=0)[::2],
    ],
)
def test_every_layout_is_read_alike(layout: Callable[[np.ndarray], Any]) -> None:
    given = layout(WAVE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = small().fit(given)
    assert np.abs(model.simulate(WAVE[50:51], 10)[0] - WAVE[50:61]).max() < 1e-6
    assert np.allclose(np.asarray(model.predict(WAVE[:3, ::-1][:, ::-1])), WAVE[1:4], atol=1e-6)


def test_numbers_are_copied() -> None:
    x = WAVE.copy()
    series = as_series(x)
    x[:] = 0
    assert np.array_equal(series.states[0].numpy(), WAVE)


def dates() -> np.ndarray:
    return np.datetime64("2016-01-01") + np.arange(200).astype("m8[h]")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (WAVE + 1j, "complex"),
        (torch.as_tensor(WAVE + 1j), "complex"),
        (WAVE.astype(str), "text"),
        (dates(), "dates"),
        (dates() - dates()[0], "durations"),
        (np.array([[1.0, "a"]] * 200, dtype=object), "objects"),
        ([[1.0, 2.0], [[1.0], [2.0, 3.0]]], "no array"),
    ],
)
def test_what_is_no_number_is_refused(given: Any, said: str) -> None:
    for use in (
        lambda: small().fit(given),
        lambda: DMD().fit(given),
        lambda: small().fit(WAVE).predict(given),
    ):
        with pytest.raises(DtypeError, match=said):
            use()


def test_dates_are_never_numbers() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": WAVE[:, 0], "when": dates(), "b": WAVE[:, 1]})
    with pytest.raises(DtypeError, match="in column 'when'"):
        small().fit(frame)
    with pytest.raises(DtypeError, match="hours since the first"):
        small().fit(frame[["a", "b"]], times=frame["when"])
    model = small().fit(
        frame[["a", "b"]], times=(frame["when"] - frame["when"][0]).dt.total_seconds()
    )
    assert model.model_.dt == 3600
    missing = pandas.DataFrame({"a": pandas.array([1, 2, None] * 60, dtype="Int64")})
    with pytest.raises(DataError, match="60 of 180 rows not finite, first at row 2"):
        small().fit(missing)


def test_masked_entries_are_gaps() -> None:
    with pytest.raises(DataError, match="1 of 200 rows not finite, first at row 7"):
        small().fit(np.ma.masked_array(WAVE, mask=np.arange(200)[:, None] == [7, 500]))


def test_short_series_are_named() -> None:
    with pytest.warns(
        ForecastWarning, match=r"2 of 4 series left out.*series 1 \(15 rows\), 3 \(9 rows\)"
    ):
        small().fit([WAVE, WAVE[:15], WAVE[:80], WAVE[:9]])
    with pytest.warns(ForecastWarning, match=r"1 of 2 series left out.*series 0 \(5 rows\)"):
        DMD(5).fit([WAVE[:5], WAVE])
    with pytest.warns(ForecastWarning, match=r"series 1 \(4 rows\)"):
        windows(as_series([WAVE, WAVE[:4]]), 1, 0, 5)


@pytest.mark.parametrize("seed", range(3))
def test_a_fit_worse_than_persistence_says_so(seed: int) -> None:
    x = np.cumsum(np.random.default_rng(seed).normal(size=(131, 1)), 0)
    change = float(np.sqrt((np.diff(x, axis=0) ** 2).mean()))

    def error(model: KoopmanRegressor) -> float:
        return float(np.sqrt(((model.predict(x[:-1]) - x[1:]) ** 2).mean()))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert error(KoopmanRegressor().fit(x)) < 1.2 * change, "a horizon that fits 131 rows"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        far = KoopmanRegressor(horizon=100).fit(x)
    assert bool(said) == (error(far) > 1.5 * change)
    found = one_step_error(far.model_, as_series(x))
    assert np.allclose(
        [error(far), change], np.array([found.model[0], found.persistence[0]]) * x.std(ddof=1)
    )


def test_the_horizon_follows_the_data() -> None:
    def horizon(count: int, rows: int, **changes: Any) -> int:
        data = np.stack([WAVE[k : k + rows] for k in range(count)])
        return round(
            float(
                fit(as_series(data), FitConfig(rank=2, horizon=None, fourier=0, **changes))[
                    1
                ].times.max()
            )
        )

    assert (horizon(1, 131), horizon(6, 60), horizon(5, 150), horizon(5, 151, backward=30)) == (
        43,
        40,
        100,
        100,
    )
    with pytest.raises(DataError, match="windows"):
        horizon(1, 9)


@pytest.mark.parametrize("delays", [2, 5])
def test_delays_are_newest_first(delays: int) -> None:
    x = np.sin(0.3 * T) + np.sin(1.1 * T)
    model = KoopmanRegressor(rank=4, horizon=30, delays=max(delays, 4), fourier=0).fit(x[:150])
    history = x[150 : 150 + model.delays]
    state = history[::-1][None].copy()
    assert np.array_equal(state, embed(torch.as_tensor(history)[:, None], model.delays).numpy())
    truth = x[150 + model.delays - 1 : 150 + model.delays + 20]
    assert np.abs(model.simulate(state, 20)[0, :, 0] - truth).max() < 1e-6
    assert np.abs(model.simulate(history[None], 20)[0, :, 0] - truth).max() > 0.1, (
        "oldest first is another state"
    )
    two = np.stack([x, np.cos(0.3 * T)], 1)
    found = windows(as_series(two), 3, 0, 1).anchors[0].tolist()
    assert found == [*two[2], *two[1], *two[0]], (
        "the columns of the newest observation, then those before it"
    )


def test_a_model_saved_without_offset_still_loads(tmp_path: Path) -> None:
    model = small().fit(WAVE).model_
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    x, times = torch.as_tensor(WAVE[:3]), torch.arange(5).double()
    assert torch.equal(again.forecast(x, times), model.forecast(x, times))
    assert (
        "offset"
        not in type(model.lift)(model.lift.features, model.lift.mean, model.lift.scale).state_dict()
    )


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert cli.main([*words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_fields_without_effect_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my.csv").write_text("\n".join(f"{a},{b}" for a, b in WAVE))
    path, train = str(tmp_path / "my.csv"), ("train", "koopman", "--out", str(tmp_path / "run"))
    said = refused(capsys, *train, "--set", f"data={path}")
    assert "has no effect on 'pendulum'" in said
    assert "Set system to the file" in said
    assert "system" in said.split("fields that have one:")[1]
    for name, value in (("size", 8), ("rank", 4), ("fit.seed", 3)):
        assert name in refused(capsys, *train, "--set", f"{name}={value}")
    for name, value in (("noise", 0.1), ("count", 5), ("steps", 9), ("jitter", 0.1)):
        assert "simulated" in refused(
            capsys, *train, "--set", f"system={path}", "--set", f"{name}={value}"
        )
    assert not (tmp_path / "run").exists()
    old = recipes.changed(recipes.recipe_named("koopman"), {"data": "my.csv", "fit.horizon": 100})
    assert old.data == "my.csv", "a run of an earlier version is read as it was"


def test_a_file_is_trained_on_and_compared_with_persistence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my.csv").write_text("\n".join(f"{a},{b}" for a, b in WAVE))
    sets = [f"system={tmp_path / 'my.csv'}", "fit.horizon=20", "fit.rank=2", "fit.fourier=0"]
    words = [word for change in sets for word in ("--set", change)]
    assert cli.main(["train", "koopman", *words, "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    assert cli.main(["forecast", str(tmp_path / "run"), "--steps", "20", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["one_step"][1]["error"] < 1e-6 < 0.1 < answer["one_step"][1]["persistence"]
    ahead = np.stack([np.sin(0.3 * (199 + np.arange(21))), np.cos(0.3 * (199 + np.arange(21)))], 1)
    assert np.abs(np.load(answer["array"])[0] - ahead).max() < 1e-5


@pytest.mark.skipif(
    not ETT.is_file(), reason="no ETT series: set RECTILINEAR_DATA to the folder that holds ett/"
)
def test_a_real_series_beats_persistence() -> None:
    x = np.loadtxt(ETT, delimiter=",", skiprows=1, usecols=(1, 3), max_rows=2000)
    model = KoopmanRegressor(rank=24, horizon=48, delays=48, fourier=0).fit(x[:1500])
    states = embed(torch.as_tensor(x[1500 - 47 :]), 48)[:-24:5].numpy()
    error = model.predict(states, 24) - x[1500 + 24 :: 5][: len(states)]
    still = states[:, :2] - x[1500 + 24 :: 5][: len(states)]
    assert (np.square(error).mean(0) < np.square(still).mean(0)).all()
    with pytest.raises(RectilinearError, match="text"):
        small().fit(
            np.loadtxt(ETT, delimiter=",", skiprows=1, usecols=(0, 7), max_rows=300, dtype=str)
        )

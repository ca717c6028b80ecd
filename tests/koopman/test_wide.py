"""Series of more columns than rows are fitted in the span of their rows, with equal results."""

import numpy as np
import pytest
import torch

from rectilinear.koopman import Forecaster, held_out
from rectilinear.koopman.autoregression import Piece
from rectilinear.koopman.candidates import linear
from rectilinear.koopman.held_out import hold_out


def waves(rows: int = 50, columns: int = 70, noise: float = 0.1, drift: float = 0.0) -> np.ndarray:
    rng, t = np.random.default_rng(0), np.arange(rows)[:, None]
    place = np.linspace(0, 6, columns)
    x = sum(np.cos(0.3 * k * t + k * place) / k for k in range(1, 6))
    return np.asarray(x + noise * rng.normal(size=x.shape) + drift * t * (1 + 0.1 * place))


def dense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "span_of", lambda *_: None)


@pytest.mark.parametrize("kind", ["linear", "autoregression"])
@pytest.mark.parametrize("drift", [0.0, 0.05])
def test_candidates_in_the_span_are_those_of_the_columns(
    kind: str, drift: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Joint maps of all columns and maps that columns share; a shared map has a constant."""
    x = torch.from_numpy(waves(drift=drift))
    pieces = [Piece((x - x.mean(0)) / x.std(0))]
    inside = hold_out(pieces, 6, 5)
    assert inside.past.shape[2] == 51
    dense(monkeypatch)
    whole = hold_out(pieces, 6, 5)
    assert whole.past.shape[2] == 70
    assert inside.levels == whole.levels == (("last",) if drift else ("last", "mean"))
    pairs = list(zip(linear(inside, (1, 3), kind), linear(whole, (1, 3), kind), strict=True))
    assert {c.model.plan.shared for c, _ in pairs} == {True, False}
    for mine, other in pairs:
        assert mine.model.plan == other.model.plan
        torch.testing.assert_close(mine.square, other.square, rtol=1e-8, atol=1e-12)
        one, two = (h.column_errors(c.model) for h, c in ((inside, mine), (whole, other)))
        torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", ["linear", "autoregression"])
@pytest.mark.parametrize("noise", [0.1, 1.0])
def test_forecasts_are_those_of_the_dense_fit(
    kind: str, noise: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = waves(noise=noise)
    mine = Forecaster(kind, horizon=5, lags=3).fit(x)
    dense(monkeypatch)
    other = Forecaster(kind, horizon=5, lags=3).fit(x)
    assert mine.comparison_.settings == other.comparison_.settings
    for one, two in zip(*(vars(m.forecast(5)).values() for m in (mine, other)), strict=True):
        if isinstance(one, np.ndarray):
            np.testing.assert_allclose(one, two, rtol=1e-8, atol=1e-8)
    found = [np.sort_complex(m.eigenvalues_.numpy()) for m in (mine, other)]
    np.testing.assert_allclose(*found, atol=1e-8)


def test_rows_to_validate_on_are_in_the_span(monkeypatch: pytest.MonkeyPatch) -> None:
    x = waves(65)
    options = {"kind": "linear", "horizon": 5, "lags": 2}
    mine = Forecaster(**options).fit(x[:50], validation=x[50:])
    dense(monkeypatch)
    other = Forecaster(**options).fit(x[:50], validation=x[50:])
    np.testing.assert_allclose(mine.forecast(5).mean, other.forecast(5).mean, atol=1e-8)


def test_no_tensor_is_larger_than_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is quadratic in the columns, and rows of several lags are not copied."""
    columns, sizes = 20_000, [0]

    def watch(name: str) -> None:
        plain = getattr(torch, name)

        def watched(*args: object, **options: object) -> torch.Tensor:
            found = plain(*args, **options)
            sizes.append(found.numel())
            return found

        monkeypatch.setattr(torch, name, watched)

    for name in ("cat", "stack", "baddbmm"):
        watch(name)
    model = Forecaster("linear", horizon=3, lags=2).fit(waves(30, columns))
    assert 30 * columns <= max(sizes) <= 31 * columns
    assert model.forecast(3).mean.shape == (3, columns)

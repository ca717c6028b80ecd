"""The scikit-learn estimators, and learned features."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from rectilinear.datasets import simulate_system
from rectilinear.errors import ConfigError, DataError, DivergedError, NotInitializedError
from rectilinear.koopman import DMD, FitConfig, KoopmanRegressor, MultiStep, as_series, fit


def test_contract() -> None:
    model = KoopmanRegressor(rank=6, horizon=20, fourier=0)
    assert clone(model).get_params() == model.get_params()
    with pytest.raises(NotInitializedError):
        model.predict(np.zeros((1, 2)))
    with pytest.raises(NotInitializedError):
        DMD().simulate(np.zeros((1, 2)), 1)
    x = simulate_system("linear", count=5, steps=50).states
    assert model.fit(x) is model
    assert model.predict(x[:, 0]).shape == (5, 4)
    assert model.simulate(x[:, 0], 7).shape == (5, 8, 4)
    assert model.simulate(x[:, 0], -3).shape == (5, 4, 4)
    assert np.allclose(model.simulate(x[:, 0], 7)[:, 7], model.predict(x[:, 0], 7))
    assert np.allclose(model.simulate(x[:, 0], 9), x[:, :10], atol=1e-6)


def test_dmd_against_stepping_with_its_matrix() -> None:
    x = simulate_system("van_der_pol", count=5, steps=50).states
    model = DMD(delays=2).fit(x)
    state = torch.cat([x[:, 1], x[:, 0]], 1)
    now = state - model.mean_
    for _ in range(4):
        now = model.operator_[0] + now @ model.operator_[1:]
    assert np.allclose(model.simulate(state, 4)[:, 4], (now + model.mean_)[:, :2])
    assert np.allclose(DMD().fit(x).predict(x[:, 0]), DMD(rank=2).fit(x).predict(x[:, 0]))
    with pytest.raises(DataError):
        DMD(delays=60).fit(x)


def test_unstable_models_refuse() -> None:
    t = np.arange(100)
    x = np.stack([1.05**t * np.cos(0.2 * t), 1.05**t * np.sin(0.2 * t)], 1)
    model = KoopmanRegressor(rank=2, horizon=20, stable=False, fourier=0).fit(x)
    assert np.abs(model.eigenvalues_).max() > 1.04
    with pytest.raises(DivergedError, match="stable=True"):
        model.predict(x[:1], 1_000_000)


@pytest.mark.whole
def test_learned_features_lower_the_loss() -> None:
    data = simulate_system("duffing", count=40, steps=60)
    torch.manual_seed(0)
    initial, found = fit(
        as_series(data.states, data.times), FitConfig(rank=12, horizon=40, fourier=10, width=16)
    )
    torch.manual_seed(0)
    before = MultiStep(initial)(found.packed())["loss"].item()
    model = KoopmanRegressor(rank=12, horizon=40, fourier=10, width=16, epochs=20).fit(
        data.states, times=data.times
    )
    torch.manual_seed(0)
    after = MultiStep(model.model_)(found.packed())["loss"].item()
    assert after < 0.7 * before


def test_a_forecast_of_hours_is_refused_where_it_re_encodes_and_takes_no_time_where_it_does_not():
    model = KoopmanRegressor(rank=2, horizon=20, delays=2, fourier=0).fit(
        np.sin(0.3 * np.arange(200))
    )
    with pytest.raises(ConfigError, match=r"1e\+07 re-encodings"):
        model.predict([[0.3, 0.1]], steps=10**7, reencode=1)
    assert np.isfinite(model.predict([[0.3, 0.1]], steps=10**7)).all()

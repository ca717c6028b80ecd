"""The closed-form fit: systems that it recovers exactly, and its slow twins."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rectilinear.datasets import simulate_system
from rectilinear.datasets.synthetic import linear_eigenvalues
from rectilinear.errors import ConfigError, DataError
from rectilinear.koopman import (
    DMD,
    FitConfig,
    Koopman,
    KoopmanRegressor,
    as_series,
    chapman_kolmogorov_error,
    fit,
    modes,
    round_trip_error,
)
from rectilinear.koopman.realization import realize
from rectilinear.koopman.series import Windows

double = torch.float64


@pytest.fixture(scope="module")
def pendulum() -> tuple[Koopman, Windows]:
    data = simulate_system("pendulum", count=150, steps=140)
    config = FitConfig(rank=32, horizon=60, backward=30, fourier=250)
    return fit(as_series(data.states, data.times), config)


@pytest.fixture(scope="module")
def held() -> torch.Tensor:
    return simulate_system("pendulum", count=100, steps=120, seed=9).states


def test_eigenvalues_of_a_linear_system() -> None:
    data = simulate_system("linear", count=30, steps=60)
    model, found = fit(
        as_series(data.states, data.times), FitConfig(rank=12, horizon=40, fourier=0)
    )
    exponents = modes(model, found.anchors).exponents
    for true in linear_eigenvalues():
        if true.imag > 0:
            assert (exponents - true).abs().min() < 1e-6, "the bound that is promised"
    assert chapman_kolmogorov_error(model, found, 20).state < 1e-6


def test_realization_agrees_with_the_matrix_that_made_the_windows() -> None:
    g = torch.Generator().manual_seed(0)
    A = torch.linalg.qr(torch.randn(5, 5, generator=g, dtype=double)).Q * 0.97
    C = torch.randn(2, 5, generator=g, dtype=double)
    z = [torch.randn(40, 5, generator=g, dtype=double)]
    for _ in range(30):
        z.append(z[-1] @ A.T)
    found = realize(torch.stack([x @ C.T for x in z], dim=1), 5, stable=False)
    values = torch.exp(torch.complex(found.growth[: len(found.frequency)], found.frequency))
    for value in torch.linalg.eigvals(A):
        if value.imag > 1e-9:
            assert (values - value).abs().min() < 1e-9


def test_negative_eigenvalues_are_pairs_at_the_angle_pi() -> None:
    x = torch.tensor([[(-0.9) ** k for k in range(30)]], dtype=double).T
    found = realize(x.unfold(0, 12, 1).transpose(1, 2), 1, stable=True)
    assert found.frequency.tolist() == pytest.approx([np.pi])
    assert found.growth.exp().tolist() == pytest.approx([0.9])


@pytest.mark.slow
def test_forecast_beats_the_linear_baseline(
    pendulum: tuple[Koopman, Windows], held: torch.Tensor
) -> None:
    model, _ = pendulum
    times = torch.tensor([5.0], dtype=double)
    scale = held.flatten(0, 1).std(0)
    with torch.no_grad():
        ours = (
            ((model.forecast(held[:, 0], times)[:, 0] - held[:, 50]) / scale).square().mean().sqrt()
        )
    linear = (
        DMD()
        .fit(simulate_system("pendulum", count=150, steps=140).states)
        .simulate(held[:, 0], 50)[:, 50]
    )
    theirs = ((torch.as_tensor(linear) - held[:, 50]) / scale).square().mean().sqrt()
    assert theirs > 5 * ours


@pytest.mark.whole
def test_powers_equal_stepping(pendulum: tuple[Koopman, Windows], held: torch.Tensor) -> None:
    model, _ = pendulum
    f = model.linearizer()
    x = model.lift.pad(held[:4, 0])
    with torch.no_grad():
        y = x
        for _ in range(100):
            y = f(y)
        assert (y - (f**100)(x)).abs().max() < 1e-6, "the bound that is promised"
        far = model.forecast(held[:4, 0], torch.tensor([100 * model.dt], dtype=double))[:, 0]
        assert (far - y[:, :2]).abs().max() < 1e-6


def test_fractional_times_compose(pendulum: tuple[Koopman, Windows], held: torch.Tensor) -> None:
    model, _ = pendulum
    f, g = model.linearizer(0.037), model.linearizer(0.063)
    x = model.lift.pad(held[:5, 0])
    with torch.no_grad():
        assert torch.allclose((f @ g)(x), model.linearizer()(x), atol=1e-8)


def test_the_past(pendulum: tuple[Koopman, Windows], held: torch.Tensor) -> None:
    model, _ = pendulum
    with torch.no_grad():
        back = model.forecast(held[:, 30], torch.tensor([-3.0], dtype=double))[:, 0]
        error = ((back - held[:, 0]) / model.lift.scale).square().mean().sqrt()
        returned = round_trip_error(model, held[:, 30], 50)
    assert error < 0.05, "a pendulum that swings through 143 degrees, a small model"
    assert returned.latent < 1e-3, "the bound that is promised; rounding in fact"


def test_radius_is_at_most_one_where_asked() -> None:
    t = torch.arange(80.0, dtype=double)
    growing = torch.exp(0.02 * t) * torch.cos(0.3 * t)
    for stable, bound in ((True, 1.0), (False, 1.03)):
        model, _ = fit(
            as_series(growing, dt=1.0),
            FitConfig(rank=3, horizon=20, delays=3, stable=stable, fourier=0),
        )
        radius = float(model.spectrum.exponents().detach().real.max().exp())
        assert radius <= bound
        assert stable or radius == pytest.approx(np.exp(0.02), abs=1e-6)


@pytest.mark.whole
def test_lookahead_features_tell_attractors_apart() -> None:
    states, times = simulate_system("duffing", count=120, steps=80)
    held = simulate_system("duffing", count=200, steps=60, seed=5).states.numpy()
    missed = []
    for lookahead in (0, 6):
        model = KoopmanRegressor(
            rank=20, horizon=60, fourier=160, lookahead_features=lookahead
        ).fit(states, times=times)
        far = model.predict(held[:, 0], 60)
        missed.append(int((np.sign(far[:, 0]) != np.sign(held[:, 60, 0])).sum()))
        assert model.model_.lift.features.strides == (lookahead, 0)
    plain, ahead = missed
    assert ahead <= 2 < plain, "of 200 initial states between two wells"


def test_a_linear_system_needs_no_look_ahead() -> None:
    data = simulate_system("linear", count=30, steps=60)
    model, _ = fit(as_series(data.states, data.times), FitConfig(rank=8, horizon=40, fourier=40))
    assert model.lift.features.strides == (0, 0)
    assert model.lift.features.fourier == 0


@pytest.mark.whole
def test_irregular_times_give_the_modes_of_regular_ones() -> None:
    data = simulate_system("pendulum", count=80, steps=90, jitter=0.3)
    held = simulate_system("pendulum", count=50, steps=40, seed=5)
    model = KoopmanRegressor(rank=20, horizon=50, fourier=200).fit(data.states, times=data.times)
    found = model.simulate(held.states[:, 0], times=held.times[0])
    assert model.model_.dt == pytest.approx(0.1, rel=0.02)
    assert np.abs(found - held.states.numpy())[:, 40].mean() < 0.1


def test_delays_see_what_one_observation_does_not() -> None:
    t = torch.arange(200.0, dtype=double)
    wave = torch.sin(0.2 * t) + 0.5 * torch.sin(0.31 * t + 1)
    model = KoopmanRegressor(rank=8, horizon=40, delays=8, fourier=0).fit(wave[:150])
    history = wave[143:151].flip(0)[None]
    assert np.abs(model.simulate(history, 40)[0, :, 0] - wave[150:191].numpy()).max() < 1e-6


@settings(deadline=None, max_examples=15)
@given(st.floats(-3, 3), st.floats(0.1, 10))
def test_units_do_not_matter(shift: float, unit: float) -> None:
    t = torch.arange(60.0, dtype=double)
    x = torch.stack([torch.sin(0.4 * t), torch.cos(0.4 * t)], 1)
    plain = KoopmanRegressor(rank=4, horizon=20, fourier=0).fit(x)
    moved = KoopmanRegressor(rank=4, horizon=20, fourier=0).fit(unit * x + shift)
    assert np.allclose(
        unit * plain.predict(x[:3], 7) + shift,
        moved.predict(unit * x[:3] + shift, 7),
        atol=1e-6 * unit,
    )


@pytest.mark.parametrize(
    ("series", "match"),
    [
        (torch.zeros(200), "constant"),
        (torch.arange(10.0), "series of at most 10"),
        (torch.arange(28.0), "8 or more"),
    ],
)
def test_unusable_series(series: torch.Tensor, match: str) -> None:
    with pytest.raises(DataError, match=match):
        fit(as_series(series), FitConfig(rank=2, horizon=20, delays=2, fourier=0))


@pytest.mark.parametrize(
    "change",
    [
        {"rank": 0},
        {"horizon": 0},
        {"backward": -1},
        {"delays": 0},
        {"fourier": -1},
        {"lookahead_features": -1},
    ],
)
def test_numbers_out_of_range(change: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        FitConfig(**change)


def test_a_series_driven_by_noise_keeps_its_time_scale() -> None:
    g = torch.Generator().manual_seed(0)
    x = [torch.zeros(6, dtype=double)]
    for _ in range(400):
        x.append(0.905 * x[-1] + torch.randn(6, generator=g, dtype=double))
    model = KoopmanRegressor(rank=8, horizon=20, fourier=0).fit(torch.stack(x, 1)[..., None])
    assert abs(model.eigenvalues_[0]) == pytest.approx(0.905, abs=0.025)

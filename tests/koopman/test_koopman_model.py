"""The Koopman model: exact decoding, the semigroup property, and forecasts that raise."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rectilinear as rl
from rectilinear.errors import ConfigError, DivergedError, NonFiniteError, ShapeError
from rectilinear.koopman import Features, Koopman, Lift, Spectrum

double = torch.float64


def random_model(
    stable: bool = True, growth: float = -0.05, width: int = 0, strides: tuple[int, int] = (0, 0)
) -> Koopman:
    g = torch.Generator().manual_seed(1)
    ahead, back = (Features(2, torch.eye(2, dtype=double), fourier=3) for _ in range(2))
    basis = torch.randn(5, 5, generator=g, dtype=double)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        features = Features(
            2, basis, fourier=7, bandwidth=1.0, width=width, ahead=ahead, back=back, strides=strides
        )
    features.weight.normal_(generator=g)
    lift = Lift(features, torch.tensor([0.5, -1.0]), torch.tensor([2.0, 0.1]))
    torch.nn.init.normal_(lift.readout, generator=g)
    for stride in (ahead, back):
        stride.weight.normal_(generator=g).mul_(0.3)
    spectrum = Spectrum(
        torch.full((5,), growth, dtype=double),
        torch.tensor([1.0, 2.5], dtype=double),
        stable=stable,
    )
    return Koopman(lift, spectrum, dt=0.5).requires_grad_(requires_grad=False)


def states(n: int = 6) -> torch.Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(2), dtype=double)


@pytest.mark.parametrize("strides", [(0, 0), (3, 0), (2, 1)])
def test_the_network_is_invertible(strides: tuple[int, int]) -> None:
    model = random_model(width=4, strides=strides)
    padded = torch.randn(20, 7, dtype=double, generator=torch.Generator().manual_seed(0))
    assert rl.check_invertible(model.lift, padded).ok


def test_logdet_is_that_of_the_jacobian() -> None:
    lift, x = random_model(width=4, strides=(2, 1)).lift, torch.randn(1, 7, dtype=double)
    jacobian = torch.autograd.functional.jacobian(lambda u: lift(u[None])[0], x[0])
    assert torch.allclose(
        lift.forward_and_logdet(x)[1][0], torch.linalg.slogdet(jacobian).logabsdet
    )


def test_the_start_is_exact_and_the_decoder_drops_pads_only() -> None:
    model, x = random_model(), states()
    zero = torch.zeros(1, dtype=double)
    assert torch.allclose(model.forecast(x, zero)[:, 0], x)
    z = model.advance(model.encode(x), torch.tensor([0.7], dtype=double))[:, 0]
    assert torch.allclose(model.lift.observe(z), model.lift.inverse(z)[:, :2])


@settings(deadline=None, max_examples=20)
@given(st.floats(-4, 4), st.floats(-4, 4))
def test_semigroup(s: float, t: float) -> None:
    model = random_model()
    z = model.encode(states())

    def move(z: torch.Tensor, time: float) -> torch.Tensor:
        return model.advance(z, torch.tensor([time], dtype=double))[:, 0]

    assert torch.allclose(move(move(z, s), t), move(z, s + t), atol=1e-10)


def test_operator_against_the_matrix_exponential() -> None:
    spectrum = random_model().spectrum
    blocks = [torch.tensor([[-0.05, -w], [w, -0.05]], dtype=double) for w in (1.0, 2.5)]
    L = torch.block_diag(*blocks, *[torch.tensor([[-0.05]], dtype=double)] * 3)
    assert torch.allclose(rl.to_dense(spectrum.operator(1.7)), torch.linalg.matrix_exp(1.7 * L))


def test_stable_whatever_the_parameters() -> None:
    spectrum = Spectrum(torch.randn(9), torch.randn(4), stable=True)
    assert spectrum.operator(3.0).eigenvalues().abs().max() <= 1 + 1e-6  # float32


def test_times_of_each_row() -> None:
    model, x = random_model(), states(3)
    times = torch.tensor([[0.1], [0.2], [-0.3]], dtype=double)
    rows = [model.forecast(x[i : i + 1], times[i])[0] for i in range(3)]
    assert torch.allclose(model.forecast(x, times), torch.stack(rows))


def test_reencoding_in_stages_is_what_a_loop_gives() -> None:
    model, x = random_model(), states()
    steps = torch.arange(8, dtype=double)
    found = model.forecast(x, steps * model.dt, reencode=3)
    stage = torch.tensor([3 * model.dt], dtype=double)
    for k in range(8):
        y = x
        for _ in range(k // 3):
            y = model(y, stage)[:, 0]
        y = model(y, torch.tensor([(k % 3) * model.dt], dtype=double))[:, 0]
        assert torch.allclose(found[:, k], y), k
    back = model.forecast(x, -steps * model.dt, reencode=3)
    assert torch.allclose(back[:, 3], model(x, -stage)[:, 0])


def test_a_million_steps_of_an_unstable_model_are_refused() -> None:
    far = torch.tensor([5e5], dtype=double)
    with pytest.raises(DivergedError, match="1e\\+06 steps"):
        random_model(stable=False, growth=0.01).forecast(states(), far)
    assert bool(torch.isfinite(random_model().forecast(states(), far)).all())


def test_bad_input() -> None:
    model = random_model()
    with pytest.raises(NonFiniteError):
        model.forecast(torch.full((1, 2), float("nan"), dtype=double), torch.ones(1, dtype=double))
    with pytest.raises(ShapeError):
        model.forecast(torch.ones(1, 3, dtype=double), torch.ones(1, dtype=double))
    with pytest.raises(ConfigError):
        model.forecast(states(), torch.ones(1, dtype=double), reencode=0)
    with pytest.raises(ShapeError):
        Koopman(model.lift, Spectrum(torch.zeros(3), torch.zeros(1)))
    with pytest.raises(ConfigError):
        Koopman(model.lift, model.spectrum, dt=0.0)


def test_what_is_seen_ahead_and_back_against_a_loop() -> None:
    features, s = random_model(strides=(3, 2)).lift.features, 0.1 * states()
    assert features.ahead is not None
    assert features.back is not None
    steps = [features.ahead, features.ahead, features.ahead], [features.back, features.back]
    for start, chain in zip((1, 4), steps, strict=True):
        u = s
        for k, stride in enumerate(chain):
            u = stride(u).clamp(-10, 10)
            assert torch.equal(features.seen(s)[start + k], u)
    assert features.fixed(features.seen(s)).shape == (6, 1 + 2 * 6 + 7)


def test_saved_and_built_again(tmp_path: Path) -> None:
    model = random_model(width=4, strides=(2, 1))
    model.save_pretrained(tmp_path)
    again = Koopman.from_pretrained(tmp_path)
    times = torch.tensor([0.3, -1.0], dtype=double)
    assert torch.equal(again.forecast(states(), times), model.forecast(states(), times))

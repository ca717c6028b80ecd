"""Users' own operators, networks, velocities, terms and objectives, valid and invalid."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor, nn

import rectilinear as rl
from rectilinear import projector as idempotent
from rectilinear import testing, training
from rectilinear.errors import (
    ConfigError,
    DtypeError,
    InputError,
    ShapeError,
    SingularOperatorError,
)
from rectilinear.flow import objectives
from rectilinear.flow.collapse import propagate
from rectilinear.flow.integrate import integrate

F64 = torch.float64


class Own(rl.operators.Operator):
    """A matrix, and what to do to its products."""

    def __init__(self, change=lambda y: y):
        super().__init__()
        self.in_dim = self.out_dim = 4
        self.k = nn.Parameter(
            torch.randn(4, 4, dtype=F64, generator=torch.Generator().manual_seed(0))
        )
        self.change = change

    def _matvec(self, z: Tensor) -> Tensor:
        return self.change(z @ self.k.T)

    def _rmatvec(self, z: Tensor) -> Tensor:
        return z @ self.k


@pytest.mark.parametrize(
    "change",
    [
        lambda y: y[..., :3],
        lambda y: y.float(),
        lambda y: None,
        lambda y: y[None],
        lambda y: y.detach().numpy(),
    ],
)
@pytest.mark.parametrize(
    "use", [lambda a: a(torch.ones(2, 4, dtype=F64)), rl.svd, rl.norm, rl.operators.to_dense]
)
def test_operators_that_return_something_else(change, use):
    with pytest.raises((ShapeError, DtypeError)):
        use(Own(change))


class Sinh(rl.invertible.Invertible):
    """Componentwise, with the log-determinant in a shape of one's choice."""

    shape = latent_shape = (3,)

    def __init__(self, change=lambda logdet: logdet):
        super().__init__()
        self.change = change

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.asinh(x), self.change(-0.5 * torch.log1p(x.square()).sum(1))

    def _decode(self, z: Tensor) -> Tensor:
        return torch.sinh(z)


@pytest.mark.parametrize("change", [lambda d: d[:, None], lambda d: d.sum(), lambda d: 0.0])
def test_log_determinants_of_another_shape(change):
    f = rl.Linearizer(Sinh(change), rl.operators.Diagonal(torch.ones(3, dtype=F64)))
    with pytest.raises((ShapeError, DtypeError)):
        f.log_prob(torch.randn(5, 3, dtype=F64))


def test_density_of_an_own_network():
    x, s = torch.randn(5, 3, dtype=F64), torch.tensor([0.5, 2.0, 3.0], dtype=F64)
    f = rl.Linearizer(Sinh(), rl.operators.Diagonal(s), rl.invertible.Identity((3,)))
    z = x / s
    exact = (
        -0.5 * torch.sinh(z).square() - 0.5 * math.log(2 * math.pi) + z.cosh().log() - s.log()
    ).sum(1)
    torch.testing.assert_close(f.log_prob(x), exact)


class Turning(rl.flow.TimeVarying):
    dim = 3

    def __init__(self):
        super().__init__()
        self.a, self.b = (
            torch.randn(2, 3, 3, dtype=F64, generator=torch.Generator().manual_seed(1)) / 2
        )

    def velocity(self, t):
        return rl.operators.Dense(weight=self.a + math.sin(3 * t) * self.b)


def test_an_own_velocity_against_scipy():
    W, z = Turning(), torch.tensor([1.0, -0.5, 0.3], dtype=F64)

    def slope(t, y):
        return (W.a + math.sin(3 * t) * W.b).numpy() @ y

    exact = torch.as_tensor(solve_ivp(slope, (0, 1), z.numpy(), rtol=1e-11, atol=1e-12).y[:, -1])
    assert (integrate(W, z, 200, "magnus4") - exact).abs().max() < 1e-8
    assert (propagate(W, 200).operator(z) - exact).abs().max() < 1e-8


@pytest.mark.parametrize(
    "made", [torch.eye(3, dtype=F64), None, rl.operators.Dense(weight=torch.ones(2, 3, dtype=F64))]
)
def test_velocities_that_are_no_square_operator(made):
    W = Turning()
    W.velocity = lambda t: made
    for call in (propagate, lambda W: integrate(W, torch.ones(3, dtype=F64), 3)):
        with pytest.raises((ShapeError, DtypeError)):
            call(W)


@pytest.mark.parametrize("times", [(1.0, 0.0), (0.0, 2.0), (-1.0, 1.0)])
def test_times_of_the_closed_form(times):
    W = rl.flow.ConstantVelocity(rl.operators.Diagonal(torch.ones(3)))
    with pytest.raises(ConfigError):
        integrate(W, torch.ones(3), method="exact", t0=times[0], t1=times[1])


def test_noise_without_length_differs_by_nothing():
    flow = rl.flow.LinearFlow(rl.invertible.Identity((3,)), None, Turning())
    assert rl.flow.collapse_error(flow, torch.zeros(2, 3, dtype=F64), 10) == 0
    with pytest.raises(InputError):
        rl.flow.collapse_error(flow, torch.zeros(0, 3, dtype=F64), 10)


class Mine(objectives.Term):
    def __init__(self, reduce):
        super().__init__()
        self.reduce = reduce

    def forward(self, draw):
        return self.reduce(draw.z1.square())


def one_step(diagonal=(1.0, 2.0, 3.0)):
    return rl.Linearizer(
        rl.invertible.Identity((3,)), rl.operators.Diagonal(torch.tensor(diagonal, dtype=F64))
    )


def test_terms_are_one_number_with_a_name_of_its_own():
    x = torch.randn(6, 3, dtype=F64)
    good = objectives.Objective(one_step(), {"mine": (2.0, Mine(torch.mean))})(x)["loss"]
    torch.testing.assert_close(good, 2 * x.square().mean())
    for name, reduce in (
        ("mine", lambda y: y.mean(1)),
        ("loss", torch.mean),
        ("mine", lambda y: 1.0),
    ):
        with pytest.raises(ConfigError):
            objectives.Objective(one_step(), {name: (2.0, Mine(reduce))})(x)


def test_likelihood_through_a_singular_operator_and_ranks_above_the_dimension():
    x = torch.randn(6, 3, dtype=F64)
    with pytest.raises(SingularOperatorError):
        objectives.likelihood(one_step((1.0, 1.0, 0.0)))(x)
    for bad in ({"high": 9}, {"low": 5}, {"focus": 9}):
        with pytest.raises(ConfigError):
            objectives.Objective(one_step(), {"n": (1.0, objectives.NestedRank(**bad))})(x)


def test_projectors_and_restoration():
    g = rl.invertible.Identity((4,))
    f = idempotent.Projector(g, idempotent.Selection.leading(4, 2))
    with pytest.raises(DtypeError):
        idempotent.Projector(g, rl.operators.Diagonal(torch.full((4,), 2.0)))
    with pytest.raises(ShapeError):
        f.decode(torch.ones(3, 1))
    with pytest.raises(ConfigError):
        idempotent.restore(f, torch.ones(2, 4), rl.operators.Diagonal(torch.full((4,), 3.0)))
    with pytest.raises(ShapeError):
        rl.metrics.psnr(torch.zeros(2, 8), torch.zeros(8, 2))


class Fit(nn.Module):
    def __init__(self, **more):
        super().__init__()
        self.mean, self.more = nn.Parameter(torch.zeros(2)), more

    def forward(self, batch):
        return {"loss": (batch - self.mean).square().mean(), **self.more}


class Kept(Fit):
    def get_extra_state(self):
        return {"count": 3}


class Rising(Fit):
    def parameter_groups(self):
        return [{"params": self.mean, "lr": -0.1}]


class Detached(Fit):
    def forward(self, batch):
        return {"loss": super().forward(batch)["loss"].detach()}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Fit(step=torch.tensor(7.0)),
        lambda: Fit(lr=torch.tensor(7.0)),
        Kept,
        Rising,
        Detached,
    ],
)
def test_objectives_that_lose_the_log_the_state_or_the_way(make, tmp_path):
    config = training.TrainConfig(steps=4, batch_size=2, device="cpu")
    with pytest.raises(ConfigError):
        training.train(make(), torch.randn(8, 2), config, tmp_path, progress=False)


def test_evaluations_are_numbers_beside_the_log(tmp_path):
    config = training.TrainConfig(steps=4, batch_size=2, device="cpu")

    def run(values, name):
        out = tmp_path / name
        return training.train(
            Fit(), torch.randn(8, 2), config, out, evaluate=lambda *_: values, progress=False
        )

    assert run({"score": torch.tensor(2.0)}, "a").metrics["score"] == 2
    for name, values in (("b", {"step": 99}), ("c", {"score": "high"}), ("d", None)):
        with pytest.raises(ConfigError):
            run(values, name)


@pytest.mark.parametrize(
    "field", ["steps", "log_every", "batch_size", "seed", "checkpoint_every_steps"]
)
def test_counts_are_integers(field):
    with pytest.raises(ConfigError):
        training.TrainConfig(**{field: 2.5})


def test_states_that_would_lose_a_part():
    state = {"weight": 1j * torch.ones(2, 2), "bias": torch.ones(2)}
    with pytest.raises(rl.errors.CheckpointError):
        training.load_state(nn.Linear(2, 2), state, "here")


class Halved(rl.invertible.Invertible):
    shape = latent_shape = (8,)

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x.new_zeros(len(x))

    def _decode(self, z: Tensor) -> Tensor:
        return z / 2


def test_laws_in_half_precision_and_of_complex_operators():
    with pytest.raises(AssertionError, match="relative error"):
        testing.check_invertible(Halved(), torch.randn(3, 8).bfloat16())
    testing.check_operator(
        rl.operators.Dense(weight=torch.randn(3, 3, dtype=torch.complex128)), allowed=1e-8
    )

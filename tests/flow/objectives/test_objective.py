import math

import pytest
import torch
from torch import nn

from rectilinear.errors import ConfigError, DtypeError, ShapeError, SingularOperatorError
from rectilinear.flow import (
    ChebyshevVelocity,
    LinearFlow,
    LowRankEndpoint,
    SolvedVelocity,
    collapse,
)
from rectilinear.flow.objectives import (
    Adversarial,
    Batch,
    Centred,
    Endpoint,
    Likelihood,
    NestedRank,
    NoisyReconstruction,
    Objective,
    likelihood,
    nested,
    paper,
    solved,
)
from rectilinear.flow.objectives.terms import draw_ranks
from rectilinear.invertible import ActNorm, Chain, Identity, VectorFlow
from rectilinear.linearizer import Linearizer
from rectilinear.operators import Dense, Diagonal, to_dense

N = 5


def network(seed=0, **settings):
    torch.manual_seed(seed)
    g = VectorFlow(N, 2, 8, **settings).double()
    with torch.no_grad():
        for p in g.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return g


@pytest.fixture
def x():
    return torch.randn(64, N, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * 2


def test_the_solved_operator_minimises_the_flow_matching_loss():
    """Its twin is the least squares of ``z_1`` on ``z_t`` over all pairs of a sample."""
    torch.manual_seed(1)
    mix0, mix1 = torch.randn(2, N, N, dtype=torch.float64)
    z0, z1 = (
        torch.randn(150, N, dtype=torch.float64) @ mix0,
        torch.randn(170, N, dtype=torch.float64) @ mix1,
    )
    z0, z1 = z0 - z0.mean(0), z1 - z1.mean(0)  # the pairs then have no cross moment
    velocity = SolvedVelocity.from_samples(z0, z1)
    for t in (0.1, 0.5, 0.9):
        zt = ((1 - t) * z0[:, None] + t * z1[None]).flatten(0, 1)
        target = z1.expand(150, -1, -1).flatten(0, 1)
        twin = torch.linalg.lstsq(zt, target).solution.T
        assert torch.allclose(to_dense(velocity.endpoint(t)), twin, atol=1e-10)


@pytest.mark.parametrize("full", [False, True])
def test_the_moments_of_a_solved_velocity_follow_the_latents(x, full):
    one = torch.eye(N, dtype=torch.float64) if full else torch.ones(N, dtype=torch.float64)
    flow = LinearFlow(network(), None, SolvedVelocity(one, one.clone()))
    objective = solved(flow, momentum=0.25)
    with torch.no_grad():
        z = flow.g_data(x)
    moment = z.T @ z / len(z) if full else z.square().mean(0)
    before = flow.velocity.s1.clone()
    objective.eval()(x)
    assert torch.equal(flow.velocity.s1, before)
    terms = objective.train()(x)
    assert torch.allclose(flow.velocity.s1, 0.75 * before + 0.25 * moment)
    assert not torch.equal(flow.velocity.s0, before)
    objective.prepare(x)
    assert torch.allclose(flow.velocity.s1, moment)
    terms["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in flow.g_data.parameters())


def test_without_momentum_the_moments_stay(x):
    ones = torch.ones(N, dtype=torch.float64)
    flow = LinearFlow(network(), None, SolvedVelocity(ones, ones.clone()))
    objective = Objective(flow, {"nll": (1.0, Likelihood())}, momentum=0.0).train()
    objective.prepare(x)
    objective(x)
    assert torch.equal(flow.velocity.s1, ones)


def test_the_moments_of_plain_noise_stay():
    ones = torch.ones(N, dtype=torch.float64)
    flow = LinearFlow(network(), Identity(N), SolvedVelocity(ones, ones.clone()))
    solved(flow)(torch.randn(8, N, dtype=torch.float64))
    assert torch.equal(flow.velocity.s0, ones)


@pytest.mark.parametrize("operator", ["dense", "diagonal", "flow", "identity"])
def test_the_likelihood_is_that_of_a_dense_jacobian(x, operator):
    g_data, g_noise = network(1), network(2)
    if operator == "flow":
        velocity = ChebyshevVelocity(N, 1, 2).double()
        model = LinearFlow(g_data, g_noise, velocity)
        f = collapse(model, 20, "magnus4")
    else:
        operators = {
            "dense": lambda: Dense(N),
            "diagonal": lambda: Diagonal(torch.rand(N) + 0.5),
            "identity": lambda: Dense(weight=torch.eye(N)),
        }
        f = model = Linearizer(g_noise, operators[operator]().double(), g_data)
    x = x[:4]
    value = likelihood(model, sigma=0.0)(x)["loss"]
    value.backward()
    value = value.detach()
    B = torch.linalg.inv(to_dense(f.operator).detach())

    def to_noise(row):
        return g_noise.inverse(g_data(row[None]) @ B.T)[0]

    twin = []
    for row in x:
        jacobian = torch.autograd.functional.jacobian(to_noise, row)
        twin.append(
            -0.5 * (to_noise(row) ** 2).sum()
            - N / 2 * math.log(2 * math.pi)
            + torch.linalg.slogdet(jacobian)[1]
        )
    assert float(value) == pytest.approx(-float(torch.stack(twin).mean().detach()) / N, rel=1e-9)
    assert float(value) == pytest.approx(-float(f.log_prob(x).mean().detach()) / N, rel=1e-9)
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_the_published_family_has_no_likelihood(x):
    flow = LinearFlow(network(), None, LowRankEndpoint(N, 2, width=8).double())
    with pytest.raises(SingularOperatorError, match="through rank 2 in 5 dimensions"):
        likelihood(flow)(x)


def test_noise_is_added_to_the_data_for_the_likelihood_alone(x):
    f = Linearizer(Identity(N), Diagonal(torch.ones(N, dtype=torch.float64)))
    batch = Batch(f, x, sigma=0.5)
    assert torch.equal(batch.data, x)
    assert float((batch.noisy - x).std()) == pytest.approx(0.5, rel=0.15)


def test_the_published_loss_is_its_formula(x):
    A = LowRankEndpoint(N, 2, width=8).double()
    flow = LinearFlow(network(1), network(2), A)
    batch = Batch(flow, x)
    t = batch.t[:, None]
    zt = (1 - t) * flow.g_noise(batch.noise) + t * flow.g_data(x)
    prediction = torch.stack(
        [to_dense(A.endpoint(s)) @ z for s, z in zip(batch.t, zt, strict=True)]
    )
    assert float(Endpoint()(batch).detach()) == pytest.approx(
        float(((prediction - flow.g_data(x)) ** 2).mean().detach())
    )
    assert bool(((batch.t >= 0) & (batch.t <= 1)).all())


@torch.no_grad()
def test_undisturbed_latents_reconstruct_and_disturbed_ones_do_not(x):
    flow = LinearFlow(network(1), network(2), LowRankEndpoint(N, 2, width=8).double())
    batch = Batch(flow, x)
    for of in ("noise", "data"):
        assert float(NoisyReconstruction(of, latent_noise=0.0)(batch)) < 1e-16
        assert float(NoisyReconstruction(of, latent_noise=0.3)(batch)) > 1e-4
    exact = flow.data_space.decode(batch.prediction)
    value = NoisyReconstruction("prediction", 0.0, distance=lambda a, b: (a - b).abs().max())(batch)
    assert float(value) == float((exact - x).abs().max())


@torch.no_grad()
def test_every_other_row_has_the_rank_in_focus(x):
    batch = Batch(
        Linearizer(Identity(N), Diagonal(torch.arange(N, 0.0, -1.0)).double(), network(1)), x
    )
    rows = torch.arange(len(x))
    torch.manual_seed(0)
    ranks = draw_ranks(batch.z1, 1, N).where(rows % 2 == 1, 2)
    twin = (
        (batch.data_space.decode(batch.z1 * (torch.arange(N) < ranks[:, None])) - x).square().mean()
    )
    torch.manual_seed(0)
    assert float(NestedRank(1, N, focus=2)(batch)) == pytest.approx(float(twin), rel=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("operator", ["dense", "diagonal"])
def test_nested_reconstruction_is_that_of_the_truncated_model(x, operator):
    A = (
        Dense(N) if operator == "dense" else Diagonal(torch.tensor([0.5, -3.0, 1.0, 2.0, 0.1]))
    ).double()
    g = network(1)
    f = Linearizer(Identity(N), A, g)
    for k in (1, 3, N):
        u = torch.linalg.svd(to_dense(A)).U[:, :k]
        twin = (g.inverse(g(x) @ u @ u.T) - x).square().mean()
        assert float(NestedRank(k, k)(Batch(f, x))) == pytest.approx(
            float(twin), rel=1e-9, abs=1e-20
        )
        first = NestedRank(k, k, share=0.25)(Batch(f, x))
        assert float(first) == pytest.approx(
            float(NestedRank(k, k)(Batch(f, x[:16]))), rel=1e-9, abs=1e-20
        )
    errors = torch.arange(1, N + 2, dtype=torch.float64)
    relative = NestedRank(3, 3, baseline=errors)(Batch(f, x))
    assert float(relative) == pytest.approx(float(NestedRank(3, 3)(Batch(f, x))) / 4)


@torch.no_grad()
def test_nested_reconstruction_is_clamped_to_limits(x):
    f = Linearizer(Identity(N), Diagonal(torch.arange(N, 0.0, -1.0)).double(), network(1))
    batch = Batch(f, x.clamp(-0.5, 0.5))
    decoded = batch.data_space.decode(batch.z1 * (torch.arange(N) < 3))
    assert 0.05 < float((decoded.abs() > 0.5).double().mean()) < 0.95
    inside = decoded.clamp(-0.5, 0.5)
    twin = (inside - batch.data).square().mean() + 0.1 * (decoded - inside).square().mean()
    found = NestedRank(3, 3, limits=(-0.5, 0.5))(batch)
    assert float(found) == pytest.approx(float(twin), rel=1e-9)
    assert float(NestedRank(3, 3, limits=(-99.0, 99.0))(batch)) == float(NestedRank(3, 3)(batch))
    with pytest.raises(ConfigError, match="least value"):
        NestedRank(3, 3, limits=(1.0, 0.0))


def test_ranks_have_their_distribution():
    torch.manual_seed(0)
    rows = torch.zeros(20000, 1)
    ranks = draw_ranks(rows, 2, 40, "log_uniform")
    assert (int(ranks.min()), int(ranks.max())) == (2, 40)
    expected = math.log(3 / 2) / math.log(41 / 2)
    assert float((ranks == 2).double().mean()) == pytest.approx(expected, abs=0.02)
    ranks = draw_ranks(rows, 1, 1000, "geometric")
    mean = math.sqrt(1000)
    assert float(ranks.double().mean()) == pytest.approx(mean, rel=0.05)
    survival = (1 - 1 / mean) ** 30
    assert float((ranks > 30).double().mean()) == pytest.approx(survival, abs=0.02)


def test_the_adversarial_term_moves_each_side_for_itself_alone(x):
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(N, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    f = Linearizer(Identity(N), Diagonal(torch.rand(N, dtype=torch.float64) + 0.5), network(1))
    term = Adversarial(critic, low=2, high=4, penalty=0.7)
    parts = term(Batch(f, x))
    model, sides = list(f.parameters()), list(critic.parameters())
    of_critic = torch.autograd.grad(
        parts["critic"], [*model, *sides], retain_graph=True, allow_unused=True
    )
    of_model = torch.autograd.grad(parts["generator"], [*model, *sides], allow_unused=True)
    assert all(g is None for g in of_critic[: len(model)])
    assert all(g is None for g in of_model[len(model) :])
    assert sum(float(g.abs().sum()) for g in of_model if g is not None) > 0
    assert sum(float(g.abs().sum()) for g in of_critic if g is not None) > 0


def test_a_critic_of_places_and_a_network_alone_are_refused_with_what_to_do() -> None:
    places = nn.Unflatten(1, (1, 2, 2))
    with pytest.raises(ShapeError, match=r"out\.flatten\(1\)\.mean\(1\)"):
        Adversarial(places)._critic_loss(torch.randn(3, 4), torch.randn(3, 4))
    averaged = Adversarial(nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)))
    assert averaged._critic_loss(torch.randn(3, 4), torch.randn(3, 4)).isfinite()
    with pytest.raises(DtypeError, match=r"Linearizer\(g, A\)"):
        Objective(Identity(2), {"nll": (1.0, Likelihood())})


def test_the_critic_is_penalised_for_its_slope(x):
    critic = nn.Linear(N, 1).double()
    f = Linearizer(Identity(N), Diagonal(torch.ones(N, dtype=torch.float64)))
    with_penalty, without = (
        Adversarial(critic, penalty=p)._critic_loss(x, x + 1).detach() for p in (0.8, 0.0)
    )
    slope = float(critic.weight.detach().square().sum())
    assert float(with_penalty - without) == pytest.approx(0.4 * 2 * slope)
    assert (
        Objective(f, {"gan": (1.0, Adversarial(critic, lr=1e-4))}).parameter_groups()[1]["lr"]
        == 1e-4
    )


def test_the_loss_is_the_weighted_sum_of_named_terms(x):
    f = Linearizer(Identity(N), Diagonal(torch.rand(N, dtype=torch.float64) + 0.5), network(1))
    critic = nn.Linear(N, 1).double()
    objective = nested(f, weight=2.0, adversarial=(0.5, Adversarial(critic, lr=1e-3)))
    values = {name: value.detach() for name, value in objective(x).items()}
    assert list(values) == ["loss", "nll", "nested", "adversarial_generator", "adversarial_critic"]
    expected = (
        values["nll"]
        + 2 * values["nested"]
        + 0.5 * (values["adversarial_generator"] + values["adversarial_critic"])
    )
    assert float(values["loss"]) == pytest.approx(float(expected))
    grouped = [id(p) for group in objective.parameter_groups() for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in objective.parameters())


def test_data_are_encoded_once_for_all_terms(x):
    class Counting(Identity):
        def _latents(self, z):
            self.calls = getattr(self, "calls", 0) + 1
            return z

    g = Counting(N)
    terms = {"nll": (1.0, Likelihood()), "nested": (1.0, NestedRank()), "centre": (1.0, Centred())}
    Objective(Linearizer(Identity(N), Diagonal(torch.ones(N, dtype=torch.float64)), g), terms)(x)
    assert g.calls == 1


def test_a_network_is_initialised_by_data_before_noise(x):
    norm = ActNorm(N)
    paper(
        LinearFlow(Chain(norm, network()).double(), None, LowRankEndpoint(N, 2, width=8).double())
    )(10 * x + 7)
    assert float(norm(10 * x + 7).mean().detach().abs()) < 1e-9


def test_the_log_shows_the_round_trip(x):
    f = Linearizer(Identity(N), Diagonal(torch.ones(N, dtype=torch.float64)), network())
    numbers = nested(f).diagnostics(x)
    assert set(numbers) == {"round_trip", "round_trip_samples"}
    assert max(numbers.values()) < 1e-12


@pytest.mark.whole
def test_training_lowers_every_named_objective():
    """A Gaussian in 2 dimensions: the likelihood comes down to its entropy, the others below where
    they began.
    """
    torch.manual_seed(0)
    data = torch.randn(128, 2) @ torch.tensor([[2.0, 0.5], [0.0, 0.4]])
    ones = torch.ones(2)
    models = {
        "paper": paper(LinearFlow(VectorFlow(2, 2, 8), None, LowRankEndpoint(2, 2, width=8))),
        "solved": solved(LinearFlow(VectorFlow(2, 2, 8), None, SolvedVelocity(ones, ones.clone()))),
        "likelihood": likelihood(
            Linearizer(Identity(2), Dense(2), VectorFlow(2, 2, 8)), sigma=0.01
        ),
    }
    for name, objective in models.items():
        optimizer = torch.optim.Adam(objective.parameters(), 3e-2)
        losses = []
        for _ in range(100 if name == "likelihood" else 25):
            optimizer.zero_grad()
            loss = objective(data)["loss"]
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert sum(losses[-10:]) < 0.95 * sum(losses[:10]), name
        if name == "likelihood":
            entropy = (
                0.5 * torch.logdet(data.T.cov()) / 2 + 0.5 * math.log(2 * math.pi * math.e)
            ).item()
            assert losses[-1] == pytest.approx(entropy, abs=0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda f: solved(LinearFlow(Identity(2), None, ChebyshevVelocity(2, 1))),
            "velocity of type ChebyshevVelocity",
        ),
        (lambda f: paper(f)(torch.ones(3, 2)), "flow-matching term for a Linearizer"),
        (lambda f: Objective(f, {}), "without terms"),
        (lambda f: likelihood(f, sigma=-1.0), "sigma=-1"),
        (lambda f: Objective(f, {"nll": (1.0, Likelihood())}, momentum=2.0), "momentum=2"),
        (lambda f: NestedRank(3, 2), "ranks from 3 to 2"),
        (lambda f: NestedRank(distribution="cauchy"), "distribution='cauchy'"),
        (lambda f: NestedRank(share=0.0), "share=0.0"),
        (lambda f: NestedRank(4, 8, focus=2), "focus=2"),
        (lambda f: NestedRank(baseline=torch.zeros(3)), "error of zero"),
        (lambda f: NoisyReconstruction("latents"), "of='latents'"),
    ],
)
def test_what_does_not_fit_is_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make(Linearizer(Identity(2), Diagonal(torch.ones(2))))

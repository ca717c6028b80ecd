"""Selections: idempotent to the bit, with a rank that is set or learned."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rectilinear as rl
from rectilinear.errors import ConfigError, ShapeError
from rectilinear.invertible import Identity
from rectilinear.projector import Projector, ProjectorObjective, Selection
from rectilinear.projector.model import informative
from rectilinear.testing import check_operator

SEEDS = st.integers(0, 10_000)


def logits(seed: int, n: int = 7) -> torch.Tensor:
    return torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=20)
@given(seed=SEEDS, rank=st.none() | st.integers(0, 7))
def test_idempotent_self_adjoint_and_of_its_rank(seed: int, rank: int | None) -> None:
    a = Selection(logits(seed), rank)
    z = 100 * logits(seed + 1)
    assert torch.equal(a(a(z)), a(z))
    assert torch.equal(a.apply_adjoint(z), a(z))
    assert int(a.mask.sum()) == a.rank == len(a.kept)
    assert torch.equal(a.diagonal()(z), a(z).detach())
    kept = a.logits[a.kept]
    if 0 < a.rank < 7:
        assert kept.min() > a.logits[a.mask == 0].max()
    if rank is None:
        assert a.rank == int((a.logits > 0).sum())


def test_it_obeys_the_laws_of_operators() -> None:
    check_operator(Selection(logits(3), 4))


def test_the_gradient_is_that_of_the_sigmoid() -> None:
    a = Selection(logits(0))
    weight = logits(1)
    (a.mask * weight).sum().backward()
    s = torch.sigmoid(a.logits.detach())
    torch.testing.assert_close(a.logits.grad, weight * s * (1 - s))


def test_draws_are_one_with_the_probability_of_the_sigmoid() -> None:
    a = Selection(torch.tensor([-2.0, 0.0, 1.0, 5.0]))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        share = a.draw(20_000).mean(0)
    # four standard deviations of a share of 20,000
    torch.testing.assert_close(share, torch.sigmoid(a.logits), atol=4 * 0.5 / 20_000**0.5, rtol=0)


def test_draws_of_a_set_rank_have_it() -> None:
    assert Selection(logits(2), 3).draw(50).sum(1).eq(3).all()


@pytest.mark.parametrize("rank", [-1, 8])
def test_ranks_out_of_range_are_refused(rank: int) -> None:
    with pytest.raises(ConfigError, match=f"rank.*{rank}"):
        Selection(logits(0), rank)


def test_logits_must_be_a_vector() -> None:
    with pytest.raises(ShapeError, match=r"logits\.flatten\(\)"):
        Selection(torch.zeros(2, 2))


@pytest.mark.parametrize(
    "weight", [0.5, *(pytest.param(w, marks=pytest.mark.slow) for w in (1.0, 2.0))]
)
def test_the_learned_rank_is_that_of_the_rule_at_every_scale(weight: float) -> None:
    """Of coordinates that cannot change, those stay whose share of the variance is above weight /
    n.
    """
    n = 16
    variances = torch.tensor([0.7**i for i in range(n)], dtype=torch.float64)
    expected = int((variances / variances.mean() > weight).sum())
    ranks = []
    for scale in (1e-3, 1.0, 30.0):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            x = scale * variances.sqrt() * torch.randn(512, n, dtype=torch.float64)
            f = Projector(Identity(n), Selection(torch.zeros(n, dtype=torch.float64)))
            errors = torch.full((n + 1,), float(scale**2 * variances.mean()), dtype=torch.float64)
            objective = ProjectorObjective(f, errors, "learned", rank_weight=weight)
            optimizer = torch.optim.Adam(f.parameters(), lr=0.1)
            for step in range(150):
                optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 150)
                optimizer.zero_grad()
                objective(x)["loss"].backward()
                optimizer.step()
            ranks.append(f.rank)
    assert ranks[0] == ranks[1] == ranks[2]
    assert abs(ranks[0] - expected) <= 1, "the coordinate on the edge may fall on either side"


def test_without_pressure_the_rank_goes_to_all() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        f = Projector(Identity(6), Selection(-0.3 * torch.ones(6)))
        objective = ProjectorObjective(f, torch.ones(7), "learned", rank_weight=0.0)
        optimizer = torch.optim.Adam(f.parameters(), lr=0.05)
        for _ in range(30):
            optimizer.zero_grad()
            objective(torch.randn(64, 6))["loss"].backward()
            optimizer.step()
    assert f.rank == 6


def test_informative_starts_at_kaisers_rule() -> None:
    variances = torch.tensor([5.0, 3.0, 0.5, 0.4])
    assert Selection(informative(variances)).rank == int((variances > variances.mean()).sum())


def test_verbs_of_a_projector_are_those_of_its_linearizer() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        g = rl.invertible.VectorFlow(6, blocks=2, width=8).double()
        for p in g.parameters():
            torch.nn.init.normal_(p, std=0.2)
        x = torch.randn(5, 6, dtype=torch.float64)
    f = Projector(g, Selection.leading(6, 2)).double()
    away = rl.project_null(f.linearizer)
    space = f.linearizer.in_space
    torch.testing.assert_close(space.add(f(x), away(x)), x)
    torch.testing.assert_close(f(away(x)), space.zero().expand(5, -1))
    torch.testing.assert_close(rl.pinv(f.linearizer)(x), f(x))
    torch.testing.assert_close(rl.project_range(f.linearizer)(x), f(x))

"""Projectors: idempotent everywhere, with a density on their range."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rectilinear as rl
from rectilinear.errors import ConfigError, NotInitializedError, ShapeError
from rectilinear.invertible import Chain, Flatten, Identity, VectorFlow
from rectilinear.projector import CORRUPTIONS, Projector, Selection, corrupt, gaussian, spline
from rectilinear.testing import check_linearizer

N = 16


def bent(
    seed: int = 0, rank: int = 5, coupling: str = "affine", dtype: torch.dtype = torch.float64
) -> Projector:
    """A projector of 4 x 4 images whose network is far from the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        g = Chain(
            Flatten((1, 4, 4)),
            VectorFlow(N, blocks=4, width=16, coupling=coupling, scale_budget=2.0),
        )
        for p in g.parameters():
            torch.nn.init.normal_(p, std=0.15)
        return Projector(g, Selection.leading(N, rank)).to(dtype)


def images(count: int = 30, seed: int = 0) -> torch.Tensor:
    return torch.rand(
        count, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


@settings(deadline=None, max_examples=8)
@given(
    seed=st.integers(0, 10_000),
    rank=st.integers(0, N),
    coupling=st.sampled_from(["affine", "additive"]),
)
def test_idempotent_on_data_on_noise_and_on_corrupted_images(
    seed: int, rank: int, coupling: str
) -> None:
    f = bent(seed, rank, coupling)
    x = images(seed=seed)
    cases = [x, 3 * torch.randn_like(x), *(corrupt(x, kind, 0.5).images for kind in CORRUPTIONS)]
    for case in cases:
        once = f(case)
        assert (f(once) - once).abs().max() < 1e-12
    single = bent(seed, rank, coupling, torch.float32)
    for case in cases:
        once = single(case.float())
        assert (single(once) - once).abs().max() < 1e-5


def test_it_is_linear_in_its_space() -> None:
    f = bent().linearizer
    check_linearizer(f, images(6))


def test_projectors_of_every_rank_commute_and_nest() -> None:
    f, x = bent(rank=9), images()
    assert torch.allclose(f.at(4)(f(x)), f.at(4)(x))
    assert torch.allclose(f(f.at(4)(x)), f.at(4)(x))
    with pytest.raises(ConfigError, match="rank 17"):
        f.at(N + 1)


def test_coordinates_are_a_chart_of_the_range() -> None:
    f, x = bent(), images()
    c = f.coordinates(x)
    assert c.shape == (30, 5)
    torch.testing.assert_close(f.decode(c), f(x))
    free = torch.randn(7, 5, dtype=torch.float64)
    torch.testing.assert_close(f.coordinates(f.decode(free)), free)
    scattered = Projector(f.g, Selection(torch.tensor([-1.0, 2.0] * 8, dtype=torch.float64)))
    torch.testing.assert_close(scattered.decode(scattered.coordinates(x)), scattered(x))


def test_samples_lie_in_the_range_and_follow_the_seed() -> None:
    f = bent().fitted(images(200))
    one, two = (f.sample(6, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(one, two)
    torch.testing.assert_close(f(one), one)
    wide = f.coordinates(f.sample(5000, torch.Generator().manual_seed(2)))
    c = f.coordinates(images(200)).detach()
    torch.testing.assert_close(wide.mean(0), c.mean(0), atol=0.1 * float(c.std()), rtol=0)
    torch.testing.assert_close(wide.T.cov(), c.T.cov(), atol=0.1 * float(c.var()), rtol=0)


def test_the_density_of_a_linear_model_is_the_gaussian_it_should_be() -> None:
    """With g the identity: the kept coordinates jointly Gaussian, the others N(0, spread^2) each."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = torch.randn(400, 4, dtype=torch.float64) @ torch.randn(4, 4, dtype=torch.float64)
    f = Projector(Identity(4), Selection.leading(4, 2).double()).fitted(x)
    kept = torch.distributions.MultivariateNormal(x[:, :2].mean(0), x[:, :2].T.cov())
    rest = torch.distributions.Normal(0.0, x[:, 2:].square().mean(0).sqrt())
    torch.testing.assert_close(
        f.log_prob(x), kept.log_prob(x[:, :2]) + rest.log_prob(x[:, 2:]).sum(1)
    )


def test_the_density_of_a_bent_model_integrates_to_one() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        g = VectorFlow(2, blocks=2, width=8)
        for p in g.parameters():
            torch.nn.init.normal_(p, std=0.3)
        f = Projector(g.double(), Selection.leading(2, 1).double()).fitted(
            torch.randn(300, 2, dtype=torch.float64)
        )
    line = torch.linspace(-12, 12, 400, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    mass = f.log_prob(grid).exp().sum() * (line[1] - line[0]) ** 2
    assert mass.item() == pytest.approx(1.0, abs=1e-2)


def test_scores_are_larger_for_anomalous_images() -> None:
    f = bent()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        z = torch.randn(300, N, dtype=torch.float64) * torch.tensor(
            [1.0] * 5 + [0.05] * 11, dtype=torch.float64
        )
    x = f.g.inverse(z)  # near the range
    f = f.fitted(x, noise=0.01)
    normal, anomalous = f.scores(x), f.scores(images(50) * 4)
    for name in ("residual", "complement", "likelihood"):
        assert rl.metrics.roc(normal[name], anomalous[name]).area > 0.95
        assert normal[name].shape == (300,)
    assert normal["complement"].mean().item() == pytest.approx(1.0, abs=0.1)


def test_what_removes_nothing_is_not_scored_by_what_it_removes() -> None:
    f = bent(rank=N).fitted(images(), noise=0.01)
    scores = f.scores(images(20, seed=1))
    assert list(scores) == ["likelihood", "typicality"]
    assert bool((f.scores(5 * images(20))["typicality"] > scores["typicality"].max()).all())


def test_splines_start_as_the_gaussian_and_train() -> None:
    c = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) ** 3
    density = spline(c, blocks=2, width=8)
    torch.testing.assert_close(density(c), gaussian(c)(c))
    assert any(p.requires_grad for p in density.parameters())


def test_what_lacks_a_density_says_so() -> None:
    with pytest.raises(NotInitializedError, match="fitted"):
        bent().sample(3)
    with pytest.raises(ConfigError, match="rank 0"):
        bent(rank=0).fitted(images())
    with pytest.raises(ShapeError, match="density"):
        Projector(bent().g, Selection.leading(N, 3), gaussian(torch.randn(9, 4)))
    with pytest.raises(ShapeError, match="spread"):
        Projector(bent().g, Selection.leading(N, 3), None, torch.ones(3))
    with pytest.raises(ShapeError):
        Projector(bent().g, Selection.leading(N + 1, 3))
    with pytest.raises(ShapeError, match=r"coordinates\(x\).*c\[None\]"):
        bent().decode(bent().coordinates(images())[0])


def test_it_is_saved_and_built_again(tmp_path: Path) -> None:
    f = bent(dtype=torch.float32)
    f = f.fitted(images(60).float(), 0.1, spline(f.coordinates(images(60).float()).detach(), 2, 8))
    f.save_pretrained(tmp_path)
    again = Projector.from_pretrained(tmp_path)
    x = images().float()
    assert torch.equal(again(x), f(x))
    torch.testing.assert_close(again.log_prob(x), f.log_prob(x))

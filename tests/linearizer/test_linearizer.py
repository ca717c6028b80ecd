"""The Linearizer: its values, compositions and errors."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rectilinear as rl
from makers_data import close, rand
from makers_invertible import perturb
from rectilinear.errors import DtypeError, ShapeError, SingularOperatorError, SpaceMismatchError

seeds = st.integers(0, 2**16)
quick = settings(max_examples=15, deadline=None)


def network(seed: int = 0, dim: int = 4, coupling: str = "affine") -> rl.invertible.Invertible:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        g = rl.invertible.VectorFlow(dim, blocks=3, width=8, coupling=coupling)
    return perturb(g.double(), seed=seed).eval()


def dense(out_dim: int, in_dim: int, seed: int = 0) -> rl.operators.Dense:
    return rl.operators.Dense(weight=rand(out_dim, in_dim, seed=seed))


@quick
@given(seeds)
def test_by_the_formula(seed: int) -> None:
    g, h, a = network(seed), network(seed + 1, dim=3), dense(3, 4, seed)
    x = rand(5, 4, seed=seed)
    assert close(rl.Linearizer(g, a, h)(x), h.inverse(g(x) @ a.weight.T))
    square = dense(4, 4, seed)
    assert close(rl.Linearizer(g, square)(x), g.inverse(g(x) @ square.weight.T))


@quick
@given(seeds)
def test_python_operators_against_matrices(seed: int) -> None:
    g, h, k = network(0), network(1, dim=3), network(2, dim=5)
    a, b, c = (dense(*shape, seed=seed + i) for i, shape in enumerate([(3, 4), (5, 3), (3, 4)]))
    f, after, beside = rl.Linearizer(g, a, h), rl.Linearizer(h, b, k), rl.Linearizer(g, c, h)
    x, m, n = rand(2, 4, seed=seed), a.weight, c.weight
    factor = torch.tensor(1.5, dtype=torch.float64)
    for made, start, by_hand, end in (
        (after @ f, g, b.weight @ m, k),
        (f + beside, g, m + n, h),
        (f - beside, g, m - n, h),
        (-f, g, -m, h),
        (2 * f, g, 2 * m, h),
        (f * factor / 3, g, m / 2, h),
        (f.T.T, g, m, h),
        (f.T @ f, g, m.T @ m, g),
        ((f.T @ f) ** 3, g, torch.linalg.matrix_power(m.T @ m, 3), g),
    ):
        assert close(made(x), end.inverse(start(x) @ by_hand.T))


@quick
@given(seeds)
def test_composition_is_composition(seed: int) -> None:
    g, h, x = network(0), network(1, dim=3), rand(2, 4, seed=seed)
    f, after = rl.Linearizer(g, dense(3, 4, seed), h), rl.Linearizer(h, dense(4, 3, seed + 1), g)
    assert close((after @ f)(x), after(f(x)))


def test_one_encoding_and_one_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    g, calls = network(), []
    f = rl.Linearizer(g, dense(4, 4))
    kind = type(g)
    encode, decode = kind._latents, kind._decode
    monkeypatch.setattr(
        kind, "_latents", lambda self, x: (calls.append("encode"), encode(self, x))[1]
    )
    monkeypatch.setattr(
        kind, "_decode", lambda self, z: (calls.append("decode"), decode(self, z))[1]
    )
    (2 * f @ f @ f.T + f)(rand(2, 4))
    assert calls == ["encode", "decode"]


def test_vectors_pass_without_coding() -> None:
    g, h = network(), network(1)
    f, x = rl.Linearizer(g, dense(4, 4), h), rand(2, 4)
    y = f(f.in_space(x))
    assert y.space == f.out_space
    assert torch.equal(y.point, f(x))
    with pytest.raises(SpaceMismatchError, match="a vector of"):
        f(f.out_space(x))


def test_networks_must_be_the_same_object() -> None:
    g, h = network(), network(1)
    copy = network()
    copy.load_state_dict(g.state_dict())
    f = rl.Linearizer(g, dense(4, 4), h)
    for mix, message in (
        (
            lambda: rl.Linearizer(copy, dense(4, 4)) @ rl.Linearizer(g, dense(4, 4)),
            "same network object in the middle",
        ),
        (lambda: f @ f, "same network object in the middle"),
        (lambda: f + rl.Linearizer(copy, dense(4, 4), h), "same network objects on both sides"),
        (lambda: f - rl.Linearizer(g, dense(4, 4)), "same network objects on both sides"),
        (lambda: f**2, "f.T @ f"),
        (lambda: rl.expm(f), "f.T @ f"),
        (lambda: rl.logm(f), "f.T @ f"),
        (lambda: rl.eig(f), "f.T @ f"),
    ):
        with pytest.raises(SpaceMismatchError, match=message):
            mix()


def test_wrong_arguments() -> None:
    g, h = network(), network(1, dim=3)
    for a, out in ((dense(3, 4), None), (dense(4, 3), None), (dense(3, 4), g), (dense(4, 4), h)):
        with pytest.raises(ShapeError, match="dimensions"):
            rl.Linearizer(g, a, out)
    with pytest.raises(DtypeError, match=r"operators\.Dense"):
        rl.Linearizer(g, rand(4, 4))
    with pytest.raises(DtypeError, match="from_module"):
        rl.Linearizer(torch.nn.Linear(4, 4), dense(4, 4))
    f = rl.Linearizer(g, dense(4, 4))
    for mix in (lambda: f @ 2, lambda: f + 1, lambda: f * "a", lambda: f ** "a", lambda: f / f):
        with pytest.raises(TypeError):
            mix()
    with pytest.raises(ShapeError):
        f(rand(4))
    with pytest.raises(DtypeError):
        f(rand(2, 4).float())


@quick
@given(seeds)
def test_log_prob_by_the_jacobian_of_f(seed: int) -> None:
    f = rl.Linearizer(network(seed), dense(4, 4, seed), network(seed + 1))
    x0 = rand(3, 4, seed=seed)
    normal = torch.distributions.MultivariateNormal(torch.zeros(4).double(), torch.eye(4).double())
    jacobians = torch.stack(
        [torch.autograd.functional.jacobian(f, row[None])[0, :, 0] for row in x0]
    )
    expected = normal.log_prob(x0) - torch.linalg.slogdet(jacobians).logabsdet
    torch.testing.assert_close(
        f.log_prob(f(x0)), expected, rtol=1e-7, atol=1e-7
    )  # x0 is recovered through A^-1
    flat = f.log_prob(f(x0), log_prior=lambda x: 0 * x[:, 0])
    torch.testing.assert_close(flat, expected - normal.log_prob(x0), rtol=1e-7, atol=1e-7)


@pytest.mark.whole
def test_log_prob_of_images_is_normalised() -> None:
    """A density on the plane integrates to one."""
    shape = (1, 1, 2)
    g, h = (
        rl.invertible.Chain(
            rl.invertible.Flatten(shape), network(seed, dim=2), rl.invertible.Reshape((2,), shape)
        )
        for seed in range(2)
    )
    f = rl.Linearizer(g, dense(2, 2, seed=1), h)
    axis = torch.linspace(-40, 40, 601, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis).view(-1, *shape)
    with torch.no_grad():
        total = f.log_prob(grid).exp().sum() * (axis[1] - axis[0]) ** 2
    assert abs(total - 1) < 5e-3, "the rule of rectangles on this grid"


def test_no_density_without_inverse() -> None:
    for a, h in (
        (rl.operators.Diagonal(torch.tensor([1.0, 1, 1, 0]).double()), None),
        (dense(3, 4), network(1, dim=3)),
    ):
        with pytest.raises(SingularOperatorError, match="density"):
            rl.Linearizer(network(), a, h).log_prob(rand(2, 4 if h is None else 3))


def test_gradients_reach_networks_and_operator() -> None:
    g, h = network(), network(1)
    f = rl.Linearizer(g, dense(4, 4), h)
    y = rl.pinv(f)((f @ f.T @ f)(rand(2, 4)))
    (y.square().sum() + f(y).square().sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in f.parameters())
    assert torch.autograd.gradcheck(f, rand(2, 4).requires_grad_())


def test_parameters_of_a_shared_network_count_once() -> None:
    g = network()
    f = rl.Linearizer(g, dense(4, 4))
    assert len(list(f.parameters())) == len(list(g.parameters())) + 1


def test_saved_and_loaded(tmp_path: Path) -> None:
    g, h = network(), network(1)
    x = rand(2, 4)
    f, low = rl.Linearizer(g, dense(4, 4)), rl.operators.LowRank(rand(4, 2), rand(4, 2))
    for made in (
        f,
        rl.Linearizer(g, low, h),
        f @ f,
        rl.Linearizer(g, low) + 2 * f,
        rl.truncate(f, 2),
        rl.pinv(f),
    ):
        made.save_pretrained(tmp_path)
        loaded = rl.Linearizer.from_pretrained(tmp_path)
        assert (loaded.g_in is loaded.g_out) == (made.g_in is made.g_out)
        assert close(loaded(x), made(x))
        assert close((loaded.T @ loaded)(x), (made.T @ made)(x))


def test_loading_is_exact(tmp_path: Path) -> None:
    f = rl.Linearizer(network(), dense(4, 4), network(1))
    f.save_pretrained(tmp_path)
    assert torch.equal(rl.from_pretrained(tmp_path)(rand(2, 4)), f(rand(2, 4)))


def test_repr_says_between_what() -> None:
    assert "4 -> 4, one space" in repr(rl.Linearizer(network(), dense(4, 4)))
    assert "4 -> 3" in repr(rl.Linearizer(network(), dense(3, 4), network(dim=3)))

"""Induced spaces, against the formulas of a network that can be written down: z = asinh(x) Q^T."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rectilinear as rl
from makers_data import TOLERANCE, close
from rectilinear.errors import (
    DtypeError,
    InputError,
    NonFiniteError,
    ShapeError,
    SpaceMismatchError,
)

numbers = st.floats(-2, 2)
seeds = st.integers(0, 2**16)
quick = settings(max_examples=20, deadline=None)


class Warp(rl.invertible.Invertible):
    """``z = Q asinh(x)`` on arrays of ``shape``, with latents of that shape."""

    def __init__(self, shape: tuple[int, ...] = (2, 2)) -> None:
        super().__init__()
        self.shape = self.latent_shape = shape
        q = torch.linalg.qr(
            torch.randn(self.dim, self.dim, generator=torch.Generator().manual_seed(3))
        ).Q
        self.register_buffer("q", torch.linalg.qr(q.double()).Q)

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (x.flatten(1).asinh() @ self.q.T).view_as(x), -(x.square() + 1).log().flatten(1).sum(
            1
        ) / 2

    def _decode(self, z: Tensor) -> Tensor:
        return (z.flatten(1) @ self.q).sinh().view_as(z)


def batch(seed: int, b: int = 3, shape: tuple[int, ...] = (2, 2)) -> Tensor:
    return torch.randn(
        b, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


@pytest.fixture(scope="module")
def space() -> rl.InducedSpace:
    return rl.InducedSpace(Warp())


@quick
@given(seeds, numbers, numbers)
def test_arithmetic_by_the_formula(seed: int, a: float, b: float) -> None:
    space, x, y = rl.InducedSpace(Warp()), batch(seed), batch(seed + 1)
    assert close(space.add(x, y), (x.asinh() + y.asinh()).sinh())
    assert close(space.scale(a, x), (a * x.asinh()).sinh())
    assert close(
        (a * space(x) - space(y) * b + space(x) / 2).point,
        ((a + 0.5) * x.asinh() - b * y.asinh()).sinh(),
    )
    assert close(space.inner(x, y), (x.asinh() * y.asinh()).sum((1, 2)))
    assert close(space.norm(x), x.asinh().square().sum((1, 2)).sqrt())
    assert close(space.distance(x, y), (x.asinh() - y.asinh()).square().sum((1, 2)).sqrt())
    assert close(space.mean(x), x.asinh().mean(0, keepdim=True).sinh())
    assert close(
        space.combine(x.new_tensor([[a, b, 1.0]]), x),
        (a * x[:1].asinh() + b * x[1:2].asinh() + x[2:].asinh()).sinh(),
    )


@quick
@given(seeds)
def test_axioms(seed: int) -> None:
    assert max(rl.testing.check_space(Warp(), batch(seed), seed=seed).values()) < TOLERANCE


def test_scale_by_row(space: rl.InducedSpace) -> None:
    x, a = batch(0), torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    assert close(space.scale(a, x), (a[:, None, None] * x.asinh()).sinh())
    assert close((a * space(x)).point, (space(x) * a).point)


def test_zero(space: rl.InducedSpace) -> None:
    assert torch.equal(space.zero(), torch.zeros(1, 2, 2, dtype=torch.float64))


@quick
@given(seeds, st.floats(0, 1))
def test_interpolate_on_the_segment(seed: int, t: float) -> None:
    space, x, y = rl.InducedSpace(Warp()), batch(seed), batch(seed + 1)
    path = space.interpolate(x, y, torch.tensor([0.0, t, 1.0], dtype=torch.float64))
    assert path.shape == (3, 3, 2, 2)
    assert close(path[0], x)
    assert close(path[2], y)
    assert close(path[1], ((1 - t) * x.asinh() + t * y.asinh()).sinh())
    assert close(space.interpolate(x, y, t), path[1])


@quick
@given(seeds, st.floats(0.01, 0.99))
def test_interpolate_on_the_arc(seed: int, t: float) -> None:
    space, x, y = rl.InducedSpace(Warp()), batch(seed), batch(seed + 1)
    middle = space.interpolate(x, y, t, spherical=True)
    assert close(space.norm(middle), (1 - t) * space.norm(x) + t * space.norm(y))

    def angle(p: Tensor, q: Tensor) -> Tensor:
        return (space.inner(p, q) / space.norm(p) / space.norm(q)).clamp(-1, 1).acos()

    whole = angle(x, y)
    torch.testing.assert_close(
        angle(x, middle), t * whole, atol=1e-6, rtol=0
    )  # acos near 0 keeps half the digits
    torch.testing.assert_close(angle(middle, y), (1 - t) * whole, atol=1e-6, rtol=0)


def test_arc_between_equal_points_has_a_gradient(space: rl.InducedSpace) -> None:
    x = batch(0).requires_grad_()
    middle = space.interpolate(x, x.detach(), 0.5, spherical=True)
    assert close(middle.detach(), x.detach())
    assert torch.autograd.grad(middle.sum(), x)[0].isfinite().all()


def test_no_arc_between_opposite_points(space: rl.InducedSpace) -> None:
    x = batch(0)
    for y in (space.scale(-1.0, x), space.zero().expand_as(x)):
        with pytest.raises(InputError, match="opposite or zero"):
            space.interpolate(x, y, 0.5, spherical=True)


@quick
@given(seeds)
def test_projection_is_the_nearest_point(seed: int) -> None:
    space, x, basis = rl.InducedSpace(Warp()), batch(seed), batch(seed + 1, b=2)
    nearest = space.project(x, basis)
    z, m = x.flatten(1).asinh(), basis.flatten(1).asinh()
    coefficients = torch.linalg.solve(m @ m.T, m @ z.T).T  # the normal equations
    assert close(nearest, (coefficients @ m).sinh().view_as(x))
    assert close(
        space.project(x, torch.cat([basis, basis])), nearest
    )  # a dependent set spans the same
    assert close(space.project(nearest, basis), nearest)


@quick
@given(seeds)
def test_gram_schmidt(seed: int) -> None:
    space, points = rl.InducedSpace(Warp()), batch(seed)
    expected: list[Tensor] = []
    for z in space.encode(points):
        for e in expected:
            z = z - (z @ e) * e
        expected.append(z / z.norm())
    torch.testing.assert_close(
        space.encode(space.orthonormalize(points)), torch.stack(expected), rtol=1e-8, atol=1e-8
    )


def test_gram_schmidt_needs_independent_points(space: rl.InducedSpace) -> None:
    x = batch(0)
    for points in (torch.cat([x, space.add(x[:1], x[1:2])]), batch(0, b=5)):
        with pytest.raises(InputError, match="linearly dependent"):
            space.orthonormalize(points)


@quick
@given(seeds, st.integers(1, 4))
def test_pca(seed: int, k: int) -> None:
    space, x = rl.InducedSpace(Warp()), batch(seed, b=9)
    components = space.pca(x, k)
    z = x.flatten(1).asinh()
    variances, axes = torch.linalg.eigh((z - z.mean(0)).T @ (z - z.mean(0)) / 8)
    assert torch.allclose(components.variances, variances.flip(0)[:k])
    top = axes[:, -k:]
    assert close(
        components.reconstruct(x), (z.mean(0) + (z - z.mean(0)) @ top @ top.T).sinh().view_as(x)
    )
    assert torch.allclose(components.coordinates(x).var(0), components.variances)
    if k == 4:
        assert close(components.reconstruct(x), x)


def test_vectors_know_their_space(space: rl.InducedSpace) -> None:
    p, foreign = space(batch(0)), rl.InducedSpace(Warp())(batch(0))
    assert rl.InducedSpace(space.g) == space
    assert (p + rl.InducedSpace(space.g)(batch(1)))._same(p) is p.latent
    for mix in (lambda: p + foreign, lambda: p - foreign, lambda: p @ foreign):
        with pytest.raises(SpaceMismatchError, match="one space"):
            mix()
    with pytest.raises(TypeError):
        p + 1


def test_bad_input(space: rl.InducedSpace) -> None:
    with pytest.raises(DtypeError, match="from_module"):
        rl.InducedSpace(torch.nn.Linear(2, 2))
    with pytest.raises(DtypeError, match="int64"):
        space.encode(torch.ones(1, 2, 2, dtype=torch.int64))
    with pytest.raises(ShapeError, match=r"\(batch, 2, 2\)"):
        space.add(torch.ones(2, 2, dtype=torch.float64))
    with pytest.raises(ShapeError, match=r"\(batch, 4\).*encode\(x\)"):
        space.decode(torch.ones(1, 2, 2, dtype=torch.float64))
    with pytest.raises(ShapeError, match=r"\(m, 3\).*coefficients\[None\]"):
        space.combine(torch.ones(3, dtype=torch.float64), batch(0))
    with pytest.raises(ShapeError, match=r"t\.flatten\(\)"):
        space.interpolate(batch(0), batch(1), torch.zeros(2, 1))
    with pytest.raises(InputError, match="no points"):
        space.add()
    with pytest.raises(InputError, match="k = 4"):
        space.pca(batch(0), 4)
    with pytest.raises(NonFiniteError, match="in x"):
        space.pca(batch(0).fill_(math.nan), 1)


def test_points_keep_the_graph(space: rl.InducedSpace) -> None:
    x = batch(0, b=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: (2 * space(v) + space(v) / 3).point, x)

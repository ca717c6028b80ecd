"""The properties of Linearizers, for every operator times every network on the lists of makers."""

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rectilinear as rl
from makers_invertible import BLOCKS, NETWORKS, VECTOR_NETWORKS, perturb
from makers_operators import OPERATORS, RECTANGULAR, REGULAR
from rectilinear.errors import ShapeError
from rectilinear.testing import check_invertible, check_linearizer, check_operator, check_space

SUPERPOSITION = 1e-10  # the promise for float64
OTHERS = (
    1e-8  # compositions and roots go through points that are far out, where networks stretch more
)
REAL = "square root", "logarithm"  # what regular operators have
MAPS = OPERATORS + RECTANGULAR


@cache
def network(index: int) -> rl.invertible.Invertible:
    return NETWORKS[index][1]()


@cache
def operator(name: str, dim: int) -> rl.operators.Operator | None:
    """The operator of this dimension, or None where it has none: some need an even one."""
    try:
        return dict(MAPS)[name](dim)
    except ShapeError:
        return None


@cache
def another(dim: int) -> rl.invertible.Invertible:
    return perturb(rl.invertible.VectorFlow(dim, blocks=2, width=8).double(), seed=5).eval()


def points(f: rl.Linearizer | rl.invertible.Invertible, seed: int = 0) -> Tensor:
    """Three points whose coordinates stay of order one under the operator, where networks stretch
    little.
    """
    g, most = f, 1.0
    if isinstance(f, rl.Linearizer):
        g, most = f.g_in, torch.linalg.matrix_norm(rl.to_dense(f.operator).detach(), 2).clamp_min(1)
    z = torch.randn(
        3, *g.latent_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    return g.inverse(z / 2 / most).detach()


def linearizer(name: str, index: int) -> rl.Linearizer | None:
    """The operator between the network and itself, or another one; None where the dimensions don't
    fit.
    """
    g = network(index)
    a = operator(name, g.dim)
    if a is None or a.in_dim != g.dim:
        return None
    return rl.Linearizer(g, a, None if a.is_square else another(a.out_dim))


def names(makers: list) -> list[str]:
    return [name for name, _ in makers]


every_network = pytest.mark.parametrize("index", range(len(NETWORKS)), ids=names(NETWORKS))


def test_few_pairs_do_not_fit() -> None:
    """Only the network of odd dimension leaves operators out, and one operator of thirds."""
    left_out = {
        (name, names(NETWORKS)[i])
        for name in names(MAPS)
        for i in range(len(NETWORKS))
        if linearizer(name, i) is None
    }
    assert {network for _, network in left_out} == {"odd"}


@every_network
@pytest.mark.parametrize("share", [8, pytest.param(1, marks=pytest.mark.slow)])
@torch.no_grad()
def test_superposition_and_adjoint_everywhere(index: int, share: int) -> None:
    """For every operator with every network: ``f(a x + b y) = a f(x) + b f(y)`` and ``<f(x), w> =
    <x, f*(w)>``.
    """
    for name in names(MAPS)[index % share :: share]:  # in turn; all of them in the slow case
        if (f := linearizer(name, index)) is None:
            continue
        x, y, w = points(f).split(1)
        p, q = f.in_space(x), f.in_space(y)
        fx, fy, both = f(torch.cat([x, y, (0.7 * p - 0.4 * q).point])).split(1)
        image = f.out_space(fx)
        error = (both - (0.7 * image - 0.4 * f.out_space(fy)).point).abs().max()
        assert error <= SUPERPOSITION * fx.abs().max().clamp_min(1), name
        other = fy if f.g_in is not f.g_out else w
        left, right = image @ f.out_space(other), p @ f.in_space(f.T(other))
        assert (left - right).abs().max() <= SUPERPOSITION * left.abs().max().clamp_min(1), name


@pytest.mark.whole
@pytest.mark.parametrize("name", names(MAPS))
def test_every_operator_with_one_network(name: str) -> None:
    """All properties, the networks on vectors in turn."""
    index = names(MAPS).index(name) % len(VECTOR_NETWORKS)
    f = linearizer(name, index) or linearizer(name, 0)
    assert f is not None
    errors = check_linearizer(f, points(f), allowed=OTHERS)
    assert errors["superposition"] <= SUPERPOSITION
    assert {f"Penrose {i}" for i in (1, 2, 3, 4)} <= set(errors)
    assert {"f(v_i) = s_i u_i", "truncation", "square root of f* f", "semigroup of f* f"} <= set(
        errors
    )
    if name in names(REGULAR):
        assert set(REAL) <= set(errors)


@settings(max_examples=5, deadline=None)
@given(st.sampled_from(names(MAPS)), st.integers(0, len(NETWORKS) - 1), st.integers(0, 2**16))
def test_any_operator_with_any_network(name: str, index: int, seed: int) -> None:
    if (f := linearizer(name, index)) is not None:
        check_linearizer(f, points(f, seed), allowed=OTHERS, seed=seed)


@pytest.mark.slow
@every_network
def test_every_operator_with_every_network(index: int) -> None:
    for name in names(MAPS):
        if (f := linearizer(name, index)) is not None:
            assert (
                check_linearizer(f, points(f), allowed=OTHERS)["superposition"] <= SUPERPOSITION
            ), name


@pytest.mark.parametrize("name", names(MAPS))
def test_operators(name: str) -> None:
    errors = check_operator(dict(MAPS)[name]())
    assert {"superposition", "adjoint", "Penrose 1", "svd reconstruction"} <= set(errors)
    if name in names(REGULAR):
        assert set(REAL) <= set(errors)


@every_network
def test_spaces(index: int) -> None:
    g = network(index)
    check_space(g, points(g), allowed=SUPERPOSITION)


@pytest.mark.parametrize("name", names(NETWORKS + BLOCKS))
def test_networks(name: str) -> None:
    g = dict(NETWORKS + BLOCKS)[name]()
    errors = check_invertible(g, points(g), allowed=OTHERS)
    assert "log-determinant" in errors


class Broken(rl.operators.Operator):
    """The identity on three coordinates, with one fault."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.in_dim = self.out_dim = 3
        self.fault = fault
        self.register_buffer("one", torch.ones((), dtype=torch.float64))

    def _matvec(self, z: Tensor) -> Tensor:
        return z + (z.abs() if self.fault == "superposition" else 0) * 1e-5

    def _rmatvec(self, z: Tensor) -> Tensor:
        return z * (1 + 1e-5) if self.fault == "adjoint" else z


class Leaky(rl.invertible.Invertible):
    """The identity on two coordinates, with one fault."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.shape = self.latent_shape = (2,)
        self.fault, self.calls = fault, 0

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        z = x + 1e-5 * {"determinism": self.calls, "rows are independent": len(x)}.get(
            self.fault, 0
        )
        return z, x.new_full((len(x),), 1e-5 if self.fault == "log-determinant" else 0.0)

    def _decode(self, z: Tensor) -> Tensor:
        return z + 1e-5 * z**2 if self.fault.startswith("x =") else z


def test_faults_are_found_and_named() -> None:
    for fault in ("superposition", "adjoint"):
        with pytest.raises(
            AssertionError, match=rf"^({fault}|matrix): relative error \d\.\d\de-0\d, allowed"
        ):
            check_operator(Broken(fault))
        f = rl.Linearizer(rl.invertible.Identity(3), Broken(fault))
        with pytest.raises(AssertionError, match=rf"^{fault}: relative error"):
            check_linearizer(f, points(f))
    for fault in ("x = ", "determinism", "rows are independent", "log-determinant"):
        g = Leaky(fault)
        with pytest.raises(AssertionError, match=f"^{fault}.*relative error"):
            check_invertible(g, points(g))
    with pytest.raises(AssertionError, match=r"^addition is associative: relative error"):
        check_space(Leaky("x ="), points(Leaky("x =")))

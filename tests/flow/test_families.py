"""Every family of operators: sampling equals collapse, and the structure is the smallest."""

import pytest
import torch

from rectilinear.errors import ConfigError
from rectilinear.flow import (
    ChebyshevVelocity,
    ConstantVelocity,
    LinearFlow,
    LowRankEndpoint,
    ScalarPlusLowRankVelocity,
    SolvedVelocity,
    SpectralVelocity,
    collapse_error,
    semigroup_error,
)
from rectilinear.flow.collapse import propagate
from rectilinear.flow.integrate import integrate
from rectilinear.invertible import Identity
from rectilinear.operators import Dense, Diagonal, LowRank, ScalarPlusLowRank, Spectral, to_dense

N, R = 48, 2


def _shaken(family):
    """A family as training leaves it: no parameter at its initial value."""
    torch.manual_seed(0)
    family = family.double()
    with torch.no_grad():
        for p in family.parameters():
            p.add_(torch.randn_like(p) * 0.5 / p.shape[-1] ** 0.5)
    return family.requires_grad_(requires_grad=False)


def _moment(seed):
    z = torch.randn(200, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return z.T @ z / 200


FAMILIES = {  # family, structure and rank of its collapse
    "constant": lambda: (_shaken(ConstantVelocity(Dense(12))), Dense, None),
    "endpoint": lambda: (_shaken(LowRankEndpoint(N, R, width=8)), LowRank, R),
    "scalar": lambda: (_shaken(ScalarPlusLowRankVelocity(N, R, width=8)), ScalarPlusLowRank, R),
    "chebyshev": lambda: (_shaken(ChebyshevVelocity(N, R, degree=3)), ScalarPlusLowRank, 4 * R),
    "spectral": lambda: (_shaken(SpectralVelocity(N)), Spectral, None),
    "solved": lambda: (
        SolvedVelocity(torch.rand(12) + 0.5, torch.rand(12) + 0.5).double(),
        Diagonal,
        None,
    ),
    "solved_full": lambda: (SolvedVelocity(_moment(0), _moment(1)), Dense, None),
}


@pytest.fixture(params=FAMILIES)
def family(request):
    return FAMILIES[request.param]()


@pytest.mark.each_value
def test_one_step_equals_many(family, method):
    velocity, structure, rank = family
    flow = LinearFlow(Identity(velocity.dim), None, velocity)
    noise = torch.randn(4, velocity.dim, dtype=torch.float64)
    assert collapse_error(flow, noise, steps=20, method=method) < 1e-11
    operator = propagate(velocity, 20, method).operator
    assert isinstance(operator, structure)
    if rank is not None:
        assert operator.u.shape[-1] == rank


@pytest.mark.each_value
def test_times_compose(family, method):
    velocity, *_ = family
    flow = LinearFlow(Identity(velocity.dim), None, velocity, end=0.04)
    noise = torch.randn(4, velocity.dim, dtype=torch.float64)
    other_times = velocity.singular_at_one and method.startswith(
        "magnus"
    )  # equal in tau, and not the same ones
    bound = {"magnus2": 2e-2, "magnus4": 1e-3}[method] if other_times else 1e-11
    assert semigroup_error(flow, noise, s=0.4, steps=25, method=method) < bound


def test_a_time_without_a_step_on_one_side_is_refused() -> None:
    flow = LinearFlow(Identity(12), None, ChebyshevVelocity(12, rank=1).double())
    noise = torch.randn(3, 12, dtype=torch.float64)
    with pytest.raises(ConfigError, match=r"Use s=0\.5, steps=2\.$"):
        semigroup_error(flow, noise, s=0.1, steps=2)
    assert semigroup_error(flow, noise, s=0.5, steps=2) < 1e-11


def test_steps_approach_the_closed_form(family):
    velocity, *_ = family
    exact = velocity.transport(0.0, 1.0)
    z = torch.randn(4, velocity.dim, dtype=torch.float64)
    if exact is None:
        with pytest.raises(ConfigError, match="method 'exact' for a"):
            propagate(velocity, method="exact")
        return
    assert torch.allclose(integrate(velocity, z, 60, "magnus4"), exact(z), rtol=1e-5, atol=1e-5)
    assert torch.equal(
        integrate(velocity, z, method="exact"), propagate(velocity, method="exact").operator(z)
    )


def test_the_solved_flow_carries_the_moments():
    velocity = SolvedVelocity(_moment(0), _moment(1))
    B = to_dense(propagate(velocity, 40, "magnus4").operator)
    assert torch.allclose(B @ _moment(0) @ B.T, _moment(1), atol=1e-5)


@pytest.mark.parametrize("name", ["scalar", "chebyshev"])
def test_a_fixed_basis_is_differentiable(name):
    velocity, *_ = FAMILIES[name]()
    velocity.requires_grad_(requires_grad=True)
    z = torch.randn(3, N, dtype=torch.float64)
    parameters = list(velocity.parameters())
    folded = torch.autograd.grad(
        propagate(velocity, 6, "rk4").operator(z).square().sum(), parameters
    )
    stepped = torch.autograd.grad(integrate(velocity, z, 6, "rk4").square().sum(), parameters)
    assert all(
        torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(folded, stepped, strict=True)
    )

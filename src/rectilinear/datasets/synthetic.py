"""Simulated data: points in the plane, and trajectories of dynamical systems in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import pi

import torch
from torch import Generator, Tensor

from rectilinear import numerics
from rectilinear.errors import ConfigError
from rectilinear.notebook import short_repr
from rectilinear.random import generator


@dataclass(frozen=True, eq=False)
class Trajectories:
    """Trajectories of one system from several initial states; unpacks as ``states, times``.

    Attributes:
        states: ``(count, steps + 1, d)``.
        times: ``(count, steps + 1)``, increasing along each row.
        name: of the system.
        dt: the step, or the mean step where sampling is irregular.
    """

    states: Tensor
    times: Tensor
    name: str
    dt: float

    __repr__ = short_repr

    def __iter__(self):  # type: ignore[no-untyped-def]  # two tensors
        return iter((self.states, self.times))

    def __len__(self) -> int:
        return len(self.states)


@dataclass(frozen=True)
class System:
    """A differential equation ``dx/dt = velocity(x)`` on rows ``(b, d)``.

    Attributes:
        velocity: the right-hand side.
        dt: the time step where none is given.
        initial_states: random initial states, of a count and a generator.
        columns: names of the coordinates.
    """

    velocity: Callable[[Tensor], Tensor]
    dt: float
    initial_states: Callable[[int, Generator], Tensor]
    columns: tuple[str, ...]


def toy2d(name: str, n: int, seed: int = 0) -> Tensor:
    """``n`` points in the plane, ``(n, 2)`` float32, from a density of about unit scale.

    ``"moons"`` two interleaved half circles, ``"rings"`` three circles, ``"checkerboard"`` the dark
    fields of a 4 x 4 board, ``"gaussians"`` eight on a circle, ``"spirals"`` two arms.

    Raises:
        ConfigError: for another name or ``n`` below 1.

    Example:
        >>> toy2d("gaussians", 1000, seed=1).norm(dim=1).mean().item() > 1
        True
    """
    if name not in TOYS:
        raise ConfigError(f"the density '{name}'", f"one of {', '.join(TOYS)}")
    if n < 1:
        raise ConfigError(f"n = {n}", "a positive number of points")
    return TOYS[name](n, generator(seed))


def simulate_system(
    name: str,
    count: int = 100,
    steps: int = 100,
    dt: float | None = None,
    *,
    noise: float = 0.0,
    jitter: float = 0.0,
    substeps: int = 16,
    seed: int = 0,
) -> Trajectories:
    """Trajectories of the system ``name`` from random initial states.

    ``"linear"`` two damped oscillators, mixed; ``"pendulum"`` without friction, swinging up to 143
    degrees; ``"duffing"`` a damped double well; ``"van_der_pol"`` towards its limit cycle;
    ``"lorenz"`` on its attractor. Integrated by the classical Runge-Kutta method with ``substeps``
    steps in each.

    Args:
        name: one of :data:`SYSTEMS`.
        count: number of trajectories.
        steps: number of observations after the first.
        dt: time between observations; the usual one of the system by default.
        noise: standard deviation of the noise added to the observations.
        jitter: irregular sampling: times move by up to this part of ``dt`` to either side, below
            1/2.
        substeps: steps of the integrator in each ``dt``.
        seed: of initial states, times and noise.

    Raises:
        ConfigError: for an unknown system or a number out of range.

    Example:
        >>> states, times = simulate_system("pendulum", count=3, steps=50)
        >>> energy = states[..., 1] ** 2 / 2 - states[..., 0].cos()
        >>> states.shape, bool((energy - energy[:, :1]).abs().max() < 1e-8)
        (torch.Size([3, 51, 2]), True)
    """
    if name not in SYSTEMS:
        raise ConfigError(f"the system '{name}'", f"one of {', '.join(SYSTEMS)}")
    system = SYSTEMS[name]
    dt = system.dt if dt is None else dt
    numbers = {
        "count": (count, 1),
        "steps": (steps, 1),
        "substeps": (substeps, 1),
        "noise": (noise, 0),
    }
    for label, (value, least) in numbers.items():
        if not value >= least:
            raise ConfigError(f"{label} = {value}", f"at least {least}")
    if not dt > 0 or not 0 <= jitter < 0.5:
        raise ConfigError(f"dt = {dt}, jitter = {jitter}", "dt above 0 and jitter in [0, 1/2)")
    g = generator(seed)
    x = system.initial_states(count, g)
    times = dt * torch.arange(steps + 1, dtype=torch.float64).expand(count, -1)
    times = times + dt * jitter * (
        2 * torch.rand(count, steps + 1, generator=g, dtype=torch.float64) - 1
    )
    states = [x]
    for h in (times.diff(dim=1) / substeps).unbind(1):
        for _ in range(substeps):
            x = _runge_kutta(system.velocity, x, h[:, None])
        states.append(x)
    observed = torch.stack(states, dim=1)
    if noise:
        observed = observed + noise * torch.randn(observed.shape, generator=g, dtype=observed.dtype)
    return Trajectories(observed, times, name, dt)


def linear_eigenvalues() -> Tensor:
    """The eigenvalues of the system ``"linear"`` per unit of time, ``(4,)`` complex."""
    return numerics.eigvals(_BLOCKS)


def _polar(radius: Tensor, angle: Tensor) -> Tensor:
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)


def _moons(n: int, g: Generator) -> Tensor:
    lower = torch.randint(2, (n,), generator=g)
    angle = pi * (torch.rand(n, generator=g) + lower)
    centre = torch.tensor([[-0.5, -0.25], [0.5, 0.25]])[lower]
    return _polar(torch.ones(n), angle) + centre + 0.05 * torch.randn(n, 2, generator=g)


def _rings(n: int, g: Generator) -> Tensor:
    radius = (1 + torch.randint(3, (n,), generator=g)) / 2
    angle = 2 * pi * torch.rand(n, generator=g)
    return _polar(radius + 0.04 * torch.randn(n, generator=g), angle)


def _checkerboard(n: int, g: Generator) -> Tensor:
    column, pair = torch.randint(4, (n,), generator=g), torch.randint(2, (n,), generator=g)
    field = torch.stack([column, 2 * pair + column % 2], dim=1)
    return (field + torch.rand(n, 2, generator=g)) - 2


def _gaussians(n: int, g: Generator) -> Tensor:
    angle = pi / 4 * torch.randint(8, (n,), generator=g)
    return _polar(torch.full((n,), 1.5), angle) + 0.1 * torch.randn(n, 2, generator=g)


def _spirals(n: int, g: Generator) -> Tensor:
    turn = torch.rand(n, generator=g).sqrt()  # even along the arm
    angle = 3 * pi * turn + pi * torch.randint(2, (n,), generator=g)
    return _polar(2 * turn, angle) + 0.05 * torch.randn(n, 2, generator=g)


TOYS: dict[str, Callable[[int, Generator], Tensor]] = {
    "moons": _moons,
    "rings": _rings,
    "checkerboard": _checkerboard,
    "gaussians": _gaussians,
    "spirals": _spirals,
}
"""The densities by name, each a function of the number of points and a generator."""


def _runge_kutta(velocity: Callable[[Tensor], Tensor], x: Tensor, h: Tensor) -> Tensor:
    k1 = velocity(x)
    k2 = velocity(x + h / 2 * k1)
    k3 = velocity(x + h / 2 * k2)
    k4 = velocity(x + h * k3)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def _columns(*columns: Tensor) -> Tensor:
    return torch.stack(columns, dim=1)


def _box(*sides: float) -> Callable[[int, Generator], Tensor]:
    def initial_states(count: int, g: Generator) -> Tensor:
        half = torch.tensor(sides, dtype=torch.float64)
        return half * (2 * torch.rand(count, len(sides), generator=g, dtype=torch.float64) - 1)

    return initial_states


def _swinging(count: int, g: Generator) -> Tensor:
    """Uniform over states with at most 90 % of the energy of the upright pendulum."""
    kept = torch.empty(0, 2, dtype=torch.float64)
    while len(kept) < count:
        x = _box(pi, 2.0)(2 * count, g)
        kept = torch.cat([kept, x[x[:, 1] ** 2 / 2 + 1 - x[:, 0].cos() < 1.8]])
    return kept[:count]


def _on_attractor(count: int, g: Generator) -> Tensor:
    x = _box(10.0, 10.0, 10.0)(count, g) + torch.tensor([0.0, 0.0, 25.0], dtype=torch.float64)
    h = torch.tensor(0.01, dtype=torch.float64)
    for _ in range(1000):
        x = _runge_kutta(_lorenz, x, h)
    return x


_MIX = torch.tensor(
    [[1.0, 0.5, 0.0, 0.2], [0.0, 1.0, 0.5, 0.0], [0.3, 0.0, 1.0, 0.5], [0.0, 0.2, 0.0, 1.0]],
    dtype=torch.float64,
)
_BLOCKS = torch.tensor(
    [
        [-0.05, -1.0, 0.0, 0.0],
        [1.0, -0.05, 0.0, 0.0],
        [0.0, 0.0, -0.2, -2.3],
        [0.0, 0.0, 2.3, -0.2],
    ],
    dtype=torch.float64,
)
_GENERATOR = _MIX @ _BLOCKS @ torch.linalg.inv(_MIX)


def _linear(x: Tensor) -> Tensor:
    return x @ _GENERATOR.T


def _pendulum(x: Tensor) -> Tensor:
    return _columns(x[:, 1], -x[:, 0].sin())


def _duffing(x: Tensor) -> Tensor:
    return _columns(x[:, 1], x[:, 0] - x[:, 0] ** 3 - 0.5 * x[:, 1])


def _van_der_pol(x: Tensor) -> Tensor:
    return _columns(x[:, 1], (1 - x[:, 0] ** 2) * x[:, 1] - x[:, 0])


def _lorenz(x: Tensor) -> Tensor:
    a, b, c = x.unbind(1)
    return _columns(10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c)


SYSTEMS: dict[str, System] = {
    "linear": System(_linear, 0.1, _box(1.0, 1.0, 1.0, 1.0), ("a", "b", "c", "d")),
    "pendulum": System(_pendulum, 0.1, _swinging, ("angle", "velocity")),
    "duffing": System(_duffing, 0.1, _box(2.0, 2.0), ("position", "velocity")),
    "van_der_pol": System(_van_der_pol, 0.1, _box(3.0, 3.0), ("position", "velocity")),
    "lorenz": System(_lorenz, 0.02, _on_attractor, ("x", "y", "z")),
}
"""The systems by name."""

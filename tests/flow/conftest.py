"""Families of operators, and the slow dense twin of a collapse."""

import math
from functools import cache
from itertools import pairwise

import pytest
import torch
from scipy.linalg import expm
from scipy.optimize import brentq

from rectilinear.flow import LowRankEndpoint, TimeVarying
from rectilinear.operators import Dense, Diagonal, LowRank, ScalarPlusLowRank, Spectral
from rectilinear.operators import Identity as Eye

METHODS = ("euler", "midpoint", "rk4", "magnus2", "magnus4")


class Wave(TimeVarying):
    """Random operators that vary smoothly in time, by their velocity or by their end point, of any
    structure.
    """

    def __init__(
        self,
        n,
        rank=2,
        kind="scalar",
        *,
        by_endpoint=False,
        dtype=torch.float64,
        seed=0,
        fast=1.0,
        size=1.0,
    ):
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)  # noqa: E731
        self.dim, self.kind, self.singular_at_one, self.fast = n, kind, by_endpoint, fast
        self.u, self.v = draw(3, n, rank) * size / n**0.5, draw(3, n, rank) / n**0.5
        self.values, self.weight = draw(3, n), draw(3, n, n) / n**0.5 if kind == "dense" else None
        self.basis = (
            Dense(weight=torch.linalg.qr(draw(n, n)).Q, trainable=False)
            if kind == "spectral"
            else None
        )

    def at(self, t):
        a = (1.0, math.cos(3 * self.fast * t), math.sin(2 * self.fast * t))
        mix = lambda x: sum(c * part for c, part in zip(a, x, strict=True))  # noqa: E731
        if self.kind == "scalar":
            return ScalarPlusLowRank(
                torch.tensor(0.3 - t, dtype=self.u.dtype), mix(self.u), mix(self.v), trainable=False
            )
        if self.kind == "low_rank":
            return LowRank(mix(self.u), mix(self.v), trainable=False)
        if self.kind == "diagonal":
            return Diagonal(mix(self.values), trainable=False)
        if self.kind == "spectral":
            pairs = self.dim // 4
            return Spectral(
                self.basis, mix(self.values)[pairs:], mix(self.values)[:pairs], trainable=False
            )
        return Dense(weight=mix(self.weight), trainable=False)

    def velocity(self, t):
        if not self.singular_at_one:
            return self.at(t)
        return (self.at(t) - Eye(self.dim, self.u)) / (1.0 - t)

    def endpoint(self, t):
        return (
            self.at(t) if self.singular_at_one else Eye(self.dim, self.u) + (1.0 - t) * self.at(t)
        )


def _dense(A):
    return A(torch.eye(A.in_dim, dtype=torch.float64)).T


def reference_product(family, steps, method, t0=0.0, t1=1.0, end=None):
    """The product of all steps with dense matrices, every formula written out."""
    eye = torch.eye(family.dim, dtype=torch.float64)
    last = t1
    if family.singular_at_one and t1 == 1.0:
        last = 1.0 - ((1.0 - t0) / steps if end is None else end)
        steps -= 1
    tau = family.singular_at_one and method.startswith("magnus")
    points = [t0 + k * (last - t0) / max(steps, 1) for k in range(steps + 1)]
    if tau:
        clock = lambda s: 1 - math.exp(-s) + s / 5  # noqa: E731 - what the intervals are equal in
        a, b = -math.log(1 - t0), -math.log(1 - last)
        even = [clock(a) + k * (clock(b) - clock(a)) / max(steps, 1) for k in range(steps + 1)]
        points = [
            brentq(lambda s, u=u: clock(s) - u, a - 1, b + 1, xtol=1e-15, rtol=1e-15) for u in even
        ]

    def W(s):  # noqa: N802 - the field's name
        if tau:
            return _dense(family.endpoint(1 - math.exp(-s))) - eye
        if family.singular_at_one:
            return (_dense(family.endpoint(s)) - eye) / (1 - s)
        return _dense(family.velocity(s))

    product = eye
    for s, stop in pairwise(points):
        h = stop - s
        if method == "euler":
            step = eye + h * W(s)
        elif method == "midpoint":
            step = eye + h * W(s + h / 2) @ (eye + h / 2 * W(s))
        elif method == "rk4":
            k1 = W(s)
            k2 = W(s + h / 2) @ (eye + h / 2 * k1)
            k3 = W(s + h / 2) @ (eye + h / 2 * k2)
            k4 = W(s + h) @ (eye + h * k3)
            step = eye + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        elif method == "magnus2":
            step = torch.from_numpy(expm((h * W(s + h / 2)).numpy()))
        else:
            first, second = W(s + (0.5 - 3**0.5 / 6) * h), W(s + (0.5 + 3**0.5 / 6) * h)
            omega = h / 2 * (first + second) - 3**0.5 / 12 * h**2 * (
                first @ second - second @ first
            )
            step = torch.from_numpy(expm(omega.numpy()))
        product = step @ product
    return _dense(family.endpoint(last)) @ product if last < t1 else product


def trained_family(n, steps=80):
    """The published family after a little flow matching on latents that live near four dimensions."""
    torch.manual_seed(0)
    family, axes = LowRankEndpoint(n, 8, width=16), torch.randn(4, n) / 2
    optimizer = torch.optim.Adam(family.parameters(), 5e-3)
    for _ in range(steps):
        z0, z1, t = (
            torch.randn(32, n),
            torch.randn(32, 4) @ axes + 0.1 * torch.randn(32, n),
            torch.rand(32),
        )
        loss = (family.endpoint(t)(torch.lerp(z0, z1, t[:, None])) - z1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return family.requires_grad_(requires_grad=False)


@pytest.fixture(scope="session")
def trained():
    return cache(trained_family)


@pytest.fixture(scope="session")
def wave():
    return Wave


@pytest.fixture(scope="session")
def reference():
    return reference_product


@pytest.fixture(params=METHODS)
def method(request):
    return request.param

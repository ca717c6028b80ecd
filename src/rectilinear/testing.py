"""Property checks for your own operators, networks, spaces and Linearizers.

Each ``check_*`` measures every property that applies and returns the errors by name, relative to
the size of what is compared. It raises AssertionError, with the property, its error and what is
allowed, at the first that fails.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's name

from rectilinear.checks import check_batch, single, tolerance
from rectilinear.errors import (
    DtypeError,
    ShapeError,
    SingularOperatorError,
    StructureError,
    StructureWarning,
)
from rectilinear.induced_space import InducedSpace, Point
from rectilinear.invertible import Invertible
from rectilinear.linearizer import Linearizer, LinearizerSVD
from rectilinear.operators import (
    Operator,
    expm,
    logm,
    norm,
    pinv,
    project_null,
    project_range,
    solve,
    svd,
    to_dense,
    truncate,
)
from rectilinear.random import generator

Properties = Iterator[tuple[str, Callable[[], tuple[Tensor, Tensor]]]]

LARGEST = 0.1  # relative error that is ever allowed: at 1, nothing need agree
JACOBIAN_DIM = (
    64  # above, the log-determinant is not compared with that of the Jacobian, which costs n passes
)


def check_operator(a: Operator, *, allowed: float | None = None, seed: int = 0) -> dict[str, float]:
    """Check an operator against its matrix: linearity, adjoint, algebra, SVD, Penrose, powers.

    Verbs that the operator refuses (StructureError, SingularOperatorError) are left out.

    Args:
        a: an operator without batch axes.
        allowed: largest relative error; by default rounding, with room for a condition number of a
            thousand.
        seed: of the vectors.

    Example:
        >>> import rectilinear as rl
        >>> max(check_operator(rl.operators.Dense(4, 3)).values()) < 1e-2
        True
    """
    if not isinstance(a, Operator):
        raise DtypeError(
            f"a {type(a).__name__}", "an Operator", "Wrap a matrix as Dense(weight=matrix)."
        )
    if a.batch_shape:
        raise ShapeError(
            f"an operator of batch shape {tuple(a.batch_shape)}",
            "a single one",
            "Check them one by one.",
        )
    return _measure(
        _operator_properties(a, *_random(a.like, (a.in_dim, a.in_dim, a.out_dim), seed)),
        a.like,
        allowed,
    )


def _operator_properties(a: Operator, x: Tensor, y: Tensor, w: Tensor) -> Properties:
    m = to_dense(a).detach()
    eye = torch.eye(a.in_dim, dtype=m.dtype, device=m.device)
    yield "matrix", lambda: (a(x), x @ m.mT)
    yield "superposition", lambda: (a(2 * x - 3 * y), 2 * a(x) - 3 * a(y))
    yield "adjoint", lambda: ((a(x).conj() * w).sum(-1), (x.conj() * a.T(w)).sum(-1))
    yield "adjoint of adjoint", lambda: (a.T.T(x), a(x))
    yield "sum", lambda: ((a + a)(x), 2 * a(x))
    yield "multiple", lambda: ((0.5 * a - a)(x), (-a / 2)(x))
    yield "composition", lambda: ((a.T @ a)(x), a.T(a(x)))
    yield from _matrix_properties(a, m, eye)
    if a.is_square:
        yield "square", lambda: ((a**2)(x), a(a(x)))
        yield "square root", lambda: ((root := a**0.5)(root(x)), a(x))
        yield "semigroup", lambda: (expm(a, 0.3)(expm(a, 0.5)(x)), expm(a, 0.8)(x))
        yield "logarithm", lambda: (expm(logm(a))(x), a(x))


def _matrix_properties(a: Operator, m: Tensor, eye: Tensor) -> Properties:
    if _allowed(lambda: svd(a)):
        s = svd(a).s
        u, v = to_dense(svd(a).u), to_dense(svd(a).v)
        one = torch.eye(len(s), dtype=s.dtype, device=s.device)
        yield "svd reconstruction", lambda: ((u * s) @ v.mH, m)
        yield "left singular vectors", lambda: (u.mH @ u, one)
        yield "right singular vectors", lambda: (v.mH @ v, one)
        yield (
            "singular values",
            lambda: (F.pad(s, (0, min(m.shape) - len(s))), torch.linalg.svdvals(single(m)).to(s)),
        )
    if _allowed(lambda: pinv(a)):
        p = to_dense(pinv(a))
        yield "Penrose 1", lambda: (m @ p @ m, m)
        yield "Penrose 2", lambda: (p @ m @ p, p)
        yield "Penrose 3", lambda: (m @ p, (m @ p).mH)
        yield "Penrose 4", lambda: (p @ m, (p @ m).mH)
        yield "range projection", lambda: (to_dense(project_range(a)), m @ p)
        yield "null projection", lambda: (to_dense(project_null(a)), eye - p @ m)
        yield "least squares", lambda: (solve(a, m.mT), (p @ m).mT)


def check_invertible(
    g: Invertible, x: Tensor, *, latents: Tensor | None = None, allowed: float | None = None
) -> dict[str, float]:
    """Check an invertible network: round trips, determinism, log-determinant of the Jacobian.

    Args:
        g: the network, initialised.
        x: points ``(b, *shape)``.
        latents: latents to decode and encode ``(b, *latent_shape)``; by default those of ``x``,
            halved and doubled.
        allowed: largest relative error; by default rounding, with room for a condition number of a
            thousand.

    Example:
        >>> import rectilinear as rl
        >>> max(check_invertible(rl.invertible.Rotation(4), torch.randn(3, 4)).values()) < 1e-2
        True
    """
    check_batch(x, g.shape, "x")
    return _measure(_invertible_properties(g, x, latents), x, allowed)


def _invertible_properties(g: Invertible, x: Tensor, latents: Tensor | None) -> Properties:
    z = g(x)
    latents = torch.cat([z / 2, 2 * z]) if latents is None else latents
    yield "determinism", lambda: (g(x), z)
    yield "forward_and_logdet", lambda: (g.forward_and_logdet(x)[0], z)
    yield "rows are independent", lambda: (torch.cat([g(row[None]) for row in x]), z)
    yield "x = g^-1(g(x))", lambda: (g.inverse(z), x)
    yield "z = g(g^-1(z))", lambda: (g(g.inverse(latents)), latents)
    if g.dim <= JACOBIAN_DIM:

        def jacobian(row: Tensor) -> Tensor:
            full = torch.autograd.functional.jacobian(g, row[None])
            return full.reshape(g.dim, g.dim)

        yield (
            "log-determinant",
            lambda: (
                g.forward_and_logdet(x)[1],
                torch.stack([torch.linalg.slogdet(jacobian(row))[1] for row in x]),
            ),
        )


def check_space(
    space: InducedSpace | Invertible, x: Tensor, *, allowed: float | None = None, seed: int = 0
) -> dict[str, float]:
    """Check the axioms of an inner product space on the points ``x`` ``(b, *shape)``, ``b >= 3``.

    Example:
        >>> import rectilinear as rl
        >>> max(check_space(rl.invertible.Rotation(4), torch.randn(3, 4)).values()) < 1e-2
        True
    """
    space = space if isinstance(space, InducedSpace) else InducedSpace(space)
    check_batch(x, space.g.shape, "x")
    return _measure(
        _space_properties(space, x, x.roll(1, 0), x.roll(2, 0), *_numbers(x, seed)), x, allowed
    )


def _space_properties(
    space: InducedSpace, x: Tensor, y: Tensor, z: Tensor, a: float, b: float
) -> Properties:
    add, scale, inner = space.add, space.scale, space.inner
    zero = space.zero(x)
    yield "addition is associative", lambda: (add(add(x, y), z), add(x, add(y, z)))
    yield "addition is commutative", lambda: (add(x, y), add(y, x))
    yield "zero", lambda: (add(x, zero.expand_as(x)), x)
    yield "negative", lambda: (add(x, scale(-1.0, x)), zero.expand_as(x))
    yield "multiples compose", lambda: (scale(a, scale(b, x)), scale(a * b, x))
    yield "one", lambda: (scale(1.0, x), x)
    yield "distributive over points", lambda: (scale(a, add(x, y)), add(scale(a, x), scale(a, y)))
    yield "distributive over numbers", lambda: (scale(a + b, x), add(scale(a, x), scale(b, x)))
    yield "inner product is symmetric", lambda: (inner(x, y), inner(y, x))
    yield (
        "inner product is linear",
        lambda: (inner(add(scale(a, x), y), z), a * inner(x, z) + inner(y, z)),
    )
    yield "norm", lambda: (space.norm(x) ** 2, inner(x, x))
    yield "distance", lambda: (space.distance(x, y), space.norm(add(x, scale(-1.0, y))))
    yield "vectors", lambda: ((a * space(x) - space(y) / 2).point, add(scale(a, x), scale(-0.5, y)))
    yield (
        "combination",
        lambda: (
            space.combine(x.new_tensor([[a, b]]), x[:2]),
            add(scale(a, x[:1]), scale(b, x[1:2])),
        ),
    )
    yield "midpoint", lambda: (space.interpolate(x, y, 0.5), scale(0.5, add(x, y)))


def check_linearizer(
    f: Linearizer, x: Tensor, *, allowed: float | None = None, seed: int = 0
) -> dict[str, float]:
    """Check a Linearizer in its spaces: linearity, adjoint, composition, SVD, Penrose, powers.

    Verbs that the operator refuses (StructureError, SingularOperatorError) are left out.

    Args:
        f: the Linearizer.
        x: points ``(b, *g_in.shape)``, ``b >= 2``.
        allowed: largest relative error; by default rounding, with room for a condition number of a
            thousand.
        seed: of the coefficients.

    Example:
        >>> import rectilinear as rl
        >>> f = rl.Linearizer(rl.invertible.Rotation(4), rl.operators.Dense(4))
        >>> max(check_linearizer(f, torch.randn(3, 4)).values()) < 1e-2
        True
    """
    check_batch(x, f.g_in.shape, "x")
    return _measure(_linearizer_properties(f, x, x.roll(1, 0), *_numbers(x, seed)), x, allowed)


def _linearizer_properties(f: Linearizer, x: Tensor, y: Tensor, a: float, b: float) -> Properties:
    source, target = f.in_space, f.out_space
    p, q, image = source(x), source(y), f(x)
    w = (
        target(image) + Point(target, target.encode(f(y)).roll(1, -1))
    ) / 2  # not of the range only
    yield (
        "superposition",
        lambda: (f((a * p + b * q).point), (a * target(image) + b * target(f(y))).point),
    )
    yield "zero", lambda: (f(source.zero(x)), target.zero(x))
    yield "vectors", lambda: (f(p).point, image)
    yield "adjoint", lambda: (target.inner(image, w.point), source.inner(x, f.T(w.point)))
    yield "sum", lambda: ((f + f)(x), target.scale(2.0, image))
    yield "multiple", lambda: ((a * f - f / 2)(x), target.scale(a - 0.5, image))
    yield "composition", lambda: ((f.T @ f)(x), f.T(image))
    yield from _system_properties(f)
    if _allowed(lambda: pinv(f)):
        plus = cast("Linearizer", pinv(f))
        yield "Penrose 1", lambda: ((f @ plus @ f)(x), image)
        yield "Penrose 2", lambda: ((plus @ f @ plus)(w).point, plus(w).point)
        yield "Penrose 3", lambda: (f(plus(w)) @ f(p), w @ f(plus(f(p))))
        yield "Penrose 4", lambda: (plus(f(p)) @ q, p @ plus(f(q)))
        yield "least squares", lambda: (solve(f, w.point), plus(w.point))
        yield "range projection", lambda: (project_range(f)(w.point), (f @ plus)(w.point))
        yield "null projection", lambda: (f(project_null(f)(x)), target.zero(x).expand_as(image))
    gram = f.T @ f
    gram = gram / norm(gram).clamp_min(torch.finfo(x.dtype).tiny)
    yield "square root of f* f", lambda: (((root := gram**0.5) @ root)(x), gram(x))
    yield "semigroup of f* f", lambda: ((expm(gram, 0.3) @ expm(gram, 0.5))(x), expm(gram, 0.8)(x))
    if source == target:
        yield "square", lambda: ((f**2)(x), f(image))
        yield "square root", lambda: (((root := f**0.5) @ root)(x), image)
        yield "semigroup", lambda: ((expm(f, 0.3) @ expm(f, 0.5))(x), expm(f, 0.8)(x))
        yield "logarithm", lambda: (expm(logm(f))(x), image)


def _system_properties(f: Linearizer) -> Properties:
    if not _allowed(lambda: svd(f)):
        return
    system = svd(f)
    assert isinstance(system, LinearizerSVD)
    left, right, best = system.left_points(3), system.right_points(3), truncate(f, 1)
    s = system.s[: len(left)]

    def gram(points: Tensor, space: InducedSpace) -> tuple[Tensor, Tensor]:
        z = space.encode(points)
        return z @ z.mT, torch.eye(len(z), dtype=z.dtype, device=z.device)

    yield "f(v_i) = s_i u_i", lambda: (f(right), f.out_space.scale(s, left))
    yield "left singular points", lambda: gram(left, f.out_space)
    yield "right singular points", lambda: gram(right, f.in_space)
    yield (
        "truncation",
        lambda: (
            best(right),
            f.out_space.scale(s * (torch.arange(len(s), device=s.device) == 0), left),
        ),
    )


@torch.no_grad()
def _measure(properties: Properties, like: Tensor, allowed: float | None) -> dict[str, float]:
    if allowed is None:
        n = like[0].numel() if like.ndim else 1
        allowed = min(tolerance(like.dtype, scale=1e3, n=n), LARGEST)
    errors = {}
    with warnings.catch_warnings(action="ignore", category=StructureWarning):
        for name, measured in properties:
            try:
                got, expected = measured()
            except (StructureError, SingularOperatorError):
                continue
            if got.shape != expected.shape:
                raise AssertionError(
                    f"{name}: shapes {tuple(got.shape)} and {tuple(expected.shape)} differ"
                )
            errors[name] = (got - expected).abs().max().item() / max(
                1.0, expected.abs().max().item()
            )
            if not errors[name] <= allowed:
                raise AssertionError(
                    f"{name}: relative error {errors[name]:.2e}, allowed {allowed:.2e}"
                )
    return errors


def _allowed(verb: Callable[[], object]) -> bool:
    try:
        verb()
    except StructureError:
        return False
    return True


def _random(like: Tensor, dims: tuple[int, ...], seed: int) -> list[Tensor]:
    draw = generator(seed)
    return [torch.randn(5, n, generator=draw, dtype=like.dtype).to(like.device) for n in dims]


def _numbers(like: Tensor, seed: int) -> tuple[float, float]:
    a, b = (2 * torch.rand(2, generator=generator(seed), dtype=like.dtype) - 1).tolist()
    return a, b

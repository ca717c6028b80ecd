"""Functions of plain matrices ``(..., n, n)``, differentiable and stable, for the cores of
structured operators.
"""

from __future__ import annotations

from math import ceil, comb, factorial, isfinite, log2
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rectilinear import numerics
from rectilinear.checks import check_finite
from rectilinear.errors import SingularOperatorError

PADE = [comb(13, k) * factorial(26 - k) / factorial(26) for k in range(14)]
NODES, WEIGHTS = ((x.tolist()) for x in np.polynomial.legendre.leggauss(10))


def default_rtol(dtype: torch.dtype, n: int) -> float:
    """Singular values below ``rtol`` times the largest count as zero: rounding when ``n x n`` is
    decomposed.
    """
    return max(n, 50) * torch.finfo(dtype).eps


class _Span(torch.autograd.Function):
    """Orthonormal basis; its derivative moves the span and does not turn the basis inside it."""

    @staticmethod
    def forward(ctx: Any, m: Tensor) -> Tensor:
        q, r = torch.linalg.qr(m)
        ctx.save_for_backward(q, r)
        return q

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        q, r = ctx.saved_tensors
        return (grad - q @ (q.mH @ grad)) @ torch.linalg.pinv(r).mH


def span(m: Tensor) -> Tensor:
    """``q`` ``(..., n, k)`` with orthonormal columns whose span holds that of ``m`` ``(..., n,
    k)``, ``k <= n``.

    The gradient is right for every function that depends on the span alone, also where ``m`` has
    dependent columns.
    """
    check_finite(m.detach(), "an operator's factors")
    return _Span.apply(m) if m.requires_grad and torch.is_grad_enabled() else torch.linalg.qr(m).Q


def masked_inverse(s: Tensor, mask: Tensor) -> Tensor:
    """``1 / s`` where ``mask``, 0 elsewhere, with a finite gradient everywhere."""
    return torch.where(mask, 1 / torch.where(mask, s, 1), torch.zeros_like(s))


def condition_bound(m: Tensor, inverse: Tensor) -> Tensor:
    """A bound of the 2-norm condition number: ``|.|_2^2 <= |.|_1 |.|_inf`` for the matrix and its
    inverse.
    """
    bound = torch.ones_like(m.detach()[..., 0, 0].real) if m.shape[-1] else torch.ones(())
    for x in (m.detach(), inverse.detach()):
        if x.shape[-1]:
            bound = (
                bound * torch.linalg.matrix_norm(x, 1) * torch.linalg.matrix_norm(x, float("inf"))
            )
    return bound.sqrt()


def inverse_if_safe(m: Tensor, rtol: float) -> Tensor | None:
    """The inverse of square ``m``; None where a singular value may be below ``rtol`` times the
    largest.
    """
    if m.shape[-1] == 0:
        return m
    inverse, info = torch.linalg.inv_ex(m)
    if bool((info != 0).any()) or not bool((condition_bound(m, inverse) * rtol < 1).all()):
        return None
    return inverse


def pinv(m: Tensor, rtol: float | None) -> Tensor:
    """The Moore-Penrose inverse; by LU where that is provably the same."""
    check_finite(m.detach(), "an operator")
    rtol = default_rtol(m.dtype, max(m.shape[-2:])) if rtol is None else rtol
    if m.shape[-1] == m.shape[-2] and (inverse := inverse_if_safe(m, rtol)) is not None:
        return inverse
    return torch.linalg.pinv(m, rtol=rtol)


def expm(m: Tensor) -> Tensor:
    """The exponential by scaling, a [13/13] Pade approximant and squaring (Higham 2005).

    ``torch.matrix_exp`` is not used: in double precision it is off by up to 1e-9 (norm 0.03, norm
    8).
    """
    norm = float(torch.linalg.matrix_norm(m.detach(), 1).max()) if m.numel() else 0.0
    if not isfinite(norm):
        check_finite(m.detach(), "the exponent")
    squarings = ceil(log2(norm / 5.37)) if norm > 5.37 else 0
    m = m / 2**squarings
    eye = torch.eye(m.shape[-1], dtype=m.dtype, device=m.device)
    m2 = m @ m
    m4 = m2 @ m2
    m6 = m2 @ m4
    b = PADE
    odd = (
        m6 @ (b[13] * m6 + b[11] * m4 + b[9] * m2) + b[7] * m6 + b[5] * m4 + b[3] * m2 + b[1] * eye
    )
    even = (
        m6 @ (b[12] * m6 + b[10] * m4 + b[8] * m2) + b[6] * m6 + b[4] * m4 + b[2] * m2 + b[0] * eye
    )
    odd = m @ odd
    value = torch.linalg.solve(even - odd, even + odd)
    for _ in range(squarings):
        value = value @ value
    if norm > 80:  # from where single precision may overflow
        check_finite(value.detach(), "an exponential, which is too large for its dtype")
    return value


def sqrtm(m: Tensor) -> Tensor:
    """The principal square root by the scaled product form of the Denman-Beavers iteration (Higham
    2008, 6.29).
    """
    n = m.shape[-1]
    eye = torch.eye(n, dtype=m.dtype, device=m.device)
    x = product = m
    distance, remaining = float("inf"), 5
    for _ in range(60):
        mu = torch.ones_like(product[..., :1, :1])
        if distance > 1e-2:  # determinant scaling brings the eigenvalues to the unit circle fast
            mu = torch.exp(-torch.linalg.slogdet(product.detach()).logabsdet / (2 * n))[
                ..., None, None
            ].to(m.dtype)
        else:
            remaining -= 1  # from here each step squares the distance
        inverse = torch.linalg.inv(product)
        x = mu * x @ (eye + inverse / mu**2) / 2
        product = (eye + (mu**2 * product + inverse / mu**2) / 2) / 2
        distance = float(torch.linalg.matrix_norm((product - eye).detach()).max())
        if not remaining:
            break
    return x + _sqrt_correction(x, m)


@torch.no_grad()
def _sqrt_correction(x: Tensor, m: Tensor) -> Tensor:
    """The Newton step ``x e + e x = m - x x`` by eigenvalues, where it makes the residual smaller;
    zero elsewhere.
    """
    residual = m - x @ x
    values, vectors = numerics.eig(x)
    inverse, info = torch.linalg.inv_ex(vectors)
    step = (
        vectors
        @ ((inverse @ residual.to(vectors) @ vectors) / (values[..., None] + values[..., None, :]))
        @ inverse
    )
    step = step if x.is_complex() else step.real
    new = torch.linalg.matrix_norm(m - (x + step) @ (x + step))
    better = (info == 0) & (
        new < torch.linalg.matrix_norm(residual)
    )  # False where the step is not a number
    return torch.where(better[..., None, None], step, 0)


def logm(m: Tensor) -> Tensor:
    """The principal logarithm by inverse scaling and squaring: ``log(I + x) = sum_j w_j x (I + t_j
    x)^-1`` (Gauss).

    Raises:
        SingularOperatorError: if an eigenvalue is zero or on the negative real axis.
    """
    check_finite(m.detach(), "an operator")
    if m.shape[-1] == 0:
        return m
    _check_principal(m, "logarithm", zero_allowed=False)
    eye = torch.eye(m.shape[-1], dtype=m.dtype, device=m.device)
    roots = 0
    while torch.linalg.matrix_norm((m - eye).detach(), 1).max() > 0.25 and roots < 60:
        m, roots = sqrtm(m), roots + 1
    x, total = m - eye, torch.zeros_like(m)
    for node, weight in zip(NODES, WEIGHTS, strict=True):
        total = total + weight / 2 * torch.linalg.solve(eye + (node + 1) / 2 * x, x)
    return 2.0**roots * total


def powm(m: Tensor, p: float) -> Tensor:
    """The principal power ``m^p``.

    A singular ``m`` (of index 1) goes through its factors, ``m = x y^T``, ``m^p = x (y^T x)^(p - 1)
    y^T``.

    Raises:
        SingularOperatorError: if an eigenvalue is on the negative real axis and ``p`` is not an
            integer, or ``m`` is singular and ``p`` is negative, or zero is a defective eigenvalue.
    """
    check_finite(m.detach(), "an operator")
    n = m.shape[-1]
    if n == 0 or p == 1:
        return m
    if float(p).is_integer():
        if p < 0 and inverse_if_safe(m, default_rtol(m.dtype, n) / 1e3) is None:
            raise singular(f"power {p:g}")
        return torch.linalg.matrix_power(m, int(p))
    _check_principal(m, f"power {p:g}", zero_allowed=p > 0)
    s = torch.linalg.svdvals(m.detach())
    positive = s > default_rtol(m.dtype, n) * s[..., :1]
    if bool(positive.all()):
        whole = int(np.floor(p))
        root = sqrtm(m) if p - whole == 0.5 else expm((p - whole) * logm(m))
        return root if whole == 0 else torch.linalg.matrix_power(m, whole) @ root
    ranks = positive.sum(-1)
    if bool((ranks != ranks.max()).any()):
        return torch.stack([powm(part, p) for part in m.flatten(0, -3)]).reshape(m.shape)
    rank = int(ranks.max())
    if rank == 0:
        return torch.zeros_like(m)
    x = m @ torch.linalg.svd(m.detach()).Vh[..., :rank, :].mH
    y = m.mH @ torch.linalg.pinv(x).mH  # m = x y^H, for every m of this rank near this one
    middle = y.mH @ x
    if p < 1 and inverse_if_safe(middle, default_rtol(m.dtype, n) / 1e3) is None:
        raise defective()
    return x @ powm(middle, p - 1) @ y.mH


def _check_principal(m: Tensor, what: str, *, zero_allowed: bool) -> None:
    values = numerics.eigvals(m.detach())
    check_principal(
        values, what, zero_allowed=zero_allowed, rtol=default_rtol(m.dtype, m.shape[-1])
    )


def check_principal(values: Tensor, what: str, *, zero_allowed: bool, rtol: float) -> None:
    """Raise unless the eigenvalues ``(..., n)`` stay off the negative real axis, and off zero, up
    to ``rtol``.

    Raises:
        SingularOperatorError: otherwise.
    """
    size = values.abs().amax(-1, keepdim=True)
    small = rtol * size
    zero = values.abs() <= small
    if not zero_allowed and bool(zero.any()):
        raise singular(what)
    imag = values.imag.abs() if values.is_complex() else torch.zeros_like(values)
    negative = (values.real < 0) & (imag <= small) & ~zero
    if bool(negative.any()):
        worst = float(values.real[negative].min())
        raise SingularOperatorError(
            got=f"the {what} of an operator with the negative eigenvalue {worst:.3g}",
            expected="no eigenvalue on the negative real axis: no real principal value exists",
            fix="A @ A has one; or use an operator with positive or complex eigenvalues.",
        )


def defective() -> SingularOperatorError:
    """The error for a root of an operator that has a nilpotent part."""
    return SingularOperatorError(
        got="a root of a singular operator with a defective eigenvalue zero (a nilpotent part)",
        expected="as many eigenvectors of zero as it has zero eigenvalues: no principal root exists",
        fix="Add c * I, or use a power that is larger than its largest nilpotent block.",
    )


def singular(what: str) -> SingularOperatorError:
    """The error for an operator with a zero eigenvalue, or a defective one."""
    return SingularOperatorError(
        got=f"the {what} of a singular operator",
        expected="no zero eigenvalue",
        fix="Use rl.pinv, or add c * I.",
    )

"""Functions of plain matrices ``(..., n, n)``: powers, exponentials, decompositions, gradients.

The verbs call them on dense matrices and on the cores of structured operators. Decompositions have
gradients that are right at repeated values, or refused: never NaN. The vectors of a repeated
singular value or eigenvalue are defined up to a rotation and have no derivative. A function of the
operator may have one all the same, so ``truncate``, ``project_range`` and ``pinv`` do not
differentiate through single vectors.
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
    """The relative size below which a singular value is rounding when ``n x n`` is decomposed."""
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
    """``q`` ``(..., n, k)`` with orthonormal columns whose span holds that of ``m``, ``k <= n``.

    The gradient is right for every function that depends on the span alone, also where ``m`` has
    dependent columns.
    """
    check_finite(m.detach(), "an operator's factors")
    return _Span.apply(m) if m.requires_grad and torch.is_grad_enabled() else torch.linalg.qr(m).Q


def masked_inverse(s: Tensor, mask: Tensor) -> Tensor:
    """``1 / s`` where ``mask``, 0 elsewhere, with a finite gradient everywhere."""
    return torch.where(mask, 1 / torch.where(mask, s, 1), torch.zeros_like(s))


def condition_bound(m: Tensor, inverse: Tensor) -> Tensor:
    """An upper bound of the 2-norm condition number by ``|.|_2^2 <= |.|_1 |.|_inf``."""
    bound = torch.ones_like(m.detach()[..., 0, 0].real) if m.shape[-1] else torch.ones(())
    for x in (m.detach(), inverse.detach()):
        if x.shape[-1]:
            bound = (
                bound * torch.linalg.matrix_norm(x, 1) * torch.linalg.matrix_norm(x, float("inf"))
            )
    return bound.sqrt()


def inverse_if_safe(m: Tensor, rtol: float) -> Tensor | None:
    """The inverse of square ``m``; None if it may be singular up to ``rtol``."""
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
    """The principal square root: scaled product form of Denman-Beavers (Higham 2008, 6.29)."""
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
    """The Newton step ``x e + e x = m - x x`` by eigenvalues; zero where it lowers no residual."""
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
    """The principal logarithm by inverse scaling and squaring.

    ``log(I + x) = sum_j w_j x (I + t_j x)^-1`` (Gauss).

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
    """Raise where an eigenvalue ``(..., n)`` is negative, or zero, up to ``rtol``."""
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
        expected=(
            "as many eigenvectors of zero as it has zero eigenvalues: no principal root exists"
        ),
        fix="Add c * I, or use a power that is larger than its largest nilpotent block.",
    )


def singular(what: str) -> SingularOperatorError:
    """The error for an operator with a zero eigenvalue, or a defective one."""
    return SingularOperatorError(
        got=f"the {what} of a singular operator",
        expected="no zero eigenvalue",
        fix="Use rl.pinv, or add c * I.",
    )


def svd(m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The thin ``u, s, v^H`` of ``m``; a gradient through the vectors of a tie raises.

    Raises:
        SingularOperatorError: in the backward pass, where a gradient reaches vectors of a repeated
            value.
    """
    u, s, vh = torch.linalg.svd(m, full_matrices=False)
    if m.requires_grad and torch.is_grad_enabled() and bool(_tied(s.detach()).any()):
        return _TiedSVD.apply(m)
    return u, s, vh


def eig(m: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of ``m``; at a tie the gradient through its vectors raises.

    Raises:
        SingularOperatorError: in the backward pass, where a gradient reaches vectors of a repeated
            eigenvalue.
    """
    values, vectors = numerics.eig(m)
    if m.requires_grad and torch.is_grad_enabled() and bool(_tied(values.detach()).any()):
        return _TiedEig.apply(m)
    return values, vectors


def lead(m: Tensor, k: int) -> Tensor:
    """The first ``k`` right singular vectors ``(..., n, k)``, for functions of their span alone.

    Where ``s_k = s_(k+1)`` the span is not differentiable; the gradient then leaves the turn
    between the tied out.
    """
    return _Lead.apply(m, k)


class _TiedSVD(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        u, s, vh = torch.linalg.svd(m, full_matrices=False)
        ctx.save_for_backward(u, s, vh)
        ctx.set_materialize_grads(False)
        return u, s, vh

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, du: Tensor | None, ds: Tensor | None, dvh: Tensor | None) -> Tensor:
        u, s, vh = ctx.saved_tensors
        near = _tied(s)
        left = torch.zeros_like(u) if du is None else du
        right = torch.zeros_like(vh.mH) if dvh is None else dvh.mH
        _refuse_tied(near, "singular", left, right)
        a, b = (x - x.mH for x in (u.mH @ left, vh @ right))
        gap, total = s[..., None, :] - s[..., :, None], s[..., None, :] + s[..., :, None]
        different = ~near & ~_diagonal(s)
        inner = torch.diag_embed(torch.zeros_like(s) if ds is None else ds).to(u)
        inner = (
            inner
            + (
                (a + b) * masked_inverse(gap, different)
                + (a - b) * masked_inverse(total, total > 0)
            )
            / 2
        )
        over = masked_inverse(s, s > 0)[..., None, :]
        out, across = (left - u @ (u.mH @ left)) * over, (right - vh.mH @ (vh @ right)) * over
        return (u @ inner + out) @ vh + u @ across.mH


class _TiedEig(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, m: Tensor) -> tuple[Tensor, Tensor]:
        values, vectors = numerics.eig(m)
        ctx.save_for_backward(values, vectors)
        ctx.real = not m.is_complex()
        ctx.set_materialize_grads(False)
        return values, vectors

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dvalues: Tensor | None, dvectors: Tensor | None) -> Tensor:
        values, v = ctx.saved_tensors
        near, diagonal = _tied(values), _diagonal(values)
        inner = torch.diag_embed(torch.zeros_like(values) if dvalues is None else dvalues)
        if dvectors is not None:
            _refuse_tied(near, "eigen", dvectors)
            along = v.mH @ dvectors
            free = along - (v.mH @ v) * along.diagonal(dim1=-2, dim2=-1).real[..., None, :]
            gap = (values[..., None, :] - values[..., :, None]).conj()
            inner = inner + torch.where(
                diagonal, free, free * masked_inverse(gap, ~near & ~diagonal)
            )
        inverse, info = torch.linalg.inv_ex(v)
        safe = condition_bound(v, inverse) * default_rtol(v.dtype, v.shape[-1]) < 1
        if bool((info != 0).any()) or not bool(safe.all()):
            raise SingularOperatorError(
                "the gradient of eigenvalues of a defective matrix",
                "a full set of eigenvectors",
                "Differentiate at a matrix with distinct eigenvalues.",
            )
        grad = inverse.mH @ inner @ v.mH
        return grad.real if ctx.real else grad


class _Lead(torch.autograd.Function):
    """The derivative moves the span and does not turn the basis inside it."""

    @staticmethod
    def forward(ctx: Any, m: Tensor, k: int) -> Tensor:
        u, s, vh = torch.linalg.svd(m, full_matrices=False)
        ctx.save_for_backward(u, s, vh)
        ctx.k = k
        return vh[..., :k, :].mH

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        u, s, vh = ctx.saved_tensors
        k = ctx.k
        first, rest = s[..., :k], s[..., k:]
        # v_i moves along v_j by (s_i <dm v_j, u_i> + s_j <u_j, dm v_i>) / (s_i^2 - s_j^2)
        gap = (first[..., None, :] - rest[..., :, None]) * (
            first[..., None, :] + rest[..., :, None]
        )
        turn = (vh[..., k:, :] @ grad) * masked_inverse(gap, ~_tied(s)[..., k:, :k])
        out = u[..., :k] * first[..., None, :] @ turn.mH @ vh[..., k:, :]
        out = out + u[..., k:] * rest[..., None, :] @ turn @ vh[..., :k, :]
        outside = grad - vh.mH @ (vh @ grad)
        return out + u[..., :k] * masked_inverse(first, first > 0)[..., None, :] @ outside.mH, None


def _diagonal(s: Tensor) -> Tensor:
    return torch.eye(s.shape[-1], dtype=torch.bool, device=s.device)


def _tied(s: Tensor) -> Tensor:
    """A mask ``(..., k, k)`` of the pairs of values that are equal up to rounding."""
    size = s.abs().amax(-1)[..., None, None] if s.shape[-1] else 0
    near = (s[..., :, None] - s[..., None, :]).abs() <= default_rtol(s.dtype, s.shape[-1]) * size
    return near & ~_diagonal(s)


def _refuse_tied(near: Tensor, kind: str, *grads: Tensor) -> None:
    """Raise where a gradient reaches vectors of a repeated value."""
    for grad in grads:
        if bool((near.any(-1) & (grad != 0).any(-2)).any()):
            name = "singular values" if kind == "singular" else "eigenvalues"
            raise SingularOperatorError(
                got=f"a gradient through vectors of repeated {name}, which are not differentiable",
                expected=(
                    f"distinct {name}, or a function of the operator that has a gradient there"
                ),
                fix=(
                    "Use truncate, project_range, pinv or the values alone; or start a little off "
                    "the tie."
                ),
            )

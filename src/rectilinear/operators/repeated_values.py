"""Decompositions whose gradient is right at repeated values, or refused: never NaN.

The vectors of a repeated singular or eigenvalue are defined up to a rotation, so they have no
derivative. A function of the operator may have one all the same; those of the library
(``truncate``, ``project_range``, ``pinv``) take ways that do not pass through single vectors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rectilinear import numerics
from rectilinear.errors import SingularOperatorError
from rectilinear.operators.matrix_functions import condition_bound, default_rtol, masked_inverse


def svd(m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The thin ``u, s, v^H`` of ``m``; at a tie the gradient through its vectors raises, that of
    the rest is as usual.

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
    """The first ``k`` right singular vectors ``(..., n, k)``, for functions that depend on their
    span alone.

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
                "Move off that matrix.",
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
    """Which pairs of values, ``(..., k, k)``, are one up to rounding."""
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
                expected=f"distinct {name}, or a function of the operator that has a gradient there",
                fix="Use truncate, project_range, pinv or the values alone; or start a little off the tie.",
            )

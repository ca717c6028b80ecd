"""Orthonormal bases completed to all of ``R^n``, without ever writing them down."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rectilinear.operators._shape import unit_columns
from rectilinear.operators.scalar_low_rank import ScalarPlusLowRank


class Completion(NamedTuple):
    """A block reflector ``G = I - y t y^H`` (unitary) whose first ``k`` columns span those of ``q``."""

    y: Tensor
    yt: Tensor
    lead: Tensor


@torch.no_grad()
def completion(q: Tensor) -> Completion:
    """Complete an orthonormal ``q`` ``(..., n, k)``.

    With ``q_1 = U S V^H`` its top block, ``z = -V U^H`` and ``E`` the first unit columns, ``y = q z - E`` and
    ``t = U (I + S)^-1 U^H`` give ``G E = q z``. The condition number of ``I + S`` is at most 2, so every ``q`` will do,
    and ``y`` does not change when the basis is turned inside its span.
    """
    n, k = q.shape[-2:]
    u, s, vh = torch.linalg.svd(q[..., :k, :])
    lead = -q @ (vh.mH @ u.mH)
    y = lead - unit_columns(n, k, q)
    return Completion(y, y @ (u / (1 + s)[..., None, :]) @ u.mH, lead)


def framed(frame: Completion, lead: Tensor, sign: Tensor) -> ScalarPlusLowRank:
    """The operator with first columns ``lead`` and then ``sign`` times the completing ones of the frame."""
    n, k = lead.shape[-2:]
    c = sign[..., None, None]
    y = frame.y.to(lead)
    first = lead - (c * frame.lead).to(lead)
    u = torch.cat(torch.broadcast_tensors(-(c * frame.yt).to(lead), first), -1)
    v = torch.cat(torch.broadcast_tensors(y.conj(), unit_columns(n, k, lead).expand_as(y)), -1)
    return ScalarPlusLowRank(sign.to(lead), u, v, trainable=False)

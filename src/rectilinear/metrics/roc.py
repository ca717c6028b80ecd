"""How well a score tells two samples apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from rectilinear._shapes import check_finite
from rectilinear.errors import ShapeError

if TYPE_CHECKING:
    from torch import Tensor


class ROC(NamedTuple):
    """Shares of false and of true alarms at every threshold, ``(k,)`` from 0 to 1, and the area under their curve."""

    false: Tensor
    true: Tensor
    area: float


def roc(usual: Tensor, strange: Tensor) -> ROC:
    """The receiver operating characteristic of a score that should be larger for what is strange.

    The area is the probability that a strange sample scores above a usual one, ties counted half.

    Args:
        usual: scores ``(n,)``.
        strange: scores ``(m,)``.

    Raises:
        ShapeError: if there are no scores, or they are not vectors.
        NonFiniteError: if a score is NaN or infinite.

    Example:
        >>> roc(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 3.0])).area
        0.875
    """
    for name, scores in (("usual", usual), ("strange", strange)):
        if scores.ndim != 1 or not len(scores):
            raise ShapeError(f"{name} scores of shape {tuple(scores.shape)}", "a vector, not empty", "Flatten them.")
        check_finite(scores, f"{name} scores")
    scores = torch.cat([usual, strange])
    is_strange = torch.cat([torch.zeros_like(usual), torch.ones_like(strange)]).double()
    values, order = scores.sort(descending=True)
    last = torch.cat([values[1:] != values[:-1], values.new_ones(1, dtype=torch.bool)])  # of equal scores
    true = is_strange[order].cumsum(0)[last] / len(strange)
    false = (1 - is_strange[order]).cumsum(0)[last] / len(usual)
    true, false = (torch.cat([x.new_zeros(1), x]) for x in (true, false))
    return ROC(false, true, torch.trapezoid(true, false).item())

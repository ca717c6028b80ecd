"""Regions of their own precision, whatever ``torch.autocast`` surrounds them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def precision_of(x: Tensor, *, bf16: bool = False) -> AbstractContextManager[object]:
    """A region that computes in the dtype of the tensors, or under autocast to bfloat16, on the device of ``x``.

    Devices without autocast, such as "meta", have one precision only.

    Example:
        >>> with torch.autocast("cpu"), precision_of(torch.ones(2)):
        ...     (torch.ones(2, 2) @ torch.ones(2)).dtype
        torch.float32
    """
    kind = x.device.type
    if not torch.amp.is_autocast_available(kind):
        return nullcontext()
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=bf16)


def autocasts(x: Tensor) -> bool:
    """Whether autocast is on for the device of ``x``.

    Example:
        >>> autocasts(torch.ones(2))
        False
    """
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)

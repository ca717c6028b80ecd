"""The log-determinant by automatic differentiation: for maps that give none, and to check those that do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rectilinear._shapes import single
from rectilinear.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

LARGEST = 1024


def autograd_logdet(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``log |det dg/dx|`` of shape ``(b,)``, row by row of the Jacobian: ``n`` backward passes.

    Raises:
        InputError: for more than 1,024 coordinates.

    Example:
        >>> autograd_logdet(lambda x: 2 * x, torch.ones(3, 4)) / torch.tensor(2.0).log()
        tensor([4., 4., 4.])
    """
    n = x[0].numel()
    if n > LARGEST:
        raise InputError(
            got=f"{n} coordinates and no log-determinant",
            expected=f"at most {LARGEST} for a Jacobian by automatic differentiation",
            fix="Give a function that returns log |det dg/dx|.",
        )
    wanted = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        z = function(x).flatten(1)
        rows = [
            torch.autograd.grad(z[:, i].sum(), x, create_graph=wanted, retain_graph=True, materialize_grads=True)[0]
            for i in range(n)
        ]
        jacobian = torch.stack([row.flatten(1) for row in rows], dim=1)
        logdet = torch.linalg.slogdet(single(jacobian)).logabsdet.to(x.dtype)
    return logdet if wanted else logdet.detach()

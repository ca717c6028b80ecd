"""The gradient of one step, from parts of its batch that are computed one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rectilinear.errors import ConfigError

RESERVED = {"step", "seconds", "lr", "gradient_norm"}
"""Fields of the log that say where the run is."""


def add_gradients(
    compute: Callable[[Tensor], Any],
    objective: nn.Module,
    batch: Tensor,
    size: int | None,
    must_end: Callable[[], bool],
) -> tuple[dict[str, Any], int]:
    """The mean terms over the rows of ``batch``, and the number of rows that were computed.

    The gradient of the mean loss over these rows is in the parameters of ``objective``.

    Args:
        compute: rows to terms, ``{"loss": mean over the rows, ...}``.
        objective: whose parameters take the gradient; zero before.
        batch: ``(b, ...)``.
        size: rows computed at a time; all where None.
        must_end: asked after each part; True leaves out the parts that follow.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> compute = lambda x: {"loss": model(x).mean()}
        >>> _, rows = add_gradients(compute, model, torch.tensor([[1.0], [3.0]]), 1, lambda: False)
        >>> model.weight.grad, rows
        (tensor([[2.]]), 2)
    """
    parts = batch.split(size or len(batch))
    if len(parts) == 1:
        terms = compute(batch)
        loss_of(terms).backward()
        return terms, len(batch)
    sums: dict[str, Tensor] = {}
    rows = 0
    for part in parts:
        terms = compute(part)
        (loss_of(terms) * (len(part) / len(batch))).backward()
        for name, x in scalars(terms).items():
            sums[name] = sums.get(name, torch.zeros_like(x)) + len(part) * x
        rows += len(part)
        if rows < len(batch) and must_end():
            for p in objective.parameters():
                if p.grad is not None:
                    p.grad *= len(batch) / rows
            break
    return {name: x / rows for name, x in sums.items()}, rows


def scalars(terms: Mapping[str, Any]) -> dict[str, Tensor]:
    """The numbers among the terms of an objective, without gradients."""
    found = {name: x for name, x in terms.items() if isinstance(x, Tensor) and x.ndim == 0}
    return {name: x.detach() for name, x in found.items()}


def loss_of(terms: Any) -> Tensor:
    """The loss among what an objective returned.

    Raises:
        ConfigError: if there is none, or it has no gradient.
    """
    loss = terms.get("loss") if isinstance(terms, dict) else None
    if taken := RESERVED & set(terms if isinstance(terms, dict) else ()):
        raise ConfigError(
            f"a term {min(taken)!r}", "a name that the log does not use itself", "Rename the term."
        )
    if isinstance(loss, Tensor) and loss.ndim == 0:
        if not loss.requires_grad or loss.is_complex():
            got = (
                "a complex loss"
                if loss.is_complex()
                else "a loss that depends on no trainable parameter"
            )
            raise ConfigError(
                got, "a real one with a gradient", "Compute it from the parameters, without detach."
            )
        return loss
    got = (
        f"a loss of shape {tuple(loss.shape)}"
        if isinstance(loss, Tensor)
        else f"no loss in a {type(terms).__name__}"
    )
    raise ConfigError(
        got,
        'a dictionary with the scalar tensor "loss"',
        "Return {'loss': the mean over the batch}.",
    )

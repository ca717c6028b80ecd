"""The losses since the last line of the log, kept on the device so that no step waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rectilinear.errors import ConfigError, DivergedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rectilinear.training.distributed import Group


RESERVED = {"step", "seconds", "lr", "gradient_norm"}
"""Fields of the log that say where the run is."""


class Window:
    """Gathers each step's scalars without reading them; ``means`` reads them all at once."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._rows: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, terms: Mapping[str, Tensor], gradient_norm: Tensor) -> None:
        """Take in the scalars of one step."""
        scalars = {name: x for name, x in terms.items() if isinstance(x, Tensor) and x.ndim == 0}
        scalars["gradient_norm"] = gradient_norm
        self._names = list(scalars)
        dtype = torch.promote_types(torch.float32, scalars["loss"].dtype)
        self._rows.append(torch.stack([x.detach().to(dtype) for x in scalars.values()]))

    def means(self, group: Group, step: int, advice: str) -> dict[str, float]:
        """Means over the steps since the last call, the last of which was number ``step - 1``, and over the processes.

        Raises:
            DivergedError: if a loss or the norm of a gradient is not finite, with the first such step.
        """
        table = group.mean(torch.stack(self._rows)).cpu()
        bad = (~torch.isfinite(table[:, [self._names.index("loss"), -1]])).nonzero()
        if len(bad):
            row, column = bad[0].tolist()
            raise DivergedError(
                got=f"a {('loss', 'gradient')[column]} that is not finite at step {step - len(table) + row}",
                expected="finite numbers",
                fix=advice,
            )
        self._rows = []
        return dict(zip(self._names, table.mean(0).tolist(), strict=True))


def loss_of(terms: Any) -> Tensor:
    """The loss among what an objective returned.

    Raises:
        ConfigError: if there is no scalar ``"loss"``.
    """
    loss = terms.get("loss") if isinstance(terms, dict) else None
    if taken := RESERVED & set(terms if isinstance(terms, dict) else ()):
        raise ConfigError(f"a term {min(taken)!r}", "a name that the log does not use itself", "Rename the term.")
    if isinstance(loss, Tensor) and loss.ndim == 0:
        if not loss.requires_grad or loss.is_complex():
            got = "a complex loss" if loss.is_complex() else "a loss that depends on no trainable parameter"
            raise ConfigError(got, "a real one with a gradient", "Compute it from the parameters, without detach.")
        return loss
    got = f"a loss of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"no loss in a {type(terms).__name__}"
    raise ConfigError(got, 'a dictionary with the scalar tensor "loss"', "Return {'loss': the mean over the batch}.")

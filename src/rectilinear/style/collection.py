"""Several style transfer models used as one: each style belongs to one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from rectilinear.errors import ConfigError
from rectilinear.operators import Dense
from rectilinear.serialization import Configured
from rectilinear.style.model import Path, StyleTransfer
from rectilinear.style.style_map import IDENTITY, StyleMap, WayBack


@final
class StyleCollection(Configured):
    """The styles of several models, used as one :class:`StyleTransfer`.

    Styles of one model have paths and blends between them; styles of different models are exchanged
    through the image, by ``between``.

    Args:
        members: models without a common name but ``"identity"``.

    Raises:
        ConfigError: for no model, or a style that is in two of them.

    Example:
        >>> import torch
        >>> from rectilinear.style import new_model
        >>> a, b = new_model(["night"], couplings=2), new_model(["ink"], couplings=2)
        >>> model = StyleCollection([a, b])
        >>> model.names
        ('identity', 'night', 'ink')
        >>> model(torch.rand(3, 10, 9), "ink").shape
        torch.Size([3, 10, 9])
    """

    def __init__(self, members: Sequence[StyleTransfer]) -> None:
        super().__init__()
        names = [name for member in members for name in member.styles]
        if not members or len(set(names)) != len(names):
            raise ConfigError(
                f"models of the styles {', '.join(names) or 'of none'}",
                "each style in one model",
                "Rename or remove it with without(name) and added(name, operator).",
            )
        self.members = nn.ModuleList(members)
        self.styles = tuple(names)

    @property
    def names(self) -> tuple[str, ...]:
        """``"identity"`` and the styles of all models."""
        return (IDENTITY, *self.styles)

    def member(self, *names: str) -> StyleTransfer:
        """The model that has all of these styles, given by ``names``.

        Raises:
            ConfigError: for an unknown name, or styles of different models.
        """
        if unknown := [name for name in names if name not in self.names]:
            raise ConfigError(f"the style '{unknown[0]}'", f"one of {', '.join(self.names)}")
        for member in self.members:
            assert isinstance(member, StyleTransfer)
            if set(names) <= set(member.names):
                return member
        raise ConfigError(
            f"a path or blend of {' and '.join(names)}, of different networks",
            "styles of one: " + "; or ".join(", ".join(m.names) for m in self.members),  # type: ignore[arg-type] # as built
            "Use between, or go through 'identity'.",
        )

    def forward(self, x: Tensor, name: str) -> Tensor:
        """The images ``x`` in the style ``name``; see :class:`StyleTransfer`."""
        return self.member(name)(x, name)

    def style(self, name: str) -> StyleMap:
        """The map of the style ``name``."""
        return self.member(name).style(name)

    def operator(self, name: str) -> Dense:
        """The operator of the style ``name``, in the coordinates of its own network."""
        return self.member(name).operator(name)

    def blend(self, weights: dict[str, float]) -> StyleMap:
        """The blend of styles of one model by ``weights``; see :meth:`StyleTransfer.blend`."""
        return self.member(*weights).blend(weights)

    def path(self, start: str, end: str, t: float, *, kind: Path = "straight") -> StyleMap:
        """The map at ``t`` from ``start`` to ``end``, by ``kind``: :meth:`StyleTransfer.path`."""
        return self.member(start, end).path(start, end, t, kind=kind)

    def removal(self, name: str) -> WayBack:
        """The map back from the style ``name``; see :meth:`StyleTransfer.removal`."""
        return self.member(name).removal(name)

    def between(self, start: str, end: str) -> WayBack:
        """The map from the style ``start`` to ``end``, also of another model."""
        return self.removal(start).after(self.style(end))

    def extra_repr(self) -> str:
        return ", ".join(self.names)

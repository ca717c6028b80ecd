"""The style transfer model: one shared network, and one affine map at every place a style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Literal, final

import torch
from torch import Tensor, nn

from rectilinear.errors import ConfigError, ShapeError
from rectilinear.operators import Dense, pinv
from rectilinear.serialization import Configured
from rectilinear.style.place_flow import Basis, PlaceFlow
from rectilinear.style.place_operator import PlaceOperator
from rectilinear.style.style_map import IDENTITY, StyleMap, WayBack

Path = Literal["straight", "power"]


@final
class StyleTransfer(Configured):
    """Images of any size in several styles, ``f_k = g^-1 . (M_k . + b_k) . g`` at every place.

    All styles share the invertible network ``g``, and the image itself is the style ``"identity"``.
    So a style has a strength, two styles have paths between them, and a style can be removed or
    exchanged for another, by algebra of matrices of ``C + 1`` dimensions (homogeneous coordinates),
    for images of any size.

    Args:
        g: the network.
        styles: the operator of each style by its name.
        ways_back: by name of the style, the operator from latents of images in the style, of 8
            bits, to latents of the images; see :func:`~rectilinear.style.fit_way_back`.

    Raises:
        ConfigError: for a name that is empty, ``"identity"``, not a string, or has one of ``=,.``;
            for a way back from a style that is not there.
        ShapeError: if an operator is not of the network's channels.

    Reference: Berman et al., "Who Said Neural Networks Aren't Linear?", arXiv 2510.08570, section
    4.2; An et al., "ArtFlow", arXiv 2103.16877, for style transfer by an invertible network.

    Example:
        >>> g = PlaceFlow(couplings=2, width=8)
        >>> darker = PlaceOperator(torch.cat([0.5 * torch.eye(48), torch.zeros(48, 1)], 1))
        >>> model = StyleTransfer(g, {"dark": darker})
        >>> model(torch.rand(3, 30, 50), "dark").shape, model.names
        (torch.Size([3, 30, 50]), ('identity', 'dark'))
        >>> half = model.path("identity", "dark", 0.5)
    """

    def __init__(
        self,
        g: PlaceFlow,
        styles: Mapping[str, PlaceOperator],
        ways_back: Mapping[str, PlaceOperator] | None = None,
    ) -> None:
        super().__init__()
        ways_back = ways_back or {}
        if unknown := sorted(set(ways_back) - set(styles)):
            raise ConfigError(f"a way back from '{unknown[0]}'", f"one of {', '.join(styles)}")
        for name, A in [*styles.items(), *ways_back.items()]:
            if not isinstance(name, str) or not name or set(name) & set("=,.") or name == IDENTITY:
                raise ConfigError(
                    f"a style named {name!r}",
                    f"a name without '=', ',' and '.', not '{IDENTITY}'",
                    "Rename it.",
                )
            if not isinstance(A, PlaceOperator) or A.channels != g.places:
                raise ShapeError(
                    f"{A} for the style '{name}'",
                    f"a PlaceOperator of {g.places} channels",
                    "Fit it with fit_style.",
                )
        self.g, self.styles, self._back = g, tuple(styles), tuple(ways_back)
        # Lists: names such as "half" are taken in a ModuleDict.
        self.operators = nn.ModuleList(styles.values())
        self.ways_back = nn.ModuleList(ways_back.values())

    @property
    def names(self) -> tuple[str, ...]:
        """``"identity"`` and the styles."""
        return (IDENTITY, *self.styles)

    def matrix(self, name: str) -> Tensor:
        """The matrix ``[[M, b], [0, 1]]`` of a style, ``(C + 1, C + 1)``, with its gradient.

        Raises:
            ConfigError: if no style has this name.
        """
        if name == IDENTITY:
            return torch.eye(
                self.g.places + 1, dtype=self.g.shift.dtype, device=self.g.shift.device
            )
        return self._operator(name).matrix()

    def operator(self, name: str) -> Dense:
        """The matrix of a style as an operator: ``rl.svd``, ``rl.logm``, ``@`` and ``**``.

        Raises:
            ConfigError: if no style has this name.
        """
        return Dense(self.matrix(name).detach(), trainable=False)

    def _operator(self, name: str) -> PlaceOperator:
        if name not in self.styles:
            raise ConfigError(f"the style '{name}'", f"one of {', '.join(self.names)}")
        A = self.operators[self.styles.index(name)]
        assert isinstance(A, PlaceOperator)
        return A

    def forward(self, x: Tensor, name: str) -> Tensor:
        """The images ``x``, ``(c, h, w)`` or a batch, in the style ``name``; not clipped."""
        return self.style(name)(x)

    def style(self, name: str) -> StyleMap:
        """``f_k`` as a map of images.

        Raises:
            ConfigError: if no style has this name.
        """
        return StyleMap((self.g, self.operator(name)))

    def blend(self, weights: Mapping[str, float]) -> StyleMap:
        """``g^-1 . sum_k w_k (M_k . + b_k) . g``; weights sum to one, negative ones extrapolate.

        Raises:
            ConfigError: for weights that do not sum to one, or an unknown name.
        """
        if not abs(sum(weights.values()) - 1) <= 1e-6:  # nor NaN
            raise ConfigError(
                f"weights that sum to {sum(weights.values()):g}",
                "1",
                f"Give the rest to '{IDENTITY}', or divide them by their sum.",
            )
        first, *rest = (w * self.operator(name) for name, w in weights.items())
        return StyleMap((self.g, sum(rest, first)))

    def path(self, start: str, end: str, t: float, *, kind: Path = "straight") -> StyleMap:
        """The map at ``t`` between two styles: 0 is ``start``, 1 is ``end``, 1.2 is beyond.

        ``"straight"``: ``(1 - t) H_i + t H_j``, a linear blend; ``"power"``: ``H_i (H_i^-1
        H_j)^t``, from the identity ``H_j^t``, which changes colours and strokes in proportion to
        their size. From the identity, ``t`` is the strength of a style.

        Raises:
            ConfigError: for an unknown name or kind, or a ``t`` that is not finite.
            SingularOperatorError: for a power that is not real, which cannot happen from the
                identity in a model trained with ``generator=True``.
        """
        if not isfinite(t):
            raise ConfigError(f"t = {t}", "a finite number")
        if kind == "power":
            A, B = self.operator(start), self.operator(end)
            if start == IDENTITY:
                return StyleMap((self.g, self._power(end, t)))
            return StyleMap((self.g, A @ (pinv(A) @ B) ** t))
        if kind != "straight":
            raise ConfigError(f"a path {kind!r}", "'straight' or 'power'")
        return self.style(start) if start == end else self.blend({start: 1 - t, end: t})

    def _power(self, name: str, t: float) -> Dense:
        """``H^t``, of a generator ``exp(t L)``, without a logarithm of what was an exponential."""
        if name == IDENTITY or not self._operator(name).generator:
            power = self.operator(name) ** t
            assert isinstance(power, Dense)
            return power
        rows = t * self._operator(name).rows.detach()
        return Dense(PlaceOperator(rows, generator=True).matrix().detach(), trainable=False)

    def removal(self, name: str) -> WayBack:
        """The map from images in a style to the images: exact for floats, fitted for 8-bit images.

        Exact up to rounding, except of images smaller than a block of the network, which a warning
        names.

        Raises:
            ConfigError: if no style has this name.
        """
        exact = StyleMap((self.g, pinv(self.operator(name))))
        if name == IDENTITY:
            return WayBack(exact, exact, name)
        if name not in self._back:
            return WayBack(exact, None, name)
        back = self.ways_back[self._back.index(name)]
        assert isinstance(back, PlaceOperator)
        return WayBack(exact, StyleMap((self.g, back.operator())), name)

    def between(self, start: str, end: str) -> WayBack:
        """The map from images in the style ``start`` to the style ``end``, as in :meth:`removal`.

        Raises:
            ConfigError: if no style has one of the names.
        """
        return self.removal(start).after(self.style(end))

    def added(
        self, name: str, operator: PlaceOperator, way_back: PlaceOperator | None = None
    ) -> StyleTransfer:
        """The model with the style ``name`` added or replaced; the network is the same object.

        ``operator`` and ``way_back`` are as :func:`~rectilinear.style.fit_style` and
        :func:`~rectilinear.style.fit_way_back` return them.

        Raises:
            ConfigError, ShapeError: if it does not fit.
        """
        ways_back = {k: A for k, A in self._ways_back().items() if k != name}
        if way_back is not None:
            ways_back[name] = way_back
        return StyleTransfer(self.g, self._operators() | {name: operator}, ways_back)

    def without(self, name: str) -> StyleTransfer:
        """The model with one style less; the network is the same object.

        Raises:
            ConfigError: if no style has this name.
        """
        self._operator(name)
        styles, back = (
            {k: A for k, A in kept.items() if k != name}
            for kept in (self._operators(), self._ways_back())
        )
        return StyleTransfer(self.g, styles, back)

    @property
    def shares(self) -> dict[str, float]:
        """The numbers of each style as a part of the parameters of the network."""
        total = max(1, sum(p.numel() for p in self.g.parameters()))
        return {name: self._operator(name).rows.numel() / total for name in self.styles}

    def _operators(self) -> dict[str, PlaceOperator]:
        return {name: self._operator(name) for name in self.styles}

    def _ways_back(self) -> dict[str, PlaceOperator]:
        return dict(zip(self._back, self.ways_back, strict=True))  # type: ignore[arg-type] # as built

    def extra_repr(self) -> str:
        return ", ".join(self.names)


def new_model(
    styles: Sequence[str],
    channels: int = 3,
    couplings: int = 6,
    width: int = 48,
    *,
    basis: Basis = "dct",
    generator: bool = False,
    seed: int = 0,
) -> StyleTransfer:
    """An untrained model: every style is the identity until :class:`StyleObjective` fits it.

    Args:
        styles: their names.
        channels: 3 for colour, 1 for grey.
        couplings: of the network.
        width: of its conditioners.
        basis: ``"dct"`` for painted styles, ``"pixels"`` for curves of tones.
        generator: operators that are exponentials, so that every power of a style is real.
        seed: of the network.

    Raises:
        ConfigError: for no styles or two of one name.

    Example:
        >>> model = new_model(["night", "woodcut"], couplings=2, width=8)
        >>> x = torch.rand(3, 21, 30)
        >>> bool(torch.allclose(model(x, "night"), x, atol=1e-5))
        True
    """
    if not styles or len(set(styles)) != len(styles):
        raise ConfigError(
            f"styles {', '.join(styles) or 'of no name'}",
            "different names, at least one",
            "Name each once.",
        )
    g = PlaceFlow(channels, 4, couplings, width, basis, seed=seed)
    rows = torch.zeros(g.places, g.places + 1)
    if not generator:
        rows[:, :-1] = torch.eye(g.places)
    return StyleTransfer(g, {name: PlaceOperator(rows, generator=generator) for name in styles})

"""The style transfer model: one operator for each style between two shared induced spaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from rectilinear.checks import check_floating
from rectilinear.errors import ConfigError, ShapeError
from rectilinear.induced_space import InducedSpace
from rectilinear.invertible import ImageFlow, Invertible
from rectilinear.linearizer import Linearizer
from rectilinear.modules import SameAs, module_list, other
from rectilinear.operators import Convolution, Identity, Operator, norm, pinv
from rectilinear.serialization import Configured


@final
class StyleTransfer(Configured):
    """Images in several styles, ``f_k = g_out^-1 . A_k . g_in``: two networks, an operator a style.

    Since the spaces are shared, styles have the arithmetic of their operators: ``(1 - a) A_i + a
    A_j`` lies between two styles, ``A_j A_i^+`` turns one into the other and ``A_i^+`` takes it
    away. Everything returned is a :class:`~rectilinear.Linearizer`; models with other styles share
    the networks.

    Args:
        g_in: the network of the images.
        styles: the operator of each style by its name.
        g_out: the network of the images in a style; that of the images where None.

    Raises:
        ConfigError: without styles, or for a name that is empty, not a string, or has one of
            ``=,.``.
        ShapeError: if the operators differ in shape, or do not fit the networks.

    Reference: Berman et al., "Who Said Neural Networks Aren't Linear?", arXiv 2510.08570, section
    4.2, where a network of the style's number gives the operator.

    Example:
        >>> import rectilinear as rl
        >>> g = rl.invertible.ImageFlow((3, 8, 8), blocks=2, width=8)
        >>> blur = rl.operators.Convolution((3, 8, 8), torch.full((3, 3, 3), 1 / 9))
        >>> model = StyleTransfer(g, {"original": rl.operators.Identity(192), "blur": blur})
        >>> half = model.blend({"original": 0.5, "blur": 0.5})
        >>> half(torch.rand(2, 3, 8, 8)).shape, model.names
        (torch.Size([2, 3, 8, 8]), ('original', 'blur'))
    """

    g_out = SameAs["Invertible"]("g_in")

    def __init__(
        self, g_in: Invertible, styles: Mapping[str, Operator], g_out: Invertible | None = None
    ) -> None:
        super().__init__()
        if not styles:
            raise ConfigError("no styles", "at least one", "Pass {name: operator}.")
        for name in styles:
            if not isinstance(name, str) or not name or set(name) & set("=,."):
                raise ConfigError(
                    f"a style named {name!r}", "a name without '=', ',' and '.'", "Rename it."
                )
        self.g_in, self.g_out = g_in, other(g_in, g_out)
        self.names = tuple(styles)
        self.operators = module_list(
            styles.values()
        )  # a list: names such as "half" are taken in a ModuleDict
        first = next(iter(styles.values()))
        for name in self.names:
            A = self.operator(name)
            if (A.in_dim, A.out_dim) != (first.in_dim, first.out_dim):
                raise ShapeError(
                    (
                        f"style '{name}' of shape {A.out_dim} x {A.in_dim} beside {first.out_dim} "
                        f"x {first.in_dim}"
                    ),
                    "operators of one shape",
                    "All styles act between the same two spaces.",
                )
            self._linearizer(A)

    @property
    def in_space(self) -> InducedSpace:
        """The space of the images."""
        return InducedSpace(self.g_in)

    @property
    def out_space(self) -> InducedSpace:
        """The space of the images in a style."""
        return InducedSpace(self.g_out)

    def operator(self, name: str) -> Operator:
        """The operator of a style.

        Raises:
            ConfigError: if no style has this name.
        """
        if name not in self.names:
            raise ConfigError(
                f"the style '{name}'", f"one of {', '.join(self.names)}", "Correct the name."
            )
        A = self.operators[self.names.index(name)]
        if not isinstance(A, Operator):
            raise ShapeError(
                f"a {type(A).__name__} as style '{name}'", "an Operator", "Wrap a matrix in Dense."
            )
        return A

    def forward(self, x: Tensor, name: str) -> Tensor:
        """The images ``x`` in the style ``name``."""
        return self.style(name)(x)

    def style(self, name: str) -> Linearizer:
        """``f_k = g_out^-1 . A_k . g_in``.

        Raises:
            ConfigError: if no style has this name.
        """
        return self._linearizer(self.operator(name))

    def blend(self, weights: Mapping[str, float]) -> Linearizer:
        """``g_out^-1 . sum_k w_k A_k . g_in``: with weights ``1 - a``, ``a`` a straight path.

        Raises:
            ConfigError: without weights, or for an unknown name.
        """
        if not weights:
            raise ConfigError("a blend of no styles", "at least one weight", "Pass {name: weight}.")
        first, *rest = (weight * self.operator(name) for name, weight in weights.items())
        return self._linearizer(sum(rest, first))

    def path(self, start: str, end: str, t: float, *, geodesic: bool = False) -> Linearizer:
        """The style at ``t`` between two: ``(1 - t) A_i + t A_j``; geodesic ``A_i (A_i^-1 A_j)^t``.

        The geodesic multiplies where the straight path adds; it is the one of invertible matrices
        in the metric that their products leave alone.

        Raises:
            ConfigError: if no style has one of the names.
            SingularOperatorError: on the geodesic, if ``A_i`` has no inverse, or ``A_i^-1 A_j`` an
                eigenvalue that is negative, so that no real power exists.
        """
        if not geodesic:
            return self.style(start) if start == end else self.blend({start: 1 - t, end: t})
        A, B = self.operator(start), self.operator(end)
        return self._linearizer(A @ (A**-1 @ B) ** t)

    def between(self, start: str, end: str, damping: float = 0.0) -> Linearizer:
        """``g_out^-1 . A_j A_i^+ . g_out``: images in the style ``start`` to the style ``end``.

        Args:
            start: the style that the images have.
            end: the style that they get.
            damping: as for :meth:`removal`.

        Raises:
            ConfigError: if no style has one of the names, or ``damping`` is negative.
        """
        return Linearizer(
            self.g_out, self.operator(end) @ self.removal(start, damping).operator, self.g_out
        )

    def removal(self, name: str, damping: float = 0.0) -> Linearizer:
        """``g_in^-1 . A_k^+ . g_out``, which takes a style away.

        With ``damping`` ``d`` the inverse of Tikhonov, ``A^T (A A^T + d |A|^2 I)^-1``: what the
        style weakens below ``sqrt(d)`` of its norm is not brought back, and neither is the noise in
        it. Images that the model has not made itself need it; 0.001 is a start.

        Raises:
            ConfigError: if no style has this name, or ``damping`` is negative.
        """
        A = self.operator(name)
        if not damping >= 0:
            raise ConfigError(f"damping = {damping}", "0 or more", "Correct the damping.")
        if damping == 0:
            return Linearizer(self.g_out, pinv(A), self.g_in)
        ridge = (damping * norm(A).detach() ** 2) * Identity(A.out_dim, like=A.like)
        return Linearizer(self.g_out, A.T @ pinv(A @ A.T + ridge), self.g_in)

    def added(self, name: str, operator: Operator) -> StyleTransfer:
        """The model with one style added or replaced; the networks are the same objects.

        Raises:
            ShapeError: if the operator does not fit.
        """
        return StyleTransfer(self.g_in, self._operators() | {name: operator}, self.g_out)

    def without(self, name: str) -> StyleTransfer:
        """The model with one style less; the networks are the same objects.

        Raises:
            ConfigError: if no style has this name, or it is the last.
        """
        self.operator(name)
        return StyleTransfer(
            self.g_in, {k: A for k, A in self._operators().items() if k != name}, self.g_out
        )

    @property
    def shares(self) -> dict[str, float]:
        """The parameters of each style as a part of those of the networks."""
        networks = {id(p): p.numel() for g in (self.g_in, self.g_out) for p in g.parameters()}
        total = max(1, sum(networks.values()))
        return {name: _size(self.operator(name)) / total for name in self.names}

    def _operators(self) -> dict[str, Operator]:
        return {name: self.operator(name) for name in self.names}

    def _linearizer(self, operator: Operator) -> Linearizer:
        return Linearizer(self.g_in, operator, self.g_out)

    def extra_repr(self) -> str:
        return ", ".join(self.names)


def _size(operator: Operator) -> int:
    return sum(t.numel() for t in operator.state_dict().values() if torch.is_floating_point(t))


def new_model(
    shape: tuple[int, int, int],
    styles: Sequence[str],
    blocks: int = 8,
    width: int = 32,
    levels: int = 2,
    kernel: int = 5,
    *,
    shared: bool = False,
) -> StyleTransfer:
    """Two convolutional networks on images ``(c, h, w)`` and a circular convolution for each style.

    Such operators are small, diagonal (in blocks of ``c x c``) in a Fourier basis, and closed under
    sums, products, pseudo-inverses and powers. They start at zero: :class:`StyleObjective` starts
    them at least squares.

    Args:
        shape: of the images; height and width must be divisible by ``2^levels``.
        styles: their names.
        blocks: couplings of each network.
        width: of their conditioners.
        levels: resolutions of each network.
        kernel: side of the operators' kernels, odd.
        shared: one network for images and for styled images, which makes the styles operators
            of one space.

    Raises:
        ConfigError: for no styles, two of one name, or an even kernel.
        ShapeError: if the shape does not fit the levels or the kernel.

    Example:
        >>> model = new_model((3, 16, 16), ["soft", "ink"], blocks=4, width=16)
        >>> model.names, model.operator("ink").kernel.shape
        (('soft', 'ink'), torch.Size([3, 3, 5, 5]))
    """
    if len(set(styles)) != len(styles):
        raise ConfigError(f"styles {', '.join(styles)}", "different names", "Name each once.")
    if kernel < 1 or kernel % 2 == 0:
        raise ConfigError(f"kernel = {kernel}", "an odd number", "Kernels have a centre.")
    g_in, *g_out = (
        ImageFlow(shape, blocks, width, levels=levels, actnorm=True, seed=seed)
        for seed in range(1 if shared else 2)
    )
    operators = {
        name: Convolution(shape, torch.zeros(shape[0], shape[0], kernel, kernel)) for name in styles
    }
    return StyleTransfer(g_in, operators, *g_out)


_CHUNK = 64  # tiles at a time


@torch.no_grad()
def in_tiles(f: Linearizer, image: Tensor) -> Tensor:
    """An image ``(c, H, W)`` of any size through ``f``, a map of tiles ``(c, h, w)``.

    Tiles overlap by half, with the window ``sin^2`` where they do, so that no seam shows; an image
    of the size of a tile is one tile.

    Raises:
        ShapeError: if the image has other channels than ``f`` maps, or is smaller than a tile.

    Example:
        >>> import rectilinear as rl
        >>> f = rl.Linearizer(rl.invertible.Flatten((3, 8, 8)), rl.operators.Identity(192))
        >>> x = torch.rand(3, 21, 30)
        >>> bool(torch.allclose(in_tiles(f, x), x, atol=1e-6))
        True
    """
    check_floating(image, "image")
    c, h, w = f.g_in.shape
    if image.ndim != 3 or image.shape[0] != c or image.shape[1] < h or image.shape[2] < w:
        raise ShapeError(
            f"an image of shape {tuple(image.shape)}",
            f"({c}, H, W) of at least {h} x {w}",
            "Grow it.",
        )
    rows, columns = (_starts(n, tile) for n, tile in zip(image.shape[1:], (h, w), strict=True))
    places = [(y, x) for y in rows for x in columns]
    tiles = torch.stack([image[:, y : y + h, x : x + w] for y, x in places])
    styled = torch.cat([f(part) for part in tiles.split(_CHUNK)])
    window = _fade(h, image)[:, None] * _fade(w, image)
    total, weight = (
        image.new_zeros(len(styled[0]), *image.shape[1:]),
        image.new_zeros(image.shape[1:]),
    )
    for (y, x), tile in zip(places, styled, strict=True):
        total[:, y : y + h, x : x + w] += window * tile
        weight[y : y + h, x : x + w] += window
    return total / weight


def _starts(length: int, tile: int) -> list[int]:
    """The first pixels of tiles: half a tile apart, the last at the border."""
    return [*range(0, length - tile, max(1, tile // 2)), length - tile]


def _fade(n: int, like: Tensor) -> Tensor:
    """``sin^2`` from border to border, nowhere zero."""
    return torch.sin(
        torch.pi * (torch.arange(n, dtype=like.dtype, device=like.device) + 0.5) / n
    ).square()

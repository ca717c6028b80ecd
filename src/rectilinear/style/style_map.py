"""Maps of images of any size: through a network, an affine map at every place, and back."""

from __future__ import annotations

import warnings
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from rectilinear.checks import check_floating, check_scale, check_tensor, is_concrete
from rectilinear.errors import (
    ConfigError,
    DataWarning,
    DtypeError,
    ShapeError,
    SpaceMismatchError,
)
from rectilinear.operators import Dense, Operator, to_dense
from rectilinear.style.place_flow import PlaceFlow
from rectilinear.style.place_operator import apply_places

IDENTITY = "identity"
LEVELS = 255
UNCLIPPED = 15.0  # that values may lie outside 0 to 1: of some networks they reach 10
NEGATIVE = 0.1  # values below minus this, in more than this share of an image: another scale
FLAT = 0.01  # standard deviation of an image without contrast
_NEAR = 1e-3  # of a level: what float32 loses of a number that was one


def encode(g: PlaceFlow, x: Tensor) -> Tensor:
    """``g(x)`` of the whole blocks of images, which begin at the upper left.

    Images smaller than one block are mirrored to one.

    Example:
        >>> encode(PlaceFlow(couplings=0), torch.rand(1, 3, 7, 13)).shape
        torch.Size([1, 48, 1, 3])
    """
    h, w = x.shape[2:]
    h, w = (n - n % g.block for n in (max(h, g.block), max(w, g.block)))
    return g(_at_least(x, g.block)[..., :h, :w])


def _at_least(x: Tensor, n: int) -> Tensor:
    """The images, mirrored at the right and lower border to ``n`` pixels where they have less."""
    h, w = x.shape[2:]
    down, right = max(0, n - h), max(0, n - w)
    if down or right:
        mode = "reflect" if down < h and right < w else "replicate"
        x = functional.pad(x, (0, right, 0, down), mode=mode)
    return x


def _with_rest(x: Tensor, y: Tensor) -> Tensor:
    """``y``, a map of the upper left part ``x_0`` of ``x``, with the rest of ``x``, up to a block.

    The last pixel ``u`` before goes to ``v``, so ``v + s (x - u)`` follows. The slope ``s`` of each
    channel is the quotient of the standard deviations of ``y`` and ``x_0``, negative where they
    are negatively correlated: slopes of maps compose and invert as the maps do.
    """
    h, w = y.shape[2:]
    rest = (0, x.shape[3] - w, 0, x.shape[2] - h)
    if not any(rest):
        return y
    u = x[..., :h, :w]
    a, b = (t - t.mean((2, 3), keepdim=True) for t in (u, y))
    together = (a * b).mean((2, 3), keepdim=True)
    sizes = [t.square().mean((2, 3), keepdim=True) + FLAT**2 for t in (a, b)]
    slope = torch.where(together < 0, -1, 1) * (sizes[1] / sizes[0]).sqrt()
    u, v = (functional.pad(t, rest, mode="replicate") for t in (u, y))
    return v + slope * (x - u)


def as_images(x: Tensor, channels: int) -> Tensor:
    """Images ``(b, c, h, w)`` in [0, 1] as floats, from these, from one without batch, from bytes.

    Raises:
        ShapeError: for another shape or no pixel.
        DtypeError: for whole numbers that are no bytes.
        DataError: for values far outside 0 to 1, or whole numbers above 1: bytes as floats.
        NonFiniteError: for NaN.

    Warns:
        DataWarning: if more than a tenth of the values is below -.1 and none above 1.
    """
    x = x.float() / LEVELS if isinstance(x, Tensor) and x.dtype == torch.uint8 else x
    if isinstance(x, Tensor) and x.dtype in (torch.uint16, torch.int16, torch.int32, torch.int64):
        raise DtypeError(
            f"an image of {x.dtype}",
            "floats in [0, 1], or bytes (torch.uint8)",
            "Divide it by the largest value that it can have: 255 or 65535.",
        )
    check_floating(x, "an image")
    images = x[None] if x.ndim == 3 else x
    if images.ndim != 4 or images.shape[1] != channels or 0 in images.shape:
        raise ShapeError(
            f"images of shape {tuple(x.shape)}",
            f"({channels}, h, w) or (batch, {channels}, h, w)",
            "Put the channels before height and width.",
        )
    if is_concrete(x):
        check_scale(x, "an image", UNCLIPPED)
        if (
            float(x.detach().amax()) <= 1
            and float((x.detach() < -NEGATIVE).float().mean()) > NEGATIVE
        ):
            warnings.warn(
                "an image with many values below 0, as if they went from -1 to 1; expected 0 to 1: "
                "(x + 1) / 2",
                DataWarning,
                stacklevel=2,
            )
    return images


def is_eight_bit(x: Tensor) -> bool:
    """True if every value is one of 256 levels, as in an image that has been in a file.

    Example:
        >>> is_eight_bit(torch.tensor([0.0, 17 / 255])), is_eight_bit(torch.tensor([0.1234]))
        (True, False)
    """
    check_tensor(x, "x")
    if x.dtype == torch.uint8:
        return True
    levels = x * LEVELS
    return bool(((levels - levels.round()).abs() <= _NEAR).all()) and bool(
        ((x >= 0) & (x <= 1)).all()
    )


def as_eight_bit(x: Tensor) -> Tensor:
    """The image rounded to 256 levels in [0, 1], as a file stores it.

    Example:
        >>> as_eight_bit(torch.tensor([-0.2, 0.5, 1.3])).tolist()
        [0.0, 0.501960813999176, 1.0]
    """
    return (x.clamp(0, 1) * LEVELS).round() / LEVELS


@final
class StyleMap(nn.Module):
    """The map ``g^-1 . H . g`` of images of any size, ``H`` the same at every place.

    The network takes whole blocks. Up to three rows and columns are left at the lower and right
    border of other images; there, the last pixel before is continued by the differences of the
    image, at the contrast of the map, so that these maps, too, compose and invert.

    ``f2 @ f1`` composes, ``f ** t`` is a real power. Maps of one network become one: encoded and
    decoded once. A fitted way back, ``H`` of ``2 C + 1`` columns, takes the places around, too.

    Args:
        steps: pairs of a network and an operator of homogeneous coordinates, the first first.

    Raises:
        SpaceMismatchError: for a power of a composition through different networks.
        ShapeError: for a power of a fitted way back.

    Example:
        >>> g = PlaceFlow(couplings=2, width=8)
        >>> half = StyleMap((g, 0.5 * Dense(torch.eye(49)) + 0.5 * Dense(torch.eye(49))))
        >>> half(torch.rand(3, 7, 9)).shape
        torch.Size([3, 7, 9])
    """

    def __init__(self, *steps: tuple[PlaceFlow, Operator]) -> None:
        super().__init__()
        self.networks = [g for g, _ in steps]
        self.operators = [to_dense(A) for _, A in steps]

    def forward(self, x: Tensor) -> Tensor:
        """The images through the map, of the shape of ``x``; not clipped.

        Raises:
            ShapeError: for other channels.
            DataError: for values far outside 0 to 1, such as bytes as floats.
        """
        y = as_images(x, self.networks[0].channels)
        for g, H in zip(self.networks, self.operators, strict=True):
            h, w = y.shape[2:]
            painted = g.inverse(apply_places(H.to(y), encode(g, y)))
            y = _with_rest(_at_least(y, g.block), painted)[..., :h, :w]
        return y[0] if x.ndim == 3 else y

    @property
    def operator(self) -> Dense:
        """``H`` as an operator to ``C + 1`` dimensions.

        Raises:
            SpaceMismatchError: for a composition through different networks.
        """
        if len(self.networks) != 1:
            raise SpaceMismatchError(
                f"a map through {len(self.networks)} different networks",
                "one network",
                "Use the operators of its parts.",
            )
        return Dense(self.operators[0], trainable=False)

    def __matmul__(self, first: StyleMap) -> StyleMap:
        if not isinstance(first, StyleMap):
            return NotImplemented
        parts = list(zip(first.networks, first.operators, strict=True))
        for g, H in zip(self.networks, self.operators, strict=True):
            if parts and parts[-1][0] is g and H.shape[1] == len(H):
                parts[-1] = (g, H @ parts[-1][1])
            else:
                parts.append((g, H))
        return StyleMap(*((g, Dense(H, trainable=False)) for g, H in parts))

    def __pow__(self, t: float) -> StyleMap:
        return StyleMap((self.networks[0], self.operator**t))


@final
class WayBack(nn.Module):
    """The map from images in a style, exact for floats and fitted for images of 8 bits.

    A file rounds an image to 256 levels, and the exact inverse amplifies the rounding. The fitted
    map is the best affine one from latents of rounded images. Called, it takes the one that fits
    the image; :meth:`which` says which.

    Args:
        exact: through the inverse.
        fitted: through the operator that was fitted for 8-bit images; None if none was.
        name: of the style, for messages.

    Raises:
        ConfigError: when called on 8-bit images without a fitted map.

    Warns:
        DataWarning: of images smaller than a block of the network.
    """

    def __init__(self, exact: StyleMap, fitted: StyleMap | None, name: str) -> None:
        super().__init__()
        self.exact, self.fitted, self.name = exact, fitted, name

    def which(self, x: Tensor) -> str:
        """``"fitted"`` for bytes and for images ``x`` of 256 levels only, else ``"exact"``.

        An image of which only a part was rounded counts as a float.
        """
        return "fitted" if is_eight_bit(x) else "exact"

    def forward(self, x: Tensor) -> Tensor:
        check_tensor(x, "x")
        block = self.exact.networks[0].block
        if self.name != IDENTITY and min(x.shape[-2:]) < block:
            warnings.warn(
                f"{x.shape[-1]} x {x.shape[-2]} pixels, less than a block of {block} x {block}: "
                f"the style '{self.name}' is undone badly",
                DataWarning,
                stacklevel=2,
            )
        if self.which(x) == "exact":
            return self.exact(x)
        if self.fitted is None:
            raise ConfigError(
                f"an 8-bit image and no way back that was fitted for the style '{self.name}'",
                "a model with one",
                "Fit it with fit_way_back(model, name, photos), or call .exact, which amplifies "
                "the rounding.",
            )
        return self.fitted(x)

    def after(self, end: StyleMap) -> WayBack:
        """The way back, then the map ``end``."""
        fitted = None if self.fitted is None else end @ self.fitted
        return WayBack(end @ self.exact, fitted, self.name)

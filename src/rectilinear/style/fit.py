"""Training of a model of styles, and operators in closed form: new styles, ways back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from rectilinear.errors import ConfigError, ShapeError
from rectilinear.style.lessons import Lessons
from rectilinear.style.model import StyleTransfer
from rectilinear.style.place_flow import PlaceFlow
from rectilinear.style.place_operator import (
    LeastSquares,
    PlaceOperator,
    apply_places,
    with_real_logarithm,
    with_surroundings,
)
from rectilinear.style.style_map import LEVELS, as_eight_bit, as_images, encode

PIXEL_VARIANCE = 0.04  # of an image in [0, 1], about: errors of pixels are relative to it
DAMPING = {"style": 1e-4, "back": 1e-5}
TURN = 0.013  # peak rate of orthogonal steps; 0.03 gains 0.09 dB less in 110 seconds
STEP, TILE, BATCH = 2e-3, 64, 8  # of gradient steps on one operator
PATTERN_WEIGHT = 4.0  # of what repeats in every block of a tile and not in the teacher's
FLAT_WEIGHT, FLAT_SHARE, FLAT_COLOURS = 5.0, 0.125, 4  # of the loss, of the steps, a style
BACK_WEIGHT, BACK_SHARE = (0.5, 0.15), (0.25, 0.125)  # of the loss, of the steps; first, last
FEATURE_WEIGHT = 0.5  # of features and of their Gram matrices
GROWN = 0.5  # part of the training after which one tile of twice the side replaces four
MIDDLE_PIXELS = 128  # pixels of a photo that a first operator is fitted to
MAX_PHOTOS = 16  # photos for the 2,352 numbers of an operator: each has thousands of places

T = TypeVar("T")


class StyleObjective(nn.Module):
    """The loss of a batch of photos, each cut at random and painted in a style at random.

    ``loss = (|y - t|^2 + 4 P) / .04 + (F + G) / 2``, with ``y`` the model's painting and ``t`` the
    teacher's of the same tile. ``P`` is the variance of the mean block of ``y - t``: the pattern of
    the blocks. ``F`` and ``G`` are means over the layers of a feature network, where one is given:
    ``|f(y) - f(t)|^2`` relative to the variance of ``f(t)``, and the squared error of its Gram
    matrices relative to theirs. Pixels alone teach the colours, features the strokes. In the second
    half of the training, one tile of twice the side replaces four, where photos are large enough.

    At a quarter to an eighth of the steps, ``loss`` has two more terms. One, of the first tile of
    the batch, is ``|g^-1(R_k g(q(y))) - x|^2 / .04``, with ``q`` the rounding to 256 levels and
    ``R_k`` an operator that is trained along: the photo must come back from a file. Without it,
    paintings keep colours of the photo in less than a level. Its weight falls from .5 to .15. The
    other is ``P`` of the paintings of flat images, which large areas of one colour would show.

    Args:
        model: the network and operators.
        lessons: photos and paintings of all styles of the model.
        features: a module of images ``(b, c, h, w)`` in [0, 1] that returns arrays ``(b, k, h',
            w')``, one a layer; it is not trained.
        tile: side of the tiles in pixels, a multiple of the network's block.

    Raises:
        ConfigError: if styles lack in the lessons, or the tile is no multiple of the block.
    """

    def __init__(
        self,
        model: StyleTransfer,
        lessons: Lessons,
        features: nn.Module | None = None,
        tile: int = TILE,
    ) -> None:
        super().__init__()
        if missing := [name for name in model.styles if name not in lessons.paintings]:
            raise ConfigError(
                f"no paintings in the style '{missing[0]}'",
                "paintings in every style of the model",
                "Add them to the lessons.",
            )
        if tile < 1 or tile % model.g.block:
            raise ConfigError(f"tile = {tile}", f"a positive multiple of {model.g.block}")
        self.model, self.lessons, self.tile = model, lessons, tile
        self._features = (features,)  # in a tuple: it is no part of what is trained and saved
        smallest = min(n for photo in lessons.photos for n in photo.shape[1:])
        self.progress, self.grows = 0.0, smallest >= 2 * tile
        eye = torch.eye(model.g.places, 2 * model.g.places + 1).to(model.g.shift)
        self.back = nn.Parameter(eye.repeat(len(model.styles), 1, 1))

    def parameter_groups(self) -> list[dict[str, object]]:
        """The 3 x 3 convolutions take orthogonal steps, all else those of AdamW."""
        inner = {
            id(p)
            for name, p in self.model.g.conditioners.named_parameters()
            if name.endswith("weight") and "leave" not in name
        }
        both: tuple[list[nn.Parameter], list[nn.Parameter]] = [], []
        for p in self.parameters():
            both[id(p) in inner].append(p)
        return [{"params": both[0]}, {"params": both[1], "orthogonal": True, "lr": TURN}]

    def schedule(self, progress: float) -> None:
        """Set the weight of removal and the size of tiles for this part of the training."""
        self.progress = progress

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        """``{"loss", "pixels"}``, ``"features"``, ``"gram"``: of a ``batch`` of lessons' rows."""
        names = self.lessons.styles
        taught = torch.tensor([names.index(name) for name in self.model.styles])
        tile = self.tile
        if self.grows and self.progress >= GROWN:
            batch, tile = batch[: max(1, len(batch) // 4)], 2 * tile
        which = torch.randint(len(taught), (len(batch),))
        x, target = self.lessons.tiles(batch[:, 0].long().cpu(), taught[which], tile)
        x, target = x.to(batch), target.to(batch)
        matrices = torch.stack([self.model.matrix(name) for name in self.model.styles])
        g = self.model.g
        y = g.inverse(apply_places(matrices[which.to(batch.device)], g(x)))
        losses = style_losses(y, target, self._features[0], g.block)
        share = weight_at(BACK_SHARE, self.progress)
        weight = weight_at(BACK_WEIGHT, self.progress) / share if torch.rand(()) < share else 0.0
        removal = self.back.sum()  # a gradient at every step, if of zeros
        if weight:
            one = slice(0, 1), slice(None), *(slice(0, self.tile),) * 2  # a part of the batch: fast
            removal = self._removal(y[one], x[one], which[:1].to(batch.device))
        losses["loss"] = losses["loss"] + weight * removal
        if torch.rand(()) < FLAT_SHARE:
            n = FLAT_COLOURS * len(matrices)  # colours of all tones, many near black and white
            colours = (torch.rand(n, 1) + torch.rand(n, g.channels) - 0.5).clamp(0, 1).to(batch)
            y = flat_paintings(g, matrices.repeat_interleave(FLAT_COLOURS, 0), colours)
            repeated = pattern(y, g.block) / PIXEL_VARIANCE
            losses["loss"] = losses["loss"] + FLAT_WEIGHT / FLAT_SHARE * repeated
        return losses

    def _removal(self, y: Tensor, x: Tensor, which: Tensor) -> Tensor:
        """The error of removal; noise in place of the rounding, which has no gradient."""
        saved = y.clamp(0, 1) + (torch.rand_like(y) - 0.5) / LEVELS
        back = self.model.g.inverse(apply_places(self.back[which], self.model.g(saved)))
        return (back - x).square().mean() / PIXEL_VARIANCE

    @torch.no_grad()
    def prepare(self, rows: Tensor) -> None:  # noqa: ARG002 - the lessons have the images
        """Set every style to its least-squares operator in the latents of ``rows``."""
        some = _some(range(len(self.lessons.photos)))
        photos = [_latents(self.model, _middle(self.lessons.photos[i])) for i in some]
        for name in self.model.styles:
            A, fit = self.model._operator(name), LeastSquares(DAMPING["style"])
            for i, z in zip(some, photos, strict=True):
                fit.add(z, _latents(self.model, _middle(self.lessons.paintings[name][i])))
            A.rows.copy_(with_real_logarithm(fit.rows()) if A.generator else fit.rows())
        for name, back in zip(self.model.styles, self.back, strict=True):
            back.copy_(fit_way_back(self.model, name, self.lessons.photos).rows)

    @torch.no_grad()
    def diagnostics(self, batch: Tensor) -> dict[str, float]:
        """The round-trip error ``|g^-1(g(x)) - x|`` of the network on a ``batch``."""
        x, _ = self.lessons.tiles(
            batch[:, 0].long().cpu(), torch.zeros(len(batch)).long(), self.tile
        )
        x, g = x.to(batch), self.model.g
        return {"round_trip": float((g.inverse(g(x)) - x).abs().max())}


class _Painted(nn.Module):
    """``g^-1 . H . g`` as a module that holds ``g``."""

    def __init__(self, g: PlaceFlow) -> None:
        super().__init__()
        self.g = g

    def forward(self, matrices: Tensor, x: Tensor) -> Tensor:
        return self.g.inverse(apply_places(matrices, self.g(x)))


def flat_paintings(g: PlaceFlow, matrices: Tensor, colours: Tensor) -> Tensor:
    """One block of the painting of each colour ``(b, c)``, far from the borders of a flat image.

    There all places are equal, so a convolution is the sum of its kernel: one place is enough.

    Example:
        >>> g = PlaceFlow(couplings=2, width=8)
        >>> flat_paintings(g, torch.eye(49).expand(2, 49, 49), torch.rand(2, 3)).shape
        torch.Size([2, 3, 4, 4])
    """
    painted, sums = _Painted(g), {}
    for name, p in painted.named_parameters():
        if p.ndim == 4 and p.shape[-1] == 3:
            sums[name] = functional.pad(p.sum((2, 3), keepdim=True), (1, 1, 1, 1))
    x = colours[:, :, None, None].expand(-1, -1, g.block, g.block)
    y = functional_call(painted, sums, (matrices, x))
    assert isinstance(y, Tensor)
    return y


def weight_at(ends: tuple[float, float], progress: float) -> float:
    """The geometric mean of the first and last value of a weight, by the part that is done.

    Example:
        >>> round(weight_at((1.0, 4.0), 0.5), 6)
        2.0
    """
    first, last = ends
    return first ** (1 - progress) * last**progress


def style_losses(
    y: Tensor, target: Tensor, features: nn.Module | None, block: int
) -> dict[str, Tensor]:
    """``{"loss", "pixels", "pattern"}``; with a feature network, ``"features"``, ``"gram"``."""
    pixels = (y - target).square().mean() / PIXEL_VARIANCE
    repeated = pattern(y - target, block) / PIXEL_VARIANCE
    losses = {"pixels": pixels, "pattern": repeated}
    loss = pixels + PATTERN_WEIGHT * repeated
    if features is None:
        return {"loss": loss, **losses}
    made = features(y)
    with torch.no_grad():
        taught = features(target)
    apart, grams = [], []
    for a, b in zip(made, taught, strict=True):
        apart.append((a - b).square().mean() / b.var().clamp_min(1e-6))
        ga, gb = gram(a), gram(b)
        sizes = gb.square().sum((1, 2)).clamp_min(1e-12)
        grams.append(((ga - gb).square().sum((1, 2)) / sizes).mean())
    feature, texture = torch.stack(apart).mean(), torch.stack(grams).mean()
    loss = loss + FEATURE_WEIGHT * (feature + texture)
    return {"loss": loss, **losses, "features": feature, "gram": texture}


def pattern(x: Tensor, block: int) -> Tensor:
    """The variance of what repeats in every block of images ``(b, c, h, w)``.

    Example:
        >>> pattern(torch.tensor([0.0, 2.0]).repeat(1, 1, 2, 4), 2).item()
        1.0
    """
    blocks = x.unflatten(3, (-1, block)).unflatten(2, (-1, block))
    return blocks.mean((2, 4)).var((2, 3), correction=0).mean()


def gram(features: Tensor) -> Tensor:
    """Products of channels, means over places: ``(b, k, h, w) -> (b, k, k)``.

    Example:
        >>> gram(torch.ones(1, 2, 3, 3)).tolist()
        [[[1.0, 1.0], [1.0, 1.0]]]
    """
    rows = features.flatten(2)
    return rows @ rows.mT / rows.shape[2]


def fit_style(
    model: StyleTransfer,
    photos: Sequence[Tensor],
    paintings: Sequence[Tensor],
    steps: int = 0,
    features: nn.Module | None = None,
) -> PlaceOperator:
    """The operator of a new style from pairs of whole images; the network stays as it is.

    The affine map of least squares between latents, in closed form: ``min |M g(x) + b - g(y)|^2``.
    It is good for light styles and poor for those that redraw the image; ``steps`` of Adam on the
    loss of :class:`StyleObjective`, over this operator alone, then help.

    Args:
        model: the network.
        photos: images ``(c, h, w)``, floats in [0, 1] or bytes; 20 are enough.
        paintings: the same images in the new style.
        steps: of Adam, after the closed form.
        features: as for :class:`StyleObjective`.

    Raises:
        ShapeError: if images do not fit the model or each other.

    Example:
        >>> from rectilinear.style import new_model
        >>> model = new_model(["night"], couplings=2, width=8)
        >>> photos = [torch.rand(3, 24, 32) for _ in range(8)]
        >>> more = model.added("dark", fit_style(model, photos, [0.5 * x for x in photos]))
        >>> bool(torch.allclose(more(photos[0], "dark"), 0.5 * photos[0], atol=1e-2))
        True
    """
    _check_pairs(photos, paintings)
    fit = LeastSquares(DAMPING["style"])
    with torch.no_grad():
        for photo, painting in zip(photos, paintings, strict=True):
            fit.add(_latents(model, photo), _latents(model, painting))
    A = PlaceOperator(fit.rows())
    if steps:
        _descend(model, A, photos, paintings, steps, features)
    return A


@torch.no_grad()
def fit_way_back(model: StyleTransfer, name: str, photos: Sequence[Tensor]) -> PlaceOperator:
    """The operator from 8-bit images in a style back to the images: ``g(q(f_k(x)))`` to ``g(x)``.

    The affine least-squares map of each place and the mean of the 3 x 3 places about it, over at
    most 16 of the photos, with ``q`` the rounding to 256 levels in [0, 1]. It replaces the inverse
    for images that were stored in a file.

    Args:
        model: the styles.
        name: of the style.
        photos: images ``(c, h, w)``, such as those the model was trained on.

    Raises:
        ConfigError: if no style has this name.
        ShapeError: without photos, or for images that do not fit the model.

    Example:
        >>> from rectilinear.style import new_model
        >>> model = new_model(["night"], couplings=2, width=8)
        >>> photos = [torch.rand(3, 24, 32) for _ in range(4)]
        >>> back = fit_way_back(model, "night", photos)
        >>> model = model.added("night", model.operators[0], back)
        >>> model.removal("night").fitted is not None
        True
    """
    _check_pairs(photos, photos)
    H, g, fit = model.matrix(name), model.g, LeastSquares(DAMPING["back"])
    for photo in _some(photos):
        z = _latents(model, _middle(photo))
        fit.add(with_surroundings(g(as_eight_bit(g.inverse(apply_places(H, z))))), z)
    return PlaceOperator(fit.rows(), trainable=False)


@torch.no_grad()
def fit_way_back_from(
    model: StyleTransfer, paintings: Sequence[Tensor], photos: Sequence[Tensor]
) -> PlaceOperator:
    """The operator from paintings by another source, such as the teacher, back to the photos.

    Raises:
        ShapeError: if images do not fit the model or each other.
    """
    _check_pairs(photos, paintings)
    fit = LeastSquares(DAMPING["back"])
    for painting, photo in zip(paintings, photos, strict=True):
        fit.add(with_surroundings(_latents(model, painting)), _latents(model, photo))
    return PlaceOperator(fit.rows(), trainable=False)


def with_ways_back(model: StyleTransfer, photos: Sequence[Tensor]) -> StyleTransfer:
    """The model with a way back from each of its styles, fitted on ``photos``."""
    for name, operator in model._operators().items():
        model = model.added(name, operator, fit_way_back(model, name, photos))
    return model


def _check_pairs(photos: Sequence[Tensor], paintings: Sequence[Tensor]) -> None:
    if len(photos) != len(paintings) or not len(photos):
        raise ShapeError(
            f"{len(photos)} photos and {len(paintings)} paintings",
            "as many of each",
            "Pass one painting for each photo, in the same order.",
        )
    for i, (x, y) in enumerate(zip(photos, paintings, strict=True)):
        if x.shape != y.shape:
            raise ShapeError(
                f"photo {i} of shape {tuple(x.shape)} and its painting of {tuple(y.shape)}",
                "one shape",
                "Scale both to one size.",
            )


def _like(model: StyleTransfer, image: Tensor) -> Tensor:
    """One image as the model takes it: ``(1, c, h, w)``, of its dtype and on its device."""
    return as_images(image, model.g.channels).to(model.g.shift)


def _latents(model: StyleTransfer, image: Tensor) -> Tensor:
    return encode(model.g, _like(model, image))


def _middle(image: Tensor) -> Tensor:
    """The middle of an image, at most 128 pixels wide and high: 1,024 places are plenty."""
    y, x = (max(0, (n - MIDDLE_PIXELS) // 2) for n in image.shape[1:])
    return image[:, y : y + MIDDLE_PIXELS, x : x + MIDDLE_PIXELS]


def _some(items: Sequence[T]) -> list[T]:
    """At most 16 of the items, evenly spread."""
    n = min(len(items), MAX_PHOTOS)
    return [items[i * len(items) // n] for i in range(n)]


def _descend(
    model: StyleTransfer,
    A: PlaceOperator,
    photos: Sequence[Tensor],
    paintings: Sequence[Tensor],
    steps: int,
    features: nn.Module | None,
) -> None:
    """Adam on the loss of tiles, over the rows of ``A``."""
    from rectilinear.style.lessons import to_bytes

    def as_bytes(images: Sequence[Tensor]) -> list[Tensor]:
        return [x if x.dtype == torch.uint8 else to_bytes(x) for x in images]

    lessons = Lessons(as_bytes(photos), {"new": as_bytes(paintings)})
    optimizer = torch.optim.Adam([A.rows], lr=STEP, betas=(0.9, 0.99))
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = STEP * (1 - step / steps)
        n = torch.randint(len(photos), (BATCH,))
        x, target = (t.to(A.rows) for t in lessons.tiles(n, torch.zeros_like(n), TILE))
        with torch.no_grad():
            z = model.g(x)
        y = model.g.inverse(apply_places(A.matrix(), z))
        loss = style_losses(y, target, features, model.g.block)["loss"]
        (A.rows.grad,) = torch.autograd.grad(loss, [A.rows])
        optimizer.step()

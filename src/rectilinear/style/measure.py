"""How well a model does what its teacher does, and what linear algebra adds."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from rectilinear.errors import InputError
from rectilinear.metrics import mean_psnr
from rectilinear.style.model import StyleTransfer
from rectilinear.style.teachers import Teacher

TENTHS = tuple(i / 10 for i in range(1, 10))


@torch.no_grad()
def style_psnr(model: StyleTransfer, x: Tensor, teach: Teacher) -> dict[str, float]:
    """The mean PSNR in dB, over pictures ``x`` ``(b, c, h, w)``, between each style of the model
    and the teacher's.

    Example:
        >>> import rectilinear as rl
        >>> from rectilinear.style import StyleTransfer, filtered
        >>> model = StyleTransfer(rl.invertible.Flatten((3, 8, 8)), {"soft": rl.operators.Identity(192)})
        >>> 5 < style_psnr(model, torch.rand(4, 3, 8, 8), filtered)["soft"] < 20
        True
    """
    return {name: decibels(model(x, name), teach(x, {name: 1.0})) for name in model.names}


@dataclass(frozen=True)
class PathScores:
    """PSNR in dB to the teacher's own blends at tenths of the way: means over pictures, a row for
    each pair of styles.

    Attributes:
        pairs: The styles at the ends.
        path: ``(pairs, 9)`` of the straight path of operators.
        pixels: ``(pairs, 9)`` of pixels blended between the teacher's two pictures, which are
            exact.
        own: ``(pairs, 9)`` of pixels blended between the model's two pictures.
    """

    pairs: tuple[tuple[str, str], ...]
    path: Tensor
    pixels: Tensor
    own: Tensor

    @property
    def gain(self) -> Tensor:
        """Mean over pairs of the dB of the path above pixels blended between the teacher's images,
        ``(9,)``.
        """
        return (self.path - self.pixels).mean(0)

    @property
    def own_gain(self) -> Tensor:
        """Mean over pairs of the dB of the path above pixels blended between the model's images,
        ``(9,)``.
        """
        return (self.path - self.own).mean(0)


@torch.no_grad()
def path_scores(
    model: StyleTransfer,
    x: Tensor,
    teach: Teacher,
    pairs: tuple[tuple[str, str], ...] | None = None,
) -> PathScores:
    """The paths between styles against the teacher's own blends, on pictures ``x``; between all
    pairs by default.

    Raises:
        InputError: for a model of one style.
    """
    pairs = tuple(itertools.combinations(model.names, 2)) if pairs is None else pairs
    if not pairs:
        raise InputError("a path of one style", "a model of two styles or more", "Add a style.")
    rows: list[list[tuple[float, float, float]]] = []
    for i, j in pairs:
        ends, made = (teach(x, {i: 1.0}), teach(x, {j: 1.0})), (model(x, i), model(x, j))
        row = []
        for t in TENTHS:
            goal = teach(x, {i: 1 - t, j: t})
            candidates = model.path(i, j, t)(x), torch.lerp(*ends, t), torch.lerp(*made, t)
            path, pixels, own = (decibels(y, goal) for y in candidates)
            row.append((path, pixels, own))
        rows.append(row)
    return PathScores(pairs, *torch.tensor(rows).unbind(-1))


@torch.no_grad()
def path_error(model: StyleTransfer, x: Tensor) -> float:
    """The largest distance, relative to its length, of a path from the straight line of the induced
    space.

    ``|g_out(f_t(x)) - (1 - t) g_out(f_i(x)) - t g_out(f_j(x))| / |g_out(f_t(x))|`` over pictures,
    tenths and pairs of
    neighbouring styles: rounding, since the path is exact.
    """
    worst = 0.0
    encode = model.out_space.encode
    for i, j in itertools.pairwise([*model.names, model.names[0]]):
        start, end = encode(model(x, i)), encode(model(x, j))
        for t in TENTHS:
            z = encode(model.path(i, j, t)(x))
            line = torch.lerp(start, end, t)
            worst = max(worst, float(((z - line).norm(dim=1) / z.norm(dim=1)).max()))
    return worst


@torch.no_grad()
def transfer_psnr(
    model: StyleTransfer, x: Tensor, teach: Teacher, damping: float = 0.001
) -> dict[str, Tensor]:
    """``A_j A_i^+`` on pictures in style ``i``, against style ``j``: PSNR in dB, ``(styles,
    styles)``, row ``i``.

    ``"model"``: from and to the model's own pictures; ``"teacher"``: from and to the teacher's,
    with ``damping``; ``"before"``: the teacher's two pictures as they are; ``"ceiling"``: the
    model's style ``j`` of the original, to the teacher's.
    """
    taught = {name: teach(x, {name: 1.0}) for name in model.names}
    made = {name: model(x, name) for name in model.names}
    n = len(model.names)
    tables = {
        key: torch.full((n, n), float("nan")) for key in ("model", "teacher", "before", "ceiling")
    }
    for a, i in enumerate(model.names):
        for b, j in enumerate(model.names):
            if i != j:
                tables["model"][a, b] = decibels(model.between(i, j)(made[i]), made[j])
                tables["teacher"][a, b] = decibels(
                    model.between(i, j, damping)(taught[i]), taught[j]
                )
                tables["before"][a, b] = decibels(taught[i], taught[j])
                tables["ceiling"][a, b] = decibels(made[j], taught[j])
    return tables


def decibels(y: Tensor, goal: Tensor) -> float:
    """:func:`~rectilinear.metrics.mean_psnr` of what can be shown: pixels clipped, equal pictures
    counted as 120 dB.
    """
    return mean_psnr(y, goal, most=120.0, clip=True)

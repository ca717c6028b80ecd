"""PSNR of styles, of paths between styles and of style exchange, against the teacher."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from rectilinear.errors import InputError
from rectilinear.metrics import mean_psnr
from rectilinear.style.model import StyleTransfer
from rectilinear.style.teachers import Teacher

TENTHS = tuple(i / 10 for i in range(1, 10))  # positions on a path
MAX_PSNR_DB = 120.0  # of equal images


@torch.no_grad()
def style_scores(model: StyleTransfer, x: Tensor, teach: Teacher) -> dict[str, float]:
    """The mean PSNR in dB of each style to the teacher's, over images ``x`` ``(b, c, h, w)``.

    Example:
        >>> import rectilinear as rl
        >>> from rectilinear.style import StyleTransfer, filtered
        >>> from rectilinear.style.measure import style_scores
        >>> g = rl.invertible.Flatten((3, 8, 8))
        >>> model = StyleTransfer(g, {"soft": rl.operators.Identity(192)})
        >>> 5 < style_scores(model, torch.rand(4, 3, 8, 8), filtered)["soft"] < 20
        True
    """
    return {name: score(model(x, name), teach(x, {name: 1.0})) for name in model.names}


@dataclass(frozen=True)
class PathScores:
    """PSNR in dB to the teacher's blends at nine positions between two styles, means over images.

    Attributes:
        pairs: Names of the styles at the ends, one pair a row.
        path: ``(pairs, 9)``, of the straight path of operators.
        pixels: ``(pairs, 9)``, of pixels blended between the teacher's two images.
        own: ``(pairs, 9)``, of pixels blended between the model's two images.
    """

    pairs: tuple[tuple[str, str], ...]
    path: Tensor
    pixels: Tensor
    own: Tensor

    @property
    def gain(self) -> Tensor:
        """Gain of the path over blends of the teacher's images: mean over pairs in dB, ``(9,)``."""
        return (self.path - self.pixels).mean(0)

    @property
    def own_gain(self) -> Tensor:
        """Gain of the path over blends of the model's images: mean over pairs in dB, ``(9,)``."""
        return (self.path - self.own).mean(0)


@torch.no_grad()
def path_scores(
    model: StyleTransfer,
    x: Tensor,
    teach: Teacher,
    pairs: tuple[tuple[str, str], ...] | None = None,
) -> PathScores:
    """The PSNR of paths between styles to the teacher's blends, on images ``x`` ``(b, c, h, w)``.

    Args:
        model: the styles.
        x: images.
        teach: the teacher.
        pairs: names of the styles at the ends; all pairs by default.

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
            path, pixels, own = (score(y, goal) for y in candidates)
            row.append((path, pixels, own))
        rows.append(row)
    return PathScores(pairs, *torch.tensor(rows).unbind(-1))


@torch.no_grad()
def path_error(model: StyleTransfer, x: Tensor) -> float:
    """The largest relative distance of a path from the straight line of the induced space.

    ``|g_out(f_t(x)) - (1 - t) g_out(f_i(x)) - t g_out(f_j(x))| / |g_out(f_t(x))|`` over images,
    tenths and neighbouring styles. The path is exact, so this is the rounding error.
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
def exchange_scores(
    model: StyleTransfer, x: Tensor, teach: Teacher, damping: float = 0.001
) -> dict[str, Tensor]:
    """The PSNR in dB of exchanged styles, ``A_j A_i^+``: tables ``(styles, styles)``, row ``i``.

    ``"model"``: from and to the model's own images; ``"teacher"``: from and to the teacher's, with
    ``damping``; ``"before"``: of the teacher's two images as they are; ``"ceiling"``: of the
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
                tables["model"][a, b] = score(model.between(i, j)(made[i]), made[j])
                tables["teacher"][a, b] = score(model.between(i, j, damping)(taught[i]), taught[j])
                tables["before"][a, b] = score(taught[i], taught[j])
                tables["ceiling"][a, b] = score(made[j], taught[j])
    return tables


def score(y: Tensor, target: Tensor) -> float:
    """The mean PSNR in dB of images clipped to [0, 1], at most 120 dB each."""
    return mean_psnr(y, target, most=MAX_PSNR_DB, clip=True)

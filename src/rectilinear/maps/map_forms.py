"""Forms of affine maps between two shapes, fitted from one set of moments, and the best form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from rectilinear.errors import ConfigError
from rectilinear.maps.affine_block import CHUNK, KERNEL, AffineBlock, Shapes
from rectilinear.numerics import Fit, Moments, rank_tolerance

SVDs = tuple[Tensor, Tensor, Tensor]  # of one matrix, or of one for each output
Form = Literal["affine", "low rank", "identity + low rank", "diagonal", "depthwise", "pointwise"]
FORMS: tuple[Form, ...] = get_args(Form)
RIDGES = (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)  # times the mean square of a feature
RANK_SHARES = (2, 4, 8, 16)  # ranks that are tried: the smaller side over each of these
CLOSE = 1.01  # times the least error: up to there the map with fewer numbers is taken
NOTHING = 1e-12  # share of the variance that rounding leaves


@dataclass(frozen=True, eq=False)
class FittedForm:
    """One fitted map: ``matrix`` ``(o, k)`` acts on features, ``constant`` ``(o,)`` is added.

    Attributes:
        form: its name.
        matrix: with the zeros of a diagonal or depthwise form, and with the identity where it has
            one.
        constant: ``(o,)``.
        rank: of the low-rank part; None for other forms.
        ridge: with which it was fitted.
        numbers: how many numbers describe it.
        rows: how many vectors it was fitted to.
        directions: how many directions these have.
        fitted_r2: the share that the affine map of full rank explains of them.
    """

    form: Form
    matrix: Tensor
    constant: Tensor
    rank: int | None
    ridge: float
    numbers: int
    rows: int
    directions: int
    fitted_r2: float

    def __str__(self) -> str:
        return self.form if self.rank is None else f"{self.form} {self.rank}"


@dataclass(frozen=True)
class BlockFit:
    """The quality of an affine map in place of a block, on the rows it was fitted to.

    Attributes:
        r2: the share of the output's variance that it explains. This is the linearity score of
            Razzhigaev et al.
        procrustes: the same for a rotation and a scale alone, ``|<x y^T>|_*^2 / (<|x|^2>
            <|y|^2>)``.
        update_r2: the share of the variance of ``output - input`` that it explains, where their
            shapes agree: a residual connection makes the first two near one whatever the block
            adds.
    """

    r2: float
    procrustes: float
    update_r2: float | None


class MapMoments:
    """Moments of features and targets between two shapes, from which every form is fitted.

    Example:
        >>> moments, x = MapMoments(Shapes.between((3,), (3,))), torch.randn(50, 3)
        >>> moments.add(x, 2 * x + 1)
        >>> moments.fitted("diagonal").constant.round(decimals=4).tolist()
        [1.0, 1.0, 1.0]
    """

    def __init__(self, shapes: Shapes, budget: float = float("inf")) -> None:
        self.shapes = shapes
        self._budget = budget
        self._moments = Moments(computed=True)
        self._forget()

    def _forget(self) -> None:
        """Drop the decompositions, which all forms, ranks and ridges share."""
        self._fit: Fit | None = None
        self._by_rank: dict[tuple[Form, float], tuple[Tensor, Tensor]] = {}
        self._svds: dict[Form, SVDs] = {}

    @property
    def n(self) -> int:
        """The number of vectors added."""
        return self._moments.n

    def add(self, x: Tensor, out: Tensor, mask: Tensor | None = None) -> None:
        """Add inputs and outputs ``(b, ...)``; of tokens those in the mask ``(b, t)``."""
        at_once = len(x) if self.shapes.form != "convolution" else CHUNK
        for rows in torch.arange(len(x), device=x.device).split(at_once):
            if self._budget <= 0:
                return
            features, targets = self.shapes.features(x[rows]), self.shapes.targets(out[rows])
            if mask is not None and self.shapes.form == "tokens":
                real = mask.to(x.device)[rows].flatten()
                features, targets = features[real], targets[real]
            self._moments.add(features, targets)
            self._forget()
            self._budget -= features.numel() * features.shape[1]

    @property
    def fit(self) -> Fit:
        """The least-squares map of full rank."""
        if self._fit is None:
            self._fit = self._moments.fit()
        return self._fit

    def score(self) -> BlockFit:
        """The quality of the best affine map of full rank."""
        fit = self.fit
        residual = self.shapes.have_identity and self.shapes.form != "convolution"
        update = self._moments.update_r2(fit) if residual else None
        return BlockFit(fit.r2, self._moments.procrustes(), update)

    def joined(self, other: MapMoments) -> MapMoments:
        """The moments of both sets of vectors."""
        both = MapMoments(self.shapes)
        both._moments = self._moments.joined(other._moments)
        return both

    def left_by(self, found: FittedForm) -> tuple[float, float]:
        """The shares of variance that a map leaves unexplained: of all targets, of the worst.

        Zero for constant targets that are met.
        """
        left, total = self._moments.left_by(found.matrix, found.constant)
        each = torch.where(total > 0, left / total.clamp_min(1e-300), 0.0)
        left_sum, total_sum = float(left.sum()), float(total.sum())
        return left_sum / total_sum if total_sum > 0 else float(left_sum > 0), float(each.max())

    def fitted(self, form: Form, rank: int | None = None, ridge: float = 0.0) -> FittedForm:
        """The least-squares map of a form, with a ridge relative to a feature's mean square."""
        if form not in forms_between(self.shapes):
            known = ", ".join(map(repr, forms_between(self.shapes)))
            raise ConfigError(
                f"form = {form!r} for a block from {self.shapes.inside} to {self.shapes.outside}",
                f"one of {known}",
            )
        fit, whole = self.fit, None
        if form in ("diagonal", "depthwise", "pointwise"):
            matrix = self._structured(form, ridge)
        elif form == "affine":
            matrix = fit.damped(ridge)
        else:
            rank = default_ranks(self.shapes)[0] if rank is None else rank
            whole = identity_of(self.shapes).to(fit.basis) if form.startswith("identity") else None
            if (form, ridge) not in self._by_rank:
                part = fit if whole is None else fit.beside(whole)
                self._by_rank[form, ridge] = part.by_rank(ridge)
            left, right = self._by_rank[form, ridge]
            matrix = left[:, :rank] @ right[:rank]
        matrix = matrix if whole is None else matrix + whole
        rank = rank if "rank" in form else None
        constant = fit.mean_t - matrix @ fit.mean_x
        size = numbers(self.shapes, form, rank)
        rows, directions = fit.n, len(fit.s)
        return FittedForm(form, matrix, constant, rank, ridge, size, rows, directions, fit.r2)

    def _structured(self, form: Form, ridge: float) -> Tensor:
        """The matrix of a form in which each output depends on some of the features."""
        moments, (o, k) = self._moments, self.shapes.sides
        seen = _features_seen(self.shapes, form).to(moments.factor.device)
        if form not in self._svds:
            # (o, r, features that one output sees), or (r, features) where all see the same
            columns = moments.factor[:, seen].movedim(1, 0)
            columns = columns[0] if form == "pointwise" else columns
            self._svds[form] = torch.linalg.svd(columns, full_matrices=False)
        matrix = moments.factor.new_zeros(o, k)
        if form == "pointwise":
            matrix[:, seen[0]] = _ridge(self._svds[form], moments.projected, ridge).mT
            return matrix
        found = _ridge(self._svds[form], moments.projected.mT[:, :, None], ridge)[..., 0]
        return matrix.scatter_(1, seen, found)


def forms_between(shapes: Shapes) -> tuple[Form, ...]:
    """The names of the forms that exist between two shapes.

    Example:
        >>> forms_between(Shapes.between((3,), (2,)))
        ('affine', 'low rank')
    """
    found: list[Form] = ["affine", "low rank"]
    if shapes.have_identity:
        found += ["identity + low rank", "diagonal"]
    if shapes.form == "convolution":
        found += ["pointwise"]
        if shapes.inside[0] == shapes.outside[0]:
            found += ["depthwise"]
    return tuple(form for form in FORMS if form in found)


def default_ranks(shapes: Shapes) -> tuple[int, ...]:
    """The ranks to try between two shapes, in descending order."""
    least = min(shapes.sides)
    return tuple(dict.fromkeys(max(1, least // share) for share in RANK_SHARES))


def numbers(shapes: Shapes, form: Form, rank: int | None = None) -> int:
    """The number of parameters of a form, with its constant.

    Example:
        >>> shapes = Shapes.between((3,), (3,))
        >>> [numbers(shapes, form, 1) for form in forms_between(shapes)]
        [12, 9, 9, 6]
    """
    o, k = shapes.sides
    if form == "diagonal":
        return 2 * o
    if form == "depthwise":
        return o * shapes.taps + o
    if form == "pointwise":
        return o * shapes.inside[0] + o
    low = rank if "rank" in form else None
    return (o * k if low is None else min(low * (o + k), o * k)) + o


def products(shapes: Shapes, form: Form, rank: int | None = None) -> int:
    """The number of multiplications of a form for one sample."""
    o, _ = shapes.sides
    places = torch.Size(shapes.outside).numel() // o
    return places * (numbers(shapes, form, rank) - o)


def chosen(
    fitting: MapMoments,
    judging: MapMoments,
    allowed: Callable[[Form, int | None], bool],
    forms: Sequence[Form] | None = None,
    rank: int | None = None,
    advance: Callable[[str, float], None] = lambda *_: None,
) -> FittedForm | None:
    """The form with the smallest error on ``judging``, refitted on both sets, or None.

    Among forms with an error of at most ``CLOSE`` times the smallest, over all outputs and of the
    worst one, it is the one with the fewest parameters. ``advance`` is called before each trial
    with its name and its share of all.
    """
    names = forms_between(fitting.shapes) if forms is None else forms
    ranks = (rank,) if rank else default_ranks(fitting.shapes)
    trials: list[tuple[Form, int | None]] = [
        (form, r) for form in names for r in (ranks if "rank" in form else (None,))
    ]
    trials = [trial for trial in trials if allowed(*trial)]
    found: list[tuple[tuple[float, float], FittedForm]] = []
    for form, r in trials:
        advance(form if r is None else f"{form} {r}", 1 / len(trials))
        tried = (fitting.fitted(form, r, ridge) for ridge in RIDGES)
        found += [(judging.left_by(map_), map_) for map_ in tried]
    if not found:
        return None
    least = min(left[0] for left, _ in found)
    near = [item for item in found if item[0][0] <= CLOSE * least + NOTHING]
    worst = min(left[1] for left, _ in near)
    near = [item for item in near if item[0][1] <= CLOSE * worst + NOTHING]
    best = min((f for _, f in near), key=lambda f: (f.numbers, f.ridge))
    return fitting.joined(judging).fitted(best.form, best.rank, best.ridge)


def module_of(found: FittedForm, shapes: Shapes, like: Tensor) -> nn.Module:
    """The map as a module of ``(b, ...)``; a torch layer where one suffices."""
    matrix, constant = found.matrix, found.constant
    if found.form == "diagonal":
        scale = matrix.gather(1, _features_seen(shapes, "diagonal").to(matrix.device))[:, 0]
        return Diagonal(shapes, scale, constant).to(like)
    if found.form in ("depthwise", "pointwise"):
        return _convolution(found, shapes).to(like)
    identity = found.form.startswith("identity")
    low = matrix - identity_of(shapes).to(matrix) if identity else matrix
    return AffineBlock(shapes, low, constant, found.rank, identity).to(like)


class Diagonal(nn.Module):
    """``a x + b``, elementwise along the vectors of rows, tokens or channels.

    Example:
        >>> shapes = Shapes.between((2,), (2,))
        >>> Diagonal(shapes, torch.tensor([1.0, 2.0]), torch.zeros(2))(torch.ones(1, 2)).tolist()
        [[1.0, 2.0]]
    """

    def __init__(self, shapes: Shapes, scale: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.form, self.inside = shapes.form, shapes.inside
        self.scale, self.bias = nn.Parameter(scale.clone()), nn.Parameter(bias.clone())

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        """``a x + b``; other arguments are ignored."""
        if self.form == "tokens":
            return x * self.scale + self.bias
        shape = self.inside if self.form == "rows" else (-1, *[1] * (len(self.inside) - 1))
        return x * self.scale.reshape(shape) + self.bias.reshape(shape)

    def extra_repr(self) -> str:
        return f"{self.form}, {self.inside}"


def identity_of(shapes: Shapes) -> Tensor:
    """The matrix ``(o, k)`` of the identity."""
    o, k = shapes.sides
    return torch.zeros(o, k, dtype=torch.float64).scatter_(1, _features_seen(shapes, "diagonal"), 1)


def _features_seen(shapes: Shapes, form: Form) -> Tensor:
    """The features that each output depends on, ``(o, ...)``; ``(1, c)`` of "pointwise"."""
    o, k = shapes.sides
    if shapes.form != "convolution":
        return torch.arange(o)[:, None]
    patches = torch.arange(k).reshape(shapes.inside[0], shapes.taps)
    if form == "depthwise":
        return patches
    centre = patches[:, shapes.taps // 2]
    return centre[None] if form == "pointwise" else centre[:, None]


def _ridge(svd: SVDs, t: Tensor, ridge: float) -> Tensor:
    """Ridge regression ``(..., k, o)``, the penalty relative to the mean square of a column."""
    u, s, vh = svd
    squares = s.square()
    keep = s > rank_tolerance(max(1, s.shape[-1])) * s[..., :1]
    added = ridge * squares.mean(-1, keepdim=True)
    inverse = torch.where(keep, s / (squares + added).clamp_min(1e-300), 0.0)
    return vh.mT @ (inverse[..., None] * (u.mT @ t))


def _convolution(found: FittedForm, shapes: Shapes) -> nn.Module:
    """A torch convolution, depthwise with the whole kernel or with one of side 1."""
    (c, *_), o = shapes.inside, shapes.outside[0]
    kind = nn.Conv2d if len(shapes.kernel) == 2 else nn.Conv1d
    seen = _features_seen(shapes, found.form).to(found.matrix.device)
    if found.form == "depthwise":
        layer = kind(c, o, KERNEL, shapes.stride, KERNEL // 2, groups=c)
        weight = found.matrix.gather(1, seen)
    else:
        layer = kind(c, o, 1, shapes.stride)
        weight = found.matrix[:, seen[0]]
    layer.weight = nn.Parameter(weight.reshape(layer.weight.shape).clone())
    layer.bias = nn.Parameter(found.constant.clone())
    return layer

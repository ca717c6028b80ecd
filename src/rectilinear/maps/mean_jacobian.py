"""Mean Jacobians from many places of a network to one target, over samples in the same passes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from rectilinear.errors import NonFiniteError, ShapeError, StructureError
from rectilinear.maps.frozen import Frozen
from rectilinear.networks.batches import Batch
from rectilinear.networks.forward_pass import Output, Pass, constant_parameters, forward
from rectilinear.networks.token_vectors import Layout, vectors
from rectilinear.random import stream

Positions = Literal["same", "all"]
GROUPS = 8  # groups of samples whose means are kept apart, for the error of what follows from them
GROUP_NUMBERS = 2**28  # numbers of these means that are held: 1 GB in float32


@dataclass(frozen=True)
class Route:
    """The sources and the target of maps in a network, and the vectors of a sample that count.

    Attributes:
        sources: places.
        target: the place that they lead to.
        output: which part of the model's output counts, if the target is ``"@output"``.
        positions: "same" for the map from each token to itself, "all" for the sum of those from one
            token to every token, as in the Jacobian lens.
        skip: how many tokens at the beginning and at the end of a sample are left out.
    """

    sources: tuple[str, ...]
    target: str
    output: Output = None
    positions: Positions = "same"
    skip: tuple[int, int] = (0, 0)

    @property
    def places(self) -> tuple[str, ...]:
        """The sources and the target, each once."""
        return tuple(dict.fromkeys((*self.sources, self.target)))

    def counted(self, batch: Batch, tokens: int) -> Tensor:
        """A mask ``(b, p)`` of the vectors of each sample that count."""
        device = batch.main.device
        real = torch.ones(len(batch), tokens, dtype=torch.bool, device=device)
        if batch.mask is not None and tokens > 1:
            if batch.mask.shape != real.shape:
                raise ShapeError(
                    f"{tokens} vectors a sample for a mask of {batch.mask.shape[1]} tokens",
                    "a place with one vector for each token",
                    "Choose a place before tokens are pooled or merged.",
                )
            real = batch.mask.to(device)
        first, last = self.skip
        if tokens == 1 or not (first or last):
            return real
        place = real.cumsum(1)
        kept = real & (place > first) & (place <= place[:, -1:] - last)
        if not bool(kept.any(1).all()):
            raise ShapeError(
                f"samples of {int(place[:, -1].min())} tokens of which {first} and {last} are "
                "skipped",
                "at least one left",
                "Pass longer samples, or another skip=.",
            )
        return kept


@dataclass(frozen=True, eq=False)
class Rows:
    """The vectors of a batch at the sources and the target, ``(n, d)``, with the sample of each.

    ``averaged`` says for each source whether they are means over the vectors of a sample.
    """

    x: tuple[Tensor, ...]
    y: Tensor
    samples: Tensor
    averaged: tuple[bool, ...]


def tokens_of(value: Tensor, layout: Layout) -> Tensor:
    """A value as vectors by sample, ``(b, p, d)``, with its gradient."""
    rows = vectors(value, None, layout).rows
    return rows.reshape(len(value), -1, rows.shape[-1])


def layouts_of(route: Route, seen: Pass) -> list[Layout]:
    """The layouts of the values at the sources and at the target.

    What goes into a ``Flatten`` is a row for a target with one vector a sample.
    """
    end = seen.layout(route.target)
    one = tokens_of(seen.at[route.target], end).shape[1] == 1
    flat = [one and isinstance(seen.modules[source], nn.Flatten) for source in route.sources]
    starts: list[Layout] = [
        "rows" if is_flat else seen.layout(source)
        for source, is_flat in zip(route.sources, flat, strict=True)
    ]
    return [*starts, end]


def rows_of(route: Route, seen: Pass) -> Rows:
    """The vectors that a map is fitted to and tested on.

    If the target has one vector a sample and a source several, the latter are averaged.

    Raises:
        ShapeError: if their numbers differ in another way.
        NonFiniteError: if a value is not finite.
    """
    batch = seen.batch
    *starts, end = layouts_of(route, seen)
    y = tokens_of(seen.at[route.target], end)
    kept = route.counted(batch, y.shape[1])
    xs, averaged = [], []
    for source, layout in zip(route.sources, starts, strict=True):
        x = tokens_of(seen.at[source], layout)
        averaged.append(y.shape[1] == 1 < x.shape[1])
        if averaged[-1]:
            weights = _weights(route.counted(batch, x.shape[1])).to(x)
            x = (weights[..., None] * x).sum(1, keepdim=True)
        check_positions(source, x, route.target, y)
        xs.append(x[kept])
    found = Rows(tuple(xs), y[kept], kept.nonzero()[:, 0], tuple(averaged))
    for name, value in zip((*route.sources, route.target), (*found.x, found.y), strict=True):
        if not bool(torch.isfinite(value).all()):
            raise NonFiniteError(
                f"NaN or infinite values at {name}",
                "finite values",
                "Check the weights and the scale of the data; use float32, not half precision.",
            )
    return found


def check_positions(source: str, x: Tensor, target: str, y: Tensor) -> None:
    """Raise unless the target has one vector a sample, or as many as the source."""
    if y.shape[1] not in (1, x.shape[1]):
        raise ShapeError(
            f"{x.shape[1]} vectors a sample at {source} and {y.shape[1]} at {target}",
            "as many, or one at the target",
            "Choose places with the same tokens, or places of an image of the same size.",
        )


class JacobianMean:
    """The mean over samples of the Jacobians ``J_i`` ``(O, D)``, with the sums that give its error.

    Attributes:
        count: how many samples.
        groups: sums of the Jacobians of each group of samples, ``(G, O, D)``.
        sizes: samples of each group, ``(G,)``.
        squares: the sum of ``|J_i|^2``.
        given: the sum of ``<y, J x>`` over vectors at the target, with gates held.
        energy: the sum of their ``|y|^2``.
    """

    def __init__(self, groups: Tensor) -> None:
        self.groups = groups
        self.sizes = torch.zeros(len(groups), dtype=torch.float64)
        self.squares, self.given, self.energy = 0.0, 0.0, 0.0
        self.count = 0

    @property
    def mean(self) -> Tensor:
        """``J``, ``(O, D)`` in float64."""
        return self.groups.double().sum(0) / self.count

    @property
    def spread(self) -> float:
        """The root of the unbiased mean of ``|J_i - J|^2``; NaN with one sample."""
        if self.count < 2:
            return float("nan")
        left = self.squares - self.count * float(self.mean.square().sum())
        return (max(left, 0.0) / (self.count - 1)) ** 0.5

    @property
    def standard_error(self) -> float:
        """The standard error of the mean, in the Frobenius norm."""
        return self.spread / self.count**0.5

    @property
    def size(self) -> float:
        """``|E J|``, corrected for the error's contribution to the norm of the mean."""
        square = float(self.mean.square().sum())
        return max(square - self.standard_error**2, 0.0) ** 0.5 if self.count > 1 else square**0.5

    @property
    def relative_error(self) -> float:
        """The standard error over the size; infinite if the mean does not differ from zero."""
        return self.standard_error / self.size if self.size > 0 else float("inf")

    @property
    def likeness(self) -> float:
        """``|E J|^2 / E|J|^2``, unbiased: one for an affine network."""
        if self.count < 2 or not self.squares:
            return float("nan")
        total = float(self.groups.double().sum(0).square().sum())
        return (total - self.squares) / ((self.count - 1) * self.squares)

    @property
    def bias_share(self) -> float | None:
        """The share of the target that biases between the places contribute; None unless frozen."""
        return 1 - self.given / self.energy if self.energy else None

    def without(self) -> list[Tensor]:
        """The means that leave out one group each; empty with fewer than two groups."""
        total = self.groups.double().sum(0)
        used = [i for i, size in enumerate(self.sizes.tolist()) if size]
        if len(used) < 2:
            return []
        return [
            (total - self.groups[i].double()) / (self.count - float(self.sizes[i])) for i in used
        ]


def mean_jacobians(
    model: nn.Module,
    route: Route,
    batches: Iterable[Batch],
    *,
    frozen: bool = False,
    seed: int = 0,
    advance: Callable[[str, float], None] = lambda _, __: None,
) -> tuple[JacobianMean, ...]:
    """The mean Jacobian of each source over all samples.

    Each batch is run once and differentiated once for each entry of a target vector: the gradient
    of ``sum_p u . y_p`` at a source is that of all vectors in all samples. For "same" positions the
    terms have random signs, and so has the gradient at each: contributions from other tokens have
    mean zero, and their noise is in the standard error.

    Args:
        model: used in evaluation mode, inside :func:`~rectilinear.networks.network.evaluating`.
        route: the places.
        batches: samples to average over.
        frozen: hold gates, attention weights and scales at their values.
        seed: of the signs and the groups.
        advance: called for each number at the target, with its share of the samples of the batch.

    Raises:
        StructureError: if the target does not depend on a source, or for an operation without a
            rule with ``frozen``.
        ShapeError: for places with different numbers of vectors.
    """
    found: list[JacobianMean] = []
    random = stream(seed, "signs of positions")
    for batch in batches:
        text = f"{'frozen ' if frozen else ''}Jacobians of {len(batch)} samples"
        values, target, layouts = _live(model, route, batch, frozen)
        y = tokens_of(target, layouts[-1])
        xs = [tokens_of(value, layout) for value, layout in zip(values, layouts, strict=False)]
        for source, x in zip(route.sources, xs, strict=True):
            check_positions(source, x, route.target, y)
        if not found:
            found = _empty(xs, y)
        counted = route.counted(batch, y.shape[1])
        signs = torch.ones_like(counted, dtype=y.dtype)
        if route.positions == "same":
            signs = (torch.rand(counted.shape, generator=random) < 0.5).to(y) * 2 - 1
        if frozen:
            _share(found, values, y, counted.to(y)[..., None] * y.detach())
        step = partial(advance, text, len(batch) / y.shape[-1])
        _accumulate(found, values, layouts, xs, y, counted.to(y) * signs, route, batch, step)
    return tuple(found)


def _live(
    model: nn.Module, route: Route, batch: Batch, frozen: bool
) -> tuple[list[Tensor], Tensor, list[Layout]]:
    """The values at the sources and the target, with their gradients."""
    if not frozen:
        with constant_parameters(model):
            seen = forward(model, batch, route.places, output=route.output, live=True)
        return (
            [seen.at[s] for s in route.sources],
            _dependent(seen.at[route.target], route),
            layouts_of(route, seen),
        )
    mode = Frozen(model)

    def leaf(value: Tensor) -> Tensor:
        if mode.tag(value) is None:
            return mode.leaf(value.detach().clone().requires_grad_())
        return mode.linear_output(value)

    with mode:
        seen = forward(
            model,
            batch,
            route.places,
            dict.fromkeys(route.sources, leaf),
            output=route.output,
            live=True,
        )
        layouts = layouts_of(route, seen)
    return [seen.at[s] for s in route.sources], mode.linear_output(seen.at[route.target]), layouts


def _dependent(target: Tensor, route: Route) -> Tensor:
    if target.grad_fn is None:
        raise _independent(route, 0)
    return target


def _independent(route: Route, i: int) -> StructureError:
    return StructureError(
        f"a target {route.target} that does not depend on {route.sources[i]}",
        "a source that the network runs before the target",
        "Choose an earlier source or a later target.",
    )


def _empty(xs: Sequence[Tensor], y: Tensor) -> list[JacobianMean]:
    numbers = sum(x.shape[-1] for x in xs) * y.shape[-1]
    groups = max(2, min(GROUPS, GROUP_NUMBERS // max(numbers, 1)))
    dtype = torch.promote_types(y.dtype, torch.float32)  # sums in half precision lose their digits
    shapes = [(groups, y.shape[-1], x.shape[-1]) for x in xs]
    return [JacobianMean(y.new_zeros(shape, dtype=dtype)) for shape in shapes]


def _weights(counted: Tensor) -> Tensor:
    """Weights ``(b, p)`` of the mean over the vectors of each sample."""
    return counted / counted.sum(1, keepdim=True)


def _accumulate(
    found: list[JacobianMean],
    values: list[Tensor],
    layouts: list[Layout],
    xs: list[Tensor],
    y: Tensor,
    signs: Tensor,
    route: Route,
    batch: Batch,
    step: Callable[[], None],
) -> None:
    """Add the Jacobians of a batch, row by row; ``step`` is called before each."""
    b, groups = len(batch), len(found[0].groups)
    group = (found[0].count + torch.arange(b)) % groups
    member = torch.nn.functional.one_hot(group, groups).T.to(found[0].groups)
    weights = [_source_weights(route, batch, x, signs).to(member) for x in xs]
    u = torch.zeros_like(y)
    last = y.shape[-1] - 1
    squares = [y.new_zeros(b, dtype=torch.float64) for _ in xs]
    for k in range(last + 1):
        step()
        u[..., k] = signs
        slopes = _slopes(y, values, u, keep=k < last)
        for i, slope in enumerate(slopes):
            if slope is None:
                raise _independent(route, i)
            rows = torch.einsum(
                "bp,bpd->bd", weights[i], tokens_of(slope, layouts[i]).to(weights[i])
            )
            found[i].groups[:, k] += member @ rows
            squares[i] += rows.double().square().sum(1)
        u[..., k] = 0  # after the last use: of an identity, the gradient is u itself
    for mean, added in zip(found, squares, strict=True):
        mean.count += b
        mean.sizes += member.sum(1).double().cpu()
        mean.squares += float(added.sum())


def _slopes(
    y: Tensor, values: Sequence[Tensor], u: Tensor, *, keep: bool
) -> tuple[Tensor | None, ...]:
    """``J^T u`` at each place, None where the target does not depend on it."""
    try:
        return torch.autograd.grad(y, values, u, retain_graph=keep, allow_unused=True)
    except RuntimeError as error:
        if "inplace operation" not in str(error):
            raise
        raise StructureError(
            "a network that overwrites values which its derivative needs",
            "operations that return new tensors",
            "Use least squares, which needs no derivative, or replace the operations in place.",
        ) from error


def _share(found: list[JacobianMean], values: list[Tensor], y: Tensor, u: Tensor) -> None:
    """Add the contribution of the sources to the target, in the direction of the target."""
    slopes = _slopes(y, values, u, keep=True)
    for mean, slope, value in zip(found, slopes, values, strict=True):
        mean.energy += float(u.double().square().sum())
        if slope is not None:
            mean.given += float((slope.double() * value.detach().double()).sum())


def _source_weights(route: Route, batch: Batch, x: Tensor, signs: Tensor) -> Tensor:
    """The factors ``(b, p)`` of the gradient at each vector of a source."""
    counted = route.counted(batch, x.shape[1])
    if signs.shape[1] == 1 < x.shape[1]:  # one vector at the target: a shift of all at the source
        return signs * counted.to(signs)
    weights = _weights(counted).to(signs)
    return weights * signs if route.positions == "same" else weights

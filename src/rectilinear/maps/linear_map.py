"""``linear_map``, and fits of affine maps from many places to one target, by three methods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from rectilinear.checks import whole
from rectilinear.errors import ConfigError, StructureError
from rectilinear.maps.held_out_r2 import Affine, Judged
from rectilinear.maps.map_report import LinearMap, MapReport
from rectilinear.maps.mean_jacobian import (
    JacobianMean,
    Positions,
    Route,
    Rows,
    mean_jacobians,
    rows_of,
)
from rectilinear.networks.batches import Batch, Batches, Tokenizer, read_batches
from rectilinear.networks.determinism import PROBED, check_steady
from rectilinear.networks.forward_pass import Output, forward
from rectilinear.networks.network import evaluating
from rectilinear.networks.sample_split import SampleSplit
from rectilinear.numerics import Fit, Moments
from rectilinear.progress import Progress
from rectilinear.random import check_seed

RIDGES = (  # times the mean variance of the columns; the largest leave little but the mean
    *(0.0, 1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0),
    *(3.0, 10.0, 30.0, 100.0, 1e3, 1e4),
)
CHOICE = 0.2  # share of the fitted samples that choose the ridge
JACOBIAN_SAMPLES = 32
PASSES = 100  # that the Jacobian of a sample takes, in the progress: one for each number
HELD_OUT = 0.25
Method = Literal["least_squares", "mean_jacobian", "frozen_jacobian"]


@dataclass(frozen=True)
class Settings:
    """The settings of a fit, checked: a ConfigError for one out of range."""

    samples: int = JACOBIAN_SAMPLES
    held_out: float = HELD_OUT
    seed: int = 0
    progress: bool = False

    def __post_init__(self) -> None:
        whole(self.samples, "samples", 2)
        if not 0 < self.held_out < 1:
            raise ConfigError(f"held_out = {self.held_out}", "a share, above 0 and below 1")


Found = dict[str, dict[str, LinearMap]]


def linear_map(
    model: nn.Module,
    source: str,
    target: str,
    data: Any,
    *,
    method: Method = "least_squares",
    tokenizer: Tokenizer | None = None,
    output: Output = None,
    positions: Positions = "same",
    skip: tuple[int, int] = (0, 0),
    samples: int = JACOBIAN_SAMPLES,
    held_out: float = HELD_OUT,
    batch_size: int = 32,
    seed: int = 0,
    progress: bool = True,
) -> LinearMap:
    """The affine map from one place of a network to another, tested on held-out samples.

    ``"least_squares"`` is the best map on the data: the matrix of a tuned lens, or of a replaced
    block. ``"mean_jacobian"`` is ``E[dy/dx]``, the Jacobian lens; ``"frozen_jacobian"`` is the same
    with gates, attention weights and normalisation scales held at their values. For Gaussian values
    the first two are equal (Stein's lemma). The constant is that of the means.

    Each token, place of an image, or sample is a row. For a target with one vector a sample, the
    mean over the vectors of the source is one, or what a ``Flatten`` makes of them. ``R² = 1 - sum
    (y - Ax - b)² / sum (y - mean)²`` is over all held-out rows and all numbers of the target, about
    their mean over these rows: scikit-learn's ``r2_score(..., multioutput="variance_weighted")``.
    With few rows it says how good the estimate is, not how linear the network is; the report says
    so.

    Args:
        model: any module; it is used in evaluation mode and not changed.
        source: a place: a module's name for its output, ``"NAME@input"`` for its input.
        target: another one; ``"@output"`` is the output of the model.
        data: tensors, arrays, mappings, tuples, a loader of these, or texts with ``tokenizer``.
        method: which map.
        tokenizer: a function of a list of texts.
        output: a key, index or function: which part of the output ``"@output"`` is.
        positions: of tokens, "same" for the map from each to itself; "all", of Jacobians, for the
            sum over the tokens that one acts on, which is the published Jacobian lens.
        skip: how many tokens at the beginning and at the end of a sample are left out; (16, 1) in
            the Jacobian lens.
        samples: how many a Jacobian is averaged over, of those that are not held out.
        held_out: the share of the samples that are held out.
        batch_size: samples in a batch, of data that come whole.
        seed: of the split, of random signs, and of the bootstrap.
        progress: show progress on standard error: a bar on a terminal, else a line now and then.

    Raises:
        ConfigError: for a place that there is not, or a setting out of range.
        ShapeError: for places with different numbers of vectors.
        StructureError: if the target does not depend on the source, or with "frozen_jacobian" for
            an operation without a rule.
        InputError: for too few samples.

    Reference: W. Gurnee et al., Verbalizable representations form a global workspace in language
    models, 2026; N. Belrose et al., Eliciting latent predictions with the tuned lens, 2023.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3))
        >>> A = linear_map(net, "0", "2", torch.randn(400, 4))
        >>> A.weight.shape, A.r2 > A.report.mean_r2
        (torch.Size([3, 8]), True)
    """
    if method not in get_args(Method):
        raise ConfigError(f"method = {method!r}", f"one of {', '.join(get_args(Method))}")
    route = Route((source,), target, output, positions, check_skip(skip))
    settings = Settings(samples, held_out, check_seed(seed), progress)
    batches = read_batches(data, model, tokenizer=tokenizer, batch_size=batch_size)
    found, refused = fit_maps(model, route, batches, (method,), settings)
    for error in refused.values():
        raise error
    return found[source][method]


def check_skip(skip: object) -> tuple[int, int]:
    """Two numbers of tokens to skip, checked."""
    if not isinstance(skip, Sequence) or len(skip) != 2:
        raise ConfigError(f"skip = {skip!r}", "two counts, such as (16, 1)")
    return whole(skip[0], "skip"), whole(skip[1], "skip")


def fit_maps(
    model: nn.Module,
    route: Route,
    batches: Batches,
    methods: Sequence[str],
    settings: Settings,
) -> tuple[Found, dict[str, Exception]]:
    """The maps by source and method, and the reasons for methods that are refused."""
    jacobian = [m for m in methods if m != "least_squares"]
    seed, share = settings.seed, settings.held_out
    total = batches.size + PASSES * len(jacobian) * min(settings.samples, batches.size)
    with evaluating(model), Progress("linear maps", total, shown=settings.progress) as display:
        check_steady(model, batches.head(PROBED), route.output)
        split = SampleSplit.of(batches, seed, share)
        choosing = SampleSplit.of(batches, seed, share + CHOICE * (1 - share))
        fits = _fit(model, route, batches, split, choosing, display)
        means, refused = _jacobians(model, route, batches, split, jacobian, settings, display)
        judged = []
        for i, fit in enumerate(fits):
            maps = {"least_squares": fit.affine()} if "least_squares" in methods else {}
            for name, found in means.items():
                weight = found[i].mean.to(fit.mean_x)
                maps[name] = Affine(weight, fit.mean_x, fit.mean_y)
                scaled = fit.scale_of(weight) * weight
                maps[f"{name} scaled"] = Affine(scaled, fit.mean_x, fit.mean_y)
            judged.append(Judged(maps, fit.mean_x, fit.mean_y))
        for batch in _apart(batches, split, held=True):
            display.advance("held-out samples", len(batch))
            rows = _rows(model, route, batch)
            for x, each in zip(rows.x, judged, strict=True):
                each.add(x, rows.y, rows.samples, len(batch))
    out: Found = {}
    like = batches.like
    for i, source in enumerate(route.sources):
        out[source] = {
            name: _made(name, route, i, fits[i], judged[i], means.get(name), seed, like)
            for name in methods
            if name not in refused
        }
    return out, refused


class SourceFit:
    """Least squares from one source, with and without the samples that choose the ridge."""

    def __init__(self) -> None:
        self.all, self.part = Moments(computed=True), Moments(computed=True)
        self.chosen: list[tuple[Tensor, Tensor]] = []
        self.samples = 0
        self.averaged = False
        self._ridge: float | None = None
        self._whole: Fit | None = None

    @property
    def whole(self) -> Fit:
        """The fit to all rows, once they are in."""
        if self._whole is None:
            self._whole = self.all.fit()
        return self._whole

    @property
    def mean_x(self) -> Tensor:
        return self.all.mean_x

    @property
    def mean_y(self) -> Tensor:
        return self.all.mean_t

    def add(self, x: Tensor, y: Tensor, choosing: Tensor) -> None:
        """Add rows; ``choosing`` ``(n,)`` marks those that choose the ridge."""
        self.all.add(x, y)
        self.part.add(x[~choosing], y[~choosing])
        if bool(choosing.any()):
            self.chosen.append((x[choosing], y[choosing]))

    def affine(self) -> Affine:
        """The map with the ridge that is best on the samples that choose it."""
        return Affine(self.whole.damped(self.ridge), self.mean_x, self.mean_y)

    @property
    def ridge(self) -> float:
        """The chosen ridge, relative to the mean variance of the columns."""
        if self._ridge is None:
            self._ridge = self._best_ridge()
        return self._ridge

    def _best_ridge(self) -> float:
        if not self.chosen or self.part.n < 2:
            return RIDGES[0]
        fit = self.part.fit()
        x, y = (torch.cat(parts).double() for parts in zip(*self.chosen, strict=True))
        left = [
            float(((x - fit.mean_x) @ fit.damped(ridge).mT + fit.mean_t - y).square().sum())
            for ridge in RIDGES
        ]
        return RIDGES[min(range(len(RIDGES)), key=left.__getitem__)]

    def scale_of(self, weight: Tensor) -> float:
        """The factor of a matrix that fits the fitted samples best."""
        assert self.whole.n == self.all.n  # the factor of all rows
        made = self.all.factor @ weight.mT
        size = float(made.square().sum())
        return float((made * self.all.projected).sum()) / size if size else 1.0


def _apart(batches: Batches, split: SampleSplit, *, held: bool) -> Iterator[Batch]:
    """Batches of the held-out samples, or of the others."""
    for batch in batches:
        chosen = split(batch) == held
        if bool(chosen.any()):
            yield batch.take(chosen.nonzero()[:, 0])


def _rows(model: nn.Module, route: Route, batch: Batch) -> Rows:
    seen = forward(model, batch, route.places, output=route.output)
    return rows_of(route, seen)


def _fit(
    model: nn.Module,
    route: Route,
    batches: Batches,
    split: SampleSplit,
    choosing: SampleSplit,
    display: Progress,
) -> list[SourceFit]:
    fits = [SourceFit() for _ in route.sources]
    for batch in _apart(batches, split, held=False):
        display.advance("values", len(batch))
        rows = _rows(model, route, batch)
        chooses = choosing(batch).to(rows.samples.device)[rows.samples]
        for x, averaged, fit in zip(rows.x, rows.averaged, fits, strict=True):
            fit.add(x, rows.y, chooses)
            fit.averaged |= averaged
            fit.samples += len(batch)
    return fits


def _jacobians(
    model: nn.Module,
    route: Route,
    batches: Batches,
    split: SampleSplit,
    methods: Sequence[str],
    settings: Settings,
    display: Progress,
) -> tuple[dict[str, tuple[JacobianMean, ...]], dict[str, Exception]]:
    def advance(text: str, samples: float) -> None:
        display.advance(text, PASSES * samples)

    found: dict[str, tuple[JacobianMean, ...]] = {}
    refused: dict[str, Exception] = {}
    for name in methods:
        first = _first(_apart(batches, split, held=False), settings.samples)
        frozen = name == "frozen_jacobian"
        try:
            found[name] = mean_jacobians(
                model, route, first, frozen=frozen, seed=settings.seed, advance=advance
            )
        except StructureError as error:
            refused[name] = error
    return found, refused


def _first(batches: Iterator[Batch], samples: int) -> Iterator[Batch]:
    """Batches of the first ``count`` samples."""
    for batch in batches:
        yield batch.take(slice(samples))
        samples -= len(batch)
        if samples <= 0:
            return


def _made(
    name: str,
    route: Route,
    i: int,
    fit: SourceFit,
    judged: Judged,
    means: tuple[JacobianMean, ...] | None,
    seed: int,
    like: Tensor,
) -> LinearMap:
    """The map with its report."""
    affine, report = judged.maps[name], _judgement(name, route, i, judged, seed)
    report["averaged"] = fit.averaged
    if means is None:
        report |= {
            "samples": fit.samples,
            "ridge": fit.ridge,
            "positions": "same",
            "rows": fit.whole.n,
            "rank": len(fit.whole.s),
            "fitted_r2": fit.whole.r2,
        }
    else:
        mean = means[i]
        left_out = [judged.r2_of(weight.to(fit.mean_x)) for weight in mean.without()]
        report |= {
            "samples": mean.count,
            "error": _finite(mean.relative_error),
            "likeness": _finite(mean.likeness),
            "r2_error": _jackknife(left_out),
            "scaled_r2": judged.r2(f"{name} scaled"),
            "scale": fit.scale_of(affine.weight),
            "bias_share": mean.bias_share,
        }
    like = like.to(torch.promote_types(like.dtype, torch.float32))
    return LinearMap(affine.weight.to(like), affine.bias.to(like), report)


def _judgement(name: str, route: Route, i: int, judged: Judged, seed: int) -> dict[str, Any]:
    return asdict(
        MapReport(
            method=name,
            source=route.sources[i],
            target=route.target,
            samples=0,
            held_out=judged.samples,
            held_out_rows=judged.rows,
            r2=judged.r2(name),
            interval=judged.interval(name, seed),
            identity_r2=judged.r2("identity") if judged.same else None,
            mean_r2=judged.r2("mean"),
            each_r2=judged.each_r2(name),
            update_r2=judged.update_r2(name),
            positions=route.positions,
        )
    )


def _jackknife(values: list[float]) -> float | None:
    """The standard error of a statistic from its values without each group."""
    if len(values) < 2:
        return None
    t = torch.tensor(values, dtype=torch.float64)
    return float(((len(t) - 1) * (t - t.mean()).square().mean()).sqrt())


def _finite(value: float) -> float | None:
    return value if value == value and abs(value) != float("inf") else None

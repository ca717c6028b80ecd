"""Models compared by rolling origin: candidates of each kind forecast held-out rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from math import inf, log, log1p

import torch
from torch import Tensor

from rectilinear.errors import ForecastWarning
from rectilinear.koopman import candidates
from rectilinear.koopman.autoregression import (
    LINEAR_RIDGES,
    RIDGES,
    FiniteMap,
    Piece,
    Plan,
    StrideMap,
    count_windows,
    fit_finite,
    fit_map,
    moments,
    of_fit,
)
from rectilinear.koopman.closed_form import FullMap, fit_full
from rectilinear.koopman.compression import RANKS, Reduced, Span, components
from rectilinear.koopman.dictionaries import Dictionary, Fourier, Monomials
from rectilinear.koopman.forecast import Check, Comparison, geometric_mean
from rectilinear.koopman.held_out import (
    MOST_ORIGINS,
    MOST_STATE,
    Candidate,
    Held,
    Model,
    best,
    is_certainly_less,
    judged,
)
from rectilinear.koopman.model import FARTHEST
from rectilinear.koopman.realization import smooth

KINDS = ("linear", "autoregression", "finite", "features", "koopman")
"""The kinds of models that are compared, simplest first."""
LINEAR, NONLINEAR = KINDS[:2], KINDS[2:]
"""Nonlinear kinds are tried where one step or some are not linear: see ``bends``."""
SIMPLER = 0.02
"""A candidate must be better than a simpler one by this part of its error to be chosen."""
EXACT_ERROR = 1e-4
"""Errors below this part of the spread end the comparison: no further kind is tried."""
_CLOSED, _GAIN, _EXACTLY = 1.1, 0.05, 1e-7
GAIN = 0.02
"""Part of the error over one or some steps that a nonlinear map must gain."""
_ROWS, _FEATURES = 3000, 100


def compare(
    held: Held,
    kinds: Sequence[str],
    lags: int | None = None,
    dictionary: Dictionary | None = None,
    seed: int = 0,
    advance: Callable[[str], None] = lambda _: None,
) -> list[Candidate]:
    """The best candidate of each kind, in the order of :data:`KINDS`.

    Of many columns, joint maps are those of principal components. ``advance`` is called for
    each kind that is asked for.
    """
    most = held.past.shape[1]
    many = held.columns > MOST_STATE
    grid = candidates.grid_of_lags(lags, most)
    states = (lags,) if lags else tuple(k for k in (1, 4, 12) if k <= most)
    chosen: list[Candidate] = []
    bent: bool | None = None
    found: dict[str, Callable[[Held], Iterator[Candidate]]] = {
        "linear": lambda h: candidates.linear(h, grid, "linear"),
        "autoregression": lambda h: candidates.linear(h, grid, "autoregression"),
        "finite": lambda h: candidates.finite(h, states, dictionary),
        "features": lambda h: candidates.features(h, states, dictionary, seed),
        "koopman": lambda h: candidates.koopman(h, _lags_of(chosen) or states, seed),
    }
    parts = [held]
    if many:
        basis = components(held.train, max(RANKS))
        ranks = sorted({min(r, basis.shape[1]) for r in RANKS})
        parts += [held.reduced(basis[:, :r].contiguous()) for r in ranks]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", ForecastWarning)
        for kind in KINDS:
            if kind in kinds:
                advance(f"models of the kind {kind}")
            if kind not in kinds or any(c.score < 2 * log(EXACT_ERROR) for c in chosen):
                continue
            if kind in NONLINEAR and dictionary is None and {c.kind for c in chosen} & {*LINEAR}:
                if bent is None:
                    bent = any(bends(h, states, seed) for h in _like(chosen, parts))
                if not bent:
                    continue
            if kind == "koopman" and not _nonlinear(chosen):
                continue
            rivals = chain.from_iterable(map(found[kind], parts))
            one = best(rivals)
            chosen += [] if one is None else [_on_last(one, held)]
    return chosen


def _like(chosen: Sequence[Candidate], parts: list[Held]) -> list[Held]:
    """The parts of as many components as the best candidate, of none all."""
    model = min(chosen, key=lambda c: c.score).model
    rank = model.basis.shape[1] if isinstance(model, Reduced) else 0
    return [h for h in parts if h.basis is not None and h.width == rank] or parts[1:] or parts


def _on_last(one: Candidate, held: Held) -> Candidate:
    """The candidate by its errors on the last rows alone, which all kinds have in common."""
    if not held.folds or one.kind not in LINEAR:
        return one
    return replace(judged(one.kind, one.model, held), whole=one)


def _lags_of(found: Sequence[Candidate]) -> tuple[int, ...]:
    """The lags of the best nonlinear candidate."""
    bent = [c for c in found if c.kind in ("finite", "features")]
    return (min(bent, key=lambda c: c.score).model.plan.lags,) if bent else ()


def _nonlinear(found: Sequence[Candidate]) -> bool:
    """True where a nonlinear candidate is better than the linear ones, or none is known."""
    flat = [c.score for c in found if c.kind in LINEAR]
    bent = [c.score for c in found if c.kind in ("finite", "features")]
    return not (flat and bent) or min(bent) < min(flat) - 2 * _GAIN


def choose(found: Sequence[Candidate]) -> Candidate:
    """The linear candidate of the least error; another where it gains :data:`SIMPLER` for certain.

    Linear ones are compared on all folds, where there are some.
    """
    flat = [c for c in found if c.kind in LINEAR]
    chosen = min(flat, key=lambda c: (c.whole or c).score) if flat else found[0]
    for other in found:
        if other.kind in LINEAR:
            continue
        gain = chosen.score - other.score
        if gain > -2 * log1p(-SIMPLER) and chosen.worse_for_certain(other):
            chosen = other
    return chosen


def refit(
    model: Model, pieces: Sequence[Piece], steps: int, seed: int, span: Span | None = None
) -> Model:
    """The same plan, fitted on all rows; of components in a span, in that.

    Of a nonlinear map, which may diverge from a few of all states, with the next larger penalties
    until the forecasts of ``steps`` rows from the rows themselves stay near them.
    """
    if isinstance(model, Reduced):
        pieces = pieces if span is None else span.inside(pieces)
        basis = components(pieces, model.basis.shape[1])
        inner = refit(model.inner, [p.within(basis) for p in pieces], steps, seed)
        return Reduced(inner, basis if span is None else span.basis @ basis)
    plan = model.plan
    if isinstance(model, FullMap):
        return fit_full(plan, pieces, seed)
    if isinstance(model, FiniteMap):
        return fit_finite(plan, pieces)
    if plan.dictionary is None:
        return fit_map(plan, candidates.some_columns(pieces) if plan.shared else pieces)
    used = smooth(pieces)[0] if plan.smoothed else pieces
    fit = moments(plan, used, candidates.MOST_ROWS).fit()
    found = of_fit(plan, fit, plan.ridge)
    for ridge in (ridge for ridge in RIDGES if ridge > plan.ridge):
        if pieces[0].u is not None or _is_bounded(found, pieces, steps):
            break
        found = of_fit(plan, fit, ridge)
    return found


def residuals(model: Model, held: Held, seed: int) -> Tensor:
    """Held-out errors of a model and, on each fold, of its plan fitted there, ``(n, horizon, d)``.

    The full model is not fitted again, nor counted where it diverges.
    """
    found = [held.column_errors(model)]
    for fold in () if isinstance(model, FullMap) else held.folds:
        again = refit(model, fold.train, fold.future.shape[1], seed)
        errors = fold.column_errors(again)
        found += [errors] if bool(torch.isfinite(errors).all()) else []
    return torch.cat(found)


def _is_bounded(model: Model, pieces: Sequence[Piece], steps: int) -> bool:
    """True if no forecast from evenly spaced rows is farther than :data:`FARTHEST`."""
    lags = model.plan.lags
    starts = torch.cat([p.x.unfold(0, lags, 1) for p in pieces if len(p.x) >= lags])
    past = starts[:: -(-len(starts) // MOST_ORIGINS)].transpose(1, 2).flip(1)
    return bool(model.simulate(past, steps).abs().amax() <= FARTHEST)  # False of NaN


def comparison(found: Sequence[Candidate], chosen: Candidate, held: Held) -> Comparison:
    """The errors of all candidates, and of no change and the mean, at each step."""
    errors = {c.kind: c.by_step.numpy() for c in found}
    settings = {c.kind: in_words(c.model) for c in found}
    folds = {c.kind: c.whole.by_step.numpy() for c in found if c.whole is not None}
    last, every = _simplest([held]), _simplest(held.parts)
    errors |= {kind: square.mean(0).sqrt().numpy() for kind, square in last.items()}
    if held.folds:
        folds |= {kind: square.mean(0).sqrt().numpy() for kind, square in every.items()}
    return Comparison(errors, settings, chosen.kind, len(held.future), folds, _certain(found, held))


def _simplest(parts: Sequence[Held]) -> dict[str, Tensor]:
    """Mean square errors ``(n, horizon)`` of no change and of the mean."""
    still = [part.mean_square(part.future - part.past[:, :1]) for part in parts]
    return {
        "persistence": torch.cat(still),
        "mean": torch.cat([part.mean_square(part.future) for part in parts]),
    }


def _certain(found: Sequence[Candidate], held: Held) -> frozenset[tuple[str, str]]:
    """The pairs of a linear kind and another, or the simplest, that is certainly worse."""
    linear = [c.whole or c for c in found if c.kind in LINEAR]
    others = _simplest(held.parts) | {c.kind: c.square for c in linear}
    return frozenset(
        (c.kind, name)
        for c in linear
        for name, square in others.items()
        if name != c.kind and is_certainly_less(c.square, square, c.independent)
    )


def in_words(model: Model) -> str:
    """The parts of a model, in a few words."""
    if isinstance(model, Reduced):
        return f"{model.basis.shape[1]} components, {in_words(model.inner)}"
    plan = model.plan
    said = [f"{plan.lags} lag{'s' if plan.lags > 1 else ''}"]
    if isinstance(model, StrideMap):
        said.append("one map for all columns" if plan.shared else "")
        said.append("from the last row" if plan.level == "last" else "from the mean")
        said.append(f"{plan.stride} steps at a time" if plan.stride > 1 else "")
    if isinstance(plan.dictionary, Fourier):
        said.append(f"{plan.dictionary.count} cosines of bandwidth {plan.dictionary.bandwidth:g}")
    elif plan.dictionary is not None:
        said.append(str(plan.dictionary))
    said.append("smoothed" if plan.smoothed else "")
    said.append("" if isinstance(model, FullMap) else f"ridge {plan.ridge:g}")
    return ", ".join(part for part in said if part)


def check_of(held: Held, known: Comparison, lags: int | None = None) -> Check:
    """The comparison of one linear map, step after step, with a map for each number of steps.

    All errors are of the rows that the model was chosen on: of all folds where it is linear, and
    else of the last rows.
    """
    both = all(kind in known.errors for kind in LINEAR)
    more = [] if both else [one for kind in LINEAR for one in compare(held, [kind], lags)]
    errors = known.errors | {c.kind: c.by_step.numpy() for c in more}
    rows = "the last held-out rows"
    if known.chosen in known.folds:
        whole = {c.kind: c.whole.by_step.numpy() for c in more if c.whole is not None}
        errors, rows = known.folds | whole, f"all {len(held.folds) + 1} held-out folds"
    average = {kind: geometric_mean(found) for kind, found in errors.items()}
    step = average.get("autoregression", inf)
    if average.get("finite", inf) < _EXACTLY:  # closed in the dictionary
        step = min(step, average["finite"])
    direct, chosen = average.get("linear", inf), average[known.chosen]
    still = min(average["persistence"], average["mean"])
    certain = known.better | _certain(more, held)
    useful = {("autoregression", kind) for kind in ("persistence", "mean")} <= certain
    worse = known.chosen in NONLINEAR or ("linear", "autoregression") in certain
    useless = min(step, direct, chosen) > 0.95 * still
    few = not useless and inf in (step, direct) and not {*LINEAR} <= {*average}
    closed = not (useless or few) and step <= _CLOSED * min(direct, chosen)
    certain_step = direct <= still and (useful or step < _EXACTLY)
    uncertain = not useless and (few or not (certain_step if closed else worse))
    if useless:
        text = (
            f"Neither linear maps nor the chosen model forecast {rows} better than no change or "
            "the mean, by more than 5 %: eigenvalues say nothing of the system."
        )
    elif few:
        text = (
            "No linear map of one step, or of each number of steps, can be fitted to so few rows: "
            "whether eigenvalues are those of the series is not known. Lower horizon."
        )
    elif uncertain:
        text = (
            f"On {rows} one linear map, applied step after step, has an error of {step:.3g}, maps "
            f"fitted to each number of steps {direct:.3g}, and no change or the mean {still:.3g}: "
            "whether the dynamics are linear, and the eigenvalues those of the series, is not "
            "certain on these rows."
        )
    elif closed:
        text = (
            f"On {rows} one linear map, applied step after step, forecasts as well (error "
            f"{step:.3g}) as maps fitted to each number of steps ({direct:.3g}) and as the chosen "
            f"model ({chosen:.3g}): the dynamics are closed and linear in this state, and its "
            "eigenvalues are those of the series."
        )
    else:
        text = (
            f"On {rows} one linear map, applied step after step, has an error of {step:.3g}, where "
            f"maps fitted to each number of steps have {direct:.3g} and the chosen model has "
            f"{chosen:.3g}: the dynamics are not linear in this state. Forecast with the chosen "
            "model, and read eigenvalues as a basis of its forecasts, not as properties of the "
            "system."
        )
    closed, still = closed and not uncertain, average["persistence"]
    return Check(text, closed, step, direct, chosen, still, rows, uncertain)


def bends(held: Held, lags: Sequence[int], seed: int = 0) -> bool:
    """True where a nonlinear map is better than a linear one, for certain, over one or some steps.

    Errors of one application are those of many more independent rows than errors over the horizon,
    and they cost a hundredth: of a series of noise this says in a second that it is linear.

    Example:
        >>> import torch
        >>> from rectilinear.koopman.held_out import hold_out
        >>> from rectilinear.koopman.autoregression import Piece
        >>> x = [torch.tensor(0.3, dtype=torch.float64)]
        >>> for _ in range(200):
        ...     x.append(4 * x[-1] * (1 - x[-1]))
        >>> bent = torch.stack(x)[:, None]
        >>> flat = torch.randn(200, 1, generator=torch.Generator().manual_seed(0)).double()
        >>> [bends(hold_out([Piece(y)], 2, 5), [1, 2]) for y in (bent, flat)]
        [True, False]
    """
    horizon, d = held.future.shape[1], held.width
    tried = [k for k in lags if k * d <= MOST_STATE]
    for stride in sorted({1, max(1, round(horizon**0.5))}):
        flat = [_best(held, Plan(k, stride, "mean")) for k in tried]
        known = [c for c in flat if c is not None]
        if not known:
            return True
        line = min(known, key=lambda c: c.score)
        for k in tried:
            curves: list[Dictionary] = [Fourier(_FEATURES, b, seed) for b in (0.5, 1.0)]
            curves += [Monomials(2)] if k * d <= 24 else []
            for curve in curves:
                one = _best(held, Plan(k, stride, "last", dictionary=curve))
                gain = 0.0 if one is None else line.score - one.score
                if one is not None and gain > -2 * log1p(-GAIN) and line.worse_for_certain(one):
                    return True
    return False


def _best(held: Held, plan: Plan) -> Candidate | None:
    """The candidate of the best penalty by the errors of one application."""
    if count_windows(held.train, plan.lags, plan.stride) < 8:
        return None
    fit = moments(plan, held.train, _ROWS).fit()
    near = held.first(plan.stride)
    found = [judged("", of_fit(plan, fit, ridge), near) for ridge in LINEAR_RIDGES[::2]]
    return min(found, key=lambda c: c.score)

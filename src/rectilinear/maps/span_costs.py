"""The cost of removing each span of blocks, and the networks without the cheapest ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rectilinear.errors import ConfigError, InputError, StructureError
from rectilinear.maps.data_split import Portions
from rectilinear.maps.fold_target import neighbour_of
from rectilinear.maps.linearize import Linearized, linearize, read_for
from rectilinear.maps.network_costs import Cost, Loss, Outputs, Score, cost, first_of, outputs
from rectilinear.maps.spans import Span, main_lists, spans_within
from rectilinear.networks.batches import Batch, Tokenizer
from rectilinear.networks.forward_pass import Change, Output, forward
from rectilinear.networks.network import check_module, check_not_scripted, evaluating
from rectilinear.networks.places import inner
from rectilinear.networks.token_vectors import Layout, on_vectors, vectors
from rectilinear.numerics import Moments
from rectilinear.progress import Progress
from rectilinear.random import seeded

By = Literal["r2", "agreement", "loss", "score"]
RIDGES = (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)  # of maps, times the mean variance of a feature
SIGNS = {"r2": 1.0, "agreement": 1.0, "score": 1.0, "loss": -1.0}  # whether more is better


@dataclass(frozen=True, eq=False)
class SpanCost:
    """The measure of the network with one span replaced by an affine map, or deleted.

    Attributes:
        name: of the span, as :func:`linearize` takes it.
        length: how many blocks it has.
        value: the measure with the map in place.
        deleted: the same with nothing in place.
        parameters: how many the blocks have.
    """

    name: str
    length: int
    value: float
    deleted: float
    parameters: int

    def __str__(self) -> str:
        blocks = "1 block" if self.length == 1 else f"{self.length} blocks"
        values = f"{self.value:.4g} with a map in place, {self.deleted:.4g} deleted"
        return f"{self.name}: {blocks}, {self.parameters:,} parameters, {values}"


@dataclass(frozen=True, eq=False)
class SpanCosts:
    """The costs of spans of a network, on samples that their maps were not fitted to.

    Attributes:
        by: the measure.
        reference: its value for the network as it is.
        spans: all that were tried.
        samples: how many samples they were compared on.
    """

    by: By
    reference: float
    spans: tuple[SpanCost, ...]
    samples: int

    def best(self, length: int) -> SpanCost:
        """The span of a length that costs least.

        Raises:
            ConfigError: if none of that length was tried.
        """
        found = [span for span in self.spans if span.length == length]
        if not found:
            raise ConfigError(
                f"length = {length}", f"one of {sorted({s.length for s in self.spans})}"
            )
        return max(found, key=self._worth)

    def curve(self) -> tuple[SpanCost, ...]:
        """The span that costs least for each number of blocks."""
        return tuple(self.best(n) for n in sorted({span.length for span in self.spans}))

    def within(self, lose: float) -> SpanCost | None:
        """The longest span that worsens the measure by at most ``lose``; None if there is none."""
        least = SIGNS[self.by] * self.reference - lose
        found = [span for span in self.curve() if self._worth(span) >= least]
        return found[-1] if found else None

    def _worth(self, span: SpanCost) -> float:
        return SIGNS[self.by] * span.value

    def _repr_html_(self) -> str:
        """The table, as HTML for a notebook."""
        return f"<pre>{escape(str(self))}</pre>"

    def __str__(self) -> str:
        best = self.curve()
        wide = max(len("span"), *(len(s.name) for s in best))
        lines = [f"{'blocks':>6}  {'span':<{wide}} {self.by:>9} {'deleted':>9} {'parameters':>12}"]
        lines += [
            f"{s.length:>6}  {s.name:<{wide}} {s.value:>9.4g} {s.deleted:>9.4g} {s.parameters:>12,}"
            for s in best
        ]
        lines.append(f"{self.by} of the network as it is: {self.reference:.4g}")
        lines.append(f"{len(self.spans)} spans compared on {self.samples:,} samples")
        return "\n".join(lines)


def span_costs(
    model: nn.Module,
    x: Any,
    y: Tensor | None = None,
    *,
    lengths: Sequence[int] = (1, 2, 3),
    container: str | None = None,
    fold: bool = False,
    by: By | None = None,
    loss: Loss = None,
    score: Score | None = None,
    output: Output = None,
    tokenizer: Tokenizer | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> SpanCosts:
    """The cost of replacing each span of a network's blocks by an affine map, or of deleting it.

    The maps are least squares with a small ridge, fitted for all spans in one pass over the samples
    that :func:`linearize` fits on, and compared on those that it chooses on, given the same data
    and seed: its own numbers are then of samples that no span was chosen on. Replace or fold a
    cheap span with ``linearize(model, x, blocks=span.name)``.

    Args:
        model: the network; it is not changed.
        x: the data, as in :func:`linearize`.
        y: labels.
        lengths: how many blocks a span has.
        container: the name of the list of blocks; by default the one with most parameters, or those
            of all stages of a Swin or ConvNeXt.
        fold: leave out the spans that nothing could be folded in front of.
        by: "r2" of the output, "agreement" of the largest output, "loss", or "score"; by default
            the score if there is one, the loss if there are labels, else R².
        loss: as in :func:`audit`.
        score: a function of the new and the old outputs ``(n, O)``; more is better.
        output: as in :func:`linearize`.
        tokenizer: of texts.
        batch_size: samples in a batch.
        seed: of the samples that are held out.
        progress: show progress on standard error: a bar on a terminal, else a line now and then.

    Raises:
        ConfigError: for a measure that there is not, or lengths that no span has.
        StructureError: for a network without a list of blocks, or one that changes its shape in
            every span.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(*[nn.Linear(4, 4) for _ in range(4)], nn.ReLU())
        >>> found = span_costs(net, torch.randn(300, 4), lengths=(1, 2, 3, 4))
        >>> found.within(0.01).name
        '0:4'
    """
    check_module(model)
    check_not_scripted(inner(model))
    by = by or ("score" if score is not None else "loss" if y is not None else "r2")
    if by not in SIGNS:
        raise ConfigError(f"by = {by!r}", f"one of {', '.join(map(repr, SIGNS))}")
    if by == "score" and score is None:
        raise ConfigError("by = 'score' without a score", "a function", "Pass score=.")
    inside = [
        span
        for span in spans_within(model, container)
        if len(span) < span.length and (span.start or not fold)
    ]
    spans = [span for span in inside if len(span) in lengths]
    if not spans:
        most = max(map(len, inside), default=0)
        raise ConfigError(
            f"lengths = {tuple(lengths)}",
            "lengths of spans inside the list",
            f"Use lengths from 1 to {most}." if most else "Choose another list: container=.",
        )
    with evaluating(model), seeded(seed, devices=None):
        portions = Portions(read_for(model, x, y, tokenizer, batch_size, output), seed)
        with Progress("span costs", 1 + 2 * len(spans), shown=progress) as display:
            display.advance("outputs")
            spans = _foldable(model, portions, spans, output) if fold else spans
            display.advance("fitting maps", len(spans))
            maps = _fitted(model, portions, spans, output)
            wanted = outputs(model, portions.of("choose"), output)
            reference = _measured(cost(wanted, wanted, loss, score), by)
            rows: list[SpanCost] = []
            for span, affine in maps.items():
                display.advance(str(span))
                found, deleted = (
                    _outputs_with(model, portions, span, change, output)
                    for change in (affine, lambda h: h)
                )
                values = [_measured(cost(f, wanted, loss, score), by) for f in (found, deleted)]
                blocks = [inner(model).get_submodule(name) for name in span.names]
                size = sum(p.numel() for block in blocks for p in block.parameters())
                rows.append(SpanCost(str(span), len(span), values[0], values[1], size))
    return SpanCosts(by, reference, tuple(rows), wanted.samples)


def _foldable(
    model: nn.Module, portions: Portions, spans: Sequence[Span], output: Output
) -> list[Span]:
    """The spans with a layer before them that can take a map."""
    head, reasons = first_of(portions.of("fit")), dict[str, StructureError]()
    for span in {span.names[0]: span for span in spans}.values():
        try:
            neighbour_of(model, head, span, output)
        except StructureError as error:
            reasons[span.names[0]] = error
    found = [span for span in spans if span.names[0] not in reasons]
    if not found:
        raise next(iter(reasons.values()))
    return found


def _fitted(
    model: nn.Module, portions: Portions, spans: Sequence[Span], output: Output
) -> dict[Span, Change]:
    """The maps over the spans that keep the shape of the stream, fitted in one pass."""
    starts: dict[str, list[Span]] = {}  # spans by the place before them
    for span in spans:
        starts.setdefault(f"{span.names[0]}@input", []).append(span)
    behind = {span: f"{span.names[-1]}@output" for span in spans}
    places = [*starts, *dict.fromkeys(behind.values())]
    moments: dict[str, Moments] = {}
    columns: dict[Span, slice] = {}
    layouts: dict[str, Layout] = {}
    for batch in portions.of("fit"):
        seen = forward(model, batch, places, output=output)
        for start, here in starts.items():
            value = seen.at[start]
            own = [span for span in here if seen.at[behind[span]].shape == value.shape]
            if not own:
                continue
            layout = layouts[start] = seen.layout(start)
            targets = [vectors(seen.at[behind[s]], batch.mask, layout).rows for s in own]
            width = targets[0].shape[1]
            columns |= {s: slice(i * width, (i + 1) * width) for i, s in enumerate(own)}
            rows = vectors(value, batch.mask, layout).rows
            moments.setdefault(start, Moments(computed=True)).add(rows, torch.cat(targets, 1))
    if not columns:
        raise StructureError(
            "blocks that all change the shape of what flows through them",
            "a span with one shape on both sides",
            "Name another list with container=, or replace single blocks with rl.linearize.",
        )
    found: dict[Span, Change] = {}
    for span, part in columns.items():
        start = f"{span.names[0]}@input"
        fit = moments[start].fit(part)
        identity = torch.eye(len(fit.mean_t)).to(fit.basis)  # which deletion leaves
        update = fit.beside(identity)
        matrix = identity + update.damped(update.ridge_by_gcv(RIDGES))
        found[span] = _affine(matrix, fit.mean_t - matrix @ fit.mean_x, layouts[start])
    return found


def _affine(matrix: Tensor, constant: Tensor, layout: Layout) -> Change:
    def change(value: Tensor) -> Tensor:
        weight, bias = matrix.to(value), constant.to(value)
        return on_vectors(lambda rows: rows @ weight.mT + bias, value, layout)

    return change


def _outputs_with(
    model: nn.Module, portions: Portions, span: Span, change: Change, output: Output
) -> Outputs:
    """The outputs with ``change`` of the span's input in place of the span's output."""
    box: list[Tensor] = []

    def keep(value: Tensor) -> Tensor:
        box[:] = [value.detach().clone()]
        return value

    around = {
        f"{span.names[0]}@input": keep,
        f"{span.names[-1]}@output": lambda _: change(box[0]),
    }

    def run(batch: Batch) -> Tensor:
        return forward(model, batch, (), around, output=output).out

    return outputs(model, portions.of("choose"), output, run)


def _measured(found: Cost, by: By) -> float:
    value = {
        "r2": found.r2,
        "agreement": found.agreement,
        "loss": None if found.loss is None else found.loss[1],
        "score": found.score,
    }[by]
    if value is None:
        needs = "labels" if by == "loss" else "more than one output"
        fix = "Pass y, or use by='r2'." if by == "loss" else "Use by='r2'."
        raise ConfigError(f"by = {by!r} without {needs}", "another measure", fix)
    return value


@dataclass(frozen=True, eq=False)
class Smaller:
    """The networks that remain when the cheapest spans are removed.

    Attributes:
        costs: of all spans, on the samples that they were chosen on; None if none can be folded.
        found: a network for each number of blocks, judged on samples that nothing was chosen on.
        reason: why there is none, or nothing.
    """

    costs: SpanCosts | None
    found: tuple[Linearized, ...]
    reason: str = ""

    def table(self) -> tuple[list[str], list[list[str | float]]]:
        """The header and the cells of the table, the original first."""
        head = ["Blocks less", "Span", "Output kept, R²", "With the span deleted", "Same largest"]
        head += ["Parameters", "Operations a sample", "Seconds a batch"]
        lines: list[list[str | float]] = []
        for i, made in enumerate(self.found):
            if not i:
                sizes = (made.parameters_before, made.flops_before, made.seconds_before)
                lines.append([0, "the original", 1.0, "", "", *map(_large, sizes)])
            assert self.costs is not None
            span = next(s for s in self.costs.spans if s.name == made.blocks[0].name)
            same = "" if made.agreement is None else f"{made.agreement:.1%}"
            sizes = (made.parameters_after, made.flops_after, made.seconds_after)
            lines.append(
                [span.length, span.name, made.output_r2, span.deleted, same, *map(_large, sizes)]
            )
        return head, lines

    def __str__(self) -> str:
        if not self.found:
            return f"no smaller network: {self.reason}"
        return "\n\n".join(map(str, self.found))


def _large(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def smaller_networks(
    model: nn.Module,
    x: Any,
    y: Any = None,
    *,
    most: int = 2,
    tokenizer: Tokenizer | None = None,
    output: Output = None,
    seed: int = 0,
) -> Smaller:
    """The networks with one to ``most`` blocks fewer, whose spans are chosen by their cost.

    A network in which nothing can be folded gives none, and the reason.

    Example:
        >>> import torch
        >>> deep = nn.Sequential(*[nn.Linear(4, 4) for _ in range(5)])
        >>> [len(made.model) for made in smaller_networks(deep, torch.randn(300, 4)).found]
        [4, 3]
    """
    given: dict[str, Any] = {"tokenizer": tokenizer, "output": output, "seed": seed}
    try:
        lists = (inner(model).get_submodule(name) for name in main_lists(model))
        blocks = max(len(part) for part in lists)  # type: ignore[arg-type]
        lengths = range(1, min(most, blocks - 2) + 1)
        costs = span_costs(model, x, y, lengths=tuple(lengths), fold=True, **given)
        found = [
            linearize(model, x, y, blocks=span.name, fold=True, **given) for span in costs.curve()
        ]
    except (StructureError, ConfigError, InputError) as error:
        return Smaller(None, (), str(error))
    return Smaller(costs, tuple(found))

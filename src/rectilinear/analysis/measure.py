"""A measurement of an audit, the subject that all of them look at, and bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from rectilinear.errors import InputError, NonFiniteError, StructureError
from rectilinear.learning.mirror import sketch
from rectilinear.networks.data import Data, Task, row_keys
from rectilinear.networks.network import Network
from rectilinear.networks.trace import Structure
from rectilinear.networks.weight_matrices import (
    Chain,
    TwoLayer,
    chain,
    is_homogeneous,
    structure_of,
    two_layer,
)
from rectilinear.notebook import short_repr
from rectilinear.random import resampled, stream
from rectilinear.scalars import share_text

MIN_SIZE = 1e-150  # size of numbers whose squares are above zero in float64
SKETCHED_ROWS = 1024  # rows whose distances are compared
SIZED_ROWS, SIZED_NUMBERS = 8, 2**18  # rows, and numbers of inputs, of which outputs are sized
MERGED_SPREAD = 1e-4  # share of the spread within which two points count as one
CACHED_NUMBERS = 2**25  # numbers of outputs that are kept in memory: 256 MB in float64
BOOTSTRAP_REPLICATES = 500
BOOTSTRAP_BLOCKS = 2048  # blocks of rows that are resampled where there are more rows
TAIL = 0.025  # probability beyond either end of an interval of 95 %

NOT_ASKED_FOR = "not asked for"  # the note of a measurement that was left out
NOT_FOR_TOKENS = "for networks of rows; not for tokens"

Kind = Literal["exact", "certified", "estimated", "not applicable"]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Measure:
    """One measurement of an audit.

    Attributes:
        name: its name, the key in ``audit.measures``.
        value: the number; None where it does not apply.
        kind: "exact" (computed or proved, up to rounding), "certified" (the truth lies in the
            interval, by a bound), "estimated" (the interval is one of confidence, 95 %), or "not
            applicable", with the reason in ``note``.
        interval: the interval, where there is one.
        note: what the number says here, in a sentence.
        details: further numbers, as JSON values.
        tensors: what is too large for JSON, such as matrices.
    """

    name: str
    value: float | None
    kind: Kind
    interval: tuple[float, float] | None = None
    note: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    __repr__ = short_repr

    @classmethod
    def missing(cls, name: str, reason: str) -> Measure:
        """The measure ``name`` where it does not apply, with the ``reason``.

        Example:
            >>> print(Measure.missing("floor", "no labels were given"))
            floor: not applicable (no labels were given)
        """
        return cls(name, None, "not applicable", note=reason)

    @property
    def applies(self) -> bool:
        """True if the measure has a value."""
        return self.value is not None

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.name}: not applicable ({self.note})"
        return f"{self.name}: {share_text(self.value)}{self.range_text()}, {self.kind}" + (
            f". {self.note}" * bool(self.note)
        )

    def range_text(self) -> str:
        """The interval in brackets, or nothing."""
        return f" [{', '.join(map(share_text, self.interval))}]" if self.interval else ""

    def to_json(self) -> dict[str, Any]:
        """All but the tensors."""
        return {
            "name": self.name,
            "value": self.value,
            "kind": self.kind,
            "interval": None if self.interval is None else list(self.interval),
            "note": self.note,
            "details": dict(self.details),
        }


def two_layers_only(name: str, reason: str) -> Measure:
    """The measure ``name`` of a network that is not one of two layers, with the ``reason``."""
    why = reason.removeprefix("a network that is not one of two layers: ")
    return Measure.missing(name, f"two layers only; {why}")


class Pass(NamedTuple):
    """A batch: rows ``x`` ``(b, ...)``, outputs ``f(x)`` and ``f(-x)`` ``(b, O)``, and labels."""

    x: Tensor
    f: Tensor
    mirrored: Tensor
    y: Tensor | None


@dataclass(frozen=True)
class Settings:
    """The arguments of an audit that single measurements read.

    Attributes:
        blocks: names of the blocks to replace; None for the contents of the model's containers.
        lr: learning rate of the predicted learning curve; None for no prediction.
        steps: how many steps of it.
        standardise: whether outputs are brought to one variance before they are summed.
    """

    blocks: list[str] | None = None
    lr: float | None = None
    steps: int | None = None
    standardise: bool = False


@dataclass(eq=False)
class Subject:
    """The network under audit with all that several measurements need.

    ``two_layer`` and ``chain`` hold the matrices, or the reason why there are none. They are read
    off ``exact``: the network itself, and for one in half precision, whose products would be too
    rough for a proof, its copy in float64. ``distinct`` are the rows of the sample that are not
    repetitions of rows before. ``unmirrored`` is the reason why nothing can be said of ``-x``,
    known after the first pass: a logarithm of the input has no value there.
    """

    network: Network
    exact: Network
    data: Data
    task: Task | None
    structure: Structure
    homogeneous: bool
    two_layer: TwoLayer | str
    chain: Chain | str
    seed: int
    distinct: Tensor
    settings: Settings = Settings()
    unmirrored: str = ""
    _outputs: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    _found: dict[Callable[[Subject], object], object] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        network: Network,
        data: Data,
        task: Task | None,
        seed: int,
        settings: Settings = Settings(),
    ) -> Subject:
        """The network with its layers read, its data and its task.

        Raises:
            InputError: for data or outputs whose squares leave the range of float64.
        """
        x, found = data.sample, network.exact()
        _check_size(x, "x")
        _check_size(
            network(x[: min(SKETCHED_ROWS, max(SIZED_ROWS, SIZED_NUMBERS // x[0].numel()))]),
            "the output of the model",
        )
        exact, rough = (
            (network, "a network that runs in half precision only")
            if found is None
            else (found, "")
        )
        structure = structure_of(exact, x)
        return cls(
            network,
            exact,
            data,
            task,
            structure,
            is_homogeneous(exact, structure, x),
            rough or _or_reason(lambda: two_layer(exact, structure, x)),
            rough or _or_reason(lambda: chain(exact, structure, x)),
            seed,
            _first_of_each(row_keys(network.rows(x))),
            settings,
        )

    def once(self, find: Callable[[Subject], T]) -> T:
        """The result of ``find`` for this subject, computed at the first call."""
        if find not in self._found:
            self._found[find] = find(self)
        return cast("T", self._found[find])

    def passes(self) -> Iterator[Pass]:
        """All rows with their outputs, which are computed once where they fit into memory."""
        keep = self.data.is_whole and 2 * self.data.n * self.network.out_dim <= CACHED_NUMBERS
        for i, (x, y) in enumerate(self.data.batches()):
            rows = self.network.rows(x)
            if i < len(self._outputs):
                f, mirrored = self._outputs[i]
            else:
                f = self.network(rows)
                mirrored = self.mirrored(rows, f)
                if keep:
                    self._outputs.append((f, mirrored))
            yield Pass(rows, f, mirrored, y)

    def mirrored(self, rows: Tensor, f: Tensor) -> Tensor:
        """``f(-x)``, or zeros where it is not finite."""
        try:
            return self.network(-rows)
        except NonFiniteError:
            self.unmirrored = "the output is not finite at -x"
            return torch.zeros_like(f)

    @property
    def has_linear_odd_part(self) -> bool:
        """True if the odd part is linear by construction.

        That is: two layers, no bias, and an activation whose odd part is linear.
        """
        return (
            isinstance(self.two_layer, TwoLayer)
            and not self.two_layer.has_bias
            and self.two_layer.activation.kappa is not None
        )

    @property
    def units(self) -> Tensor:
        """The root mean square of each input on the sample, ``(D,)``."""
        sizes = self.network.rows(self.data.sample).flatten(1).double().abs().amax(0)
        largest = sizes.max()
        return torch.where(sizes > 0, sizes, largest if largest > 0 else torch.ones_like(largest))

    def columns(self, wanted: int) -> Tensor:
        """Distinct rows of the sample as the network takes them, at most ``wanted``."""
        return self.network.rows(
            self.data.sample[self.distinct[:wanted].to(self.data.sample.device)]
        )

    def distinct_points(self, most: int = 32) -> int:
        """The number of points of the sample that differ by more than rounding, up to ``most``."""
        seen = sketch(_unit_columns(self.columns(SKETCHED_ROWS).flatten(1)))
        near = MERGED_SPREAD * float(seen.abs().max())
        for count in range(1, most + 1):
            seen = seen[(seen - seen[0]).abs().amax(1) > near]
            if not len(seen):
                return count
        return len(self.distinct)

    def column_labels(self, wanted: int) -> Tensor | None:
        """The labels of the rows that ``columns`` gives."""
        labels = self.data.sample_labels
        return None if labels is None else labels[self.distinct[:wanted].to(labels.device)]


def ratio(
    numerator: Tensor, denominator: Tensor, seed: int
) -> tuple[float, tuple[float, float] | None]:
    """``sum a_i / sum b_i`` over rows with its 95 % bootstrap interval; 0 if both sums vanish.

    Args:
        numerator: ``(n,)``.
        denominator: ``(n,)``, not negative.
        seed: of the resampling.

    Example:
        >>> value, (low, high) = ratio(torch.arange(100.0), torch.ones(100), seed=0)
        >>> value, low < 49.5 < high
        (49.5, True)
    """
    a, b = numerator.double().cpu(), denominator.double().cpu()
    value = _quotient(a.sum(), b.sum())
    if len(a) < 2:
        return float(value), None
    a, b = _blocks(a), _blocks(b)
    counts = resampled(len(a), BOOTSTRAP_REPLICATES, stream(seed, "bootstrap"))
    low, high = (
        _quotient(counts @ a, counts @ b)
        .quantile(torch.tensor([TAIL, 1 - TAIL], dtype=a.dtype))
        .tolist()
    )
    return float(value), (low, high)


def ratios(
    numerator: Tensor, denominator: Tensor, seed: int
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """``sum_i a_ij / sum_i b_ij`` ``(k,)`` with simultaneous 95 % bootstrap intervals.

    The intervals are widened by the ratio of normal quantiles for ``k`` intervals (Bonferroni); 0
    if both sums vanish.

    Args:
        numerator: ``(n, k)``.
        denominator: ``(n, k)``, not negative.
        seed: of the resampling.

    Example:
        >>> value, (low, high) = ratios(torch.ones(50, 2), torch.full((50, 2), 4.0), seed=0)
        >>> value.tolist(), low.tolist(), high.tolist()
        ([0.25, 0.25], [0.25, 0.25], [0.25, 0.25])
    """
    a, b = numerator.double().cpu(), denominator.double().cpu()
    value = _quotient(a.sum(0), b.sum(0))
    counts = resampled(len(a), BOOTSTRAP_REPLICATES, stream(seed, "bootstrap"))
    low, high = _quotient(counts @ a, counts @ b).quantile(
        torch.tensor([TAIL, 1 - TAIL], dtype=a.dtype), dim=0
    )
    tails = torch.tensor([TAIL, TAIL / a.shape[1]], dtype=a.dtype)
    one, all_of_them = torch.special.ndtri(tails)
    wider = all_of_them / one
    return value, (value - (value - low) * wider, value + (high - value) * wider)


def _quotient(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(b > 0, a / b.clamp_min(torch.finfo(b.dtype).tiny), torch.zeros_like(a))


def _blocks(values: Tensor) -> Tensor:
    """Sums over at most ``BOOTSTRAP_BLOCKS`` blocks of rows; the last takes the rest."""
    size = -(-len(values) // BOOTSTRAP_BLOCKS)
    whole = len(values) // size * size
    sums = values[:whole].reshape(-1, size).sum(1)
    sums[-1] += values[whole:].sum()
    return sums


def _or_reason(find: Callable[[], T]) -> T | str:
    try:
        return find()
    except StructureError as error:
        return error.got


def _check_size(values: Tensor, name: str) -> None:
    """Raise for numbers whose squares leave the range of float64."""
    size = float(values.abs().max())
    if size and not MIN_SIZE < size < 1 / MIN_SIZE:
        raise InputError(
            f"{name} of size {size:.0e}",
            "numbers whose squares float64 can hold",
            f"Divide them by {size:.0e}.",
        )


def _unit_columns(x: Tensor) -> Tensor:
    """Centred columns of the size one, where they vary."""
    x = x.double() - x.double().mean(0)
    return x / x.abs().amax(0).clamp_min(torch.finfo(x.dtype).tiny)


def _first_of_each(keys: Tensor) -> Tensor:
    """The indices of the first row of each key, in order."""
    _, inverse = keys.unique(return_inverse=True)
    first = torch.full((int(inverse.max()) + 1,), len(keys)).scatter_reduce_(
        0, inverse, torch.arange(len(keys)), "amin"
    )
    return first.sort().values

"""What every measurement looks at: the network, its structure and matrices, the data, and the task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from rectilinear.errors import InputError, NonFiniteError, StructureError
from rectilinear.learning.mirror import sketch
from rectilinear.networks.calls import Network
from rectilinear.networks.data import Data, row_keys
from rectilinear.networks.layers import (
    Chain,
    TwoLayer,
    chain,
    is_homogeneous,
    structure_of,
    two_layer,
)
from rectilinear.networks.task import Task
from rectilinear.networks.trace import Structure

LEAST = 1e-150  # size of numbers whose squares are above zero
SKETCHED = 1024  # rows whose distances are looked at
SAME = 1e-4  # part of the spread within which two points are one
CACHE = 2**25  # numbers of outputs that are kept

T = TypeVar("T")


class Pass(NamedTuple):
    """A batch: rows ``x`` ``(b, ...)``, outputs ``f(x)`` and ``f(-x)`` ``(b, O)``, and labels."""

    x: Tensor
    f: Tensor
    mirrored: Tensor
    y: Tensor | None


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
    unmirrored: str = ""
    _outputs: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @classmethod
    def of(cls, network: Network, data: Data, task: Task | None, seed: int) -> Subject:
        """Look into the network.

        Raises:
            InputError: for data or outputs whose squares leave the range of float64.
        """
        x, found = data.sample, network.exact()
        _check_size(x, "x")
        _check_size(network(x[:SKETCHED]), "the output of the model")
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
        )

    def passes(self) -> Iterator[Pass]:
        """All rows with their outputs, which are computed once where they fit into memory."""
        keep = self.data.is_whole and 2 * self.data.n * self.network.out_dim <= CACHE
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
        """Whether the odd part is linear by construction: two layers, no bias, an activation whose
        odd part is.
        """
        return (
            isinstance(self.two_layer, TwoLayer)
            and not self.two_layer.has_bias
            and self.two_layer.activation.kappa is not None
        )

    @property
    def units(self) -> Tensor:
        """The sizes of the inputs on the sample, ``(D,)``; of those that are always zero, that of
        the largest.
        """
        sizes = self.network.rows(self.data.sample).flatten(1).double().abs().amax(0)
        largest = sizes.max()
        return torch.where(sizes > 0, sizes, largest if largest > 0 else torch.ones_like(largest))

    def columns(self, wanted: int) -> Tensor:
        """Distinct rows of the sample as the network takes them, at most ``wanted``."""
        return self.network.rows(
            self.data.sample[self.distinct[:wanted].to(self.data.sample.device)]
        )

    def distinct_points(self, most: int = 32) -> int:
        """How many points of the sample are further apart than rounding, counted up to ``most``."""
        seen = sketch(_unit_columns(self.columns(SKETCHED).flatten(1)))
        near = SAME * float(seen.abs().max())
        for count in range(1, most + 1):
            seen = seen[(seen - seen[0]).abs().amax(1) > near]
            if not len(seen):
                return count
        return len(self.distinct)

    def column_labels(self, wanted: int) -> Tensor | None:
        """The labels of the rows that ``columns`` gives."""
        labels = self.data.sample_labels
        return None if labels is None else labels[self.distinct[:wanted].to(labels.device)]


def _or_reason(find: Callable[[], T]) -> T | str:
    try:
        return find()
    except StructureError as error:
        return error.got


def _check_size(values: Tensor, name: str) -> None:
    """Raise for numbers whose squares leave the range of float64."""
    size = float(values.abs().max())
    if size and not LEAST < size < 1 / LEAST:
        raise InputError(
            f"{name} of size {size:.0e}",
            "numbers whose squares float64 can hold",
            "Choose other units.",
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

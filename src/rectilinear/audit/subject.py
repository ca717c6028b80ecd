"""What every measurement looks at: the network, its structure and matrices, the data, and the task."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch

from rectilinear.audit.layers import Chain, TwoLayer, chain, is_homogeneous, structure_of, two_layer
from rectilinear.errors import StructureError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from rectilinear.audit.data import Data
    from rectilinear.audit.network import Network
    from rectilinear.audit.structure import Structure
    from rectilinear.audit.task import Task

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

    ``two_layer`` and ``chain`` hold the matrices, or the reason why there are none. They are read off ``exact``: the
    network itself, and for one in half precision, whose products would be too rough for a proof, its copy in float64.
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
    _outputs: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @classmethod
    def of(cls, network: Network, data: Data, task: Task | None, seed: int) -> Subject:
        """Look into the network."""
        x, found = data.sample, network.exact()
        exact, rough = (network, "a network that runs in half precision only") if found is None else (found, "")
        structure = structure_of(exact, x)
        return cls(
            network,
            exact,
            data,
            task,
            structure,
            is_homogeneous(exact, structure, x),
            rough or _or_reason(lambda: two_layer(exact, structure, x)),
            rough or _or_reason(lambda: chain(exact, structure)),
            seed,
        )

    def passes(self) -> Iterator[Pass]:
        """All rows with their outputs, which are computed once where they fit into memory."""
        keep = self.data.is_whole and 2 * self.data.n * self.network.out_dim <= CACHE
        for i, (x, y) in enumerate(self.data.batches()):
            rows = self.network.rows(x)
            if i < len(self._outputs):
                f, mirrored = self._outputs[i]
            else:
                f, mirrored = self.network(rows), self.network(-rows)
                if keep:
                    self._outputs.append((f, mirrored))
            yield Pass(rows, f, mirrored, y)

    @property
    def has_linear_odd_part(self) -> bool:
        """Whether the odd part is linear by construction: two layers, no bias, an activation whose odd part is."""
        return (
            isinstance(self.two_layer, TwoLayer)
            and not self.two_layer.has_bias
            and self.two_layer.activation.kappa is not None
        )

    def columns(self, wanted: int) -> Tensor:
        """Rows of the sample as the network takes them, at most ``wanted``."""
        return self.network.rows(self.data.sample[:wanted])


def _or_reason(find: Callable[[], T]) -> T | str:
    try:
        return find()
    except StructureError as error:
        return error.got


def vanishing(energy: float, scale: float, dtype: torch.dtype) -> bool:
    """Whether an energy is what rounding leaves of ``scale``."""
    return energy <= (1e3 * torch.finfo(dtype).eps) ** 2 * scale

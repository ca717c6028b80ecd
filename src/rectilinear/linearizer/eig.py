"""The eigen-decomposition of a Linearizer that maps a space to itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from rectilinear.linearizer.linearizer import Linearizer, endomorphism
from rectilinear.operators import eig

if TYPE_CHECKING:
    from rectilinear.induced_space import InducedSpace
    from rectilinear.operators import Operator


class LinearizerEig(NamedTuple):
    """Complex ``values`` ``(n,)`` of ``f``, largest first, and eigenvectors ``vectors`` in coordinates of its space."""

    values: Tensor
    vectors: Operator
    space: InducedSpace

    def points(self, k: int | None = None) -> tuple[Tensor, Tensor]:
        """Real and imaginary parts of the first ``k`` eigenvectors, each decoded, ``(k, *shape)``.

        With ``values[i] = a + b i``, ``f`` maps the real point ``p`` to ``a (.) p (-) b (.) q`` and the imaginary point
        ``q`` to ``b (.) p (+) a (.) q``; ``q`` is the zero vector where the eigenvalue is real.
        """
        n = self.values.shape[-1]
        axes = torch.eye(n if k is None else min(k, n), n, dtype=self.values.dtype, device=self.values.device)
        vectors = self.vectors(axes)
        return self.space.decode(vectors.real), self.space.decode(vectors.imag)


@eig.register(Linearizer)
def _eig(f: Linearizer) -> LinearizerEig:
    return LinearizerEig(*eig(endomorphism(f, "eigenvalues")), f.in_space)

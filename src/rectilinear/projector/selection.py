"""Coordinate projections ``diag(b)``, ``b`` in ``{0, 1}^n``, with a fixed or a learned rank."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rectilinear.checks import check_floating, whole
from rectilinear.errors import ConfigError, ShapeError
from rectilinear.operators import Diagonal, Operator


class Selection(Operator):
    """The projection ``A = diag(b)`` with ``b`` in ``{0, 1}^n``, so ``A A = A`` without rounding.

    With a rank ``r``, ``b`` is 1 at the ``r`` largest logits; without one, at the positive logits,
    and the rank is learned. Rounding has no gradient, so that of ``sigmoid(logits)`` is used
    (straight-through estimator). Behind an invertible network this is no restriction: the network
    can map any subspace to one spanned by coordinates.

    Args:
        logits: ``(n,)``.
        rank: number of coordinates kept, 0 to ``n``; None (the default) learns it.
        trainable: whether the logits are parameters, True by default.

    Raises:
        ConfigError: if the rank is out of range.
        ShapeError: if ``logits`` is not a vector.

    Reference: Y. Bengio, N. Leonard, A. Courville, 2013 (arXiv 1308.3432), for the straight-through
    gradient.

    Example:
        >>> A = Selection(torch.tensor([0.3, -1.0, 2.0]))
        >>> A.rank, A(torch.ones(3)).tolist()
        (2, [1.0, 0.0, 1.0])
        >>> Selection(torch.tensor([0.3, -1.0, 2.0]), rank=1)(torch.ones(3)).tolist()
        [0.0, 0.0, 1.0]
    """

    logits: Tensor

    def __init__(self, logits: Tensor, rank: int | None = None, *, trainable: bool = True) -> None:
        super().__init__()
        check_floating(logits, "logits")
        if logits.ndim != 1:
            raise ShapeError(
                f"logits of shape {tuple(logits.shape)}", "(n,), one for each coordinate"
            )
        rank = None if rank is None else whole(rank, "rank")
        if rank is not None and rank > len(logits):
            raise ConfigError(
                f"rank {rank}",
                f"0 to {len(logits)}",
                "Correct the rank; rank=None learns it.",
            )
        self._hold(trainable, logits=logits)
        self.in_dim = self.out_dim = len(logits)
        self.budget = rank

    @classmethod
    def leading(cls, dim: int, rank: int) -> Selection:
        """The projection onto the first ``rank`` of ``dim`` coordinates, not trainable.

        Example:
            >>> Selection.leading(4, 2).mask.tolist()
            [1.0, 1.0, 0.0, 0.0]
        """
        return cls(torch.linspace(1, -1, dim), rank, trainable=False)

    @property
    def rank(self) -> int:
        """The number of kept coordinates."""
        return self.budget if self.budget is not None else int((self.logits > 0).sum())

    @property
    def order(self) -> Tensor:
        """Indices of all coordinates by descending logit, ``(n,)``; the first ``rank`` are kept."""
        return self.logits.detach().argsort(descending=True, stable=True)

    @property
    def kept(self) -> Tensor:
        """Indices of the kept coordinates, ascending, ``(rank,)``."""
        return self.order[: self.rank].sort().values

    @property
    def mask(self) -> Tensor:
        """``b``, ``(n,)``, with the straight-through gradient."""
        return self._rounded(self.logits)

    def draw(self, rows: int) -> Tensor:
        """Random selections ``(rows, n)``: each is kept with probability ``sigmoid(logit)``.

        Learning a rank needs them: at the rounded selection alone, the gradient removes each kept
        coordinate and adds each missing one, whatever variance they explain.
        """
        u = torch.rand(rows, self.in_dim, dtype=self.logits.dtype, device=self.logits.device)
        tiny = torch.finfo(u.dtype).eps
        return self._rounded(self.logits + torch.logit(u, tiny))

    def with_rank(self, rank: int) -> Selection:
        """The selection of another rank with the same order of coordinates."""
        return Selection(self.logits.detach().clone(), rank, trainable=False)

    def diagonal(self) -> Diagonal:
        """The same operator as a :class:`~rectilinear.operators.Diagonal`, without gradient."""
        return Diagonal(self.mask.detach(), trainable=False)

    def _rounded(self, logits: Tensor) -> Tensor:
        if self.budget is None:
            hard = (logits > 0).to(logits)
        else:
            order = logits.argsort(dim=-1, descending=True, stable=True)
            hard = torch.zeros_like(logits).scatter_(-1, order[..., : self.budget], 1.0)
        soft = torch.sigmoid(self.logits)
        return hard.detach() + (soft - soft.detach())  # the bracket is exactly 0, with a gradient

    def _matvec(self, z: Tensor) -> Tensor:
        return self.mask * z

    def _rmatvec(self, z: Tensor) -> Tensor:
        return self.mask * z


def informative(variances: Tensor | Sequence[float]) -> Tensor:
    """Initial logits of a learned rank: positive where a variance exceeds the mean (Kaiser's rule).

    Example:
        >>> informative([6.0, 2.0, 1.0]).gt(0).tolist()
        [True, False, False]
    """
    values = torch.as_tensor(variances)
    return (values / values.mean()).clamp(1e-2, 1e2).log()

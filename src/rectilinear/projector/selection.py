"""Coordinate projections whose rank is set, or learned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rectilinear.checks import check_floating, whole
from rectilinear.errors import ConfigError, ShapeError
from rectilinear.operators import Diagonal, Operator


class Selection(Operator):
    """The projection ``A = diag(b)`` with ``b`` in ``{0, 1}^n``: ``A A = A`` to the last bit,
    whatever the parameters.

    With a rank ``r``, ``b`` is 1 at the ``r`` largest logits; without, at the positive ones, and
    the rank is learned. Rounding has no slope, so the gradient is that of ``sigmoid(logits)``
    (straight through).

    In front of an invertible network this is no restriction: the network can turn any subspace into
    one of coordinates.

    Args:
        logits: ``(n,)``.
        rank: ``0 <= r <= n``; learned where None.
        trainable: learn the logits.

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
                f"logits of shape {tuple(logits.shape)}", "one for each coordinate, (n,)"
            )
        rank = None if rank is None else whole(rank, "rank")
        if rank is not None and rank > len(logits):
            raise ConfigError(
                f"rank {rank}",
                f"0 to {len(logits)}",
                "Correct the rank, or leave it out to learn it.",
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
        """Number of coordinates that are kept."""
        return self.budget if self.budget is not None else int((self.logits > 0).sum())

    @property
    def order(self) -> Tensor:
        """All coordinates, largest logit first, ``(n,)``; the first ``rank`` are kept."""
        return self.logits.detach().argsort(descending=True, stable=True)

    @property
    def kept(self) -> Tensor:
        """The coordinates that are kept, in their own order, ``(rank,)``."""
        return self.order[: self.rank].sort().values

    @property
    def mask(self) -> Tensor:
        """``b``, ``(n,)``, with the straight-through gradient."""
        return self._rounded(self.logits)

    def draw(self, rows: int) -> Tensor:
        """``rows`` random selections ``(rows, n)``: logits under logistic noise, so 1 with
        probability ``sigmoid``.

        What a coordinate is worth shows where it is missing as much as where it is kept; gradients
        at the rounded selection alone push each kept coordinate out and each missing one in,
        whatever they are worth.
        """
        u = torch.rand(rows, self.in_dim, dtype=self.logits.dtype, device=self.logits.device)
        tiny = torch.finfo(u.dtype).eps
        return self._rounded(self.logits + torch.logit(u, tiny))

    def with_rank(self, rank: int) -> Selection:
        """The same order of coordinates, cut at another rank."""
        return Selection(self.logits.detach().clone(), rank, trainable=False)

    def diagonal(self) -> Diagonal:
        """The same operator as a :class:`~rectilinear.operators.Diagonal`, for the verbs of linear
        algebra.
        """
        return Diagonal(self.mask.detach(), trainable=False)

    def _rounded(self, logits: Tensor) -> Tensor:
        if self.budget is None:
            hard = (logits > 0).to(logits)
        else:
            order = logits.argsort(dim=-1, descending=True, stable=True)
            hard = torch.zeros_like(logits).scatter_(-1, order[..., : self.budget], 1.0)
        soft = torch.sigmoid(self.logits)
        return hard.detach() + (
            soft - soft.detach()
        )  # the bracket is 0 to the last bit, and carries the slope

    def _matvec(self, z: Tensor) -> Tensor:
        return self.mask * z

    def _rmatvec(self, z: Tensor) -> Tensor:
        return self.mask * z


def informative(variances: Tensor | Sequence[float]) -> Tensor:
    """Logits that start a learned rank at Kaiser's rule: positive where a variance is above the
    mean of all, ``(n,)``.

    Example:
        >>> informative([6.0, 2.0, 1.0]).gt(0).tolist()
        [True, False, False]
    """
    values = torch.as_tensor(variances)
    return (values / values.mean()).clamp(1e-2, 1e2).log()

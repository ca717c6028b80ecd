"""What a projector is trained on."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from rectilinear.errors import ConfigError
from rectilinear.induced_space import InducedSpace
from rectilinear.projector.corruption import RandomDamage
from rectilinear.projector.model import Projector

Ranks = Literal["fixed", "learned", "nested"]
_CHOOSING = 0.5  # share of the rows at random selections, whose gradient the price of a rank is weighed against


class ProjectorObjective(nn.Module):
    """Reconstruction behind the projection, and what keeps rank and latents in bounds.

    ``loss = E |f(y) - x|^2 / scale + rank_weight rank / n + tightness T + likelihood L`` with ``y``
    a damaged ``x``.

    - *Rank.* ``fixed``: the selection as it is. ``nested``: its leading ``k``, ``k`` drawn for
      every row, so that there is a projector for every ``k``; the error is relative to ``lost[k]``.
      ``learned``: with ``rank_weight`` 1 a coordinate pays for itself if it explains more than the
      mean coordinate of the data does (Kaiser's rule), at any scale and dimension; half of the rows are
      projected at random selections, which is where
      the gradient of the logits comes from, the others at the rounded one.
    - *Tightness* ``T = (log(E |g(x)|^2 / E |x - g^-1(0)|^2))^2``: latents of the size of the data.
    - *Likelihood* ``L``: negative log-density of ``y`` with latents ``N(0, spread^2)``, a
      coordinate.

    Args:
        projector: what to train.
        lost: ``(n + 1,)``, the error by rank that errors are relative to, such as PCA's;
            ``lost[0]`` is the scale where the rank is not nested.
        ranks: how the rank is chosen.
        lowest: least ``k``, for nested ranks.
        highest: largest ``k``; the rank of the selection where None.
        harm: damages a batch; none trains on clean images.
        rank_weight: for the learned rank.
        tightness: weight of ``T``.
        likelihood: weight of ``L``, which needs a projector with a ``spread``.

    Raises:
        ConfigError: for ranks out of range or another way to choose them, or a likelihood without a
            spread.

    Example:
        >>> from rectilinear.projector import Projector, Selection
        >>> from rectilinear.invertible import Identity
        >>> f = Projector(Identity(3), Selection.leading(3, 2))
        >>> ProjectorObjective(f, lost=torch.ones(4))(torch.tensor([[5.0, 7.0, 3.0]]))["error"].item()
        3.0
    """

    lost: Tensor

    def __init__(
        self,
        projector: Projector,
        lost: Tensor,
        ranks: Ranks = "fixed",
        *,
        lowest: int = 1,
        highest: int | None = None,
        harm: RandomDamage | None = None,
        rank_weight: float = 1.0,
        tightness: float = 0.0,
        likelihood: float = 0.0,
    ) -> None:
        super().__init__()
        n = projector.g.dim
        highest = projector.rank if highest is None else highest
        if ranks not in get_args(Ranks):
            raise ConfigError(f"ranks = {ranks!r}", f"one of {', '.join(get_args(Ranks))}")
        if lost.shape != (n + 1,) or not bool(lost[0] > 0):
            raise ConfigError(
                f"errors of shape {tuple(lost.shape)}", f"({n + 1},), the first positive"
            )
        if ranks == "nested" and not (
            1 <= lowest <= highest <= n and bool((lost[lowest : highest + 1] > 0).all())
        ):
            raise ConfigError(
                f"ranks {lowest} to {highest}",
                f"1 to {n}, each with a positive error",
                "Correct them.",
            )
        if likelihood and projector.spread is None:
            raise ConfigError(
                "a likelihood without a spread",
                "a projector with one",
                "Call projector.fitted(data).",
            )
        self.projector, self.ranks, self.harm = projector, ranks, harm
        self.lowest, self.highest = lowest, highest
        self.rank_weight, self.tightness, self.likelihood = rank_weight, tightness, likelihood
        self.register_buffer("lost", lost)

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        """``{"loss", "error", ...}`` of clean data ``(b, *shape)``."""
        f = self.projector
        space = InducedSpace(f.g)
        y = batch if self.harm is None else self.harm(batch)
        if self.likelihood:
            latents, logdet = f.g.forward_and_logdet(y)
            z = latents.flatten(1)
        else:
            z = space.encode(y)
        mask, scale = self._selected(len(z))
        error = (space.decode(mask * z) - batch).flatten(1).square().mean(1) / scale
        terms = {"error": error.mean()}
        loss = terms["error"]
        if self.ranks == "learned":
            terms["rank"] = f.selection.logits.new_tensor(float(f.rank))
            loss = loss + _CHOOSING * self.rank_weight * torch.sigmoid(f.selection.logits).mean()
        if self.tightness:
            terms["tightness"] = tightness(space, batch)
            loss = loss + self.tightness * terms["tightness"]
        if self.likelihood:
            assert f.spread is not None
            normal = 0.5 * (z / f.spread).square() + f.spread.log()
            terms["nll"] = (normal.sum(1) - logdet).mean() / f.g.dim
            loss = loss + self.likelihood * terms["nll"]
        return {"loss": loss, **terms}

    @torch.no_grad()
    def diagnostics(self, batch: Tensor) -> dict[str, float]:
        """``|f(f(x)) - f(x)|`` and the round-trip error on data, the largest entries."""
        f = self.projector
        once = f(batch)
        return {
            "idempotence": float((f(once) - once).abs().max()),
            "round_trip": float((f.g.inverse(f.g(batch)) - batch).abs().max()),
            "rank": float(f.rank),
        }

    def _selected(self, rows: int) -> tuple[Tensor, Tensor]:
        """A selection for every row ``(rows, n)`` and the size of the errors there."""
        selection, scale = self.projector.selection, self.lost[0]
        if self.ranks == "nested":
            low, high = self.lowest, self.highest
            u = torch.rand(rows, device=scale.device, dtype=torch.float64)
            k = (
                (low * ((high + 1) / low) ** u).long().clamp(low, high)
            )  # as many below as above sqrt(low high)
            place = selection.order.argsort()
            return (place < k[:, None]).to(scale), self.lost[k]
        if self.ranks == "learned":
            choosing = round(_CHOOSING * rows)
            rounded = selection.mask.detach().expand(rows - choosing, -1)
            return torch.cat([selection.draw(choosing), rounded]), scale
        return selection.mask.expand(rows, -1), scale


def tightness(space: InducedSpace, x: Tensor) -> Tensor:
    """``(log(E |g(x)|^2 / E |x - g^-1(0)|^2))^2``: 0 where latents are as large as the data about
    the zero vector.

    A ratio, so that it says the same at every scale of the data.

    Example:
        >>> from rectilinear.invertible import Identity
        >>> tightness(InducedSpace(Identity(2)), torch.randn(5, 2)).item()
        0.0
    """
    z = space.encode(x)
    away = (x - space.zero(like=z)).flatten(1)
    return (z.square().mean() / away.square().mean()).log().square()

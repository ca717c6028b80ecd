"""Training of projectors: initialisation from PCA, and the reconstruction objective.

``from_pca`` builds a projector that equals that of PCA until it is trained; ``ProjectorObjective``
is the reconstruction error of corrupted images behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from rectilinear.checks import check_floating
from rectilinear.errors import ConfigError
from rectilinear.induced_space import InducedSpace
from rectilinear.invertible import (
    MLP,
    AdditiveCoupling,
    AffineCoupling,
    Chain,
    Invertible,
    Leading,
    Scaling,
    VectorFlow,
)
from rectilinear.invertible.flows import on_pixels
from rectilinear.invertible.rotation import onto_axes
from rectilinear.metrics.pca import principal_axes
from rectilinear.projector.model import Projector, Selection, informative

Ranks = Literal["fixed", "learned", "nested"]
RANDOM_SELECTION_SHARE = 0.5  # of the rows of a batch, where the rank is learned
MIN_ERROR_SHARE = 1e-4  # of the total error: no rank is taken to have a smaller error than this


def from_pca(
    images: Tensor,
    rank: int | None,
    *,
    leading: int = 128,
    blocks: int = 8,
    width: int = 128,
    coupling: Literal["additive", "affine"] = "affine",
    noise: float = 0.05,
    pixel_blocks: int = 0,
    pixel_width: int = 32,
    axes: int | None = None,
) -> tuple[Projector, Tensor]:
    """A projector initialised as the projector of PCA, and PCA's mean square errors by rank.

    ``g`` maps images to principal coordinates of unit variance, applies couplings to the leading
    ones, shifts the others by one coupling that is conditioned on the leading ones, and undoes the
    scaling. All couplings start at the identity.

    Args:
        images: training images, ``(b, *shape)``; with fewer images than the ``n`` values of one,
            the remaining axes are completed to a basis.
        rank: rank of the projector; None learns it, starting from Kaiser's rule.
        leading: number of principal coordinates that the couplings act on, 128 by default.
        blocks: number of couplings, 8 by default.
        width: hidden width of their conditioner networks, 128 by default.
        coupling: ``"affine"`` (the default) or ``"additive"``.
        noise: added to the variance of each coordinate as ``noise^2``: the scale of the smallest;
            0.05 by default.
        pixel_blocks: number of convolutional couplings on the pixels in front of PCA, 0 by default;
            height and width must be even.
        pixel_width: channels of their conditioner networks, 32 by default.
        axes: number of leading principal axes that are found, as reflections, for images of so many
            values that no ``(n, n)`` rotation can be held; None (the default) finds all. The others
            complete the basis, and count as of equal variance.

    Returns:
        The projector, and the mean square errors of PCA of rank 0, 1, ..., n: ``(n + 1,)``.

    Raises:
        ConfigError: if the rank is out of range, or above the number of axes.

    Example:
        >>> x = torch.randn(99, 1, 2, 3)
        >>> f, errors = from_pca(x, rank=2, blocks=2, width=8)
        >>> torch.allclose((f(x) - x).square().mean(), errors[2], rtol=0.05)
        True
    """
    check_floating(images, "images")
    n, shape = images[0].numel(), tuple(images.shape[1:])
    if rank is not None and not 1 <= rank <= n:
        raise ConfigError(f"rank {rank}", f"1 to {n}, the size of an image", "rank=None learns it.")
    if axes is not None and rank is not None and rank > axes:
        raise ConfigError(f"rank {rank}", f"at most {axes}, the axes", "Raise the number of axes.")
    mean, found, std = (part.to(images) for part in principal_axes(images, axes))
    variances = std.square()
    scale, m = (variances + noise**2).sqrt(), min(leading, n)
    vectors = VectorFlow(m, blocks, width, coupling=coupling, scale_budget=blocks / 2)
    couplings: list[Invertible] = [Leading(vectors, n)]
    if m < n and coupling == "additive":
        couplings.append(AdditiveCoupling(n, MLP(m, n - m, width, hidden=0), keep=m))
    elif m < n:
        couplings.append(AffineCoupling(n, MLP(m, 2 * (n - m), width, hidden=0), keep=m))
    pixels_to_axes = (
        on_pixels(shape, pixel_blocks, pixel_width),
        onto_axes(found, mean),
        Scaling(1 / scale),
    )
    g = Chain(*pixels_to_axes, *couplings, Scaling(scale)).to(images)
    selection = (
        Selection(informative(variances)) if rank is None else Selection.leading(n, rank).to(images)
    )
    errors = torch.cat([variances.flip(0).cumsum(0).flip(0), variances.new_zeros(1)]) / n
    return Projector(g, selection, spread=scale), errors.clamp(
        min=MIN_ERROR_SHARE * errors[0].item()
    )


class ProjectorObjective(nn.Module):
    """The reconstruction error of corrupted images, with terms for rank, scale and likelihood.

    ``loss = E |f(y) - x|^2 / scale + rank_weight rank / n + tightness T + likelihood L``, where
    ``y`` is a corrupted ``x``.

    - *Rank.* ``"fixed"``: the selection as it is. ``"nested"``: its leading ``k`` coordinates, with
      a random ``k`` for every row, so that every rank ``k`` has a projector; errors are relative to
      ``errors[k]``. ``"learned"``: with ``rank_weight`` 1 a coordinate is kept if it explains more
      variance than the mean coordinate of the data (Kaiser's rule), at any scale and dimension.
      Half of the rows are projected with random selections, which give the gradient of the logits;
      the other half with the rounded selection.
    - *Tightness* ``T = (log(E |g(x)|^2 / E |x - g^-1(0)|^2))^2`` keeps latents at the scale of the
      data.
    - *Likelihood* ``L``: negative log-density of ``y`` per coordinate, with latents
      ``N(0, spread^2)``.

    Args:
        projector: the projector to train.
        errors: ``(n + 1,)``, the mean square error at each rank that losses are relative to, such
            as PCA's; ``errors[0]`` is the scale unless ranks are nested.
        ranks: how the rank is chosen, ``"fixed"`` by default.
        lowest: smallest ``k`` of nested ranks, 1 by default.
        highest: largest ``k`` of nested ranks; the rank of the selection by default.
        corruption: maps a clean batch to a corrupted one, such as a ``RandomCorruption``; None (the
            default) trains on clean images.
        rank_weight: weight of the rank where it is learned, 1 by default.
        tightness: weight of ``T``, 0 by default.
        likelihood: weight of ``L``, 0 by default; needs a projector with a ``spread``.

    Raises:
        ConfigError: for unknown ``ranks``, ranks out of range, or a likelihood without a spread.

    Example:
        >>> from rectilinear.projector import Projector, Selection
        >>> from rectilinear.invertible import Identity
        >>> f = Projector(Identity(3), Selection.leading(3, 2))
        >>> objective = ProjectorObjective(f, errors=torch.ones(4))
        >>> objective(torch.tensor([[5.0, 7.0, 3.0]]))["error"].item()
        3.0
    """

    lost: Tensor  # the errors; their name in checkpoints of the first version

    def __init__(
        self,
        projector: Projector,
        errors: Tensor,
        ranks: Ranks = "fixed",
        *,
        lowest: int = 1,
        highest: int | None = None,
        corruption: Callable[[Tensor], Tensor] | None = None,
        rank_weight: float = 1.0,
        tightness: float = 0.0,
        likelihood: float = 0.0,
    ) -> None:
        super().__init__()
        n = projector.g.dim
        highest = projector.rank if highest is None else highest
        if ranks not in get_args(Ranks):
            raise ConfigError(f"ranks = {ranks!r}", f"one of {', '.join(get_args(Ranks))}")
        if errors.shape != (n + 1,) or not bool(errors[0] > 0):
            raise ConfigError(
                f"errors of shape {tuple(errors.shape)}",
                f"({n + 1},), the first positive",
                "Take both from projector, errors = from_pca(images, rank).",
            )
        if ranks == "nested" and not (
            1 <= lowest <= highest <= n and bool((errors[lowest : highest + 1] > 0).all())
        ):
            raise ConfigError(
                f"ranks {lowest} to {highest}",
                f"1 to {n}, each with a positive error",
            )
        if likelihood and projector.spread is None:
            raise ConfigError(
                "a likelihood without a spread",
                "a projector with one",
                "Call projector.fitted(data).",
            )
        self.projector, self.ranks, self.corruption = projector, ranks, corruption
        self.lowest, self.highest = lowest, highest
        self.rank_weight, self.tightness, self.likelihood = rank_weight, tightness, likelihood
        self.register_buffer("lost", errors)

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        """The loss and its terms, ``{"loss", "error", ...}``, of a ``batch`` of clean images."""
        f = self.projector
        space = InducedSpace(f.g)
        y = batch if self.corruption is None else self.corruption(batch)
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
            loss = (
                loss
                + RANDOM_SELECTION_SHARE
                * self.rank_weight
                * torch.sigmoid(f.selection.logits).mean()
            )
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
        """The largest ``|f(f(x)) - f(x)|`` and ``|g^-1(g(x)) - x|`` of a ``batch``; the rank."""
        f = self.projector
        once = f(batch)
        return {
            "idempotence": float((f(once) - once).abs().max()),
            "round_trip": float((f.g.inverse(f.g(batch)) - batch).abs().max()),
            "rank": float(f.rank),
        }

    def _selected(self, rows: int) -> tuple[Tensor, Tensor]:
        """A selection for every row, ``(rows, n)``, and the errors that its loss is relative to."""
        selection, scale = self.projector.selection, self.lost[0]
        if self.ranks == "nested":
            low, high = self.lowest, self.highest
            u = torch.rand(rows, device=scale.device, dtype=torch.float64)
            # log-uniform: as many below as above sqrt(low high)
            k = (low * ((high + 1) / low) ** u).long().clamp(low, high)
            place = selection.order.argsort()
            return (place < k[:, None]).to(scale), self.lost[k]
        if self.ranks == "learned":
            random = round(RANDOM_SELECTION_SHARE * rows)
            rounded = selection.mask.detach().expand(rows - random, -1)
            return torch.cat([selection.draw(random), rounded]), scale
        return selection.mask.expand(rows, -1), scale


def tightness(space: InducedSpace, x: Tensor) -> Tensor:
    """The tightness ``(log(E |g(x)|^2 / E |x - g^-1(0)|^2))^2``, which no scaling of data changes.

    It is 0 where the latents are as large as the data are about the zero vector ``g^-1(0)``.

    Example:
        >>> from rectilinear.invertible import Identity
        >>> tightness(InducedSpace(Identity(2)), torch.randn(5, 2)).item()
        0.0
    """
    z = space.encode(x)
    away = (x - space.zero(like=z)).flatten(1)
    return (z.square().mean() / away.square().mean()).log().square()

"""Projectors by construction, ``f = g^-1 A g`` with ``A A = A``, with a density on their range."""

from __future__ import annotations

from collections.abc import Iterator
from math import log, pi
from typing import TypeVar

import torch
from torch import Tensor

from rectilinear.checks import check_batch, check_floating, whole
from rectilinear.errors import ConfigError, DtypeError, NotInitializedError, ShapeError
from rectilinear.invertible import Invertible
from rectilinear.linearizer import Linearizer
from rectilinear.projector.density import gaussian
from rectilinear.projector.selection import Selection
from rectilinear.serialization import Configured

T = TypeVar("T")
CHUNK_ROWS = 512  # encoded at a time


class Projector(Configured):
    """The projector ``f = g^-1 A g`` with ``A A = A``, and a density on its range.

    ``f(f(x)) = f(x)`` for every ``x`` and all parameters, since ``g`` undoes ``g^-1``: idempotence
    is not learned. The range of ``f`` is a surface of dimension ``rank``, and the ``rank`` latents
    that ``A`` keeps are coordinates on it: :meth:`coordinates` and :meth:`decode` map between the
    two. ``density`` maps the coordinates of data to standard normal variables, so :meth:`sample`
    draws points of the surface.

    Args:
        g: the invertible network, from images or vectors to latents ``(n,)``.
        selection: ``A``, which keeps ``rank`` latents and sets the others to zero.
        density: the invertible network from kept latents ``(rank,)`` to standard normal variables;
            None until :meth:`fitted`.
        spread: root mean square of every latent over data, ``(n,)``; None until :meth:`fitted`.
            :meth:`log_prob` and :meth:`scores` measure the removed latents in units of it.

    Raises:
        ShapeError: if dimensions do not match.
        DtypeError: if ``selection`` is not a :class:`Selection`.

    Reference: Berman et al., arXiv 2510.08570, section 4.3, for an idempotent Linearizer.

    Example:
        >>> import rectilinear as rl
        >>> from rectilinear.projector import Selection
        >>> g = rl.invertible.VectorFlow(dim=4, blocks=2, width=8)
        >>> f = Projector(g, Selection.leading(4, rank=2))
        >>> x = torch.randn(5, 4)
        >>> f.rank, torch.equal(f(f(x)), f(x))
        (2, True)
    """

    spread: Tensor | None

    def __init__(
        self,
        g: Invertible,
        selection: Selection,
        density: Invertible | None = None,
        spread: Tensor | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(selection, Selection):
            raise DtypeError(
                f"a selection of type {type(selection).__name__}",
                "a Selection",
                "Use Linearizer for others.",
            )
        Linearizer(g, selection)  # raises a ShapeError unless they fit
        if density is not None and density.shape != (selection.rank,):
            raise ShapeError(
                f"a density on {density.shape}", f"({selection.rank},), the rank", "Fit it again."
            )
        if spread is not None and spread.shape != (g.dim,):
            raise ShapeError(
                f"a spread of shape {tuple(spread.shape)}", f"({g.dim},)", "Fit it again."
            )
        self.g, self.selection, self.density = g, selection, density
        self.register_buffer("spread", spread)

    @property
    def rank(self) -> int:
        """Dimension of the range."""
        return self.selection.rank

    @property
    def linearizer(self) -> Linearizer:
        """The same map as a Linearizer; its ``rl.project_null`` is ``1 - f``."""
        return Linearizer(self.g, self.selection.diagonal())

    def forward(self, x: Tensor) -> Tensor:
        """The projected points ``f(x) = g^-1(A g(x))``, ``(b, *shape)``."""
        return Linearizer(self.g, self.selection)(x)

    def at(self, rank: int) -> Projector:
        """The projector of another rank with the same network: the coordinates of largest logits.

        Raises:
            ConfigError: if the rank is out of range.
        """
        return Projector(self.g, self.selection.with_rank(rank), None, self.spread)

    def coordinates(self, x: Tensor) -> Tensor:
        """The kept latents of ``f(x)``, ``(b, rank)``."""
        return self.g(x).flatten(1)[:, self.selection.kept]

    def decode(self, coordinates: Tensor) -> Tensor:
        """The points of the range with the given ``coordinates`` ``(b, rank)``."""
        check_floating(coordinates, "coordinates")
        if coordinates.ndim != 2 or coordinates.shape[1] != self.rank:
            raise ShapeError(
                f"coordinates of shape {tuple(coordinates.shape)}",
                f"(b, {self.rank}), the rank",
            )
        z = coordinates.new_zeros(len(coordinates), self.g.dim)
        z[:, self.selection.kept] = coordinates
        return self.g.inverse(z.unflatten(1, self.g.latent_shape))

    @torch.no_grad()
    def fitted(self, x: Tensor, noise: float = 0.0, density: Invertible | None = None) -> Projector:
        """The same projector with a density and spread fitted to data ``x``.

        Args:
            x: data, ``(b, *shape)``.
            noise: standard deviation of the noise expected in the latents, a lower bound of the
                spread; 0 by default.
            density: a density trained before; None fits a Gaussian to the coordinates.

        Raises:
            ConfigError: for rank 0, which has no coordinates.
        """
        if not self.rank:
            raise ConfigError("rank 0, a single point", "rank 1 or more", "Lower rank_weight.")
        check_batch(x, self.g.shape, "x")
        z = torch.cat(list(_chunks(self.g, x)))
        spread = (z.square().mean(0) + noise**2).sqrt()
        return Projector(
            self.g, self.selection, density or gaussian(z[:, self.selection.kept], noise), spread
        )

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``count`` samples of the density on the range, ``(count, *shape)``.

        Raises:
            NotInitializedError: without a density.
        """
        like = self._fitted(self.spread)
        noise = torch.randn(
            whole(count, "count"), self.rank, generator=generator, dtype=like.dtype
        ).to(like.device)
        return self.decode(self._fitted(self.density).inverse(noise))

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density at ``x`` ``(b, *shape)``, in nats, ``(b,)``.

        The kept latents follow the density; the removed ones are ``N(0, spread^2)``.

        Raises:
            NotInitializedError: without a density.
        """
        density, spread = self._fitted(self.density), self._fitted(self.spread)
        z, logdet = self.g.forward_and_logdet(x)
        w, inner = density.forward_and_logdet(z.flatten(1)[:, self.selection.kept])
        removed = self.selection.mask.detach() == 0
        others = z.flatten(1)[:, removed] / spread[removed]
        normal = w.square().sum(1) + others.square().sum(1) + self.g.dim * log(2 * pi)
        return -0.5 * normal + inner - spread[removed].log().sum() + logdet

    @torch.no_grad()
    def scores(self, x: Tensor) -> dict[str, Tensor]:
        """Three anomaly scores of each ``x``, larger for more anomalous inputs, each ``(b,)``.

        ``residual``: root mean square of ``x - f(x)``; ``complement``: root mean square of the
        removed latents, each in units of its spread; ``likelihood``: ``-log p(x)``.

        Raises:
            NotInitializedError: without a density.
        """
        spread, removed = self._fitted(self.spread), self.selection.mask.detach() == 0
        others = self.g(x).flatten(1)[:, removed] / spread[removed]
        return {
            "residual": (x - self(x)).flatten(1).square().mean(1).sqrt(),
            "complement": others.square().mean(1).sqrt(),
            "likelihood": -self.log_prob(x),
        }

    def _fitted(self, part: T | None) -> T:
        if part is None:
            raise NotInitializedError(
                "a projector without a density", "one", "Call f.fitted(data) first."
            )
        return part

    def extra_repr(self) -> str:
        return f"rank {self.rank} of {self.g.dim}"


def _chunks(g: Invertible, x: Tensor) -> Iterator[Tensor]:
    for part in x.split(CHUNK_ROWS):
        yield g(part).flatten(1)

"""The projective generative model: a network that is a projector by construction, and a density on
its range.
"""

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
_CHUNK = 512  # rows encoded at a time


class Projector(Configured):
    """The projector ``f = g^-1 A g`` with ``A A = A``, and a density of the coordinates of its
    range.

    ``f(f(x)) = f(x)`` for every ``x`` and all parameters, because ``g`` undoes ``g^-1``: nothing
    has to be learned for it. The range of ``f`` is a surface of ``rank`` dimensions with one chart,
    the ``rank`` latents that ``A`` keeps:
    :meth:`coordinates` and :meth:`decode` map between the two. Under ``density`` these are standard
    normal, so
    :meth:`sample` draws points of the surface.

    Args:
        g: the network, with latents ``(n,)``.
        selection: ``A``.
        density: maps the kept latents ``(rank,)`` to standard normal ones; see :meth:`fitted`.
        spread: root mean square of every latent over data, ``(n,)``: what :meth:`log_prob` and the
            scores compare the others, which ``A`` sets to zero, with.

    Raises:
        ShapeError: if dimensions don't match.

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
        Linearizer(g, selection)  # which checks that they fit
        if density is not None and density.shape != (selection.rank,):
            raise ShapeError(
                f"a density on {density.shape}", f"({selection.rank},), the rank", "Fit it anew."
            )
        if spread is not None and spread.shape != (g.dim,):
            raise ShapeError(
                f"a spread of shape {tuple(spread.shape)}", f"({g.dim},)", "Fit it anew."
            )
        self.g, self.selection, self.density = g, selection, density
        self.register_buffer("spread", spread)

    @property
    def rank(self) -> int:
        """Dimension of the range."""
        return self.selection.rank

    @property
    def linearizer(self) -> Linearizer:
        """The same map as a Linearizer, for the verbs of linear algebra; ``rl.project_null`` is its
        complement.
        """
        return Linearizer(self.g, self.selection.diagonal())

    def forward(self, x: Tensor) -> Tensor:
        """``f(x) = g^-1(A g(x))``: ``(b, *shape)`` to the same."""
        return Linearizer(self.g, self.selection)(x)

    def at(self, rank: int) -> Projector:
        """The projector onto the ``rank`` coordinates of largest logits, with the same network.

        Raises:
            ConfigError: if the rank is out of range.
        """
        return Projector(self.g, self.selection.with_rank(rank), None, self.spread)

    def coordinates(self, x: Tensor) -> Tensor:
        """The kept latents of ``f(x)``, ``(b, rank)``."""
        return self.g(x).flatten(1)[:, self.selection.kept]

    def decode(self, coordinates: Tensor) -> Tensor:
        """The points of the range with these ``coordinates`` ``(b, rank)``."""
        check_floating(coordinates, "coordinates")
        if coordinates.ndim != 2 or coordinates.shape[1] != self.rank:
            raise ShapeError(
                f"coordinates of shape {tuple(coordinates.shape)}",
                f"(b, {self.rank}), as the rank is",
            )
        z = coordinates.new_zeros(len(coordinates), self.g.dim)
        z[:, self.selection.kept] = coordinates
        return self.g.inverse(z.unflatten(1, self.g.latent_shape))

    @torch.no_grad()
    def fitted(self, x: Tensor, noise: float = 0.0, density: Invertible | None = None) -> Projector:
        """The same projector with the spread of its latents over data ``x``, and a density of those
        that it keeps.

        Args:
            x: data, ``(b, *shape)``.
            noise: least spread; the standard deviation of the noise to be expected in the data.
            density: a Gaussian with the moments of the coordinates where None.

        Raises:
            ConfigError: for rank 0, which leaves no coordinates to draw.
        """
        if not self.rank:
            raise ConfigError(
                "rank 0, a single point", "rank 1 or more", "Lower the weight of the rank."
            )
        check_batch(x, self.g.shape, "x")
        z = torch.cat(list(_chunks(self.g, x)))
        spread = (z.square().mean(0) + noise**2).sqrt()
        return Projector(
            self.g, self.selection, density or gaussian(z[:, self.selection.kept], noise), spread
        )

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``count`` points of the range, drawn from the density, ``(count, *shape)``.

        Raises:
            NotInitializedError: without a density.
        """
        like = self._known(self.spread)
        noise = torch.randn(
            whole(count, "count"), self.rank, generator=generator, dtype=like.dtype
        ).to(like.device)
        return self.decode(self._known(self.density).inverse(noise))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density at ``x`` ``(b, *shape)``: of the kept latents, and of the others as ``N(0,
        spread^2)``, ``(b,)``.

        Raises:
            NotInitializedError: without a density.
        """
        density, spread = self._known(self.density), self._known(self.spread)
        z, logdet = self.g.forward_and_logdet(x)
        w, inner = density.forward_and_logdet(z.flatten(1)[:, self.selection.kept])
        away = self.selection.mask.detach() == 0
        rest = z.flatten(1)[:, away] / spread[away]
        normal = w.square().sum(1) + rest.square().sum(1) + self.g.dim * log(2 * pi)
        return -0.5 * normal + inner - spread[away].log().sum() + logdet

    @torch.no_grad()
    def scores(self, x: Tensor) -> dict[str, Tensor]:
        """How strange each ``x`` is, three ways, larger for stranger, each ``(b,)``.

        ``residual``: the root mean square of ``x - f(x)``; ``complement``: that of the latents that
        ``A`` sets to zero, each in units of its spread; ``likelihood``: ``-log p(x)``.

        Raises:
            NotInitializedError: without a density.
        """
        spread, away = self._known(self.spread), self.selection.mask.detach() == 0
        rest = self.g(x).flatten(1)[:, away] / spread[away]
        return {
            "residual": (x - self(x)).flatten(1).square().mean(1).sqrt(),
            "complement": rest.square().mean(1).sqrt(),
            "likelihood": -self.log_prob(x),
        }

    def _known(self, part: T | None) -> T:
        if part is None:
            raise NotInitializedError(
                "a projector without a density", "one", "Call f.fitted(data) first."
            )
        return part

    def extra_repr(self) -> str:
        return f"rank {self.rank} of {self.g.dim}"


def _chunks(g: Invertible, x: Tensor) -> Iterator[Tensor]:
    for part in x.split(_CHUNK):
        yield g(part).flatten(1)

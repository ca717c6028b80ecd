"""Projectors by construction, ``f = g^-1 A g`` with ``A A = A``; coordinates and densities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import log, pi
from typing import TypeVar

import torch
from torch import Tensor, nn

from rectilinear.checks import check_batch, check_finite, check_floating, whole
from rectilinear.errors import ConfigError, DtypeError, NotInitializedError, ShapeError
from rectilinear.invertible import Chain, Invertible, Rotation, Scaling, VectorFlow
from rectilinear.linearizer import Linearizer
from rectilinear.operators import Diagonal, Operator
from rectilinear.serialization import Configured

T = TypeVar("T")
CHUNK_ROWS = 512  # encoded at a time
LEAST_SCORE = 1e-3  # added to residuals and contrasts in their logarithms, as rounding to 8 bits
LEAST_VARIANCE = 1e-6  # of a combination of features, relative to the largest


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
        usual: mean and whitening matrix of the features of data behind the score ``typicality``,
            ``(5, 4)``; None until :meth:`fitted`.

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
    usual: Tensor | None

    def __init__(
        self,
        g: Invertible,
        selection: Selection,
        density: Invertible | None = None,
        spread: Tensor | None = None,
        usual: Tensor | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(selection, Selection):
            raise DtypeError(
                f"a selection of type {type(selection).__name__}",
                "a Selection",
                "For another operator use Linearizer.",
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
        self.register_buffer("usual", usual)

    @property
    def rank(self) -> int:
        """Dimension of the range."""
        return self.selection.rank

    @property
    def linearizer(self) -> Linearizer:
        """This map as a Linearizer; its ``rl.project_null`` is ``1 - f``."""
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
                "Take them from coordinates(x); write those of one point as c[None].",
            )
        z = coordinates.new_zeros(len(coordinates), self.g.dim)
        z[:, self.selection.kept] = coordinates
        return self.g.inverse(z.unflatten(1, self.g.latent_shape))

    @torch.no_grad()
    def fitted(self, x: Tensor, noise: float = 0.0, density: Invertible | None = None) -> Projector:
        """This projector with a density and spread fitted to data ``x``.

        Args:
            x: data, ``(b, *shape)``.
            noise: standard deviation of the noise expected in the latents, a lower bound of the
                spread; 0 by default.
            density: a density trained before; None fits a Gaussian to the coordinates.

        Raises:
            ConfigError: for rank 0, which has no coordinates.
        """
        if not self.rank:
            raise ConfigError(
                "rank 0, whose range is a single point", "rank 1 or more", "Lower rank_weight."
            )
        check_batch(x, self.g.shape, "x")
        z = torch.cat(list(_chunks(self.g, x)))
        spread = (z.square().mean(0) + noise**2).sqrt()
        density = density or gaussian(z[:, self.selection.kept], noise)
        f = Projector(self.g, self.selection, density, spread)
        features = torch.cat([f._features(part) for part in x.split(CHUNK_ROWS)]).double()
        return Projector(self.g, self.selection, density, spread, _usual(features).to(spread))

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``count`` samples of the density on the range, ``(count, *shape)``, by ``generator``.

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
        """Anomaly scores of each ``x``, larger for more anomalous inputs, each ``(b,)``.

        ``residual``: root mean square of ``x - f(x)``; ``complement``: root mean square of the
        removed latents, each in units of its spread; ``likelihood``: ``-log p(x)``;
        ``typicality``: the Mahalanobis distance of the logarithms of the first two, of
        ``-log p(x)`` and of the logarithm of the contrast (the deviation of the values of ``x``)
        from those of the data: unusually small values are anomalous, too. A blank image has a small
        residual and a high density, and is found by this score alone.

        A projector that removes nothing has no ``residual`` and no ``complement``, and one that was
        fitted by an earlier version has no ``typicality``.

        Raises:
            NotInitializedError: without a density.
        """
        found = self._scores(x)
        if self.usual is not None:
            away = (self._features(x, found) - self.usual[0]) @ self.usual[1:]
            found["typicality"] = away.square().sum(1).sqrt()
        return found

    def _scores(self, x: Tensor) -> dict[str, Tensor]:
        spread, likelihood = self._fitted(self.spread), -self.log_prob(x)
        removed = self.selection.mask.detach() == 0
        if not removed.any():  # x - f(x) is rounding
            return {"likelihood": likelihood}
        others = self.g(x).flatten(1)[:, removed] / spread[removed]
        return {
            "residual": (x - self(x)).flatten(1).square().mean(1).sqrt(),
            "complement": others.square().mean(1).sqrt(),
            "likelihood": likelihood,
        }

    def _features(self, x: Tensor, scores: dict[str, Tensor] | None = None) -> Tensor:
        """Features that ``typicality`` compares, ``(b, 4)``."""
        scores = self._scores(x) if scores is None else scores
        contrast = x.flatten(1).std(1, correction=0)
        none = torch.zeros_like(contrast)  # where nothing is removed
        parts = scores.get("residual", none), scores.get("complement", none), contrast
        logs = [(part + LEAST_SCORE).log() for part in parts]
        return torch.stack([*logs, scores["likelihood"] / self.g.dim], 1)

    def _fitted(self, part: T | None) -> T:
        if part is None:
            raise NotInitializedError(
                "a projector without a density", "a fitted one", "Call f.fitted(data) first."
            )
        return part

    def extra_repr(self) -> str:
        return f"rank {self.rank} of {self.g.dim}"


def _usual(features: Tensor) -> Tensor:
    """Mean ``(1, k)`` and a whitening matrix ``(k, k)`` of features, one on the other."""
    away = features - features.mean(0)
    covariance = away.T @ away / max(1, len(features) - 1)
    variances, axes = torch.linalg.eigh(covariance)
    floor = (LEAST_VARIANCE * variances[-1]).clamp(min=torch.finfo(features.dtype).tiny)
    whitening = axes / variances.clamp(min=floor).sqrt()
    return torch.cat([features.mean(0, keepdim=True), whitening])


def _chunks(g: Invertible, x: Tensor) -> Iterator[Tensor]:
    for part in x.split(CHUNK_ROWS):
        yield g(part).flatten(1)


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
                f"logits of shape {tuple(logits.shape)}",
                "(n,), one for each coordinate",
                "Write logits.flatten().",
            )
        rank = None if rank is None else whole(rank, "rank")
        if rank is not None and rank > len(logits):
            raise ConfigError(
                f"rank {rank}",
                f"0 to {len(logits)}",
                "rank=None learns it.",
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
        """This operator as a :class:`~rectilinear.operators.Diagonal`, without gradient."""
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


def gaussian(coordinates: Tensor, noise: float = 0.0) -> Invertible:
    """A Gaussian density, as the affine network that whitens ``coordinates``.

    Args:
        coordinates: data to fit, ``(b, k)``.
        noise: ``noise^2 I`` is added to the covariance; 0 by default.

    Raises:
        ConfigError: for fewer than two rows.

    Example:
        >>> c = torch.randn(500, 3) @ torch.randn(3, 3) + 2
        >>> w = gaussian(c)(c)
        >>> bool(w.mean(0).abs().max() < 1e-4), bool((w.T.cov() - torch.eye(3)).abs().max() < 1e-3)
        (True, True)
    """
    check_batch(coordinates, tuple(coordinates.shape[-1:]), "coordinates")
    check_finite(coordinates, "coordinates")
    if len(coordinates) < 2:
        raise ConfigError(
            f"{len(coordinates)} rows for a Gaussian", "two or more", "Pass more data."
        )
    c = coordinates.detach().double()
    mean = c.mean(0)
    variances, axes = torch.linalg.eigh((c - mean).T @ (c - mean) / (len(c) - 1))
    std = (variances.clamp(min=0) + noise**2).sqrt()
    std = std.clamp(min=1e-6 * std.max())  # a constant coordinate still has an inverse
    return Chain(
        Rotation.from_matrix(axes.to(coordinates), mean.to(coordinates)),
        Scaling((1 / std).to(coordinates)),
    )


def spline(
    coordinates: Tensor, blocks: int = 6, width: int = 128, noise: float = 0.0, seed: int = 0
) -> Invertible:
    """An untrained spline flow: the Gaussian of ``coordinates``, then identity couplings.

    A single coordinate has nothing to be coupled with and keeps its Gaussian.

    Args:
        coordinates: data to fit, ``(b, k)``.
        blocks: number of spline couplings, 6 by default.
        width: hidden width of their conditioner networks, 128 by default.
        noise: ``noise^2 I`` is added to the covariance of the Gaussian; 0 by default.
        seed: of the initialisation, 0 by default.

    Example:
        >>> c = torch.randn(50, 2)
        >>> torch.allclose(spline(c)(c), gaussian(c)(c), atol=1e-6)
        True
    """
    base = gaussian(coordinates, noise)
    if base.dim < 2:
        return base
    flow = VectorFlow(
        base.dim, blocks, width, coupling="spline", scale_budget=float(blocks), seed=seed
    )
    return Chain(base, flow.to(coordinates))


class DensityObjective(nn.Module):
    """The negative log-likelihood of coordinates ``(b, k)``, in nats per coordinate.

    Args:
        density: the invertible network from coordinates to standard normal variables.
        noise: standard deviation of noise added to the coordinates, a regularisation; 0 by default.

    Example:
        >>> from rectilinear.invertible import Identity
        >>> round(float(DensityObjective(Identity(2))(torch.zeros(3, 2))["loss"]), 4)
        0.9189
    """

    def __init__(self, density: Invertible, noise: float = 0.0) -> None:
        super().__init__()
        self.density, self.noise = density, noise

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        noisy = batch + self.noise * torch.randn_like(batch) if self.noise else batch
        w, logdet = self.density.forward_and_logdet(noisy)
        normal = -0.5 * (w.square() + torch.log(w.new_tensor(2 * torch.pi))).sum(1)
        return {"loss": -(normal + logdet).mean() / batch.shape[1]}

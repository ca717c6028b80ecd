"""Terms of objectives: flow matching, reconstruction, likelihood, nested ranks, adversarial."""

from __future__ import annotations

from collections.abc import Callable
from math import log, pi
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import softplus

from rectilinear.checks import whole
from rectilinear.errors import ConfigError, ShapeError, SingularOperatorError
from rectilinear.flow.objectives.objective import Batch, Term
from rectilinear.operators import LowRank, logdet, solve

RankDistribution = Literal["log_uniform", "geometric"]
_EXCESS_WEIGHT = 0.1  # of the squared excess over limits, beside the squared error inside them


class Endpoint(Term):
    """The published loss: ``|A_t z_t - z_1|^2 / n`` on the straight path, uniform times ``t``."""

    def forward(self, batch: Batch) -> Tensor:
        return (batch.prediction - batch.z1).square().mean()


class Centred(Term):
    """The squared means of the latents, which solved velocities assume to be zero."""

    def forward(self, batch: Batch) -> Tensor:
        return batch.z0.mean(0).square().mean() + batch.z1.mean(0).square().mean()


class NoisyReconstruction(Term):
    """The distance of ``x`` and its decoded noisy latents, ``d(g^-1(z + latent_noise e), x)``.

    Without noise an invertible network reconstructs exactly; with it, ``g`` must not shrink its
    latents.

    Args:
        of: ``"noise"`` (``x_0``, ``z_0``), ``"data"`` (``x_1``, ``z_1``) or ``"prediction"``
            (``x_1``, ``A_t z_t``).
        latent_noise: standard deviation of the disturbance.
        distance: ``d(a, b)``, a number; mean square error by default, a perceptual distance for
            images.
    """

    def __init__(
        self,
        of: Literal["noise", "data", "prediction"],
        latent_noise: float = 0.3,
        distance: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        if of not in ("noise", "data", "prediction"):
            raise ConfigError(f"of={of!r}", "'noise', 'data' or 'prediction'")
        self.of, self.latent_noise = of, latent_noise
        self.distance = nn.functional.mse_loss if distance is None else distance

    def forward(self, batch: Batch) -> Tensor:
        if self.of == "noise":
            space, z, x = batch.noise_space, batch.z0, batch.noise
        else:
            space, z, x = (
                batch.data_space,
                batch.z1 if self.of == "data" else batch.prediction,
                batch.data,
            )
        return self.distance(space.decode(z + self.latent_noise * torch.randn_like(z)), x)


class Likelihood(Term):
    """The negative log-likelihood of the noisy data under the one-step model, in nats a dimension.

    ``-log p(x) = -log N(x_0; 0, I) - log|det dg_data(x)| + log|det B| + log|det dg_noise(x_0)|``
    with ``x_0 = g_noise^-1(B^-1 g_data(x))``.

    Raises:
        SingularOperatorError: if ``B`` has no inverse.
    """

    def forward(self, batch: Batch) -> Tensor:
        if isinstance(batch.operator, LowRank):
            raise SingularOperatorError(
                got=f"a likelihood through rank {batch.operator.u.shape[-1]} in "
                f"{batch.data_space.dim} dimensions",
                expected="a family of full rank: others have no density on the whole space",
                fix="Use SolvedVelocity, ScalarPlusLowRankVelocity, SpectralVelocity or "
                "ChebyshevVelocity.",
            )
        x0 = batch.noise_space.decode(solve(batch.operator, batch.z1))
        _, logdet_noise = batch.g_noise.forward_and_logdet(x0)
        log_prior = -0.5 * (x0.flatten(1).square() + log(2 * pi)).sum(1)
        volume = logdet(batch.operator)
        if not bool(torch.isfinite(volume).all()):
            raise SingularOperatorError(
                "a likelihood through a singular operator",
                "one with an inverse",
                "Initialise the operator with full rank.",
            )
        log_prob = log_prior + batch.logdet - volume - logdet_noise
        return -log_prob.mean() / batch.data_space.dim


class NestedRank(Term):
    """Reconstruction from ``k`` leading singular directions, ``|g^-1(U_k U_k^T z) - x|^2 / n``.

    ``z`` are the latents of the noisy data, ``x`` the clean data, ``U`` the left singular
    directions of ``B``, and ``k`` is drawn for every row. The directions carry no gradient: ``g``
    learns to put first what matters.

    Args:
        low: the least rank.
        high: the largest, ``n`` where None.
        distribution: of ``k`` between them: ``"log_uniform"``, or ``"geometric"`` with mean about
            ``sqrt(low high)``.
        baseline: ``(n + 1,)``, the error to divide by at every rank, such as that of PCA,
            ``metrics.pca_curve``.
        share: of the rows of a batch.
        focus: a rank that every other row takes instead, such as the one at which samples are to be
            drawn.
        limits: least and largest value of the data. Decoded values beyond them are clamped before
            the error is taken, as they are in samples, and a tenth of their squared excess is
            added. The decoder then need not meet the limits exactly where data are on them.

    Raises:
        ConfigError: for ranks, a distribution, a share or limits that are out of range.

    Reference: nested dropout (O. Rippel, M. Gelbart, R. Adams, ICML 2014); for flows, arXiv
    2006.08777.
    """

    baseline: Tensor | None

    def __init__(
        self,
        low: int = 1,
        high: int | None = None,
        distribution: RankDistribution = "log_uniform",
        baseline: Tensor | None = None,
        share: float = 1.0,
        focus: int | None = None,
        limits: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        check_ranks(low, high, share)
        if limits is not None and not limits[0] < limits[1]:
            raise ConfigError(f"limits={limits}", "the least value, then a larger one")
        if focus is not None and not low <= focus <= (focus if high is None else high):
            raise ConfigError(
                f"focus={focus}", f"a rank from {low} to {'n' if high is None else high}"
            )
        if focus is not None:
            whole(focus, "focus", 1)
        if distribution not in ("log_uniform", "geometric"):
            raise ConfigError(f"distribution={distribution!r}", "'log_uniform' or 'geometric'")
        if baseline is not None and not bool(
            (baseline[low : None if high is None else high + 1] > 0).all()
        ):
            raise ConfigError(
                "a baseline with an error of zero",
                "positive errors",
                "Choose high below its full rank.",
            )
        self.low, self.high, self.distribution, self.share, self.focus = (
            low,
            high,
            distribution,
            share,
            focus,
        )
        self.limits = limits
        self.register_buffer("baseline", baseline)

    def forward(self, batch: Batch) -> Tensor:
        z, x = (part[: share_of(len(batch.data), self.share)] for part in (batch.z1, batch.data))
        high = z.shape[1] if self.high is None else self.high
        check_high(max(high, self.low, self.focus or 1), z)
        ranks = draw_ranks(z, self.low, high, self.distribution)
        if self.focus is not None:
            ranks[::2] = self.focus
        found = batch.data_space.decode(batch.keep(z, ranks))
        inside = found if self.limits is None else found.clamp(*self.limits)
        square = (inside - x).square() + _EXCESS_WEIGHT * (found - inside).square()
        error = square.flatten(1).mean(1)
        return (error if self.baseline is None else error / self.baseline.to(error)[ranks]).mean()


def draw_ranks(
    z: Tensor, low: int, high: int, distribution: RankDistribution = "log_uniform"
) -> Tensor:
    """A rank between ``low`` and ``high`` for every row of ``z``, ``(b,)``.

    Example:
        >>> bool(draw_ranks(torch.zeros(99, 1), 3, 3).eq(3).all())
        True
    """
    u = torch.rand(len(z), device=z.device, dtype=torch.float64)
    if distribution == "log_uniform":
        ranks = (low * ((high + 1) / low) ** u).long()
    else:
        mean = max((low * high) ** 0.5 - low, 1.0)
        ranks = low + (torch.log1p(-u) / log(mean / (1 + mean))).long()
    return ranks.clamp(low, high)


def check_high(high: int, z: Tensor) -> None:
    """Raise ConfigError for a rank above the dimension of the latents."""
    if high > z.shape[1]:
        raise ConfigError(f"rank {high} of {z.shape[1]} latents", f"at most {z.shape[1]}")


def share_of(rows: int, share: float) -> int:
    """At least one of ``rows``."""
    return max(1, round(share * rows))


def check_ranks(low: int, high: int | None, share: float) -> None:
    """Raise ConfigError for ranks or a share that are out of range."""
    if whole(low, "low", 1) and high is not None and whole(high, "high", 1) < low:
        raise ConfigError(f"ranks from {low} to {high}", "1 <= low <= high")
    if not 0 < share <= 1:
        raise ConfigError(f"share={share}", "a share of the batch above 0 and up to 1")


class Adversarial(Term):
    """The relativistic pairing loss of data and one-step samples, with a gradient penalty.

    ``critic`` is trained on
    ``softplus(D(y) - D(x)) + penalty / 2 (|grad D(x)|^2 + |grad D(y)|^2)``, the model on
    ``softplus(D(x) - D(y))``, in one backward pass: each part has the gradient of its own side
    alone. The samples ``y = g_data^-1(U_k U_k^T B z_0)`` are those of the model truncated to a rank
    that is drawn for every row.

    Args:
        critic: ``(b, *shape)`` to ``(b,)`` or ``(b, 1)``.
        low: the least rank; ``high`` where None.
        high: the largest, all where None.
        penalty: weight of the gradient penalty.
        share: of the rows of a batch.
        lr: learning rate of the critic; that of the model where None.

    Raises:
        ConfigError: for ranks or a share that are out of range.

    Reference: N. Huang et al., The GAN is dead; long live the GAN! A modern GAN baseline, NeurIPS
    2024.
    """

    def __init__(
        self,
        critic: nn.Module,
        low: int | None = None,
        high: int | None = None,
        penalty: float = 1.0,
        share: float = 1.0,
        lr: float | None = None,
    ) -> None:
        super().__init__()
        check_ranks((high or 1) if low is None else low, high, share)
        if not penalty >= 0:
            raise ConfigError(f"penalty={penalty}", "a weight of at least 0")
        self.critic, self.low, self.high = critic, low, high
        self.penalty, self.share, self.lr = penalty, share, lr

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        real = batch.data[: share_of(len(batch.data), self.share)]
        z = batch.operator(batch.z0[: len(real)])
        high = z.shape[1] if self.high is None else self.high
        check_high(max(high, self.low or 1), z)
        fake = batch.data_space.decode(batch.keep(z, draw_ranks(z, self.low or high, high)))
        frozen = {
            name: x.detach()
            for name, x in (*self.critic.named_parameters(), *self.critic.named_buffers())
        }
        gap = functional_call(self.critic, frozen, (real,)) - functional_call(
            self.critic, frozen, (fake,)
        )
        return {"generator": softplus(gap).mean(), "critic": self._critic_loss(real, fake.detach())}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The critic's, where it has a learning rate of its own."""
        return (
            [] if self.lr is None else [{"params": list(self.critic.parameters()), "lr": self.lr}]
        )

    def _critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return softplus(self.critic(fake) - self.critic(real)).mean()
        real, fake = (x.detach().requires_grad_() for x in (real, fake))
        on_real, on_fake = self.critic(real), self.critic(fake)
        if on_real.numel() != len(real):
            raise ShapeError(
                f"a critic's output of shape {tuple(on_real.shape)}",
                f"({len(real)},) or ({len(real)}, 1)",
                "Average it: out.flatten(1).mean(1).",
            )
        slopes = torch.autograd.grad(
            (on_real.sum() + on_fake.sum()), (real, fake), create_graph=True
        )
        size = sum(
            (slope.flatten(1).square().sum(1).mean() for slope in slopes), real.new_zeros(())
        )
        return softplus(on_fake - on_real).mean() + 0.5 * self.penalty * size

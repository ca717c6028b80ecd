"""Ready objectives: paper, solved, likelihood and nested, each a sum of terms."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from rectilinear.errors import ConfigError
from rectilinear.flow.generator import LinearFlow
from rectilinear.flow.objectives.objective import Objective, Term
from rectilinear.flow.objectives.terms import (
    Adversarial,
    Centred,
    Endpoint,
    Likelihood,
    NestedRank,
    NoisyReconstruction,
)
from rectilinear.flow.velocities import SolvedVelocity
from rectilinear.linearizer import Linearizer


def paper(
    flow: LinearFlow,
    latent_noise: float = 0.3,
    distance: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Objective:
    """The published objective: the end point predicted on the path, and three reconstructions.

    ``|A_t z_t - z_1|^2 / n`` plus the distances of ``x_0``, of ``x_1`` and of ``x_1`` again from
    what ``z_0``, ``z_1`` and ``A_t z_t`` decode to after latent noise; all weights 1.

    Reference: Berman et al., "Who Said Neural Networks Aren't Linear?", arXiv 2510.08570, section
    4.1.

    Example:
        >>> import torch, rectilinear as rl
        >>> g, A = rl.invertible.VectorFlow(4, 2, 8), rl.flow.LowRankEndpoint(4, rank=2)
        >>> list(paper(rl.flow.LinearFlow(g, None, A))(torch.randn(8, 4)))
        ['loss', 'endpoint', 'noise', 'data', 'prediction']
    """
    return Objective(flow, _paper_terms(latent_noise, distance))


def solved(
    flow: LinearFlow,
    latent_noise: float = 0.3,
    distance: Callable[[Tensor, Tensor], Tensor] | None = None,
    momentum: float = 0.05,
) -> Objective:
    """The published objective, its velocity solved from running moments of the latents.

    At the least-squares optimum the loss has no slope in the operator, so none is needed through
    the moments. They are moments about zero: a term keeps the means of the latents there.

    Raises:
        ConfigError: if the velocity of the flow is not a :class:`~rectilinear.flow.SolvedVelocity`.

    Example:
        >>> import torch, rectilinear as rl
        >>> g, one = rl.invertible.VectorFlow(4, 2, 8), torch.ones(4)
        >>> W = rl.flow.SolvedVelocity(one, one)
        >>> list(solved(rl.flow.LinearFlow(g, None, W))(torch.randn(8, 4)))
        ['loss', 'endpoint', 'noise', 'data', 'prediction', 'centre']
    """
    if not isinstance(flow.velocity, SolvedVelocity):
        raise ConfigError(
            got=f"a velocity of type {type(flow.velocity).__name__}",
            expected="a SolvedVelocity, whose moments this objective follows",
            fix="Use flow.SolvedVelocity(torch.ones(n), torch.ones(n)).",
        )
    terms = {**_paper_terms(latent_noise, distance), "centre": (1.0, Centred())}
    return Objective(flow, terms, momentum=momentum)


def likelihood(flow: LinearFlow | Linearizer, sigma: float = 0.1) -> Objective:
    """The exact negative log-likelihood of data with noise ``N(0, sigma^2)`` added.

    After sampling, :func:`~rectilinear.flow.denoise` with the same ``sigma`` takes the noise off.

    Example:
        >>> import torch, rectilinear as rl
        >>> f = rl.Linearizer(rl.invertible.Identity((4,)), rl.operators.Diagonal(torch.ones(4)))
        >>> list(likelihood(f)(torch.randn(8, 4)))
        ['loss', 'nll']
    """
    return Objective(flow, {"nll": (1.0, Likelihood())}, sigma)


def nested(
    flow: LinearFlow | Linearizer,
    sigma: float = 0.1,
    weight: float = 3.0,
    term: NestedRank | None = None,
    adversarial: tuple[float, Adversarial] | None = None,
) -> Objective:
    """Likelihood, and reconstruction through every rank of the operator.

    ``likelihood + weight * nested rank``, and an adversarial term where one is given with its
    weight.

    Example:
        >>> import torch, rectilinear as rl
        >>> f = rl.Linearizer(rl.invertible.Identity((4,)), rl.operators.Diagonal(torch.ones(4)))
        >>> list(nested(f)(torch.randn(8, 4)))
        ['loss', 'nll', 'nested']
    """
    terms: dict[str, tuple[float, Term]] = {
        "nll": (1.0, Likelihood()),
        "nested": (weight, term or NestedRank()),
    }
    return Objective(
        flow, terms if adversarial is None else {**terms, "adversarial": adversarial}, sigma
    )


def _paper_terms(
    latent_noise: float, distance: Callable[[Tensor, Tensor], Tensor] | None
) -> dict[str, tuple[float, Term]]:
    return {
        "endpoint": (1.0, Endpoint()),
        "noise": (1.0, NoisyReconstruction("noise", latent_noise, distance)),
        "data": (1.0, NoisyReconstruction("data", latent_noise, distance)),
        "prediction": (1.0, NoisyReconstruction("prediction", latent_noise, distance)),
    }

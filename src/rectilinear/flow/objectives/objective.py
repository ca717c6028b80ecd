"""Objectives: a model and the weighted terms that it is trained on, over one shared batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from rectilinear.checks import check_batch
from rectilinear.errors import ConfigError, DtypeError
from rectilinear.flow.collapse import propagate
from rectilinear.flow.generator import LinearFlow
from rectilinear.flow.velocities import SolvedVelocity, TimeVarying
from rectilinear.induced_space import InducedSpace
from rectilinear.invertible import ActNorm
from rectilinear.linearizer import Linearizer
from rectilinear.operators import SVD, Operator, svd


class Batch:
    """One batch: data, the random numbers of the step, and their latents, computed on demand.

    Attributes:
        flow: the model: a flow, or a one-step Linearizer from noise to data.
        data: ``(b, *g_data.shape)``, clean.
        noisy: the same with noise ``N(0, sigma^2)`` added.
        z1: latents of the noisy data, ``(b, n)``.
        logdet: ``log |det dg_data/dx|`` there, ``(b,)``.

    Example:
        >>> import rectilinear as rl
        >>> g = rl.invertible.Identity((3,))
        >>> batch = Batch(rl.Linearizer(g, rl.operators.Diagonal(torch.ones(3))), torch.zeros(5, 3))
        >>> batch.z1.shape, batch.z0 is batch.z0
        (torch.Size([5, 3]), True)
    """

    def __init__(self, flow: LinearFlow | Linearizer, data: Tensor, sigma: float = 0.0) -> None:
        self.flow, self.data = flow, data
        self.g_data = flow.g_out if isinstance(flow, Linearizer) else flow.g_data
        self.g_noise = flow.g_in if isinstance(flow, Linearizer) else flow.g_noise
        check_batch(data, self.g_data.shape, "data")
        self.data_space, self.noise_space = InducedSpace(self.g_data), InducedSpace(self.g_noise)
        self.noisy = data + sigma * torch.randn_like(data) if sigma else data
        z, self.logdet = self.g_data.forward_and_logdet(
            self.noisy
        )  # first of all: an ActNorm starts from data
        self.z1 = z.flatten(1)

    @cached_property
    def noise(self) -> Tensor:
        """Standard normal noise, ``(b, *g_noise.shape)``."""
        like = self.data
        return torch.randn(len(like), *self.g_noise.shape, dtype=like.dtype, device=like.device)

    @cached_property
    def z0(self) -> Tensor:
        """Latents of the noise, ``(b, n)``."""
        return self.noise_space.encode(self.noise)

    @cached_property
    def t(self) -> Tensor:
        """Times, uniform on ``[0, 1]``: ``(b,)``, or one for all rows if velocities are dense."""
        velocity = self._velocity
        full = isinstance(velocity, SolvedVelocity) and max(velocity.s0.ndim, velocity.s1.ndim) > 1
        return torch.rand(
            () if full else (len(self.data),), dtype=self.data.dtype, device=self.data.device
        )

    @cached_property
    def prediction(self) -> Tensor:
        """The end point ``A_t z_t``, ``(b, n)``, predicted at ``z_t = (1 - t) z_0 + t z_1``."""
        return self._velocity.endpoint(self.t)(torch.lerp(self.z0, self.z1, self.t.reshape(-1, 1)))

    @cached_property
    def operator(self) -> Operator:
        """The one-step operator ``B``; of a flow in closed form, or else by 20 Magnus-4 steps."""
        if isinstance(self.flow, Linearizer):
            return self.flow.operator
        exact = self.flow.velocity.transport(0.0, 1.0)
        if exact is not None:
            return exact
        return propagate(self.flow.velocity, 20, "magnus4", end=self.flow.end).operator

    @property
    def _velocity(self) -> TimeVarying:
        if isinstance(self.flow, Linearizer):
            raise ConfigError(
                "a flow-matching term for a Linearizer",
                "a LinearFlow",
                "Use likelihood terms, or a flow.",
            )
        return self.flow.velocity

    @cached_property
    def modes(self) -> SVD:
        """The singular value decomposition of ``B``, without its gradient."""
        with torch.no_grad():
            return svd(self.operator)

    def keep(self, z: Tensor, ranks: Tensor) -> Tensor:
        """``U_k U_k^T z``: each latent ``(b, n)`` in its ``ranks[i]`` leading left directions."""
        u = self.modes.u
        coordinates = u.apply_adjoint(z)
        return u(
            coordinates
            * (torch.arange(coordinates.shape[-1], device=z.device) < ranks.reshape(-1, 1))
        )


_PREPARED_ON = (
    4096,
    2**22,
)  # rows of data that give the first moments, and their numbers in all: memory is finite


class Term(nn.Module, ABC):
    """One term of an objective: a number, or several named ones, of a :class:`Batch`."""

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor | dict[str, Tensor]: ...


class Objective(nn.Module):
    """A weighted sum of terms over one model: ``loss = sum_i w_i term_i``.

    ``forward(batch)`` gives ``{"loss": ..., "<name>": ...}`` with the value of every term before
    its weight; a term of several numbers gives ``"<name>_<part>"``. Terms share what they compute:
    one encoding serves all.

    Where the velocity of the flow is a :class:`~rectilinear.flow.SolvedVelocity`, its moments
    follow those of the latents during training,
    ``S <- (1 - momentum) S + momentum (moment of the batch)``.

    Args:
        flow: the model: a flow, or a one-step Linearizer from noise to data.
        terms: name to (weight, term).
        sigma: standard deviation of noise added to the data.
        momentum: of the moments of a solved velocity; 0 keeps them, and with them the scale and the
            order of the latents, which the likelihood leaves free where the moments follow.

    Raises:
        ConfigError: if there are no terms, or ``sigma`` or ``momentum`` is out of range.

    Example:
        >>> import rectilinear as rl
        >>> from rectilinear.flow.objectives import Likelihood, NestedRank
        >>> f = rl.Linearizer(rl.invertible.Identity((4,)), rl.operators.Diagonal(torch.ones(4)))
        >>> terms = {"nll": (1.0, Likelihood()), "nested": (3.0, NestedRank())}
        >>> objective = Objective(f, terms, sigma=0.1)
        >>> sorted(objective(torch.randn(8, 4)))
        ['loss', 'nested', 'nll']
    """

    def __init__(
        self,
        flow: LinearFlow | Linearizer,
        terms: Mapping[str, tuple[float, Term]],
        sigma: float = 0.0,
        momentum: float = 0.05,
    ) -> None:
        super().__init__()
        if not terms:
            raise ConfigError(
                "an objective without terms", "at least one", 'Pass {"name": (weight, term)}.'
            )
        if not (sigma >= 0 and 0 <= momentum <= 1):
            raise ConfigError(
                f"sigma={sigma}, momentum={momentum}", "sigma >= 0 and 0 <= momentum <= 1"
            )
        if not isinstance(flow, LinearFlow | Linearizer):
            raise DtypeError(
                f"a model of type {type(flow).__name__}",
                "a LinearFlow or a Linearizer",
                "Make one: LinearFlow(g, None, velocity), or Linearizer(g, A).",
            )
        for name, pair in terms.items():
            if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], Term)):
                raise ConfigError(
                    f"the term {name!r} as {type(pair).__name__}",
                    "(weight, Term)",
                    "Subclass Term.",
                )
        self.flow, self.sigma, self.momentum = flow, sigma, momentum
        self.weights = {name: weight for name, (weight, _) in terms.items()}
        self.terms = nn.ModuleDict({name: term for name, (_, term) in terms.items()})

    def forward(self, data: Tensor) -> dict[str, Tensor]:
        """``{"loss": ..., "<term>": ...}`` of data ``(b, *shape)``."""
        batch = Batch(self.flow, data, self.sigma)
        if self.training and self.momentum:
            self._follow(batch, self.momentum)
        values: dict[str, Tensor] = {}
        loss = data.new_zeros(())
        for name, term in self.terms.items():
            value = term(batch)
            parts = (
                {f"{name}_{part}": x for part, x in value.items()}
                if isinstance(value, dict)
                else {name: value}
            )
            for part, x in parts.items():
                _check_part(part, x, values)
                loss = loss + self.weights[name] * x
                values[part] = x
        return {"loss": loss, **values}

    @torch.no_grad()
    def prepare(self, data: Tensor) -> None:
        """Before training: data-dependent layers see ``data``, running moments start from it."""
        check_batch(data, None, "data")
        rows = min(_PREPARED_ON[0], max(1, _PREPARED_ON[1] // data[0].numel()))
        if not self.momentum and not any(map(_may_start_from_data, self.flow.modules())):
            rows = 1  # only the shapes are checked
        batch = Batch(self.flow, data[:rows], self.sigma)
        assert batch.z0.shape == batch.z1.shape, "both networks have seen their first batch"
        if self.momentum:
            self._follow(batch, 1.0)

    @torch.no_grad()
    def diagnostics(self, data: Tensor) -> dict[str, float]:
        """Round-trip errors ``|g^-1(g(x)) - x|`` of the data network, on data and on samples."""
        batch = Batch(self.flow, data)
        made = batch.data_space.decode(batch.operator(batch.z0))
        return {
            "round_trip": float((batch.data_space.decode(batch.z1) - data).abs().max()),
            "round_trip_samples": float(
                (batch.data_space.decode(batch.data_space.encode(made)) - made).abs().max()
            ),
        }

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One group of everything but the terms, and those that terms ask for."""
        own = [
            group
            for term in self.terms.values()
            for group in getattr(term, "parameter_groups", list)()
        ]
        apart = {id(p) for group in own for p in group["params"]}
        return [{"params": [p for p in self.parameters() if id(p) not in apart]}, *own]

    def _follow(self, batch: Batch, momentum: float) -> None:
        """Move moments of a solved velocity to those of the batch; plain noise keeps ``S0 = I``."""
        velocity = getattr(self.flow, "velocity", None)
        if not isinstance(velocity, SolvedVelocity):
            return
        ends = [(velocity.s1, batch.z1)]
        if next(batch.g_noise.parameters(), None) is not None:
            ends.append((velocity.s0, batch.z0))
        for running, z in ends:
            z = z.detach()
            moment = z.square().mean(0) if running.ndim == 1 else z.mT @ z / len(z)
            running.lerp_(_over_processes(moment), momentum)


def _may_start_from_data(layer: nn.Module) -> bool:
    """True of layers that change with the first batch, and of those of other packages."""
    ours = type(layer).__module__.partition(".")[0] in ("rectilinear", "torch")
    return not ours or isinstance(layer, ActNorm | nn.modules.batchnorm._BatchNorm)


def _check_part(name: str, x: object, others: Mapping[str, Tensor]) -> None:
    """Raise ConfigError unless a term is one number with a name of its own."""
    if name == "loss" or name in others:
        raise ConfigError(
            f"a second {name!r}", "another name for each term and part", "Rename the term."
        )
    if not (isinstance(x, Tensor) and x.ndim == 0):
        got = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"type {type(x).__name__}"
        raise ConfigError(
            f"the term {name!r} of {got}", "a scalar tensor", "Take the mean over the batch."
        )


def _over_processes(x: Tensor) -> Tensor:
    """The mean over the processes that train together."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(x)
        x = x / torch.distributed.get_world_size()
    return x

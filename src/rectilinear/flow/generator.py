"""Generators whose steps are linear in the latents, and their samples: :class:`LinearFlow`.

A sample is drawn in three parts: standard normal noise from a seed; the flow from noise to data, in
one folded step (:func:`collapse`) or in many (:func:`sample`); and what the training asks for
afterwards (:func:`postprocessing`): the projection onto a rank, or one step along the score that
removes the noise that training added to the data (:func:`denoise`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import chain
from math import inf
from typing import cast, final

import torch
from torch import Tensor

from rectilinear.checks import check_floating, whole
from rectilinear.errors import ConfigError, DtypeError, ShapeError, StructureError
from rectilinear.flow.collapse import propagate
from rectilinear.flow.conditional import ROWS, class_index, class_probabilities, given_class
from rectilinear.flow.integrate import integrate
from rectilinear.flow.notebook_view import generator_html
from rectilinear.flow.velocities import TimeVarying
from rectilinear.induced_space import InducedSpace
from rectilinear.invertible import Invertible
from rectilinear.linearizer import Linearizer
from rectilinear.modules import SameAs, other
from rectilinear.operators import project_range, truncate
from rectilinear.random import generator
from rectilinear.serialization import Configured

BATCH_NUMBERS = 2**19  # numbers of noise that are drawn and decoded at a time
MIN_BATCH_ROWS = 256  # of samples, however large each is


@final
class LinearFlow(Configured):
    """A generator with linear steps: ``g_noise``, then ``dz/dt = W(t) z``, then ``g_data^-1``.

    Every sampler step is an operator in the latents, so all steps fold into one: see
    :func:`~rectilinear.flow.sample` and :func:`~rectilinear.flow.collapse`. :meth:`sample` draws
    images from a seed.

    Args:
        g_data: the network of the data.
        g_noise: the network of the noise; that of the data where None.
        velocity: ``W(t)``, a family of operators.
        end: how far before ``t = 1`` a family that is singular there makes its last step, the
            end-point prediction; by default one step. A fixed ``end`` makes the result independent
            of the number of steps in the limit.
        noise_level: standard deviation of the noise that training added to the data, 0 for none:
            samples then take one step along the score, which removes it.
        rank: rank of the operator that samples are drawn with; the full rank by default. Where it
            is given, samples are projected onto this rank instead of the step along the score.
        classes: names of the classes of ``g_data``, where it has some: see :meth:`given`.
        limits: least and largest value of the data, to which samples are clipped; none by default.

    Raises:
        DtypeError: if ``velocity`` is not a time-varying operator.
        ShapeError: if the dimensions differ.
        ConfigError: if ``end`` is not between 0 and 1, or ``noise_level`` or ``rank`` out of range.

    Reference: Berman et al., "Who Said Neural Networks Aren't Linear?", arXiv 2510.08570, section
    4.1.

    Example:
        >>> import rectilinear as rl
        >>> g = rl.invertible.VectorFlow(dim=4, blocks=2, width=8)
        >>> LinearFlow(g, None, rl.flow.ScalarPlusLowRankVelocity(4, 1)).g_noise is g
        True
    """

    g_noise = SameAs["Invertible"]("g_data")

    def __init__(
        self,
        g_data: Invertible,
        g_noise: Invertible | None,
        velocity: TimeVarying,
        end: float | None = None,
        noise_level: float = 0.0,
        rank: int | None = None,
        classes: tuple[str, ...] = (),
        limits: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(velocity, TimeVarying):
            raise DtypeError(
                got=f"a velocity of type {type(velocity).__name__}",
                expected="a TimeVarying family",
                fix="Wrap one operator in flow.ConstantVelocity.",
            )
        if end is not None and not 0.0 < end < 1.0:
            raise ConfigError(f"end={end}", "a width between 0 and 1", "Leave it out for one step.")
        self.g_data, self.g_noise = g_data, other(g_data, g_noise)
        self.velocity, self.end = velocity, end
        self.noise_level, self.rank = noise_level, rank
        self.classes, self.limits = tuple(classes), limits
        for space, name in ((self.data_space, "g_data"), (self.noise_space, "g_noise")):
            if space.dim != velocity.dim:
                raise ShapeError(
                    got=f"{name} of {space.dim} dimensions",
                    expected=f"{velocity.dim}, as the velocity has",
                    fix="Change the network or the velocity.",
                )
        if not 0 <= noise_level < inf:
            raise ConfigError(f"noise_level={noise_level}", "a standard deviation of at least 0")
        check_rank(velocity.dim, rank)

    @torch.no_grad()
    def sample(
        self,
        n: int = 64,
        seed: int = 0,
        *,
        steps: int = 100,
        method: str = "rk4",
        rank: int | None = None,
        scale: float = 1.0,
        stepwise: bool = False,
    ) -> Tensor:
        """``n`` samples, ``(n, *g_data.shape)``, as ``rectilinear sample`` draws them; no gradient.

        Args:
            n: number of samples.
            seed: of the noise.
            steps: steps of the integrator that are folded into one.
            method: the integrator, as in :func:`~rectilinear.flow.sample`.
            rank: rank of the operator; that of the generator by default.
            scale: standard deviation of the noise; above 1 samples vary more and are less typical.
            stepwise: take the steps one after the other instead; equal up to rounding.

        Raises:
            ConfigError: if an argument is out of range.

        Example:
            >>> import torch, rectilinear as rl
            >>> g, W = rl.invertible.VectorFlow(4, 2, 8), rl.flow.ScalarPlusLowRankVelocity(4, 1)
            >>> generator = rl.flow.LinearFlow(g, rl.invertible.Identity((4,)), W)
            >>> torch.equal(generator.sample(3, seed=1), generator.sample(3, seed=1))
            True
        """
        parts = self.sample_batches(
            n, seed, steps=steps, method=method, rank=rank, scale=scale, stepwise=stepwise
        )
        images, start = None, 0
        for part in parts:
            images = part.new_empty(n, *part.shape[1:]) if images is None else images
            images[start : start + len(part)] = part
            start += len(part)
        assert images is not None
        return images

    def sample_batches(
        self,
        n: int,
        seed: int = 0,
        *,
        steps: int = 100,
        method: str = "rk4",
        rank: int | None = None,
        scale: float = 1.0,
        stepwise: bool = False,
    ) -> Iterator[Tensor]:
        """The rows of :meth:`sample` in batches, with the same arguments, for many samples.

        Raises:
            ConfigError: if an argument is out of range.

        Example:
            >>> import rectilinear as rl
            >>> g = rl.load("digits")
            >>> [tuple(part.shape) for part in g.sample_batches(9000)]
            [(8192, 1, 8, 8), (808, 1, 8, 8)]
        """
        if not 0 < scale < inf:
            raise ConfigError(
                f"scale={scale}", "a positive number", "1 draws from the model itself."
            )
        rank, n = self.rank if rank is None else rank, whole(n, "n", 1)
        check_rank(self.velocity.dim, rank)
        f = collapse(self, steps, method)
        *_, finish = postprocessing(f, self.noise_level, rank).values()
        if rank is not None and not stepwise:
            # what the projection would give, directly
            f, finish = cast("Linearizer", truncate(f, rank)), lambda x: x
        random = generator(seed)
        rows = max(MIN_BATCH_ROWS, BATCH_NUMBERS // self.velocity.dim)

        def draw(count: int) -> Tensor:
            noise = scale * self.noise(count, random)
            part = finish(sample(self, noise, steps, method) if stepwise else f(noise))
            return part if self.limits is None else part.clamp(*self.limits)

        return (torch.no_grad()(draw)(min(rows, n - start)) for start in range(0, n, rows))

    def given(self, label: int | str) -> LinearFlow:
        """The generator of the class ``label``, a number or a name: the same operator.

        Its density is ``p(x | class)``. All other parts are shared.

        Raises:
            InputError: if there are no classes, or not this one.
            StructureError: if the noise has the network of the data.
        """
        index = class_index(label, self.classes)
        if self.g_noise is self.g_data:
            raise StructureError(
                "a class of a generator with one network",
                "a network of the noise of its own",
                "Pass g_noise.",
            )
        g_data = given_class(self.g_data, index)
        alone = LinearFlow(
            g_data, self.g_noise, self.velocity, self.end, self.noise_level, self.rank,
            limits=self.limits,
        )  # fmt: skip
        return alone.train(self.training)

    @torch.no_grad()
    def log_prob(self, x: Tensor, label: int | str | None = None) -> Tensor:
        """The log-density of data ``x`` in one step, ``(b,)``, given the class ``label`` if any.

        Raises:
            InputError: for an unknown class.
        """
        check_floating(x, "x")
        f = collapse(self if label is None else self.given(label))
        return torch.cat([f.log_prob(part) for part in x.split(ROWS)])

    def class_probabilities(self, x: Tensor) -> Tensor:
        """``p(class | x)``, ``(b, classes)``.

        Raises:
            InputError: if it has no classes. DataError: for images far outside of its limits.
        """
        return class_probabilities(self.g_data, x, self.limits)

    def classify(self, x: Tensor) -> Tensor:
        """The number of the likeliest class of each row of ``x``, ``(b,)``; see ``classes``."""
        return self.class_probabilities(x).argmax(1)

    def noise(self, n: int, random: torch.Generator) -> Tensor:
        """``n`` draws of ``N(0, I)``, ``(n, *g_noise.shape)``, by the generator ``random``."""
        like = next(t for t in chain(self.parameters(), self.buffers()) if t.is_floating_point())
        return torch.randn(whole(n, "n", 1), *self.g_noise.shape, generator=random).to(like)

    def _repr_html_(self) -> str:
        """The view in a notebook: facts, and a strip of samples where those are images."""
        size = sum(p.numel() for p in self.parameters())
        named = {"classes": ", ".join(self.classes), "rank": self.rank, "parameters": f"{size:,}"}
        named |= {"noise of the training": f"{self.noise_level:g}" if self.noise_level else None}
        # A copy: in training mode the first batch would initialise the networks.
        return generator_html(self.g_data.shape, named, lambda n: deepcopy(self).eval().sample(n))

    @property
    def data_space(self) -> InducedSpace:
        return InducedSpace(self.g_data)

    @property
    def noise_space(self) -> InducedSpace:
        return InducedSpace(self.g_noise)


def collapse(
    flow: LinearFlow,
    steps: int = 100,
    method: str = "rk4",
    *,
    t0: float = 0.0,
    t1: float = 1.0,
    tol: float | None = None,
    max_rank: int | None = None,
) -> Linearizer:
    """The sampler as one Linearizer, noise to data: ``g_data^-1 . B . g_noise``.

    ``B`` is the product of all steps, so that the result equals :func:`~rectilinear.flow.sample`
    with the same steps and method, up to rounding. It is scalar plus low rank, diagonal or spectral
    where the steps of the velocity are, and dense elsewhere.

    Args:
        flow: the generator.
        steps: number of steps.
        method: ``"euler"``, ``"midpoint"``, ``"rk4"``, ``"magnus2"``, ``"magnus4"``, or ``"exact"``
            for velocities with a closed form.
        t0: time of the first step, from 0.
        t1: time after the last step, up to 1.
        tol: largest error in the spectral norm of ``B`` that a lower rank may cost; exact by
            default. For scalar-plus-low-rank velocities.
        max_rank: largest rank of ``B``; any by default. For scalar-plus-low-rank velocities.

    Raises:
        ConfigError: if the method, the number of steps, the times or a tolerance are out of range.
        StructureError: where ``B`` would be a dense operator too large to hold, or cannot be
            compressed.

    Reference: Berman et al., "Who Said Neural Networks Aren't Linear?", arXiv 2510.08570, section
    4.1.

    Example:
        >>> import torch, rectilinear as rl
        >>> g, W = rl.invertible.VectorFlow(4, 2, 8), rl.flow.ScalarPlusLowRankVelocity(4, 1)
        >>> flow = rl.flow.LinearFlow(g, rl.invertible.Identity((4,)), W)
        >>> f, noise = collapse(flow, steps=10), torch.randn(3, 4)
        >>> torch.allclose(f(noise), rl.flow.sample(flow, noise, steps=10), atol=1e-4)
        True
    """
    check_flow(flow)
    propagator = propagate(
        flow.velocity, steps, method, t0=t0, t1=t1, end=flow.end, tol=tol, max_rank=max_rank
    )
    return Linearizer(flow.g_noise, propagator.operator, flow.g_data)


def sample(
    flow: LinearFlow,
    noise: Tensor,
    steps: int = 100,
    method: str = "rk4",
    *,
    t0: float = 0.0,
    t1: float = 1.0,
) -> Tensor:
    """Data from given noise in many steps, ``(b, *g_noise.shape) -> (b, *g_data.shape)``.

    ``g_data^-1(z_1)`` with ``dz/dt = W(t) z`` and ``z_0 = g_noise(noise)``;
    :func:`~rectilinear.flow.collapse` folds the same steps into one. No postprocessing.

    Args:
        flow: the generator.
        noise: standard normal noise, ``(b, *g_noise.shape)``.
        steps: number of steps.
        method: ``"euler"``, ``"midpoint"``, ``"rk4"`` (stages nested), ``"magnus2"``,
            ``"magnus4"``, or ``"exact"`` for velocities with a closed form.
        t0: time of the first step, from 0.
        t1: time after the last step, up to 1.

    Raises:
        ConfigError: if the method, the number of steps or the times are out of range.
        ShapeError: if ``noise`` has another shape.

    Example:
        >>> import torch, rectilinear as rl
        >>> g, W = rl.invertible.VectorFlow(4, 2, 8), rl.flow.ScalarPlusLowRankVelocity(4, 1)
        >>> flow = rl.flow.LinearFlow(g, rl.invertible.Identity((4,)), W)
        >>> sample(flow, torch.randn(3, 4), steps=5).shape
        torch.Size([3, 4])
    """
    check_flow(flow)
    z = integrate(
        flow.velocity, flow.noise_space.encode(noise), steps, method, t0=t0, t1=t1, end=flow.end
    )
    return flow.data_space.decode(z)


def postprocessing(
    f: Linearizer, noise_level: float, rank: int | None
) -> dict[str, Callable[[Tensor], Tensor]]:
    """The postprocessings of samples of ``f`` by name; the generator applies the last.

    None; one step along the score, if noise was added to the training data, which samples then
    have, too; the projection onto rank ``rank``, if the generator has one. Projecting samples onto
    the range of the truncated operator gives the samples of that operator.
    """
    ways: dict[str, Callable[[Tensor], Tensor]] = {"as drawn": lambda x: x}
    if noise_level:
        ways["after a step along the score"] = lambda x: denoise(f, x, noise_level)
    if rank is not None:
        check_rank(min(f.operator.in_dim, f.operator.out_dim), rank)
        ways[f"at rank {rank}"] = project_range(truncate(f, rank))
    return ways


def denoise(f: Linearizer, x: Tensor, sigma: float) -> Tensor:
    """The mean of clean data given noisy ``x``: one step ``x + sigma^2 grad log p(x)``.

    Exact (Tweedie's formula) where ``p``, the density of ``f``, is that of data with added noise
    ``N(0, sigma^2)``, as under the likelihood objective. The result carries no gradient.

    Args:
        f: a one-step generator, whose density ``p`` is.
        x: noisy data, ``(b, *shape)``.
        sigma: standard deviation of the noise.

    Raises:
        ConfigError: if ``sigma`` is negative.
        SingularOperatorError: if the operator of ``f`` has no inverse, and ``f`` so no density.

    Reference: B. Efron, Tweedie's formula and selection bias, JASA 106, 2011; TarFlow, arXiv
    2412.06329.

    Example:
        >>> import rectilinear as rl
        >>> A = rl.operators.Diagonal(torch.full((2,), 2.0))
        >>> f = rl.Linearizer(rl.invertible.Identity((2,)), A)
        >>> denoise(f, torch.ones(1, 2), sigma=1.0)  # N(0, 3) of clean data shrinks by 3 / 4
        tensor([[0.7500, 0.7500]])
    """
    check_density(f, x)
    if not 0 <= sigma < inf:
        raise ConfigError(f"sigma={sigma}", "a standard deviation of at least 0")
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (score,) = torch.autograd.grad(f.log_prob(x).sum(), x)
    return x.detach() + sigma**2 * score


@torch.no_grad()
def collapse_error(flow: LinearFlow, noise: Tensor, steps: int = 100, method: str = "rk4") -> float:
    """The largest relative difference, in the latents, of the folded operator and its steps.

    ``max_i |B z_i - z_i(1)| / |z_i(1)|`` over the batch, with ``z = g_noise(noise)``, for ``steps``
    of the integrator ``method``.

    Example:
        >>> import rectilinear as rl
        >>> g = rl.invertible.Identity((8,))
        >>> flow = rl.flow.LinearFlow(g, g, rl.flow.ChebyshevVelocity(8, rank=1))
        >>> collapse_error(flow, torch.randn(5, 8)) < 1e-5
        True
    """
    check_flow(flow)
    z = flow.noise_space.encode(noise)
    one = propagate(flow.velocity, steps, method, end=flow.end).operator(z)
    many = integrate(flow.velocity, z, steps, method, end=flow.end)
    return _relative(one, many)


@torch.no_grad()
def semigroup_error(
    flow: LinearFlow, noise: Tensor, s: float = 0.5, steps: int = 100, method: str = "rk4"
) -> float:
    """The largest relative difference of ``B(0, 1)`` and ``B(s, 1) B(0, s)`` on latents of noise.

    Over ``noise``; zero up to rounding where the steps of both are the same: ``s`` a multiple of
    ``1 / steps``, and not a Magnus method on a family singular at one; elsewhere to the method's
    accuracy.

    Raises:
        ConfigError: if ``s`` leaves no step on one of its sides.

    Example:
        >>> import rectilinear as rl
        >>> g = rl.invertible.Identity((8,))
        >>> flow = rl.flow.LinearFlow(g, g, rl.flow.ChebyshevVelocity(8, rank=1))
        >>> semigroup_error(flow, torch.randn(5, 8), s=0.25) < 1e-5
        True
    """
    check_flow(flow)
    if not (0 < s < 1 and 0 < (early := round(steps * s)) < steps):
        raise ConfigError(f"s={s} with {steps} steps", "steps on both sides", "Use s=0.5, steps=2.")
    end = 1 / steps if flow.end is None else flow.end
    z = flow.noise_space.encode(noise)

    def carry(z: Tensor, steps: int, t0: float, t1: float) -> Tensor:
        return propagate(flow.velocity, steps, method, t0=t0, t1=t1, end=end).operator(z)

    whole = carry(z, steps, 0.0, 1.0)
    parts = carry(carry(z, early, 0.0, s), steps - early, s, 1.0)
    return _relative(parts, whole)


def check_flow(flow: LinearFlow) -> None:
    """Raise DtypeError unless ``flow`` is a LinearFlow."""
    if not isinstance(flow, LinearFlow):
        raise DtypeError(
            f"a flow of type {type(flow).__name__}",
            "a LinearFlow",
            "A Linearizer is its own sampler: f(noise).",
        )


def check_rank(dim: int, rank: int | None) -> None:
    """Raise ConfigError unless ``rank`` is None or from 1 to ``dim``."""
    if rank is not None and not 1 <= rank <= dim:
        raise ConfigError(
            f"rank {rank}", f"1 to {dim}, the dimension of the model", "Choose one in this range."
        )


def check_density(f: Linearizer, x: Tensor) -> None:
    """Raise DtypeError unless ``f`` is a Linearizer and ``x`` floating-point."""
    if not isinstance(f, Linearizer):
        raise DtypeError(
            f"a density of a {type(f).__name__}", "a Linearizer", "Collapse a flow first."
        )
    check_floating(x, "x")


def _relative(a: Tensor, b: Tensor) -> float:
    """The largest relative difference of rows; two rows of zeros do not differ."""
    if not len(b):
        raise ShapeError("noise with no rows", "at least one", "Pass noise that is not empty.")
    size = b.norm(dim=-1)
    return float(
        ((a - b).norm(dim=-1) / size).masked_fill((size == 0) & (a == b).all(-1), 0.0).max()
    )

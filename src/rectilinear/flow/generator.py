"""Flow matching between two induced spaces, with a velocity that is linear at every time.

Sampling from a linear flow, step by step.
"""

from __future__ import annotations

from typing import final

from torch import Tensor

from rectilinear.errors import ConfigError, DtypeError, ShapeError
from rectilinear.flow.integrate import integrate
from rectilinear.flow.velocities import TimeVarying
from rectilinear.induced_space import InducedSpace
from rectilinear.invertible import Invertible
from rectilinear.modules import SameAs, other
from rectilinear.serialization import Configured


def check_flow(flow: LinearFlow) -> None:
    """Raise DtypeError for what is no LinearFlow."""
    if not isinstance(flow, LinearFlow):
        raise DtypeError(
            f"a flow of type {type(flow).__name__}",
            "a LinearFlow",
            "A Linearizer is its own sampler: f(noise).",
        )


@final
class LinearFlow(Configured):
    """A generator whose steps are linear: noise, ``g_noise``, the flow ``dz/dt = W(t) z`` from 0 to
    1, ``g_data^-1``.

    Every sampler step is an operator in the latents, so all steps fold into one: see
    :func:`~rectilinear.flow.sample` and :func:`~rectilinear.flow.collapse`.

    Args:
        g_data: the network of the data.
        g_noise: the network of the noise; that of the data where None.
        velocity: ``W(t)``, a family of operators.
        end: how far before ``t = 1`` a family that is singular there makes its last step, the
            end-point prediction; by default one step. A fixed ``end`` makes the result independent
            of the number of steps in the limit.

    Raises:
        DtypeError: if ``velocity`` is not a time-varying operator.
        ShapeError: if the dimensions differ.
        ConfigError: if ``end`` is not between 0 and 1.

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
        for space, name in ((self.data_space, "g_data"), (self.noise_space, "g_noise")):
            if space.dim != velocity.dim:
                raise ShapeError(
                    got=f"{name} of {space.dim} dimensions",
                    expected=f"{velocity.dim}, as the velocity has",
                    fix="Change the network or the velocity.",
                )

    @property
    def data_space(self) -> InducedSpace:
        return InducedSpace(self.g_data)

    @property
    def noise_space(self) -> InducedSpace:
        return InducedSpace(self.g_noise)


def sample(
    flow: LinearFlow,
    noise: Tensor,
    steps: int = 100,
    method: str = "rk4",
    *,
    t0: float = 0.0,
    t1: float = 1.0,
) -> Tensor:
    """Data from noise in many steps: ``(b, *g_noise.shape) -> (b, *g_data.shape)``.

    ``g_data^-1(z_1)`` with ``dz/dt = W(t) z`` and ``z_0 = g_noise(noise)``. Methods: ``"euler"``,
    ``"midpoint"``, ``"rk4"`` (stages nested), ``"magnus2"`` and ``"magnus4"``;
    :func:`~rectilinear.flow.collapse` folds the same steps.

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

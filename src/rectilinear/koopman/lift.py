"""The invertible network of a Koopman model: features in added channels, and an exact decoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from rectilinear.errors import ShapeError
from rectilinear.invertible import Invertible
from rectilinear.random import generator
from rectilinear.serialization import Configured

_EDGE = 10.0  # standard deviations at which predicted states are clipped


class Features(Configured):
    """Linear, random Fourier and learned features of a state.

    ``phi(s) = T W [1, u_i, cos(F_i u_i + b_i), h(s)]``.

    The ``u_i`` are ``s`` and the states that ``ahead``, a map of one stride of time, leads to from
    it when applied again and again, and those of ``back``. What becomes of a state after a long
    time can be a wild function of it, and discontinuous between attractors; from one stride to the
    next it is smooth. ``h`` is an MLP, the part that gradients train; the others have their weights
    by least squares. The rows of ``T`` (``basis``) are coordinates in which the weights are well
    conditioned.

    Args:
        in_dim: coordinates of the state.
        basis: ``T^T``, ``(q, p)`` for ``p`` features.
        fourier: number of random Fourier features, of all ``u_i`` together.
        bandwidth: standard deviation of their frequencies, one for all coordinates or ``(in_dim,
            1)``.
        width: width of the MLP; 0 leaves it out.
        hidden: its hidden layers after the first.
        seed: of the frequencies.
        ahead: features that are the state one stride later; their weights stay as they are.
        back: those that are the state one stride earlier.
        strides: number of strides ahead, and back.

    Reference: Rahimi, Recht, "Random features for large-scale kernel machines" (2007).

    Example:
        >>> Features(2, torch.eye(5), fourier=16)(torch.randn(3, 2, dtype=torch.float64)).shape
        torch.Size([3, 5])
    """

    frequencies: Tensor
    phases: Tensor
    weight: Tensor
    basis: Tensor

    def __init__(
        self,
        in_dim: int,
        basis: Tensor,
        fourier: int = 512,
        bandwidth: float | Tensor = 1.0,
        width: int = 0,
        hidden: int = 2,
        seed: int = 0,
        ahead: Features | None = None,
        back: Features | None = None,
        strides: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__()
        self.in_dim, self.fourier, self.width = in_dim, fourier, width
        self.ahead, self.back = ahead, back
        self.strides = strides = (
            strides[0] if ahead is not None else 0,
            strides[1] if back is not None else 0,
        )
        rank, self.out_dim = basis.shape
        g, double = generator(seed), torch.float64
        self.register_buffer(
            "frequencies", bandwidth * torch.randn(in_dim, fourier, generator=g, dtype=double)
        )
        self.register_buffer(
            "phases", 2 * torch.pi * torch.rand(fourier, generator=g, dtype=double)
        )
        inputs = 1 + in_dim * (1 + sum(strides)) + fourier
        self.register_buffer("weight", torch.zeros(inputs, rank, dtype=double))
        self.register_buffer("basis", basis.detach().double())
        if width:
            self.enter = nn.Linear(in_dim, width, dtype=double)
            self.middle = nn.ModuleList(
                nn.Linear(width, width, dtype=double) for _ in range(hidden)
            )
            self.leave = nn.Parameter(torch.zeros(width, rank, dtype=double))

    def forward(self, s: Tensor) -> Tensor:
        values = self.fixed(self.seen(s)) @ self.weight
        if self.width:
            values = values + self.learned(s) @ self.leave
        return values @ self.basis

    def seen(self, s: Tensor) -> list[Tensor]:
        """``s``, the states seen ahead, nearest first, and those seen back."""
        found = [s]
        for stride, count in zip((self.ahead, self.back), self.strides, strict=True):
            u = s
            for _ in range(count):
                assert stride is not None, "strides are counted where there is a map for them"
                u = stride(u).clamp(-_EDGE, _EDGE)
                found.append(u)
        return found

    def fixed(self, seen: list[Tensor]) -> Tensor:
        """``[1, u_i, cos(F_i u_i + b_i)]``, ``(b, 1 + (1 + sum(strides)) in_dim + fourier)``."""
        frequencies, phases = (
            self.frequencies.tensor_split(len(seen), 1),
            self.phases.tensor_split(len(seen)),
        )
        waves = [
            torch.addmm(p, u, f).cos() for u, f, p in zip(seen, frequencies, phases, strict=True)
        ]
        return torch.cat([torch.ones_like(seen[0][:, :1]), *seen, *waves], dim=1)

    def learned(self, s: Tensor) -> Tensor:
        """``h(s)``, ``(b, width)``."""
        h = self.enter(s)
        for layer in self.middle:
            h = h + layer(functional.gelu(h))
        return functional.gelu(h)


class Lift(Invertible):
    """The invertible network ``g`` of a Koopman model: two additive couplings.

    ``g(x, y) = (y', s - o - C y')`` with ``s = (x - mean) / scale`` and ``y' = y + phi(s)``.

    A state ``x`` of ``d`` coordinates enters with ``y = 0``, ``p`` channels. Its features ``y'``
    move by the operator of the model; what they do not say of it is the remainder ``s - o - C y'``,
    so the state comes back exactly, whatever ``phi``. :meth:`observe` decodes the state alone,
    which needs no features: ``s = remainder + o + C y'``.

    Args:
        features: ``phi``, from ``d`` to ``p`` coordinates.
        mean: ``(d,)``.
        scale: ``(d,)``, positive.
        offset: ``o``, about which the modes move, ``(d,)``; none is zero.

    Raises:
        ShapeError: if the shapes disagree.

    Example:
        >>> g = Lift(Features(2, torch.eye(5), fourier=16), torch.zeros(2), torch.ones(2))
        >>> x = torch.randn(3, 2, dtype=torch.float64)
        >>> z = g(g.pad(x))
        >>> z.shape, torch.allclose(g.observe(z), x)
        (torch.Size([3, 7]), True)
    """

    mean: Tensor
    scale: Tensor
    readout: Tensor
    offset: Tensor | None

    def __init__(
        self, features: Features, mean: Tensor, scale: Tensor, offset: Tensor | None = None
    ) -> None:
        super().__init__()
        d, p = features.in_dim, features.out_dim
        if any(
            value.shape != (d,) for value in (mean, scale, *([] if offset is None else [offset]))
        ):
            raise ShapeError(
                f"mean and scale of shape {tuple(mean.shape)} and {tuple(scale.shape)}", f"({d},)"
            )
        self.state_dim, self.pads = d, p
        self.shape = self.latent_shape = (d + p,)
        self.features = features
        self.register_buffer("mean", mean.detach().double())
        self.register_buffer("scale", scale.detach().double())
        self.register_buffer("offset", None if offset is None else offset.detach().double())
        self.readout = nn.Parameter(torch.zeros(p, d, dtype=torch.float64))

    def pad(self, x: Tensor) -> Tensor:
        """The states with channels of zeros, ``(b, d) -> (b, d + p)``."""
        return functional.pad(x, (0, self.pads))

    def observe(self, z: Tensor) -> Tensor:
        """The states in ``g^-1(z)``, ``(..., d + p) -> (..., d)``."""
        return self.mean + self.scale * (z[..., self.pads :] + self.moved(z[..., : self.pads]))

    def moved(self, y: Tensor) -> Tensor:
        """The state ``o + C y`` given by features ``(..., p)``, in standard units, ``(..., d)``."""
        moved = y @ self.readout
        return moved if self.offset is None else moved + self.offset

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        s = (x[:, : self.state_dim] - self.mean) / self.scale
        y = x[:, self.state_dim :] + self.features(s)
        return torch.cat([y, s - self.moved(y)], dim=1), -self.scale.log().sum().expand(len(x))

    def _decode(self, z: Tensor) -> Tensor:
        x = self.observe(z)
        y = z[:, : self.pads] - self.features((x - self.mean) / self.scale)
        return torch.cat([x, y], dim=1)

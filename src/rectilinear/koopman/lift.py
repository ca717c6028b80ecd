"""The invertible network of a Koopman model: channels are added to the state, filled with features, and taken off."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from rectilinear._pretrained import Configured
from rectilinear._seed import generator
from rectilinear.errors import ShapeError
from rectilinear.invertible import Invertible


class Features(Configured):
    """``phi(s) = T W [1, s, cos(F s + b), h(s)]``: linear, random Fourier and learned features of a state.

    ``h`` is an MLP, the part that gradients train; the others have their weights by least squares. The rows of ``T``
    (``basis``) are coordinates in which the weights are well conditioned.

    Args:
        in_dim: coordinates of the state.
        basis: ``T^T``, ``(q, p)`` for ``p`` features.
        fourier: number of random Fourier features.
        bandwidth: standard deviation of their frequencies.
        width: width of the MLP; 0 leaves it out.
        hidden: its hidden layers after the first.
        seed: of the frequencies.

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
        bandwidth: float = 1.0,
        width: int = 0,
        hidden: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.in_dim, self.fourier, self.width = in_dim, fourier, width
        rank, self.out_dim = basis.shape
        g, double = generator(seed), torch.float64
        self.register_buffer("frequencies", bandwidth * torch.randn(in_dim, fourier, generator=g, dtype=double))
        self.register_buffer("phases", 2 * torch.pi * torch.rand(fourier, generator=g, dtype=double))
        self.register_buffer("weight", torch.zeros(1 + in_dim + fourier, rank, dtype=double))
        self.register_buffer("basis", basis.detach().double())
        if width:
            self.enter = nn.Linear(in_dim, width, dtype=double)
            self.middle = nn.ModuleList(nn.Linear(width, width, dtype=double) for _ in range(hidden))
            self.leave = nn.Parameter(torch.zeros(width, rank, dtype=double))

    def forward(self, s: Tensor) -> Tensor:
        values = self.fixed(s) @ self.weight
        if self.width:
            values = values + self.learned(s) @ self.leave
        return values @ self.basis

    def fixed(self, s: Tensor) -> Tensor:
        """``[1, s, cos(F s + b)]``, ``(b, 1 + in_dim + fourier)``."""
        return torch.cat([torch.ones_like(s[:, :1]), s, torch.cos(s @ self.frequencies + self.phases)], dim=1)

    def learned(self, s: Tensor) -> Tensor:
        """``h(s)``, ``(b, width)``."""
        h = self.enter(s)
        for layer in self.middle:
            h = h + layer(functional.gelu(h))
        return functional.gelu(h)


class Lift(Invertible):
    """``g(x, y) = (y', s - C y')`` with ``s = (x - mean) / scale`` and ``y' = y + phi(s)``: two additive couplings.

    A state ``x`` of ``d`` coordinates enters with ``y = 0``, ``p`` channels. Its features ``y'`` move by the operator
    of the model; what they do not say of it is the remainder ``s - C y'``, so the state comes back exactly, whatever
    ``phi``. :meth:`observe` decodes the state alone, which needs no features: ``s = remainder + C y'``.

    Args:
        features: ``phi``, from ``d`` to ``p`` coordinates.
        mean: ``(d,)``.
        scale: ``(d,)``, positive.

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

    def __init__(self, features: Features, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        d, p = features.in_dim, features.out_dim
        if mean.shape != (d,) or scale.shape != (d,):
            raise ShapeError(f"mean and scale of shape {tuple(mean.shape)} and {tuple(scale.shape)}", f"({d},)")
        self.state_dim, self.pads = d, p
        self.shape = self.latent_shape = (d + p,)
        self.features = features
        self.register_buffer("mean", mean.detach().double())
        self.register_buffer("scale", scale.detach().double())
        self.readout = nn.Parameter(torch.zeros(p, d, dtype=torch.float64))

    def pad(self, x: Tensor) -> Tensor:
        """The states with channels of zeros, ``(b, d) -> (b, d + p)``."""
        return functional.pad(x, (0, self.pads))

    def observe(self, z: Tensor) -> Tensor:
        """The states in ``g^-1(z)``, ``(..., d + p) -> (..., d)``."""
        return self.mean + self.scale * (z[..., self.pads :] + z[..., : self.pads] @ self.readout)

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        s = (x[:, : self.state_dim] - self.mean) / self.scale
        y = x[:, self.state_dim :] + self.features(s)
        return torch.cat([y, s - y @ self.readout], dim=1), -self.scale.log().sum().expand(len(x))

    def _decode(self, z: Tensor) -> Tensor:
        x = self.observe(z)
        y = z[:, : self.pads] - self.features((x - self.mean) / self.scale)
        return torch.cat([x, y], dim=1)

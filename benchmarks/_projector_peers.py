"""Peers of the projector: a convolutional autoencoder and a learned idempotent network.

Both are objectives for :func:`rectilinear.training.train` on images, with the same architecture and
any number of parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call

if TYPE_CHECKING:
    from collections.abc import Callable


class ConvAutoencoder(nn.Module):
    """Convolutional autoencoder of images with a bottleneck of ``rank`` numbers."""

    def __init__(self, shape: tuple[int, int, int], rank: int, width: int) -> None:
        super().__init__()
        c, h, w = shape
        inner = 2 * width * (h // 4) * (w // 4)
        self.encoder = nn.Sequential(
            nn.Conv2d(c, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(2 * width, 2 * width, 4, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(inner, rank),
        )
        self.decoder = nn.Sequential(
            nn.Linear(rank, inner),
            nn.GELU(),
            nn.Unflatten(1, (2 * width, h // 4, w // 4)),
            nn.ConvTranspose2d(2 * width, 2 * width, 4, stride=2, padding=1),
            nn.GELU(),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(width, c, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


def autoencoder(shape: tuple[int, int, int], rank: int, parameters: int) -> ConvAutoencoder:
    """The autoencoder whose number of parameters is nearest to ``parameters``."""
    with torch.device("meta"):
        sizes = {width: size(ConvAutoencoder(shape, rank, width)) for width in range(2, 200)}
    return ConvAutoencoder(
        shape, rank, min(sizes, key=lambda width: abs(sizes[width] - parameters))
    )


def size(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


class Reconstruction(nn.Module):
    """``|f(y) - x|^2``, ``y`` a corrupted ``x``."""

    def __init__(self, network: nn.Module, corruption: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.corruption = network, corruption

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        return {"loss": (self.network(self.corruption(batch)) - batch).square().mean()}


class UNet(nn.Module):
    """A small U-Net of two levels that adds a correction to its input; sides divisible by four."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.top, self.middle, self.bottom = (
            _double(i, o)
            for i, o in ((channels, width), (width, 2 * width), (2 * width, 4 * width))
        )
        self.up, self.out = _double(6 * width, 2 * width), _double(3 * width, width)
        self.last = nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        top = self.top(x)
        middle = self.middle(nn.functional.max_pool2d(top, 2))
        bottom = self.bottom(nn.functional.max_pool2d(middle, 2))
        middle = self.up(torch.cat([middle, _larger(bottom)], 1))
        return x + self.last(self.out(torch.cat([top, _larger(middle)], 1)))


def _double(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.GELU(),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.GELU(),
    )


def _larger(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2, mode="bilinear")


class LearnedIdempotence(nn.Module):
    """A network trained to be idempotent on data and on what it makes of noise.

    ``a_r |f(x) - x| + a_i |f'(f(z)) - f(z)| - a_t |f(f'(z)) - f'(z)|``, where no gradient reaches
    ``f'``: data are fixed points, what noise is mapped to becomes one, and the set of fixed points
    is kept tight. The last term is bounded by ``1.5`` times the first through a tanh. ``z`` has the
    mean and the spectrum of the data.

    Reference: A. Shocher et al., Idempotent generative network, ICLR 2024 (arXiv 2311.01462).
    """

    def __init__(
        self,
        network: nn.Module,
        data: Tensor,
        weights: tuple[float, float, float] = (20.0, 20.0, 2.5),
    ) -> None:
        super().__init__()
        self.network, self.weights = network, weights
        waves = torch.fft.fft2(data)
        self.register_buffer("mean", waves.mean(0))
        self.register_buffer("real_std", waves.real.std(0))
        self.register_buffer("imag_std", waves.imag.std(0))

    def noise(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Images with the Fourier mean and variances of the data."""
        shape = (count, *self.mean.shape)
        real, imag = (torch.randn(shape, generator=generator) for _ in range(2))
        waves = self.mean + torch.complex(real * self.real_std, imag * self.imag_std)
        return torch.fft.ifft2(waves).real

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        frozen = {name: p.detach() for name, p in self.network.named_parameters()}
        z = self.noise(len(batch))
        fz = self.network(z)
        stopped = fz.detach()
        rec = (self.network(batch) - batch).abs().mean()
        idem = (functional_call(self.network, frozen, (fz,)) - fz).abs().mean()
        spread = -(self.network(stopped) - stopped).abs().mean()
        bound = 1.5 * rec.detach()
        tight = torch.tanh(spread / bound) * bound
        a_rec, a_idem, a_tight = self.weights
        return {
            "loss": a_rec * rec + a_idem * idem + a_tight * tight,
            "rec": rec,
            "idem": idem,
            "tight": tight,
        }

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Noise, mapped once."""
        with torch.no_grad():
            return self.network(self.noise(count, generator))

"""Peers of the generators: flow matching and MeanFlow on one small U-Net, and a Glow.

They are objectives for :func:`rectilinear.training.train` on images in ``[0, 1]``, made for images
like those of a batch ``(b, c, h, w)``, and sample by ``peer.sample(noise, steps)``; a Glow, by
``peer.sample(noise, temperature)``.
"""

from __future__ import annotations

from math import log, prod

import normflows as nf
import torch
from torch import Tensor, nn
from torch.nn import functional

CHUNK_IMAGES = 16  # that flow matching samples at a time, twice as fast as a thousand
SMALLEST_SIDE = 7  # to which a Glow halves its images


class UNet(nn.Module):
    """Velocity of images ``(b, c, h, w)`` at one or more times ``(b,)``: a U-Net with attention."""

    def __init__(self, channels: int = 1, width: int = 24, times: int = 1) -> None:
        super().__init__()
        w, e = width, 4 * width
        self.register_buffer("frequencies", 1000 ** torch.linspace(0, 1, 32))
        self.embed = nn.Sequential(nn.Linear(64 * times, e), nn.SiLU(), nn.Linear(e, e), nn.SiLU())
        self.enter = nn.Conv2d(channels, w, 3, padding=1)
        self.down1 = nn.ModuleList([_Residual(w, w, e), _Residual(w, w, e)])
        self.halve1 = nn.Conv2d(w, 2 * w, 3, stride=2, padding=1)
        self.down2 = nn.ModuleList([_Residual(2 * w, 2 * w, e), _Residual(2 * w, 2 * w, e)])
        self.halve2 = nn.Conv2d(2 * w, 2 * w, 3, stride=2, padding=1)
        self.bottom1, self.attention, self.bottom2 = (
            _Residual(2 * w, 2 * w, e),
            _Attention(2 * w),
            _Residual(2 * w, 2 * w, e),
        )
        self.up2 = nn.ModuleList([_Residual(4 * w, 2 * w, e), _Residual(2 * w, 2 * w, e)])
        self.up1 = nn.ModuleList([_Residual(3 * w, w, e), _Residual(w, w, e)])
        self.leave = nn.Sequential(
            nn.GroupNorm(8, w), nn.SiLU(), _zero(nn.Conv2d(w, channels, 3, padding=1))
        )

    def forward(self, x: Tensor, *times: Tensor) -> Tensor:
        angles = [t[:, None] * self.frequencies for t in times]
        e = self.embed(torch.cat([f(a) for a in angles for f in (torch.sin, torch.cos)], dim=1))
        full = _through(self.down1, self.enter(x), e)
        half = _through(self.down2, self.halve1(full), e)
        h = self.bottom2(self.attention(self.bottom1(self.halve2(half), e)), e)
        h = _through(
            self.up2, torch.cat([functional.interpolate(h, scale_factor=2.0), half], dim=1), e
        )
        return self.leave(
            _through(
                self.up1, torch.cat([functional.interpolate(h, scale_factor=2.0), full], dim=1), e
            )
        )


class FlowMatching(nn.Module):
    """Flow matching, ``|v(x_t, t) - (x - e)|^2`` on the path ``x_t = (1 - t) e + t x``.

    Reference: Lipman et al., "Flow Matching for Generative Modeling", 2023 (arXiv 2210.02747).
    """

    def __init__(self, like: Tensor, width: int = 24) -> None:
        super().__init__()
        self.net = UNet(like.shape[1], width)

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        data, noise, t = (
            2 * batch - 1,
            torch.randn_like(batch),
            torch.rand(len(batch), device=batch.device),
        )
        s = t[:, None, None, None]
        return {"loss": (self.net((1 - s) * noise + s * data, t) - (data - noise)).square().mean()}

    @torch.no_grad()
    def sample(self, noise: Tensor, steps: int) -> Tensor:
        """``steps`` Euler steps."""
        return torch.cat([self._sample(part, steps) for part in noise.split(CHUNK_IMAGES)])

    def _sample(self, x: Tensor, steps: int) -> Tensor:
        for k in range(steps):
            x = x + self.net(x, x.new_full((len(x),), k / steps)) / steps
        return (x + 1) / 2


class MeanFlow(nn.Module):
    """MeanFlow: one-step generation by the average velocity ``u(x_t, r, t)``.

    Here ``x_t = (1 - t) x + t e``; target ``v - (t - r) du/dt`` with the total derivative by a
    Jacobian-vector product; times from a logistic-normal ``(-0.4, 1)``, a quarter of them with
    ``r`` before ``t``, the loss weighted by its own size.

    Reference: Geng et al., "Mean Flows for One-step Generative Modeling", 2025 (arXiv 2505.13447).
    """

    def __init__(self, like: Tensor, width: int = 24) -> None:
        super().__init__()
        self.net = UNet(like.shape[1], width, times=2)

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        data, noise = 2 * batch - 1, torch.randn_like(batch)
        r, t = (
            torch.sigmoid(torch.randn(2, len(batch), device=batch.device) - 0.4).sort(dim=0).values
        )
        r = torch.where(torch.rand_like(t) < 0.75, t, r)
        s, velocity = t[:, None, None, None], noise - data
        start = ((1 - s) * data + s * noise, r, t)
        u, slope = torch.func.jvp(
            self.net, start, (velocity, torch.zeros_like(r), torch.ones_like(t))
        )
        target = (velocity - (t - r)[:, None, None, None] * slope).detach()
        error = (u - target).square().flatten(1).mean(1)
        return {"loss": (error / (error.detach() + 1e-3)).mean(), "error": error.mean()}

    @torch.no_grad()
    def sample(self, noise: Tensor, steps: int) -> Tensor:
        """``steps`` equal jumps from ``t = 1`` to 0."""
        x = noise
        for k in range(steps):
            t = x.new_full((len(x),), 1 - k / steps)
            x = x - self.net(x, t - 1 / steps, t) / steps
        return (x + 1) / 2


class Glow(nn.Module):
    """The Glow of normflows, trained on bits per value of images with noise of a grey level.

    At each resolution, from half of that of the images to 7 pixels a side or more, ``steps`` of
    normalised activations, 1 x 1 convolutions and affine couplings; then half of the channels are
    latents, Gaussian at a mean and a deviation of their own.

    Reference: Kingma and Dhariwal, "Glow", 2018 (arXiv 1807.03039); Stimper et al., "normflows",
    2023 (arXiv 2302.12014).
    """

    def __init__(self, like: Tensor, steps: int = 8, width: int = 64) -> None:
        super().__init__()
        _, c, h, w = like.shape
        shapes, flows = [], []
        while not (h % 2 or w % 2) and min(h, w) // 2 >= SMALLEST_SIDE:
            c, h, w = 4 * c, h // 2, w // 2
            blocks = [nf.flows.GlowBlock(c, width) for _ in range(steps)]
            flows.insert(0, [*blocks, nf.flows.Squeeze()])
            c //= 2
            shapes.insert(0, (c, h, w))
        shapes[0] = (2 * c, h, w)  # all that is left at the lowest resolution
        self.net = nf.MultiscaleFlow(
            [nf.distributions.DiagGaussian(shape) for shape in shapes],
            flows,
            [nf.flows.Merge() for _ in shapes[1:]],
            class_cond=False,
        )
        self.forward(like)  # the first batch gives the activations their scale

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        x = (255 * batch + torch.rand_like(batch)) / 256
        bits = 8 + self.net(x - 0.5) / (batch[0].numel() * log(2))
        return {"loss": bits.mean()}

    @torch.no_grad()
    def sample(self, noise: Tensor, temperature: float) -> Tensor:
        """Images of Gaussian noise of the shape of images; values that are not finite are grey."""
        bases = self.net.q0
        parts = noise.flatten(1).split([prod(base.shape) for base in bases], dim=1)
        latents = [
            base.loc + temperature * base.log_scale.exp() * part.unflatten(1, base.shape)
            for base, part in zip(bases, parts, strict=True)
        ]
        return self.net.forward_and_log_det(latents)[0].nan_to_num(0, 0, 0) + 0.5


class _Residual(nn.Module):
    def __init__(self, in_channels: int, channels: int, embedding: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, in_channels), nn.GroupNorm(8, channels)
        self.first = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.second = _zero(nn.Conv2d(channels, channels, 3, padding=1))
        self.modulate = nn.Linear(embedding, 2 * channels)
        self.skip = (
            nn.Conv2d(in_channels, channels, 1) if in_channels != channels else nn.Identity()
        )

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        h = self.first(functional.silu(self.norm1(x)))
        scale, shift = self.modulate(e)[:, :, None, None].chunk(2, dim=1)
        return self.skip(x) + self.second(functional.silu(self.norm2(h) * (1 + scale) + shift))


class _Attention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.qkv = nn.GroupNorm(8, channels), nn.Conv2d(channels, 3 * channels, 1)
        self.leave = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).chunk(3, dim=1)
        weights = (q.mT @ k / q.shape[1] ** 0.5).softmax(dim=-1)
        return x + self.leave((v @ weights.mT).view_as(x))


def _through(blocks: nn.ModuleList, h: Tensor, e: Tensor) -> Tensor:
    for block in blocks:
        h = block(h, e)
    return h


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer

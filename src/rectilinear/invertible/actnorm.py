"""Per-channel scale and shift, initialised from the first training batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rectilinear.checks import check_finite, single
from rectilinear.errors import NotInitializedError
from rectilinear.invertible.base import Invertible


class ActNorm(Invertible):
    """``z = exp(s) (x - m)`` with one scale and mean for each channel: the first axis of ``shape``.

    The first batch in training mode sets ``m`` and ``s`` so that latents have mean 0 and standard
    deviation 1. That it did is a buffer, ``initialized``: a loaded network is never initialised
    again. The log-scale of a channel differs from the common one by at most ``bound``, so a channel
    that is constant in the first batch cannot cost the inverse; a batch that is constant
    altogether, as a single row is, sets the means alone. Under data parallelism run one batch
    before wrapping, so that every process starts from the same values.

    Args:
        shape: shape of the arrays, without the batch axis: ``(n,)`` or ``(c, h, w)``.
        bound: largest difference of a channel's log-scale from the common log-scale.

    Raises:
        NotInitializedError: in evaluation mode, or for the inverse, before the first training
            batch.
        NonFiniteError: if that batch holds NaN or infinite entries; nothing is initialised then.

    Reference:
        Kingma, Dhariwal, "Glow", 2018 (arXiv 1807.03039).

    Example:
        >>> g = ActNorm(2)
        >>> z = g(torch.randn(1000, 2) * torch.tensor([0.5, 3.0]) + 5)
        >>> bool(g.initialized), [round(s, 2) for s in z.std(0).tolist()]
        (True, [1.0, 1.0])
    """

    initialized: Tensor
    common: Tensor

    def __init__(self, shape: tuple[int, ...] | int, bound: float = 3.0) -> None:
        super().__init__()
        self.shape = self.latent_shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self.bound = bound
        channels = self.shape[0], *(1,) * (len(self.shape) - 1)
        self.mean = nn.Parameter(torch.zeros(channels))
        self.raw = nn.Parameter(torch.zeros(channels))
        self.register_buffer("common", torch.zeros(()))
        self.register_buffer("initialized", torch.tensor(False))
        # A copy of the buffer, so that no call waits for the device; never true before it.
        self._ready = False

    @property
    def log_scale(self) -> Tensor:
        """``s``, one for each channel."""
        return self.common + self.bound * torch.tanh(self.raw / self.bound)

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if not self._ready:
            self._start(x)
        log_scale = self.log_scale
        total = log_scale.sum() * (self.dim // self.shape[0])
        return (x - self.mean) * log_scale.exp(), total.expand(x.shape[0])

    def _decode(self, z: Tensor) -> Tensor:
        if not self._ready:
            self._start(None)
        return z * (-self.log_scale).exp() + self.mean

    @torch.no_grad()
    def _start(self, x: Tensor | None) -> None:
        if not self.initialized:
            if x is None or not self.training:
                raise NotInitializedError(
                    got="an ActNorm that has seen no training batch",
                    expected="an initialised network",
                    fix="Call g(x) once with a batch of data in training mode (g.train()), or load "
                    "a state dict.",
                )
            check_finite(x, "the batch that initialises an ActNorm")
            common, relative, mean = _statistics(x)
            # So that no scale overflows.
            limit = max(math.log(torch.finfo(x.dtype).max) - self.bound - 1, 0)
            self.mean.copy_(mean)
            self.common.copy_((-common).clamp(-limit, limit))
            self.raw.copy_(self.bound * torch.atanh((-relative / self.bound).clamp(-0.995, 0.995)))
            self.initialized.fill_(True)
        self._ready = True

    def _load_from_state_dict(self, *args, **kwargs) -> None:  # type: ignore[no-untyped-def]  # torch's signature
        super()._load_from_state_dict(*args, **kwargs)
        self._ready = False
        if self.initialized.device.type != "meta":
            self._ready = bool(self.initialized)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log of the common spread of a batch, of each channel's relative to it, and channel means.

    A batch that is constant, as one row is, has no spread: its logs are zero.
    """
    over, eps = [0, *range(2, x.ndim)], torch.finfo(x.dtype).eps
    x = single(x)
    size, least = float(x.abs().max()), math.frexp(torch.finfo(x.dtype).tiny)[1]
    # Squares of very small and very large entries leave the range of the dtype.
    exponent = 0 if 1e-8 < size < 1e8 else max(math.frexp(size)[1] - 1, least)
    x = x * 2.0**-exponent
    mean = x.mean(over, keepdim=True)[0] * 2.0**exponent
    spread = x.std(over, keepdim=True, correction=0)[0]
    common = spread.square().mean().sqrt()
    if float(common) <= eps * size * 2.0**-exponent:
        return torch.zeros_like(common), torch.zeros_like(spread), mean
    return common.log() + exponent * math.log(2), (spread / common).clamp_min(eps).log(), mean

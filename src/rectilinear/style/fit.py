"""The operator of a style in closed form: least squares in the latents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from rectilinear._shapes import check_batch, check_finite
from rectilinear.errors import ConfigError, ShapeError
from rectilinear.operators import Convolution

if TYPE_CHECKING:
    from rectilinear.invertible import Invertible
    from rectilinear.style.model import StyleTransfer

_CHUNK = 64  # pictures at a time


def fit_convolution(x: Tensor, y: Tensor, size: int, damping: float = 1e-6) -> Convolution:
    """The circular convolution ``A`` of least ``sum |A x - y|^2 + damping n |A|^2``, by the normal equations.

    Their entries are correlations at lags within the kernel, which Fourier transforms give for all pixels at once.

    Args:
        x: ``(n, c, h, w)``.
        y: ``(n, d, h, w)``.
        size: side of the kernel.
        damping: of the kernel, relative to the mean square of ``x``.

    Returns:
        a convolution with a kernel ``(d, c, size, size)``, a parameter.

    Raises:
        ShapeError: if the two differ in more than their channels, or are smaller than the kernel.
        ConfigError: if ``size`` is not odd and positive.

    Example:
        >>> x = torch.randn(5, 2, 6, 6)
        >>> A = Convolution((2, 6, 6), torch.randn(3, 2, 3, 3))
        >>> y = A(x.flatten(1)).unflatten(1, (3, 6, 6))
        >>> bool((fit_convolution(x, y, 3).kernel - A.kernel).abs().max() < 1e-3)
        True
    """
    check_batch(x, tuple(x.shape[1:]), "x")
    if x.ndim != 4 or y.ndim != 4 or (len(x), *x.shape[2:]) != (len(y), *y.shape[2:]):
        raise ShapeError(
            f"x of shape {tuple(x.shape)} and y of shape {tuple(y.shape)}", "(n, c, h, w) and (n, d, h, w)"
        )
    if size < 1 or size % 2 == 0:
        raise ConfigError(f"a kernel of size {size}", "an odd number", "Kernels have a centre.")
    if size > min(x.shape[2:]):
        raise ShapeError(f"a kernel of size {size} on {x.shape[2]} x {x.shape[3]}", "one that fits", "Make it smaller.")
    check_finite(x, "x")
    check_finite(y, "y")
    (c, h, w), d, k = x.shape[1:], y.shape[1], x.shape[1] * size**2
    spectra = torch.zeros(c, c + d, h, w // 2 + 1, dtype=torch.complex128, device=x.device)
    for a, b in zip(x.split(_CHUNK), y.split(_CHUNK), strict=True):
        waves = torch.fft.rfft2(torch.cat([a, b], dim=1).double())
        spectra += torch.einsum("nihw,njhw->ijhw", waves[:, :c].conj(), waves)
    lags = torch.fft.irfft2(spectra, s=(h, w))  # sums over pictures and pixels of x_i(p) x_j(p + lag), then y_j
    row, column = torch.cartesian_prod(*[torch.arange(size, device=x.device) - size // 2] * 2).mT
    apart = (row - row[:, None]) % h, (column - column[:, None]) % w
    gram = lags[:, :c, *apart].transpose(1, 2).reshape(k, k)
    cross = lags[:, c:, -row % h, -column % w].mT.reshape(k, d)
    ridge = damping * gram.diagonal().mean().clamp_min(torch.finfo(x.dtype).tiny)
    kernel = torch.linalg.solve(gram + ridge * torch.eye(k, dtype=gram.dtype, device=gram.device), cross)
    kernel = kernel.mT.reshape(d, c, size, size).to(x.dtype)
    return Convolution(tuple(x.shape[1:]), kernel)


def fit_style(model: StyleTransfer, x: Tensor, y: Tensor, size: int, steps: int = 0) -> Convolution:
    """The operator of a new style between the spaces of a model, whose networks stay as they are.

    Least squares in the latents, ``min |A g_in(x) - g_out(y)|^2``, in closed form; then ``steps`` of L-BFGS on the
    pixels, ``min |g_out^-1(A g_in(x)) - y|^2``, over the kernel alone. Networks must keep the layout of the picture,
    as :class:`~rectilinear.invertible.ImageFlow` does.

    Args:
        model: the networks.
        x: pictures ``(n, *shape)``.
        y: the same pictures in the new style.
        size: side of the kernel.
        steps: of L-BFGS.

    Raises:
        ShapeError: if pictures do not fit the model, or each other.

    Example:
        >>> import rectilinear as rl
        >>> g = rl.invertible.ImageFlow((1, 8, 8), blocks=2, width=8)
        >>> model = rl.style.StyleTransfer(g, {"original": rl.operators.Identity(64)})
        >>> x = torch.rand(20, 1, 8, 8)
        >>> brighter = model.added("brighter", fit_style(model, x, 1.5 * x, size=1))
        >>> bool(torch.allclose(brighter(x, "brighter"), 1.5 * x, atol=1e-4))
        True
    """
    check_batch(x, model.g_in.shape, "x")
    check_batch(y, model.g_out.shape, "y")
    if len(x) != len(y):
        raise ShapeError(f"{len(x)} pictures and {len(y)} in the style", "as many", "Pair them.")
    z = latents(model.g_in, x)
    A = fit_convolution(z.unflatten(1, model.g_in.shape), latents(model.g_out, y).unflatten(1, model.g_out.shape), size)
    if steps:
        _descend(model, A, z, y, steps)
    return A


@torch.no_grad()
def latents(g: Invertible, x: Tensor) -> Tensor:
    """``g(x)`` as ``(n, dim)``, some pictures at a time."""
    return torch.cat([g(part).flatten(1) for part in x.split(_CHUNK)])


def _descend(model: StyleTransfer, A: Convolution, z: Tensor, y: Tensor, steps: int) -> None:
    optimizer = torch.optim.LBFGS([A.kernel], max_iter=steps, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        total = 0.0
        for part, target in zip(z.split(_CHUNK), y.split(_CHUNK), strict=True):
            loss = mse_loss(model.out_space.decode(A(part)), target) * (len(part) / len(z))
            (A.kernel.grad,) = [
                g if A.kernel.grad is None else A.kernel.grad + g for g in torch.autograd.grad(loss, [A.kernel])
            ]
            total += float(loss.detach())
        return total

    optimizer.step(closure)

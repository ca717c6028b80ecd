"""Training objective of style transfer, and operators of new styles by least squares."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from rectilinear.checks import check_batch, check_finite
from rectilinear.errors import ConfigError, ShapeError
from rectilinear.invertible import Invertible
from rectilinear.operators import Convolution
from rectilinear.style.model import StyleTransfer

_PREPARED_ON = 512


class StyleObjective(nn.Module):
    """The mean square error of pixels, each image of a batch in one of its styles or blends.

    Drawn at random.

    Rows of the data are ``(1 + m, c, h, w)``: an image, then what the teacher makes of it with the
    weights ``weights[0], ..., weights[m - 1]``. The model answers with ``g_out^-1(sum_k weights[i,
    k] A_k g_in(x))``, so a teacher that blends trains the paths between styles as well as the
    styles.

    Args:
        model: the networks and operators.
        weights: ``(m, styles)``, each row with sum one.
        latent: weight of the error in the latents, ``|A g_in(x) - g_out(y)|^2`` relative to their
            variance: what images need that are in a style already, if ``A_j A_i^+`` is to turn
            them into another.

    Raises:
        ShapeError: if ``weights`` has another number of columns than the model has styles.
        ConfigError: if a row of ``weights`` does not sum to one.
    """

    weights: Tensor

    def __init__(self, model: StyleTransfer, weights: Tensor, latent: float = 0.0) -> None:
        super().__init__()
        if weights.ndim != 2 or weights.shape[1] != len(model.names):
            raise ShapeError(
                f"weights of shape {tuple(weights.shape)}",
                f"(m, {len(model.names)}), a column a style of the model",
            )
        if not torch.allclose(weights.sum(1), weights.new_ones(len(weights)), atol=1e-5):
            raise ConfigError(
                "weights that do not sum to one", "rows with sum 1", "Divide each row by its sum."
            )
        self.model, self.latent = model, latent
        self.register_buffer("weights", weights)

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        """``{"loss", "pixels"}`` of rows ``(b, 1 + m, c, h, w)``; ``"latents"`` if weighted."""
        rows = torch.arange(len(batch), device=batch.device)
        which = torch.randint(len(self.weights), (len(batch),), device=batch.device)
        target = batch[rows, 1 + which]
        z = self._styled(self.model.in_space.encode(batch[:, 0]), self.weights[which])
        pixels = (self.model.out_space.decode(z) - target).square().mean()
        if not self.latent:
            return {"loss": pixels, "pixels": pixels}
        goal = self.model.out_space.encode(target)
        apart = (z - goal).square().mean() / goal.var()
        return {"loss": pixels + self.latent * apart, "pixels": pixels, "latents": apart}

    def _styled(self, z: Tensor, weights: Tensor) -> Tensor:
        """``sum_k w_ik A_k z_i`` for each row."""
        each = torch.stack([self.model.operator(name)(z) for name in self.model.names], dim=1)
        return (weights[..., None] * each).sum(1)

    @torch.no_grad()
    def prepare(self, data: Tensor) -> None:
        """Data-dependent initialisation of the networks, and each style at its least squares."""
        rows = data[:: max(1, len(data) // _PREPARED_ON)]
        pure = {int(w.argmax()): i for i, w in enumerate(self.weights) if w.max() == 1}
        styled = torch.stack([rows[:, 1 + i] for i in pure.values()], 1) if pure else rows[:, 1:]
        self.model.g_in(rows[:, 0])
        self.model.g_out(styled[torch.arange(len(rows)), torch.arange(len(rows)) % styled.shape[1]])
        g_in, g_out = self.model.g_in, self.model.g_out
        z = latents(g_in, rows[:, 0]).unflatten(1, g_in.shape)
        for k, i in pure.items():
            A = self.model.operator(self.model.names[k])
            if isinstance(A, Convolution) and not A.depthwise:
                y = latents(g_out, rows[:, 1 + i]).unflatten(1, g_out.shape)
                A.kernel.copy_(fit_convolution(z, y, A.size[0]).kernel)

    @torch.no_grad()
    def diagnostics(self, batch: Tensor) -> dict[str, float]:
        """Round-trip errors ``|g^-1(g(x)) - x|`` of both networks, of ``g_out`` on outputs."""
        x, made = batch[:, 0], self.model.style(self.model.names[0])(batch[:, 0])
        again = self.model.out_space.decode(self.model.out_space.encode(made))
        return {
            "round_trip": float(
                (self.model.in_space.decode(self.model.in_space.encode(x)) - x).abs().max()
            ),
            "round_trip_styled": float((again - made).abs().max()),
        }


_CHUNK = 64  # images at a time


def fit_convolution(x: Tensor, y: Tensor, size: int, damping: float = 1e-6) -> Convolution:
    """The circular convolution ``A`` of least ``sum |A x - y|^2 + damping n |A|^2``.

    By the normal equations.

    Their entries are correlations at lags within the kernel, which Fourier transforms give for all
    pixels at once.

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
            f"x of shape {tuple(x.shape)} and y of shape {tuple(y.shape)}",
            "(n, c, h, w) and (n, d, h, w)",
        )
    if size < 1 or size % 2 == 0:
        raise ConfigError(f"a kernel of size {size}", "an odd number", "Kernels have a centre.")
    if size > min(x.shape[2:]):
        raise ShapeError(
            f"a kernel of size {size} on {x.shape[2]} x {x.shape[3]}",
            "one that fits",
            "Make it smaller.",
        )
    check_finite(x, "x")
    check_finite(y, "y")
    (c, h, w), d, k = x.shape[1:], y.shape[1], x.shape[1] * size**2
    spectra = torch.zeros(c, c + d, h, w // 2 + 1, dtype=torch.complex128, device=x.device)
    for a, b in zip(x.split(_CHUNK), y.split(_CHUNK), strict=True):
        waves = torch.fft.rfft2(torch.cat([a, b], dim=1).double())
        spectra += torch.einsum("nihw,njhw->ijhw", waves[:, :c].conj(), waves)
    lags = torch.fft.irfft2(
        spectra, s=(h, w)
    )  # sums over images and pixels of x_i(p) x_j(p + lag), then y_j
    row, column = torch.cartesian_prod(*[torch.arange(size, device=x.device) - size // 2] * 2).mT
    apart = (row - row[:, None]) % h, (column - column[:, None]) % w
    gram = lags[:, :c, *apart].transpose(1, 2).reshape(k, k)
    cross = lags[:, c:, -row % h, -column % w].mT.reshape(k, d)
    ridge = damping * gram.diagonal().mean().clamp_min(torch.finfo(x.dtype).tiny)
    kernel = torch.linalg.solve(
        gram + ridge * torch.eye(k, dtype=gram.dtype, device=gram.device), cross
    )
    kernel = kernel.mT.reshape(d, c, size, size).to(x.dtype)
    return Convolution(tuple(x.shape[1:]), kernel)


def fit_style(model: StyleTransfer, x: Tensor, y: Tensor, size: int, steps: int = 0) -> Convolution:
    """The operator of a new style between the spaces of a model, whose networks stay as they are.

    Least squares in the latents, ``min |A g_in(x) - g_out(y)|^2``, in closed form; then ``steps``
    of L-BFGS on the pixels, ``min |g_out^-1(A g_in(x)) - y|^2``, over the kernel alone. Networks
    must keep the layout of the image, as :class:`~rectilinear.invertible.ImageFlow` does.

    Args:
        model: the networks.
        x: images ``(n, *shape)``.
        y: the same images in the new style.
        size: side of the kernel.
        steps: of L-BFGS.

    Raises:
        ShapeError: if images do not fit the model, or each other.

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
        raise ShapeError(f"{len(x)} images and {len(y)} in the style", "as many", "Pair them.")
    z = latents(model.g_in, x)
    A = fit_convolution(
        z.unflatten(1, model.g_in.shape),
        latents(model.g_out, y).unflatten(1, model.g_out.shape),
        size,
    )
    if steps:
        _descend(model, A, z, y, steps)
    return A


@torch.no_grad()
def latents(g: Invertible, x: Tensor) -> Tensor:
    """``g(x)`` as ``(n, dim)``, some images at a time."""
    return torch.cat([g(part).flatten(1) for part in x.split(_CHUNK)])


def _descend(model: StyleTransfer, A: Convolution, z: Tensor, y: Tensor, steps: int) -> None:
    optimizer = torch.optim.LBFGS(
        [A.kernel], max_iter=steps, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        optimizer.zero_grad()
        total = 0.0
        for part, target in zip(z.split(_CHUNK), y.split(_CHUNK), strict=True):
            loss = mse_loss(model.out_space.decode(A(part)), target) * (len(part) / len(z))
            (A.kernel.grad,) = [
                g if A.kernel.grad is None else A.kernel.grad + g
                for g in torch.autograd.grad(loss, [A.kernel])
            ]
            total += float(loss.detach())
        return total

    optimizer.step(closure)

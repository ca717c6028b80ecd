"""What a model of styles is trained on: pictures beside what a teacher makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rectilinear.errors import ConfigError, ShapeError
from rectilinear.operators import Convolution
from rectilinear.style.fit import fit_convolution, latents

if TYPE_CHECKING:
    from rectilinear.style.model import StyleTransfer

_PREPARED_ON = 512


class StyleObjective(nn.Module):
    """The mean square error of the pixels, each picture of a batch in one of its styles or blends, drawn at random.

    Rows of the data are ``(1 + m, c, h, w)``: a picture, then what the teacher makes of it with the weights
    ``weights[0], ..., weights[m - 1]``. The model answers with ``g_out^-1(sum_k weights[i, k] A_k g_in(x))``, so a
    teacher that blends trains the paths between styles as well as the styles.

    Args:
        model: the networks and operators.
        weights: ``(m, styles)``, each row with sum one.
        latent: weight of the error in the latents, ``|A g_in(x) - g_out(y)|^2`` relative to their variance: what
            pictures need that are in a style already, if ``A_j A_i^+`` is to turn them into another.

    Raises:
        ShapeError: if ``weights`` has another number of columns than the model has styles.
        ConfigError: if a row of ``weights`` does not sum to one.
    """

    weights: Tensor

    def __init__(self, model: StyleTransfer, weights: Tensor, latent: float = 0.0) -> None:
        super().__init__()
        if weights.ndim != 2 or weights.shape[1] != len(model.names):
            raise ShapeError(
                f"weights of shape {tuple(weights.shape)}", f"(m, {len(model.names)}), a column a style of the model"
            )
        if not torch.allclose(weights.sum(1), weights.new_ones(len(weights)), atol=1e-5):
            raise ConfigError("weights that do not sum to one", "rows with sum 1", "Divide each row by its sum.")
        self.model, self.latent = model, latent
        self.register_buffer("weights", weights)

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        """``{"loss", "pixels"}``, and ``"latents"`` where that term has a weight, of rows ``(b, 1 + m, c, h, w)``."""
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
        """Before training: data-dependent layers see pictures, and each style starts at its least squares."""
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
        """The round-trip errors ``|g^-1(g(x)) - x|`` of both networks, the second on pictures that the model makes."""
        x, made = batch[:, 0], self.model.style(self.model.names[0])(batch[:, 0])
        again = self.model.out_space.decode(self.model.out_space.encode(made))
        return {
            "round_trip": float((self.model.in_space.decode(self.model.in_space.encode(x)) - x).abs().max()),
            "round_trip_styled": float((again - made).abs().max()),
        }

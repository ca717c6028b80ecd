"""Many bias-free leaky ReLU networks in one batch, each of its own width, depth and slope."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import prelu

from rectilinear.checks import check_floating
from rectilinear.errors import InputError
from rectilinear.notebook import short_repr
from rectilinear.random import generator


@dataclass(frozen=True, eq=False)
class Networks:
    """A batch of ``B`` networks ``W_L s(... s(W_1 x))`` with ``s(z) = max(z, alpha z)``.

    Narrower networks are padded with units of weight zero, which training leaves at zero; shallower
    ones skip hidden layers.

    Attributes:
        first: weights of the first layers, ``(B, h, d)``.
        hidden: ``(B, L - 2, h, h)``; network ``b`` uses the first ``depth[b] - 2``.
        last: weights of the last layers, ``(B, o, h)``.
        alpha: slope for negative numbers, ``(B,)``.
        depth: number of layers, ``(B,)``, at least 2.
    """

    first: Tensor
    hidden: Tensor
    last: Tensor
    alpha: Tensor
    depth: Tensor

    __repr__ = short_repr

    @classmethod
    def gaussian(
        cls,
        inputs: int,
        width: int | Sequence[int] = 100,
        outputs: int = 1,
        depth: int | Sequence[int] = 2,
        alpha: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1e-3,
        seed: int | Sequence[int] = 0,
    ) -> Networks:
        """Networks of independent normal weights; each number is one for all, or one for each.

        A network depends on its own numbers only, whatever else is in the batch.

        Args:
            inputs: number of inputs ``d``.
            width: number of units of a hidden layer.
            outputs: number of outputs ``o``.
            depth: number of layers, at least 2.
            alpha: slope for negative numbers, in [0, 1].
            std: standard deviation of the weights, positive.
            seed: seed of the weights.

        Raises:
            InputError: for sequences of different lengths, or numbers out of range.

        Example:
            >>> networks = Networks.gaussian(3, width=[4, 6], depth=[2, 3], seed=[0, 1])
            >>> len(networks), networks.first.shape
            (2, torch.Size([2, 6, 3]))
        """
        options: tuple[Any, ...] = (width, depth, alpha, std, seed)
        lengths = {1 if _is_one(option) else len(option) for option in options} - {1}
        if len(lengths) > 1:
            raise InputError(
                f"sequences of lengths {sorted(lengths)}", "one number, or one for each network"
            )
        count = lengths.pop() if lengths else 1
        widths, depths, seeds = _each(width, count), _each(depth, count), _each(seed, count)
        alphas, stds = _each(alpha, count), _each(std, count)
        if (
            min(widths) < 1
            or min(depths) < 2
            or not all(0 <= a <= 1 for a in alphas)
            or min(stds) <= 0
        ):
            raise InputError(
                "a width, depth, alpha or std out of range",
                "width >= 1, depth >= 2, 0 <= alpha <= 1",
            )
        first = torch.zeros(count, max(widths), inputs, dtype=torch.float64)
        hidden = torch.zeros(count, max(depths) - 2, max(widths), max(widths), dtype=torch.float64)
        last = torch.zeros(count, outputs, max(widths), dtype=torch.float64)
        for b, (h, layers, std_b, seed_b) in enumerate(
            zip(widths, depths, stds, seeds, strict=True)
        ):
            source = generator(seed_b)
            shapes = [(h, inputs), *[(h, h)] * (layers - 2), (outputs, h)]
            drawn = [
                std_b * torch.randn(shape, generator=source, dtype=torch.float64)
                for shape in shapes
            ]
            first[b, :h], last[b, :, :h] = drawn[0], drawn[-1]
            for place, value in zip(hidden[b], drawn[1:-1], strict=False):
                place[:h, :h] = value
        return cls(first, hidden, last, torch.tensor(alphas).double(), torch.tensor(depths))

    @classmethod
    def of(cls, weights: Sequence[Sequence[Tensor]], alpha: float | Sequence[float]) -> Networks:
        """Networks of given weights, first layer first.

        Args:
            weights: of each network the matrices ``(h_l, h_(l-1))``.
            alpha: slope for negative numbers, one for all or one for each network.

        Example:
            >>> networks = Networks.of([[torch.ones(2, 3), torch.ones(1, 2)]], alpha=0.2)
            >>> networks(torch.ones(1, 3))
            tensor([[[6.]]], dtype=torch.float64)
        """
        inputs, outputs = weights[0][0].shape[1], len(weights[0][-1])
        widths, depths = [max(map(len, w[:-1])) for w in weights], [len(w) for w in weights]
        empty = cls.gaussian(inputs, widths, outputs, depths, alpha, seed=[0] * len(weights))
        for value in (empty.first, empty.hidden, empty.last):
            value.zero_()
        for b, layers in enumerate(weights):
            empty.first[b, : len(layers[0])] = layers[0]
            empty.last[b, :, : layers[-1].shape[1]] = layers[-1]
            for place, value in zip(empty.hidden[b], layers[1:-1], strict=False):
                place[: value.shape[0], : value.shape[1]] = value
        return empty

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, which: slice | Tensor) -> Networks:
        """Some of the networks, as a batch."""
        return Networks(**{name: value[which] for name, value in vars(self).items()})

    def __call__(self, x: Tensor) -> Tensor:
        """The outputs ``(B, n, o)`` of every network on the points ``(n, d)``."""
        check_floating(x, "x")
        h = self._activate(x.to(self.first) @ self.first.mT)
        for layer in range(self.hidden.shape[1]):
            further = self._activate(h @ self.hidden[:, layer].mT)
            active = self.depth > layer + 2
            h = further if bool(active.all()) else torch.where(active[:, None, None], further, h)
        return h @ self.last.mT

    def _activate(self, z: Tensor) -> Tensor:
        """Leaky ReLU with the slope of each network: ``B`` is the axis of channels."""
        return prelu(z[None], self.alpha)[0]

    def paired(self) -> Networks:
        """Two-layer networks of twice the width with neurons in :func:`antisymmetric_pairs`.

        Raises:
            InputError: for deeper networks.
        """
        if int(self.depth.max()) > 2:
            raise InputError(
                f"networks of {int(self.depth.max())} layers",
                "two layers",
                "Pairs are of two layers.",
            )
        first, last = (
            torch.cat([self.first, -self.first], dim=1),
            torch.cat([self.last, -self.last], dim=2),
        )
        hidden = self.hidden.new_zeros(len(self), 0, *[first.shape[1]] * 2)
        return replace(self, first=first, hidden=hidden, last=last)

    def layers(self, b: int) -> list[Tensor]:
        """The weights of network ``b``, first layer first; a narrow one keeps its units at zero."""
        return [self.first[b], *self.hidden[b, : int(self.depth[b]) - 2], self.last[b]]

    def module(self, b: int) -> nn.Sequential:
        """Network ``b`` as a module, in float64.

        Example:
            >>> networks = Networks.gaussian(3, width=4, alpha=0.5)
            >>> x = torch.randn(5, 3, dtype=torch.float64)
            >>> torch.allclose(networks.module(0)(x), networks(x)[0])
            True
        """
        modules: list[nn.Module] = []
        for weight in self.layers(b):
            out_features, in_features = weight.shape
            layer = nn.Linear(in_features, out_features, bias=False, dtype=weight.dtype)
            with torch.no_grad():
                layer.weight.copy_(weight)
            modules += [layer, nn.LeakyReLU(float(self.alpha[b]))]
        return nn.Sequential(*modules[:-1])


def _is_one(value: object) -> bool:
    return isinstance(value, str) or not hasattr(value, "__len__")


def _each(value: Any, count: int) -> list[Any]:
    """One number for each network."""
    return [value] * count if _is_one(value) else list(value) * (count if len(value) == 1 else 1)

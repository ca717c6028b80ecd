"""A two-layer network without biases as the sum of its exactly linear and its even part."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rectilinear.checks import check_batch
from rectilinear.errors import InputError, StructureError
from rectilinear.networks.calls import as_network, check_module, evaluating, uncompiled
from rectilinear.networks.layers import TwoLayer, structure_of, two_layer
from rectilinear.networks.trace import Activation


class LinearPart(nn.Module):
    """``M x`` for rows of any shape."""

    matrix: Tensor

    def __init__(
        self, matrix: Tensor, in_shape: tuple[int, ...], out_shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.in_shape, self.out_shape = in_shape, out_shape
        self.register_buffer("matrix", matrix.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """Rows ``(b, *in_shape)`` to ``(b, *out_shape)``."""
        check_batch(x, self.in_shape, "x")
        return (x.flatten(1) @ self.matrix.mT).reshape(len(x), *self.out_shape)

    def extra_repr(self) -> str:
        return f"{tuple(self.matrix.shape)}"


class EvenPart(nn.Module):
    """``W2 e(W1 x)`` with ``e(z) = (s(z) + s(-z)) / 2``, which is ``(1 - alpha)/2 |z|`` for ``s =
    max(z, alpha z)``.
    """

    W1: Tensor
    W2: Tensor

    def __init__(
        self, two: TwoLayer, in_shape: tuple[int, ...], out_shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.in_shape, self.out_shape = in_shape, out_shape
        self.activation: Activation = two.activation
        self.register_buffer("W1", two.W1.contiguous())
        self.register_buffer("W2", two.W2.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """Rows ``(b, *in_shape)`` to ``(b, *out_shape)``."""
        check_batch(x, self.in_shape, "x")
        return (self.activation.even(x.flatten(1) @ self.W1.mT) @ self.W2.mT).reshape(
            len(x), *self.out_shape
        )

    def extra_repr(self) -> str:
        return f"{self.activation.name}, {tuple(self.W1.shape)}, {tuple(self.W2.shape)}"


@dataclass(frozen=True, eq=False)
class Split:
    """``f = linear + even``: the odd part is the linear map ``matrix``, ``(O, D)``; the rest is
    even.
    """

    linear: LinearPart
    even: EvenPart

    @property
    def matrix(self) -> Tensor:
        """``kappa W2 W1`` (plus a linear connection past the neurons, where there is one)."""
        return self.linear.matrix


def split(model: nn.Module, x: Tensor | None = None) -> Split:
    """The exactly linear and the even part of a two-layer network without biases.

    ``f(x) = kappa W2 W1 x + W2 e(W1 x)`` with the even part ``e(z) = (s(z) + s(-z)) / 2`` of the
    activation.

    Any network with one layer of activations obeying ``s(z) - s(-z) = 2 kappa z`` (ReLU, leaky
    ReLU, PReLU, GELU, SiLU, softplus, hardswish) and affine operations without constants around it:
    linear layers, convolutions, average pooling, a residual connection. For ``max(z, alpha z)``,
    ``kappa = (1 + alpha)/2``.

    Args:
        model: the network; it is not changed, and the parts hold copies of its numbers.
        x: rows like those that it takes; not needed where its first layer is ``nn.Linear``.

    Raises:
        StructureError: if it has biases, more layers, or another activation.
        InputError: if ``x`` is needed.

    Reference: Y. Zhang, A. Saxe, P. Latham, When are bias-free ReLU networks effectively linear
    networks?, TMLR 2025.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 9, bias=False), nn.ReLU(), nn.Linear(9, 2, bias=False))
        >>> parts, x = split(net), torch.randn(5, 4)
        >>> torch.allclose(parts.linear(x) + parts.even(x), net(x), atol=1e-6)
        True
        >>> torch.allclose(parts.matrix, net[2].weight @ net[0].weight / 2, atol=1e-6)
        True
    """
    with evaluating(model) if isinstance(model, nn.Module) else torch.no_grad():
        rows = _example(model) if x is None else x
        network = as_network(model, rows)
        exact = network.exact() or network
        two = two_layer(exact, structure_of(exact, rows), rows).to(network.like)
    if two.has_bias:
        raise StructureError(
            "a network with a bias",
            "none: with one the odd part is not linear",
            "Remove the biases.",
        )
    if two.activation.kappa is None:
        raise StructureError(
            f"the activation {two.activation.name}, whose odd part is not linear",
            "one with s(z) - s(-z) = 2 kappa z, such as ReLU, leaky ReLU, GELU, SiLU, softplus",
        )
    shapes = network.in_shape, network.out_shape
    return Split(LinearPart(two.matrix, *shapes), EvenPart(two, *shapes))


def _example(model: nn.Module) -> Tensor:
    """Random rows for a network that starts with a linear layer."""
    parameters = check_module(model)
    first = next(
        (
            m
            for m in uncompiled(model).modules()
            if not list(m.children()) and not isinstance(m, nn.Flatten)
        ),
        model,
    )
    if not isinstance(first, nn.Linear):
        raise InputError(
            f"a network that starts with {type(first).__name__}, and no x",
            "rows like those that it takes",
            "Pass a few of them as x.",
        )
    like = parameters[0].detach()
    return torch.linspace(-1, 1, 8 * first.in_features).sin().reshape(8, -1).to(like)

"""Gated deep linear networks: hidden units that are on or off in each context."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from rectilinear.deeplinear.descent.network import Network
from rectilinear.errors import ShapeError

_NUMBER = "Number the contexts: np.unique(contexts, return_inverse=True)[1]."


def gated(gates: Sequence[ArrayLike]) -> Network:
    """The network ``[W_L G_1 ... G_1 W_1, W_L G_2 ... G_2 W_1, ...]``, a block for each context.

    In a context the network is linear: its gates multiply the units of each hidden layer. All
    contexts share the layers, and so learn together where they share units; a path of the network
    is a set of units. The map ``(runs, m, contexts d)`` acts on rows of :func:`in_contexts`.

    Args:
        gates: of each hidden layer, the first one first, ``(contexts, units)``: 0, 1 or others.

    Raises:
        ShapeError: for gates of different numbers of contexts, and for layers of other widths.

    Reference: Saxe, Sodhani and Lewallen, "The neural race reduction: dynamics of abstraction in
    gated networks", ICML 2022 (arXiv:2207.10430).

    Example:
        >>> import torch
        >>> network = gated([[[1, 0], [1, 1]]])
        >>> network([torch.tensor([[[2.0], [3.0]]]), torch.tensor([[[1.0, 10.0]]])])
        tensor([[[ 2., 32.]]])
    """
    found = tuple(np.asarray(layer, dtype=float) for layer in gates)
    if not found or any(g.ndim != 2 for g in found) or len({len(g) for g in found}) > 1:
        raise ShapeError(
            f"gates of shapes {', '.join(str(g.shape) for g in found) or 'none'}",
            "(contexts, units) for each hidden layer, the same number of contexts",
            "Write one hidden layer as gated([gates])." if any(g.ndim != 2 for g in found) else "",
        )
    return partial(_gated, found)


def _gated(gates: tuple[np.ndarray, ...], layers: Sequence[Tensor]) -> Tensor:
    widths = [layer.shape[-2] for layer in layers[:-1]]
    if widths != [g.shape[1] for g in gates]:
        raise ShapeError(
            f"hidden layers of {widths} units",
            f"{[g.shape[1] for g in gates]}, as the gates have",
        )
    product = layers[0][:, None]  # (runs, contexts, units, d)
    for gate, layer in zip(gates, layers[1:], strict=True):
        on = torch.as_tensor(gate).to(layer)
        product = layer[:, None] @ (on[..., None] * product)
    return product.transpose(1, 2).flatten(2)


def in_contexts(X: ArrayLike, contexts: ArrayLike) -> np.ndarray:
    """The rows ``(n, contexts d)`` with each row of ``X`` ``(n, d)`` in the block of its context.

    Args:
        X: rows.
        contexts: their numbers ``(n,)``, from 0 on.

    Raises:
        ShapeError: for another number of contexts than rows, and for what are no numbers from 0 on.

    Example:
        >>> in_contexts([[1.0, 2.0], [3.0, 4.0]], [0, 1])
        array([[1., 2., 0., 0.],
               [0., 0., 3., 4.]])
    """
    x, context = np.asarray(X, dtype=float), np.asarray(contexts)
    if x.ndim != 2 or context.shape != x.shape[:1] or context.dtype.kind not in "iu":
        raise ShapeError(
            f"contexts of shape {context.shape} and type {context.dtype} for X of shape {x.shape}",
            "X (n, d), and an integer for each row",
            "Write one input as X[:, None]." if x.ndim == 1 else _NUMBER,
        )
    if not len(context) or context.min() < 0:
        raise ShapeError("negative contexts, or none", "0, 1, ... for each row", _NUMBER)
    one_hot = np.eye(int(context.max()) + 1)[context]
    return np.einsum("nc,nd->ncd", one_hot, x).reshape(len(x), -1)

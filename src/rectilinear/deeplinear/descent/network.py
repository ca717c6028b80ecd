"""Linear networks as functions from layers to the map, and layers with a given map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from rectilinear.checks import whole
from rectilinear.errors import InputError, ShapeError

Network: TypeAlias = Callable[[Sequence[Tensor]], Tensor]


def chain(layers: Sequence[Tensor]) -> Tensor:
    """The map ``W_L ... W_1`` ``(runs, m, d)`` of layers ``(runs, out, in)``, the first one first.

    Example:
        >>> import torch
        >>> chain([torch.full((1, 1, 1), 2.0), torch.full((1, 1, 1), 3.0)])
        tensor([[[6.]]])
    """
    product = layers[0]
    for layer in layers[1:]:
        product = layer @ product
    return product


def diagonal(depth: int = 2) -> Network:
    """The network ``w = u^L - v^L``, entry by entry: two layers ``(runs, d)``, one output.

    Args:
        depth: ``L``, at least one.

    Reference: Woodworth et al., "Kernel and rich regimes in overparametrized models", COLT 2020.

    Example:
        >>> import torch
        >>> diagonal(2)([torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, 1.0]])])
        tensor([[[3., 0.]]])
    """
    return partial(_diagonal, whole(depth, "depth", 1))


def _diagonal(depth: int, layers: Sequence[Tensor]) -> Tensor:
    u, v = layers
    return (u**depth - v**depth)[..., None, :]


def diagonal_init(inputs: int, scale: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Layers ``u = v`` ``(runs, d)`` of diagonal networks: each weight is ``scale``, the map zero.

    Args:
        inputs: ``d``.
        scale: ``alpha`` of each run ``(runs,)``, or one number: large is lazy, small is rich.

    Example:
        >>> diagonal_init(2, [0.1, 1.0])[0]
        array([[0.1, 0.1],
               [1. , 1. ]])
    """
    size = np.atleast_1d(np.asarray(scale, dtype=float))
    layer = np.repeat(size[:, None], whole(inputs, "inputs", 1), axis=1)
    return layer, layer.copy()


def factorised(
    maps: ArrayLike,
    widths: Sequence[int],
    *,
    lam: float = 0.0,
    seed: int | np.random.SeedSequence | np.random.Generator = 0,
) -> tuple[np.ndarray, ...]:
    """Layers ``(runs, out, in)`` whose product is a given map, balanced or with a given imbalance.

    With ``lam = 0`` all layers share the singular values evenly, ``W[i+1]' W[i+1] = W[i] W[i]'``.
    With two layers ``W2' W2 - W1 W1' = lam I``: for the mode ``s`` of the map the second layer has
    ``sqrt((sqrt(lam^2 + 4 s^2) + lam) / 2)`` and the first the same with ``-lam``. Hidden bases are
    random. A multiple of a spectral estimate, such as the correlation ``X'y``, makes a *spectral*
    initialisation, and :func:`aligned_map` an *aligned* one.

    Args:
        maps: ``(m, d)``, or ``(runs, m, d)``.
        widths: units of each hidden layer; a map of higher rank is projected on its leading modes.
        lam: ``lambda``; only with one hidden layer, of at most as many units as outputs where it is
            positive, and as inputs where it is negative.
        seed: of the hidden bases.

    Raises:
        InputError: for an imbalance that these layers cannot have.

    References: Arora, Cohen and Hazan, "On the optimization of deep networks", ICML 2018; Domine et
    al., "From lazy to rich: exact learning dynamics in deep linear networks", 2024.

    Example:
        >>> W1, W2 = factorised(np.diag([2.0, 1.0]), [2], lam=3.0)
        >>> bool(np.allclose(W2 @ W1, np.diag([2.0, 1.0])))
        True
        >>> bool(np.allclose(W2.mT @ W2 - W1 @ W1.mT, 3 * np.eye(2)))
        True
    """
    target = np.asarray(maps, dtype=float)
    target = target[None] if target.ndim == 2 else target
    if target.ndim != 3:
        raise ShapeError(
            f"maps of shape {np.shape(maps)}",
            "(m, d) or (runs, m, d)",
            "Write one output as maps[None], a number as [[s]]." if target.ndim < 2 else "",
        )
    (count, m, d), rng = target.shape, np.random.default_rng(seed)
    hidden = [whole(width, "widths", 1) for width in widths]
    depth, rank = len(hidden) + 1, min([m, d, *hidden])
    if lam:
        most = m if lam > 0 else d
        if depth != 2 or hidden[0] > most:
            raise InputError(
                f"lam = {lam:g} with hidden widths {hidden}",
                f"one hidden layer of at most {most} units",
                "Use lam=0, or another width.",
            )
        rank = hidden[0]
    u, s, vt = np.linalg.svd(target)
    modes = np.zeros((count, rank))
    kept = min(rank, m, d)
    modes[:, :kept] = s[:, :kept]
    frames = [_columns(vt.mT, rank)]
    frames += [_orthonormal(rng, (count, width, rank)) for width in hidden]
    frames += [_columns(u, rank)]
    if lam:
        root = np.sqrt(lam**2 + 4 * modes**2)
        sizes = [np.sqrt((root - lam) / 2), np.sqrt((root + lam) / 2)]
    else:
        sizes = [modes ** (1 / depth)] * depth
    return tuple(
        np.einsum("...or,...r,...ir->...oi", after, size, before)
        for (before, after), size in zip(pairwise(frames), sizes, strict=True)
    )


def aligned_map(correlation: ArrayLike, strength: ArrayLike) -> np.ndarray:
    """The map ``U a V'`` with the singular vectors of a correlation and modes of strength ``a``.

    Its :func:`factorised` layers are the decoupled initialisation of Saxe et al.: modes never mix.

    Args:
        correlation: of outputs and inputs ``(m, d)``, or ``(runs, m, d)``.
        strength: ``a``, one number or ``(modes,)``.

    Reference: Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning
    in deep linear neural networks", 2014.

    Example:
        >>> aligned_map(np.diag([3.0, 1.0]), 0.1).round(9)
        array([[0.1, 0. ],
               [0. , 0.1]])
    """
    u, s, vt = np.linalg.svd(np.asarray(correlation, dtype=float), full_matrices=False)
    return np.asarray((u * np.broadcast_to(strength, s.shape)[..., None, :]) @ vt)


def _columns(frame: np.ndarray, count: int) -> np.ndarray:
    """The first columns, and zeros where there are too few: their modes are zero in this layer."""
    missing = max(count - frame.shape[-1], 0)
    return np.pad(frame[..., :count], [(0, 0), (0, 0), (0, missing)])


def _orthonormal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=shape))[0]

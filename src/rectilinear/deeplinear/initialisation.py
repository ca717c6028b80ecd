"""Initial weights and biases of deep linear networks, for many runs at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Literal, TypeAlias, get_args

import numpy as np

from rectilinear.errors import ConfigError, ShapeError
from rectilinear.scalars import check_seed

Initialisation: TypeAlias = Literal[
    "uniform", "torch", "normal", "orthogonal", "identity", "balanced", "zero_last"
]
INITIALISATIONS: tuple[Initialisation, ...] = get_args(Initialisation)
Layers: TypeAlias = "tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]"


def initial_weights(
    init: Initialisation,
    sizes: Sequence[int],
    runs: tuple[int, ...] = (),
    *,
    bias: bool = True,
    scale: float = 1.0,
    seed: int | np.random.SeedSequence | np.random.Generator = 0,
) -> Layers:
    """Random weights and biases of every layer, one ``(*runs, out, in)`` and ``(*runs, out)`` each.

    ===============  ==============================================================================
    ``uniform``      weights and biases uniform on (-1, 1)
    ``torch``        the default of ``torch.nn.Linear``: both uniform on ``(-k, k)``,
                     ``k = 1 / sqrt(inputs)``
    ``normal``       weights normal with variance ``1 / inputs``, biases zero
    ``orthogonal``   uniform among matrices with orthonormal rows or columns, biases zero
    ``identity``     ones on the diagonal, biases zero
    ``balanced``     ``W[i+1]' W[i+1] = W[i] W[i]'``, the product normal with variance
                     ``1 / inputs``, biases zero
    ``zero_last``    a last layer of zeros on orthogonal ones, biases zero
    ===============  ==============================================================================

    Args:
        init: one of the names above.
        sizes: numbers of inputs, units of each hidden layer, and outputs.
        runs: the shape of the batch; one network by default.
        bias: whether the layers have biases; without, the second tuple is empty.
        scale: factor of all weights.
        seed: of the random numbers.

    Raises:
        ConfigError: for an unknown name.

    Reference: Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning
    in deep linear neural networks", 2014 (orthogonal); Arora, Cohen and Hazan, "On the Optimization
    of Deep Networks", 2018 (balanced).

    Example:
        >>> weights, biases = initial_weights("zero_last", (3, 4, 1), runs=(10,))
        >>> [w.shape for w in weights], float(abs(weights[-1]).max())
        ([(10, 4, 3), (10, 1, 4)], 0.0)
    """
    if not isinstance(seed, np.random.SeedSequence | np.random.Generator):
        seed = check_seed(seed, 0)
    rng = np.random.default_rng(seed)
    shapes = [(*runs, o, i) for i, o in pairwise(sizes)]
    biases = [np.zeros(shape[:-1]) for shape in shapes]
    match init:
        case "uniform":
            weights = [rng.uniform(-1, 1, shape) for shape in shapes]
            biases = [rng.uniform(-1, 1, shape[:-1]) for shape in shapes]
        case "torch":
            weights = [rng.uniform(-1, 1, shape) / shape[-1] ** 0.5 for shape in shapes]
            biases = [rng.uniform(-1, 1, shape[:-1]) / shape[-1] ** 0.5 for shape in shapes]
        case "normal":
            weights = [rng.normal(size=shape) / shape[-1] ** 0.5 for shape in shapes]
        case "orthogonal":
            weights = [_orthogonal(rng, shape) for shape in shapes]
        case "identity":
            weights = [
                np.broadcast_to(np.eye(shape[-2], shape[-1]), shape).copy() for shape in shapes
            ]
        case "balanced":
            weights = _balanced(rng, sizes, runs)
        case "zero_last":
            weights = [*(_orthogonal(rng, shape) for shape in shapes[:-1]), np.zeros(shapes[-1])]
        case _:
            raise ConfigError(
                f"init = {init!r}",
                f"one of {', '.join(INITIALISATIONS)}",
                "Or pass weights and biases.",
            )
    return tuple(scale * w for w in weights), tuple(biases) if bias else ()


def _orthogonal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform among matrices with orthonormal rows or columns."""
    *runs, rows, columns = shape
    q, r = np.linalg.qr(rng.normal(size=(*runs, max(rows, columns), min(rows, columns))))
    # Without the signs it is not uniform.
    q = q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]
    return q if rows >= columns else np.ascontiguousarray(np.swapaxes(q, -1, -2))


def _balanced(
    rng: np.random.Generator, sizes: Sequence[int], runs: tuple[int, ...]
) -> list[np.ndarray]:
    """Weights whose layers share the singular values of a random map evenly."""
    depth, d, m = len(sizes) - 1, sizes[0], sizes[-1]
    rank = min(sizes)
    u, s, vt = np.linalg.svd(rng.normal(size=(*runs, m, d)) / d**0.5, full_matrices=False)
    root = s[..., :rank] ** (1 / depth)
    frames = [np.swapaxes(vt[..., :rank, :], -1, -2)]
    frames += [_orthogonal(rng, (*runs, width, rank)) for width in sizes[1:-1]]
    frames += [u[..., :rank]]
    return [
        np.einsum("...or,...r,...ir->...oi", after, root, before)
        for before, after in pairwise(frames)
    ]


def check_layers(layers: Layers, sizes: Sequence[int], *, bias: bool) -> tuple[int, ...]:
    """The shape of the batch of given weights and biases."""
    weights, biases = layers
    shapes = [(o, i) for i, o in pairwise(sizes)]
    wanted = shapes if not bias else [*shapes, *((o,) for o, _ in shapes)]
    given = [*weights, *biases]
    if len(given) != len(wanted) or any(
        np.shape(a)[np.ndim(a) - len(shape) :] != shape
        for a, shape in zip(given, wanted, strict=True)
    ):
        raise ShapeError(
            got=f"initial weights and biases of shapes {[np.shape(a) for a in given]}",
            expected=f"weights and biases that end in {wanted}",
            fix="Give each layer a weight (out, in) and, with bias, a bias (out,), runs first.",
        )
    return np.broadcast_shapes(
        *(np.shape(a)[: np.ndim(a) - len(s)] for a, s in zip(given, wanted, strict=True))
    )


def parameters(sizes: Sequence[int], *, bias: bool) -> int:
    """The number of weights and biases of one network.

    Example:
        >>> parameters((3, 4, 1), bias=True)
        21
    """
    return sum(prod(pair) for pair in pairwise(sizes)) + bias * sum(sizes[1:])

"""The matrices of a network by probing, exact for any linear operations around its activations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from rectilinear.checks import tolerance
from rectilinear.errors import NonFiniteError, StructureError
from rectilinear.networks.network import PROBE_ROWS, Network
from rectilinear.networks.trace import INPUT, UNKNOWN, Activation, Structure, Trace, leaky, trace
from rectilinear.random import generator

MAX_MATRIX_NUMBERS = 40_000_000  # numbers in a matrix that is written out
MAX_ACTIVATIONS = 16  # activations side by side in one hidden layer
ROWS_AT_ONCE = 1024  # rows of a probe
LOST_SHARE = 2.0**-10  # weights below this share of a constant lose digits to its rounding
CHECKED_ROWS = 64  # rows at which an affine network is checked against its values
# Weights of two rows in that check: no powers of two, which rounding follows.
MIXING_WEIGHTS = ((0.7, -1.9), (1.3, 0.37))
HIDDEN = "values of its input leave torch"
FARTHER_SCALES = (2.0**20, 2.0**40, 2.0**60)  # multiples of the unit vectors that are probed
GUESSED_ROWS, GUESSED_TOKENS = 3, 5  # of random inputs
GUESSED_SIDES = (32, 224, 64, 28)  # of images, and lengths of signals, that models are built for
CONVOLUTION_AXES = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}


@dataclass(frozen=True, eq=False)
class TwoLayer:
    """``f(x) = M0 x + b2 + W2 s(W1 x + b1)``, which any network with one layer of activations is.

    Attributes:
        W1: ``(H, D)``.
        W2: ``(O, H)``.
        b1: ``(H,)``.
        b2: ``(O,)``.
        skip: ``M0``, ``(O, D)``: zero without a connection past the activations.
        activation: ``s``; its slopes are one for each unit where they differ.
    """

    W1: Tensor
    W2: Tensor
    b1: Tensor
    b2: Tensor
    skip: Tensor
    activation: Activation

    def __call__(self, x: Tensor) -> Tensor:
        """``f(x)`` for rows ``(b, D)``."""
        return (
            x @ self.skip.mT
            + self.b2
            + self.activation.apply(x @ self.W1.mT + self.b1) @ self.W2.mT
        )

    @property
    def has_bias(self) -> bool:
        """True if a constant is added anywhere."""
        return bool(self.b1.any() or self.b2.any())

    @property
    def matrix(self) -> Tensor:
        """``M0 + kappa W2 W1``, the odd part of a bias-free one, ``(O, D)``."""
        assert self.activation.kappa is not None
        return (
            self.skip
            + (self.W2 * torch.as_tensor(self.activation.kappa, dtype=self.W2.dtype)) @ self.W1
        )

    def to(self, like: Tensor) -> TwoLayer:
        """The same in the dtype of ``like``."""
        slope = self.activation.slope
        activation = (
            leaky(slope.to(like), self.activation.name)
            if isinstance(slope, torch.Tensor)
            else self.activation
        )
        w1, w2, b1, b2, skip = (m.to(like) for m in (self.W1, self.W2, self.b1, self.b2, self.skip))
        return TwoLayer(w1, w2, b1, b2, skip, activation)

    def even(self, x: Tensor) -> Tensor:
        """The even part of a bias-free network, ``W2 (s(z) + s(-z)) / 2`` with ``z = W1 x``."""
        return self.activation.even(x @ self.W1.mT + self.b1) @ self.W2.mT


@dataclass(frozen=True, eq=False)
class Chain:
    """A plain feed-forward network: ``W_L s_{L-1}(... s_1(W_1 x + b_1) ...) + b_L``."""

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    activations: tuple[Activation, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """``f(x)`` for rows ``(b, D)``."""
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = (self.activations[k - 1].apply(x) if k else x) @ weight.mT + bias
        return x

    @property
    def has_bias(self) -> bool:
        return any(bool(b.any()) for b in self.biases)


def is_homogeneous(network: Network, structure: Structure, x: Tensor) -> bool:
    """True if ``f(c x) = c f(x)`` for ``c > 0`` by construction.

    That is: all operations are affine or homogeneous activations, and every constant vanishes, as
    the inputs of all activations and the output at ``x = 0`` show. Rows ``x`` are a check.
    """
    if structure.output is None or not all(node.activation.homogeneous for node in structure.nodes):
        return False
    if any(node.sources >= UNKNOWN for node in structure.nodes):
        return False
    zero = network.like.new_zeros(2, *network.in_shape)
    out, inputs = _probe(network, zero, {})
    if any(bool(t.any()) for t in (out, *inputs)):
        return False
    once, thrice = network(x[:PROBE_ROWS]), network(3 * x[:PROBE_ROWS])
    return _vanishes(thrice - 3 * once, thrice, network.in_dim)


def two_layer(network: Network, structure: Structure, x: Tensor) -> TwoLayer:
    """The matrices of a network with one layer of activations; rows ``x`` are a check.

    Raises:
        StructureError: with the reason, if it is not one, or too large to be written out.
    """
    nodes = structure.nodes
    if structure.output is None:
        raise _not_two_layer(structure.reason)
    if not nodes or any(node.sources != {INPUT} for node in nodes) or len(nodes) > MAX_ACTIVATIONS:
        depth = structure.depth
        raise _not_two_layer(
            "it has no activation" if not nodes else f"it has {depth} layers of activations"
        )
    if not all(node.by_row for node in nodes):
        raise _not_two_layer("an activation sees a tensor whose first axis is not the batch")
    kinds = {node.activation.name for node in nodes}
    if len(kinds) > 1 or not _elementwise(nodes[0].activation):
        raise _not_two_layer(f"its hidden layer is {', '.join(sorted(kinds))}")
    widths = [torch.Size(node.shape).numel() for node in nodes]
    D, H, out = network.in_dim, sum(widths), network.out_dim
    if max(D * H, H * out, D * out) > MAX_MATRIX_NUMBERS:
        raise _not_two_layer(f"its matrices are too large to write out ({H} x {D})")
    held = {k: network.like.new_zeros(1, H_k) for k, H_k in enumerate(widths)}
    zero = network.like.new_zeros(1, *network.in_shape)
    b2, at_zero = _probe(network, zero, held)
    b1 = torch.cat([z.reshape(len(z), -1) for z in at_zero], 1)[0]

    def first(rows: Tensor) -> Tensor:
        zeros = {k: value.expand(len(rows), -1) for k, value in held.items()}
        out, inputs = _probe(network, rows, zeros)
        return torch.cat([*(z.reshape(len(z), -1) for z in inputs), out], 1)

    def last(rows: Tensor) -> Tensor:
        parts = dict(enumerate(rows.split(widths, 1)))
        return _probe(network, zero.expand(len(rows), *network.in_shape), parts)[0]

    both = _slopes(first, D, network.like, torch.cat([b1, b2[0]]))
    W2 = _slopes(last, H, network.like, b2[0]).mT
    found = TwoLayer(
        both[:, :H].mT, W2, b1, b2[0], both[:, H:].mT, _shared(nodes, widths, network.like)
    )
    rows = network.rows(x[:PROBE_ROWS]).detach().flatten(1)
    wanted = network(rows)
    if not _vanishes(found(rows) - wanted, wanted, H):
        raise _not_two_layer(HIDDEN)
    return found


def chain(network: Network, structure: Structure, x: Tensor) -> Chain:
    """The weights of a plain feed-forward network; rows ``x`` are a check.

    Raises:
        StructureError: with the reason, if it is not one, or too large to be written out.
    """
    nodes = structure.nodes
    if structure.output is None:
        raise _not_plain(structure.reason)
    ends = (*(node.sources for node in nodes), structure.output)
    if any(sources != {k - 1} for k, sources in enumerate(ends)):
        raise _not_plain("connections that skip layers")
    if not all(node.by_row for node in nodes):
        raise StructureError(
            "activations of tensors whose first axis is not the batch",
            "a plain feed-forward network",
            "Build it so that the batch is the first axis.",
        )
    if not all(_elementwise(node.activation) for node in nodes):
        raise _not_plain("layers that are not elementwise, such as max-pooling")
    widths = [network.in_dim, *(torch.Size(node.shape).numel() for node in nodes), network.out_dim]
    if max(a * b for a, b in pairwise(widths)) > MAX_MATRIX_NUMBERS:
        raise StructureError(
            "matrices too large to write out",
            f"at most {MAX_MATRIX_NUMBERS} numbers in one",
            "Use rl.local_map, which forms no matrix.",
        )
    zero = network.like.new_zeros(1, *network.in_shape)
    weights, biases = [], []
    for k in range(len(nodes) + 1):

        def layer(rows: Tensor, k: int = k) -> Tensor:
            x = (
                rows.reshape(-1, *network.in_shape)
                if k == 0
                else zero.expand(len(rows), *network.in_shape)
            )
            out, inputs = _probe(network, x, {} if k == 0 else {k - 1: rows})
            return out if k == len(nodes) else inputs[k].reshape(len(rows), -1)

        bias = layer(network.like.new_zeros(1, widths[k]))
        weights.append(_slopes(layer, widths[k], network.like, bias[0]).mT)
        biases.append(bias[0])
    found = Chain(tuple(weights), tuple(biases), tuple(node.activation for node in nodes))
    rows = network.rows(x[:PROBE_ROWS]).detach()
    if not _vanishes(
        found(rows.flatten(1)) - network(rows), network(rows), max(widths) * len(widths)
    ):
        raise _not_plain(HIDDEN)
    return found


def affine_map(network: Network) -> tuple[Tensor, Tensor]:
    """``M`` ``(O, D)`` and ``b`` of a network that is affine."""
    if network.in_dim * network.out_dim > MAX_MATRIX_NUMBERS:
        raise StructureError(
            f"a map of {network.out_dim} x {network.in_dim}",
            f"at most {MAX_MATRIX_NUMBERS} numbers",
            "Use rl.local_map, which forms no matrix.",
        )
    bias = network(network.like.new_zeros(1, network.in_dim))[0]
    return _slopes(network, network.in_dim, network.like, bias).mT, bias


def structure_of(network: Network, x: Tensor) -> Structure:
    """The structure of the network at a few rows of ``x``, checked against the values if affine.

    The check finds what the operations do not show: values that leave torch, or are computed in
    another thread.
    """
    rows = network.rows(x[:2])
    try:
        found = trace(network.raw, rows)
    except (
        RuntimeError,
        NotImplementedError,
        TypeError,
    ) as error:  # operations that cannot be watched
        return Structure(
            (), None, f"its operations cannot be watched ({str(error).splitlines()[0][:80]})"
        )
    if found.is_affine and not _adds(network, network.rows(x[:CHECKED_ROWS])):
        return replace(found, output=None, reason=HIDDEN)
    return found


def _adds(network: Network, rows: Tensor) -> bool:
    """True if the values at rows, at their multiples and at sums of neighbours are affine."""
    b = rows.roll(-1, 0)
    try:
        f, g, zero = network(rows), network(b), network(0 * rows[:1])
        apart = (
            (network(2 * rows), 2 * f - zero),
            (network(-rows), 2 * zero - f),
            *(
                (network(p * rows + q * b), p * f + q * g + (1 - p - q) * zero)
                for p, q in MIXING_WEIGHTS
            ),
        )
    except NonFiniteError:  # an affine map is finite at zero
        return False
    return all(
        _vanishes(found - wanted, torch.cat([found, f]), network.in_dim) for found, wanted in apart
    )


def _vanishes(gap: Tensor, scale: Tensor, n: int) -> bool:
    largest = float(scale.abs().max())
    return float(gap.abs().max()) <= tolerance(gap.dtype, 10 * largest, n)


def _probe(
    network: Network, x: Tensor, outputs: Mapping[int, Tensor]
) -> tuple[Tensor, list[Tensor]]:
    with torch.no_grad(), Trace(rows := x.clone(), outputs) as seen:
        out = network.raw(rows)
    return out, seen.inputs


def _slopes(f: Callable[[Tensor], Tensor], n: int, like: Tensor, constant: Tensor) -> Tensor:
    """``A^T`` ``(n, k)`` of ``f(x) = A x + constant``, from multiples of unit vectors.

    At a unit vector, weights far below the constant are rounded off; they are read at larger
    multiples.
    """
    unit = torch.eye(n, dtype=like.dtype, device=like.device)
    return torch.cat([_slopes_along(f, rows, constant) for rows in unit.split(ROWS_AT_ONCE)])


def _slopes_along(f: Callable[[Tensor], Tensor], rows: Tensor, constant: Tensor) -> Tensor:
    found = f(rows) - constant
    for step in FARTHER_SCALES:
        lost = found.abs() * (step / FARTHER_SCALES[0]) < LOST_SHARE * constant.abs()
        again = lost.any(1)
        if not bool(again.any()) or step > torch.finfo(found.dtype).max ** 0.5:
            break
        found[again] = torch.where(
            lost[again], (f(step * rows[again]) - constant) / step, found[again]
        )
    return found


def _elementwise(activation: Activation) -> bool:
    return activation.name != "max_pool"


def _shared(nodes: tuple, widths: list[int], like: Tensor) -> Activation:
    """One activation for all units; with a slope for each where the nodes or the units differ."""
    slopes = [node.activation.slope for node in nodes]
    if any(slope is None for slope in slopes) or (
        all(isinstance(slope, float) for slope in slopes) and len(set(slopes)) == 1
    ):
        return nodes[0].activation
    parts = [
        torch.as_tensor(slope).to(like).expand(width)
        for slope, width in zip(slopes, widths, strict=True)
    ]
    return leaky(torch.cat(parts), nodes[0].activation.name)


def _not_plain(reason: str) -> StructureError:
    return StructureError(
        reason,
        "a plain feed-forward network",
        "Use rl.audit or rl.linear_map, which measure any network.",
    )


def _not_two_layer(reason: str) -> StructureError:
    return StructureError(
        f"a network that is not one of two layers: {reason}",
        "one layer of activations",
        "Use rl.audit or rl.linear_map, which measure any network.",
    )


def guesses(model: nn.Module) -> Iterator[Tensor]:
    """Random inputs, the likeliest first: rows, tokens, images, integers for embeddings.

    Example:
        >>> [tuple(x.shape) for x in guesses(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))]
        [(3, 4), (3, 5, 4)]
    """
    kinds = nn.Linear | nn.Embedding | nn.Conv1d | nn.Conv2d | nn.Conv3d
    first = next((m for m in model.modules() if isinstance(m, kinds)), None)
    if isinstance(first, nn.Embedding):
        yield (
            torch.arange(GUESSED_ROWS * GUESSED_TOKENS).reshape(GUESSED_ROWS, GUESSED_TOKENS)
            % first.num_embeddings
        )
    elif isinstance(first, nn.Linear):
        yield from (
            _numbers(*shape, first.in_features)
            for shape in ((GUESSED_ROWS,), (GUESSED_ROWS, GUESSED_TOKENS))
        )
    elif first is not None:
        axes = next(k for kind, k in CONVOLUTION_AXES.items() if isinstance(first, kind))
        sides = GUESSED_SIDES if axes < 3 else GUESSED_SIDES[:1]
        yield from (_numbers(GUESSED_ROWS, first.in_channels, *[side] * axes) for side in sides)


def _numbers(*shape: int) -> Tensor:
    """The same ones each time, between -1 and 1, drawn from no one's random numbers."""
    return 2 * torch.rand(*shape, generator=generator(0), dtype=torch.float64) - 1

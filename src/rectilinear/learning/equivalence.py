"""The linear network that learns as a given network does, or the assumption that fails.

A network is read as a chain of layers by the reader of :func:`rectilinear.split`: which operations
are affine, which are activations. The matrices of a chain tell what it computes but not how it
learns (a convolution shares its weights, a product of two layers has the matrix of one), so its
trainable parameters must be those matrices as they are. That is tried: for random parameters the
model and the chain have the same outputs and gradients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise, permutations, product

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from rectilinear.checks import check_finite, check_values
from rectilinear.errors import AssumptionError, DtypeError, StructureError
from rectilinear.learning.deep_linear import two_block_init
from rectilinear.learning.linear_network import Moments
from rectilinear.learning.mirror import asymmetric_fraction
from rectilinear.learning.two_layer import remains_linear, sign_imbalance
from rectilinear.networks.forward_pass import pick
from rectilinear.networks.network import Network, as_network, copied, evaluating, is_scripted
from rectilinear.networks.trace import Activation, Structure, Trace, leaky
from rectilinear.networks.weight_matrices import structure_of
from rectilinear.random import generator

SMALL_STRENGTH = 1e-3  # of the strength that is learned: below it initial weights are small
# The largest even part of the initial output, as a part of the targets' energy, that leaves the
# curve within a few percent: PyTorch's own weights often have 0.5 to 5 %, and curves off by 1 to
# 6 % of their fall.
MAX_EVEN_PART = 0.05
TRIAL_ROWS = 16  # random rows on which the model and the chain are compared
TRIAL_SEED = 0
MAX_ORDERED_LAYERS = 4  # up to which every order and orientation of the parameters is tried
MAX_TRIALS = 400
BLOCK_TOLERANCE = 1e-6  # of the scale: weights may have been float32

IDENTITY = leaky(1.0, "none")


@dataclass(frozen=True, eq=False)
class LayerChain:
    """``W_L s(... s(W_1 x))`` whose weights are the trainable parameters of a network.

    Attributes:
        weights: in float64 on the CPU, first layer first, ``(h_l, h_(l-1))``.
        activation: ``s``; the identity of a linear network.
        constant: whether the points have one more coordinate, the constant 1: the last column of
            the first weight is the bias of that layer.
    """

    weights: tuple[Tensor, ...]
    activation: Activation
    constant: bool = False

    @property
    def kappa(self) -> float:
        """Half the sum of the activation's slopes: ``s(z) - s(-z) = 2 kappa z``."""
        assert isinstance(self.activation.kappa, float)
        return self.activation.kappa

    @property
    def alpha(self) -> float | None:
        """The slope of leaky ReLU for negative numbers; None for other activations."""
        slope = self.activation.slope
        return slope if isinstance(slope, float) else None


def read_layers(model: nn.Module, x: Tensor) -> LayerChain:
    """The chain of trainable layers that ``model`` is at rows like those of ``x (n, ...)``.

    The model is not changed. A linear network may have a bias in its first layer, which is the
    weight of a constant; others have none.

    Raises:
        AssumptionError: for anything else, with the assumption that fails: ``"linear layers"``,
            ``"no bias"``, ``"odd part linear"`` (the activation).
        ShapeError, DtypeError, NonFiniteError: for rows that the model does not take, and for
            parameters that are not finite real numbers.

    Example:
        >>> model = nn.Sequential(
        ...     nn.Linear(3, 8, bias=False), nn.LeakyReLU(0.2), nn.Linear(8, 1, bias=False)
        ... )
        >>> chain = read_layers(model, torch.randn(9, 3))
        >>> chain.activation.name, chain.kappa, [tuple(w.shape) for w in chain.weights]
        ('leaky_relu', 0.6, [(8, 3), (1, 8)])
    """
    matrices, vectors = _trainable(model)
    with evaluating(model):
        network = as_network(model, x)
        structure = structure_of(network.exact() or network, x)
        activation = _shared_activation(structure)
        linear = activation.slope == 1.0
        _check_biases(model, None if not linear else vectors)
        _check_modes(network, x)
        inner = None if linear else [_numel(node.shape) for node in structure.nodes]
        if inner is not None and len(inner) != len(matrices) - 1:
            raise _not_layers(
                f"{len(matrices)} trainable matrices and {len(inner)} layers of activations",
                "Put one activation between each two layers.",
            )
        wide = network.in_precision(torch.float64) or network
        shapes = [tuple(matrix.shape) for matrix in matrices.values()]
        for order in islice(_orders(shapes, network.in_dim, network.out_dim, inner), MAX_TRIALS):
            if _computes(wide, list(matrices), order, list(vectors), activation):
                break
        else:
            raise _not_layers(
                "a network whose trainable parameters are not the matrices of its layers: they are"
                " shared, scaled, masked or reparametrised, or make a convolution",
                "Write its layers as torch.nn.Linear, each used once.",
            )
    held = [p.detach().to("cpu", torch.float64) for p in matrices.values()]
    weights = [held[i].mT if turned else held[i] for i, turned in order]
    for bias in vectors.values():
        column = bias.detach().to("cpu", torch.float64)[:, None]
        weights[0] = torch.cat([weights[0], column], dim=1)
    return LayerChain(tuple(weights), activation, constant=bool(vectors))


def _trainable(model: nn.Module) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """The matrices and the biases of linear layers among the trainable parameters, by name."""
    for name, held in model.named_parameters():
        check_values(held, f"'{name}' of the model")
        if held.is_complex():
            got = f"'{name}' of the model of dtype {held.dtype}"
            raise DtypeError(got, "real numbers", "Predict a real network.")
        check_finite(held, f"'{name}' of the model")
    if any(is_scripted(part) for part in model.modules()):
        raise _not_layers("a ScriptModule", "Predict the module that it was made from.")
    matrices, vectors = {}, {}
    for name, held in model.named_parameters():
        place, _, last = name.rpartition(".")
        owner = type(model.get_submodule(place)).__name__
        if not held.requires_grad:
            if last == "weight" and isinstance(model.get_submodule(place), nn.Linear):
                raise _not_layers(f"a frozen layer ('{place}')", "Train all layers.")
        elif held.ndim == 2:
            matrices[name] = held
        elif held.ndim == 1 and isinstance(model.get_submodule(place), nn.Linear):
            vectors[name] = held
        else:
            raise _not_layers(
                f"trainable parameters of {owner} ('{name}')",
                "Freeze them with requires_grad_(False).",
            )
    if not matrices:
        raise _not_layers("a model without trainable matrices", "")
    return matrices, vectors


def _shared_activation(structure: Structure) -> Activation:
    """The one activation of a plain chain of layers; the identity of a linear network."""
    nodes = structure.nodes
    if structure.output is None:
        raise _not_layers(f"operations that are not layers: {structure.reason}", "")
    ends = (*(node.sources for node in nodes), structure.output)
    if any(sources != {k - 1} for k, sources in enumerate(ends)):
        raise _not_layers("connections that skip layers", "")
    if not all(node.by_row for node in nodes):
        raise _not_layers("activations of tensors whose first axis is not the batch", "")
    kinds = {(node.activation.name, _slope(node.activation)): node.activation for node in nodes}
    for activation in kinds.values():
        kappa = activation.kappa
        if not isinstance(kappa, float) or kappa <= 0:
            raise AssumptionError(
                f"the activation {activation.name}"
                + (" with a slope for each unit" if isinstance(kappa, Tensor) else ""),
                "one with s(z) - s(-z) = 2 kappa z, kappa > 0, such as ReLU, leaky ReLU, GELU,"
                " SiLU, softplus or hardswish",
                "For others no equivalence with a linear network is known.",
                assumption="odd part linear",
            )
    if len(kinds) > 1:
        named = sorted(f"{name} of slope {slope:g}" if slope else name for name, slope in kinds)
        raise AssumptionError(
            f"the activations {' and '.join(named)}",
            "one activation between all layers",
            assumption="odd part linear",
        )
    return next(iter(kinds.values()), IDENTITY)


def _slope(activation: Activation) -> float | None:
    return activation.slope if isinstance(activation.slope, float) else None


def _check_biases(model: nn.Module, allowed: dict[str, nn.Parameter] | None) -> None:
    """Refuse biases but a trainable one of a linear network, which has to be in its first layer."""
    layers = [(n, layer) for n, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    for place, layer in layers:
        bias = layer.bias
        if bias is None or not (bias.requires_grad or bool(bias.any())):
            continue
        first = bool(allowed) and bias.requires_grad and layer is layers[0][1]
        if not first:
            raise AssumptionError(
                f"a bias in the linear layer '{place}'",
                "no bias, or of a linear network one in its first layer that trains",
                "Build it with bias=False.",
                assumption="no bias",
            )


def _check_modes(network: Network, x: Tensor) -> None:
    """Refuse a network that does in training mode what it does not do in evaluation mode."""
    try:
        twin = copied(network.model)
    except StructureError as error:
        raise _not_layers(error.got, error.fix) from error
    found = []
    for mode in (False, True):
        rows = network.rows(x[:TRIAL_ROWS]).detach().clone()
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad(), Trace(rows) as seen:
                out = pick(twin.train(mode)(rows), network.output)
        except (RuntimeError, ValueError):
            out = None
        found.append((seen.operations, out))
    (operations, out), (trained, other) = found
    if operations != trained or out is None or other is None or not torch.equal(out, other):
        raise _not_layers(
            "a network that computes otherwise in training mode, as with dropout", "Remove it."
        )


def _orders(
    shapes: Sequence[tuple[int, ...]], inputs: int, outputs: int, inner: Sequence[int] | None
) -> Iterator[list[tuple[int, bool]]]:
    """Orders of matrices that fit each other, transposed or not; that of registration first."""
    count = len(shapes)
    few = count <= MAX_ORDERED_LAYERS
    for order in permutations(range(count)) if few else [tuple(range(count))]:
        turns = product((False, True), repeat=count) if few else [(False,) * count, (True,) * count]
        for turned in turns:
            fitted = [
                shapes[i][::-1] if t else shapes[i] for i, t in zip(order, turned, strict=True)
            ]
            widths = [inputs, *(rows for rows, _ in fitted)]
            fits = all(
                width == columns for width, (_, columns) in zip(widths, fitted, strict=False)
            )
            if fits and widths[-1] == outputs and (inner is None or widths[1:-1] == list(inner)):
                yield list(zip(order, turned, strict=True))


def _computes(
    network: Network,
    names: Sequence[str],
    order: Sequence[tuple[int, bool]],
    biases: Sequence[str],
    activation: Activation,
) -> bool:
    """True if outputs and gradients are those of the chain, for random parameters and rows."""
    source, like = generator(TRIAL_SEED), network.like
    parameters = dict(network.model.named_parameters())
    leaves = {
        name: torch.randn(parameters[name].shape, generator=source, dtype=torch.float64).to(like)
        / parameters[name].shape[-1] ** 0.5
        for name in (*names, *biases)
    }
    by_id = {id(parameters[name]): leaf.requires_grad_() for name, leaf in leaves.items()}
    every = network.model.named_parameters(remove_duplicate=False)
    state = dict(network.state or {}) | {n: by_id[id(p)] for n, p in every if id(p) in by_id}
    shape = (TRIAL_ROWS, *network.in_shape)
    rows = torch.randn(shape, generator=source, dtype=torch.float64).to(like)
    with torch.enable_grad():
        out = replace(network, state=state).raw(rows)
        expected = rows.flatten(1)
        for k, (i, turned) in enumerate(order):
            weight = leaves[names[i]]
            expected = activation.apply(expected) if k else expected
            expected = expected @ (weight if turned else weight.mT)
            if not k and biases:
                expected = expected + leaves[biases[0]]
        if not _near(out.detach(), expected.detach()) or not out.requires_grad:
            return False
        direction = torch.linspace(1, 2, out.numel(), dtype=torch.float64).to(out).view_as(out)
        one, other = (
            torch.autograd.grad(
                (f * direction).sum(), list(leaves.values()), materialize_grads=True
            )
            for f in (out, expected)
        )
    return all(_near(a, b) for a, b in zip(one, other, strict=True))


def _near(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(
        (a - b).abs().max() <= torch.finfo(a.dtype).eps ** 0.5 * b.abs().max()
    )


def _numel(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()


def _not_layers(got: str, fix: str) -> AssumptionError:
    expected = "a chain of linear layers that train, each used once, with activations between them"
    return AssumptionError(got, expected, fix, assumption="linear layers")


@dataclass(frozen=True, eq=False)
class LinearProblem:
    """Linear layers that learn as a network does at ``rate`` times its learning rate.

    Attributes:
        layers: their weights, first layer first.
        data: moments of the data.
        rate: the factor of the learning rate.
        exact: False where an even part is neglected.
        sign_imbalance: of small unpaired initial weights, in [-1, 1]; None for others.
        neurons: ``(h, k)``, turns the ``k`` hidden units of ``layers`` into those of the network
            where an even part is neglected.
        uneven: how much more strength one sign of neurons has initially, in [0, 1].
        holds: what was checked, in words.
    """

    layers: list[Tensor]
    data: Moments
    rate: float = 1.0
    exact: bool = True
    sign_imbalance: float | None = None
    neurons: Tensor | None = None
    uneven: float = 0.0
    holds: tuple[str, ...] = field(default=())

    @property
    def is_small(self) -> bool:
        """True if the weights are small against the strength that the strongest mode reaches.

        They could make a map of the strength ``mean |W_l|^2`` to the power ``L/2`` at most.
        """
        *_, s, lam = self.data.strongest_mode()
        size = float(sum(w.square().sum() for w in self.layers) / len(self.layers))
        return size ** (len(self.layers) / 2) * lam <= SMALL_STRENGTH * s


def linear_problem(chain: LayerChain, x: Tensor, y: Tensor, even: float) -> LinearProblem:
    """The equivalent linear problem of ``chain`` on points ``(n, d)`` and targets ``(n, o)``.

    Args:
        chain: the network.
        x: points ``(n, d)``.
        y: targets ``(n, o)``.
        even: the mean square of ``(f(x) + f(-x))/2``, summed over outputs.
    """
    data, weights = Moments.of(x, y), list(chain.weights)
    if chain.alpha == 1:
        return LinearProblem(weights, data, holds=("linear layers",))
    if (lonely := asymmetric_fraction(x, y)) > 0:
        raise AssumptionError(
            f"data of which {100 * lonely:.3g} % have no mirror image (-x, -y)",
            "data closed under (x, y) -> (-x, -y)",
            "Append the mirror images, or train and compare.",
            assumption="symmetric data",
        )
    name = chain.activation.name + (f" {chain.alpha:g}" if chain.alpha else "")
    holds: tuple[str, ...] = (
        f"symmetric data, {len(x)} points",
        f"activation {name}, kappa {chain.kappa:g}",
    )
    if len(weights) == 2:
        return _of_two_layers(chain, data, even, holds)
    directions, scale = _blocks(chain)
    linear = [scale / 2**0.5 * a.outer(b) for b, a in pairwise(directions)]
    last = scale / 2**0.5 * directions[-1][None]
    holds = (*holds, "weights in two blocks, positive and negative")
    return LinearProblem([*linear, last], data, 0.5, holds=holds)


def _of_two_layers(
    chain: LayerChain, data: Moments, even: float, holds: tuple[str, ...]
) -> LinearProblem:
    w1, w2 = chain.weights
    kappa = chain.kappa
    layers = [kappa**0.5 * w1, kappa**0.5 * w2]
    if remains_linear(w1, w2, homogeneous=chain.alpha is not None):
        return LinearProblem(layers, data, kappa, holds=(*holds, "neurons whose even parts cancel"))
    if len(w2) > 1:
        raise AssumptionError(
            f"{len(w2)} outputs and neurons that are not in antisymmetric pairs",
            "pairs (w, a), (-w, -a), or one output",
            "rectilinear.learning.antisymmetric_pairs makes pairs.",
            assumption="paired neurons",
        )
    if not even <= MAX_EVEN_PART * data.power:
        part = 100 * even / max(data.power, 1e-300)
        raise AssumptionError(
            f"an initial even part that has {part:.3g} % of the energy of the targets",
            f"{100 * MAX_EVEN_PART:g} % or less, or neurons in pairs (w, a), (-w, -a)",
            "Scale the weights down, or pair them with rectilinear.learning.antisymmetric_pairs.",
            assumption="small even part",
        )
    imbalance = sign_imbalance(w1, w2, data.beta)
    share = f"even part {100 * even / data.power:.2g} % of the targets' energy"
    found = LinearProblem(
        layers,
        data,
        kappa,
        exact=False,
        neurons=torch.eye(len(w1), dtype=w1.dtype),
        uneven=abs(imbalance),
        holds=(*holds, share),
    )
    return replace(found, sign_imbalance=imbalance) if found.is_small else found


def _blocks(chain: LayerChain) -> tuple[list[Tensor], float]:
    """The unit vectors and the scale from which :func:`two_block_init` makes these weights."""
    weights = chain.weights
    if chain.alpha == 0 and len(weights[-1]) == 1:
        scale = float(weights[-1].norm())
        directions = [weights[-1][0] / max(scale, torch.finfo(torch.float64).tiny)]
        # From W_l and r_l, r_(l-1) up to the lengths of its two parts, which are equal.
        for w in reversed(weights[1:-1]):
            back = w.mT @ directions[0].clamp(min=0) + w.mT @ directions[0].clamp(max=0)
            directions.insert(0, normalize(back, dim=0))
        directions.insert(0, normalize(weights[0].mT @ directions[0], dim=0))
        try:
            blocks = two_block_init(directions, scale)
        except AssumptionError:
            blocks = []
        gaps = [float((a - b).norm()) for a, b in zip(blocks, weights, strict=False)]
        if gaps and max(gaps) <= BLOCK_TOLERANCE * scale:
            return directions, scale
    raise AssumptionError(
        f"{len(weights)} layers with activation {chain.activation.name} and initial weights of no"
        " known form",
        "two layers, linear layers, or ReLU weights in two blocks"
        " (rectilinear.learning.two_block_init)",
        "No closed form is known for other deep networks: train it, or initialise it so.",
        assumption="aligned layers",
    )

"""Reading a module as a chain of linear layers with one activation between them, by what it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from rectilinear.checks import check_finite, check_values
from rectilinear.errors import AssumptionError, DtypeError, ShapeError
from rectilinear.learning.leaky_relu import odd_slope

PROBES = 64
SAME = 1e-5  # of the largest entry: float32 models are read too
SMOOTH: dict[str, Callable[[Tensor], Tensor]] = {
    "GELU": functional.gelu,
    "GELU (tanh)": lambda z: functional.gelu(z, approximate="tanh"),
    "SiLU": functional.silu,
    "softplus": functional.softplus,
    "hardswish": functional.hardswish,
}
# Modules without parameters that may stand between the layers: what they do is then seen from their
# values.
PLAIN = (
    nn.Identity,
    nn.Flatten,
    nn.ReLU,
    nn.LeakyReLU,
    nn.PReLU,
    nn.GELU,
    nn.SiLU,
    nn.Softplus,
    nn.Hardswish,
)


@dataclass(frozen=True, eq=False)
class Network:
    """``W_L sigma(... sigma(W_1 x))``: weights in float64 on the CPU, first layer first, and the
    activation.

    ``kappa`` is half the slopes' sum of the activation; ``alpha`` its slope for negative numbers
    where it is leaky ReLU (0 for ReLU, 1 for a linear network), and None for others. With
    ``constant`` the points have one more
    coordinate, the constant 1: the last column of the first weight is the bias of that layer.
    """

    weights: tuple[Tensor, ...]
    activation: str
    kappa: float
    alpha: float | None
    constant: bool = False


@torch.no_grad()
def read_network(model: nn.Module, x: Tensor) -> Network:
    """The chain of linear layers that ``model`` is, by watching it on some of the points ``x (n,
    ...)``.

    Nothing is asked of its class: the values between the layers tell the activation. The model is
    not changed. A linear network may have a bias in its first layer, which is the weight of a
    constant; others have none.

    Raises:
        AssumptionError: for anything else, with the assumption that fails: ``"linear layers"``,
            ``"no bias"``, ``"odd part linear"`` (the activation), ``"depth"``.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 8, bias=False), nn.LeakyReLU(0.2), nn.Linear(8, 1, bias=False))
        >>> network = read_network(model, torch.randn(9, 3))
        >>> network.activation, network.kappa, [tuple(w.shape) for w in network.weights]
        ('leaky ReLU 0.2', 0.6, [(8, 3), (1, 8)])
    """
    layers = _linear_layers(model)
    biased = {
        layer: name for name, layer in model.named_modules() if layer in layers and _has_bias(layer)
    }
    some = x[:PROBES]
    probe = torch.cat([some, -some]).to(layers[0].weight)
    seen = _watch(model, layers, probe)
    constant = layers[0].bias if layers[0] in biased else 0.0
    size = float((seen[0][2] - constant).abs().max()) if len(seen) > 1 else 0.0
    if (
        size > 0
    ):  # so large that a smooth activation shows its shape, or that a bias hides neither sign
        far = 1e4 * (1 + float(layers[0].bias.abs().max())) if layers[0] in biased else 3.0
        probe = probe * (far / size)
        seen = _watch(model, layers, probe)
    if not all(
        bool(z.any()) for _, _, z in seen[:-2]
    ):  # zeros tell nothing: show other numbers to what follows
        seen = _watch(model, layers, probe, shown=True)
    _check_chain(layers, seen, probe)
    between = [(z, after) for (_, _, z), (_, after, _) in pairwise(seen[:-1])]
    names = {_activation(z, after) for z, after in between} or {("none", 1.0, 1.0)}
    if len(names) > 1:
        raise AssumptionError(
            f"the activations {', '.join(sorted(name for name, *_ in names))}",
            "one activation between all layers",
            assumption="odd part linear",
        )
    ((name, kappa, alpha),) = names
    weights = [layer.weight.detach().to("cpu", torch.float64) for layer in layers]
    for layer, place in biased.items():
        if alpha != 1 or layer is not layers[0] or not layer.bias.requires_grad:
            raise AssumptionError(
                f"a bias in the linear layer '{place}'",
                "no bias, or of a linear network one in its first layer that trains",
                "Build it with bias=False.",
                assumption="no bias",
            )
        weights[0] = torch.cat(
            [weights[0], layer.bias.detach().to("cpu", torch.float64)[:, None]], dim=1
        )
    return Network(tuple(weights), name, kappa, alpha, constant=bool(biased))


def _has_bias(layer: nn.Module) -> bool:
    """Whether a linear layer adds a constant, or may learn to."""
    bias = getattr(layer, "bias", None)
    return isinstance(bias, torch.Tensor) and (bias.requires_grad or bool(bias.any()))


def _linear_layers(model: nn.Module) -> list[nn.Linear]:
    """The linear layers in the order of registration, if nothing else has a say."""
    layers = []
    for name, held in model.named_parameters():
        check_values(held, f"'{name}' of the model")
        if held.is_complex():
            raise DtypeError(
                f"'{name}' of the model of dtype {held.dtype}",
                "real numbers",
                "Predict a real network.",
            )
        check_finite(held, f"'{name}' of the model")
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            layers.append(module)
        elif next(module.children(), None) is None and not isinstance(module, PLAIN):
            raise AssumptionError(
                f"a module {type(module).__name__} ('{name}')",
                "linear layers with activations between them",
                assumption="linear layers",
            )
        elif any(value.requires_grad for value in module.parameters(recurse=False)):
            raise AssumptionError(
                f"trainable parameters of {type(module).__name__} ('{name}')",
                "parameters of linear layers only",
                "Freeze them with requires_grad_(False).",
                assumption="linear layers",
            )
    if not layers:
        raise AssumptionError(
            "no torch.nn.Linear in the model", "linear layers", assumption="linear layers"
        )
    if frozen := [layer for layer in layers if not layer.weight.requires_grad]:
        raise AssumptionError(
            f"{len(frozen)} of {len(layers)} layers frozen",
            "layers that all train",
            assumption="linear layers",
        )
    return layers


def _watch(
    model: nn.Module, layers: list[nn.Linear], x: Tensor, *, shown: bool = False
) -> list[tuple[nn.Module | None, Tensor, Tensor]]:
    """``(layer, input, output)`` in the order of the calls; last the model itself.

    With ``shown`` every layer gives numbers from -3 to 3 in place of its output.
    """
    seen: list[tuple[nn.Module | None, Tensor, Tensor]] = []

    def hook(module: nn.Module, x: tuple[Tensor, ...], out: Tensor) -> Tensor:
        if shown:
            out = torch.linspace(-3, 3, out.numel(), device=out.device).to(out.dtype).view_as(out)
        seen.append((module, x[0].clone(), out.clone()))
        return out

    hooks = [layer.register_forward_hook(hook) for layer in layers]
    modes = {module: module.training for module in model.modules()}
    try:
        output = model.eval()(x.clone())  # in-place operations change what is theirs
    except RuntimeError as error:
        raise ShapeError(
            f"points of shape {tuple(x.shape[1:])}, on which the model fails: {error}",
            "points that it takes",
            "Check the width of its first layer.",
        ) from error
    finally:
        for handle in hooks:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return [*seen, (None, output, output)]


def _check_chain(
    layers: list[nn.Linear], seen: list[tuple[nn.Module | None, Tensor, Tensor]], x: Tensor
) -> None:
    """Each layer is called once, the first with the points, and the last gives the output."""
    order = [module for module, *_ in seen[:-1]]
    output = seen[-1][2]
    if len(order) != len(layers) or set(order) != set(layers):
        got = f"{len(layers)} linear layers called {len(order)} times"
    elif order != layers:
        got = "linear layers called in another order than they are registered in"
    elif not _close(seen[0][1], x.flatten(1)):
        got = "a first linear layer that does not see the points themselves"
    elif not isinstance(output, torch.Tensor) or not _close(
        output.reshape(len(x), -1), seen[-2][2]
    ):
        got = "an output that is not that of the last linear layer"
    else:
        return
    raise AssumptionError(
        got, "a chain of linear layers, each used once", assumption="linear layers"
    )


def _activation(z: Tensor, after: Tensor) -> tuple[str, float, float | None]:
    """Name, ``kappa`` and, of leaky ReLU, ``alpha`` of what turns ``z`` into ``after``."""
    if z.shape == after.shape:
        low = z.clamp(max=0)
        alpha = round(
            float((after * low).sum() / low.square().sum().clamp(min=torch.finfo(z.dtype).tiny)), 6
        )
        if _close(after, torch.where(z > 0, z, alpha * z)):
            name = {0.0: "ReLU", 1.0: "none"}.get(alpha, f"leaky ReLU {alpha:g}")
            return name, (1 + alpha) / 2, alpha
        for name, function in SMOOTH.items():
            if _close(after, function(z)):
                kappa = odd_slope(function)
                assert kappa is not None
                return name, kappa, None
    raise AssumptionError(
        "an activation without sigma(z) - sigma(-z) = 2 kappa z",
        f"leaky ReLU or one of {', '.join(SMOOTH)}",
        "For others no equivalence with a linear network is known.",
        assumption="odd part linear",
    )


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and float((a - b).abs().max()) <= SAME * float(b.abs().max())

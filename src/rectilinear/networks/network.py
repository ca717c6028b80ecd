"""A model as a function of rows: checked, left unchanged, with its rounding errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pickle import PicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parameter import is_lazy

from rectilinear.checks import check_floating, check_values
from rectilinear.errors import DtypeError, InputError, NonFiniteError, ShapeError, StructureError
from rectilinear.networks.batches import Batch, check_is_module
from rectilinear.networks.determinism import (
    allowed_between_batches,
    random_model,
    sequence_first,
    twice,
)
from rectilinear.networks.forward_pass import Output, call, pick
from rectilinear.networks.places import inner

PROBE_ROWS = 8  # rows that the checks run on
MAX_WEIGHTS = 2**27  # numbers of a model that are copied into another precision: 1 GB in float64
RESOLUTION_ROWS = 64  # rows on which the arithmetic is repeated in another precision
MARGIN = 4.0  # rounding errors that a variation must exceed to be one
MAD_TO_DEVIATION = 1.4826  # from the median of normal errors to their standard deviation


def check_outputs(out: Tensor) -> None:
    """Raise a NonFiniteError unless outputs ``(n, O)`` are finite."""
    finite = torch.isfinite(out)
    if not bool(finite.all()):
        bad = int((~finite).any(1).sum())
        raise NonFiniteError(
            f"NaN or infinite outputs of the model on {bad} of {len(out)} rows",
            "finite outputs",
            "Check its weights and the scale of the data.",
        )


@dataclass(frozen=True, eq=False)
class Network:
    """``f`` from ``(b, *in_shape)`` to ``(b, O)``: the model's output with its axes flattened.

    Attributes:
        model: the module.
        in_shape: the shape of a row of the input.
        out_shape: the shape of a row of the output.
        like: a tensor of the model's dtype and device.
        state: weights and buffers that take the place of the model's own, by name; None for its
            own.
        argument: the name of the argument that takes the rows; None for the first.
        output: the part of the model's output that counts, as in
            :func:`~rectilinear.networks.forward_pass.pick`.
    """

    model: nn.Module
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    like: Tensor
    state: Mapping[str, Tensor] | None = None
    argument: str | None = None
    output: Output = None

    @property
    def in_dim(self) -> int:
        return torch.Size(self.in_shape).numel()

    @property
    def out_dim(self) -> int:
        return torch.Size(self.out_shape).numel()

    def rows(self, x: Tensor) -> Tensor:
        """``x`` on the model's device, in its dtype and with the shape that it takes."""
        return x.to(self.like).reshape(-1, *self.in_shape)

    def raw(self, x: Tensor) -> Tensor:
        """The output for rows, with gradients where they are enabled and without a check.

        The model gets a copy of the rows, so that in-place operations change nothing of the
        caller's.
        """
        rows = self.rows(x).clone()
        out = self.called(rows) if self.state is None else self._elsewhere(rows)
        return pick(out, self.output).reshape(len(rows), self.out_dim)

    def called(self, rows: Tensor) -> Any:
        """The return value of the model for rows."""
        return self.model(rows) if self.argument is None else self.model(**{self.argument: rows})

    def __call__(self, x: Tensor) -> Tensor:
        """The output ``(b, O)`` for rows, in float32 where the model computes in half precision."""
        with torch.no_grad():
            out = self.raw(
                x
            ).clone()  # models may return a buffer of theirs, and write into it in the next call
        check_outputs(out)
        return out if torch.finfo(out.dtype).bits > 16 else out.float()

    def _elsewhere(self, rows: Tensor) -> Any:
        # Ties are in the state: with tie_weights torch would restore a module that is held twice
        # from its substitute.
        args, kwargs = ((rows,), {}) if self.argument is None else ((), {self.argument: rows})
        state = dict(self.state or {})
        return functional_call(self.model, state, args, kwargs, tie_weights=False)

    def exact(self) -> Network | None:
        """The network to read matrices off: itself, or its float64 copy for half precision."""
        return self if torch.finfo(self.like.dtype).bits > 16 else self.in_precision(torch.float64)

    def in_precision(self, dtype: torch.dtype) -> Network | None:
        """The network with the same weights and its arithmetic in a wider dtype.

        None if it does not run in that dtype, or is too large to be copied.
        """
        held = {  # every module once, and tensors that several modules share in each of them
            f"{prefix}.{name}".removeprefix("."): tensor.detach()
            for prefix, module in self.model.named_modules()
            for name, tensor in (*module._parameters.items(), *module._buffers.items())
            if tensor is not None and tensor.is_floating_point()
        }
        if sum(t.numel() for t in held.values()) > MAX_WEIGHTS:
            return None
        state = {name: tensor.to(dtype) for name, tensor in held.items()}
        wide = replace(self, like=self.like.to(dtype), state=state)
        try:
            out = wide(wide.like.new_zeros(1, *self.in_shape))
        except (RuntimeError, TypeError, ValueError):  # it asks for a dtype somewhere
            return None
        return wide if out.dtype == dtype else None


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the ``with`` block, without fused transformer layers.

    Fused layers round differently and hide their parts. Modes and buffers are restored: inside the
    block a model that writes into its buffers, such as one that counts its calls, has copies.
    """
    modes = [(part, part.training) for part in model.modules()]
    buffers = [
        (part._buffers, name, held)
        for part in model.modules()
        for name, held in part._buffers.items()
        if held is not None and not is_lazy(held)
    ]
    fused = torch.backends.mha.get_fastpath_enabled()
    model.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    copies = {id(held): held.clone() for _, _, held in buffers}  # of a shared buffer one
    try:
        for place, name, held in buffers:
            place[name] = copies[id(held)]
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for part, training in modes:
            part.training = training
        for place, name, held in buffers:
            place[name] = held


def as_network(
    model: object, x: Tensor, output: Output = None, argument: str | None = None
) -> Network:
    """The checked model as a map of rows like those of ``x``; call it inside :func:`evaluating`.

    Args:
        model: the module.
        x: rows.
        output: the part of its output that counts, as in
            :func:`~rectilinear.networks.forward_pass.pick`.
        argument: the name of the argument that takes the rows; None for the first.

    Raises:
        ConfigError: if there is no such output.
        DtypeError: if it is no module, or returns no floating-point tensor.
        InputError: if it has no parameters, is random, or lets rows of a batch act on each other.
        ShapeError: if it does not take ``x``, or its output has no batch axis or another shape in
            other batches.
        NonFiniteError: if ``x`` or the outputs are not finite.

    Example:
        >>> as_network(nn.Linear(3, 2), torch.randn(5, 3)).out_dim
        2
    """
    parameters = check_module(model)
    assert isinstance(model, nn.Module)
    model = inner(model)
    if isinstance(x, Tensor) and not x.is_floating_point() and _embeds(model):
        raise DtypeError(
            f"x of dtype {x.dtype}",
            "rows of floating-point numbers",
            "rl.audit and rl.linear_map take ids. Elsewhere pass what the embeddings return, and "
            "the part of the model behind them.",
        )
    check_floating(x, "x")
    like = next((p for p in parameters if p.is_floating_point()), parameters[0]).detach()
    check_values(x, "x")
    probe = x[:PROBE_ROWS].detach().to(like)
    probe = torch.cat([probe, probe]) if len(probe) == 1 else probe
    half = len(probe) // 2
    with torch.no_grad():
        out, random = twice(lambda: _output(model, probe, output, argument))
        part = _output(model, probe[:half], output, argument)
    if out.shape[:1] != probe.shape[:1]:
        raise ShapeError(
            f"an output of shape {tuple(out.shape)} for {len(probe)} rows",
            "one row for each row of the input",
            sequence_first(model)
            or "Pass output=, or wrap the model so that the batch is the first axis.",
        )
    if not out.numel():
        raise ShapeError(
            f"an output of shape {tuple(out.shape)}",
            "at least one number for each row",
            "Pass output=, another part of what the model returns.",
        )
    if (
        half == 1 and part.numel() == out[0].numel()
    ):  # ``squeeze()`` without an axis takes a batch of one away
        part = part.reshape(1, *out.shape[1:])
    if part.shape != (half, *out.shape[1:]):
        raise ShapeError(
            f"outputs of shapes {tuple(out.shape)} and {tuple(part.shape)} "
            f"for {len(probe)} and {half} rows",
            "one shape of a row whatever the batch",
            sequence_first(model) or "Wrap the model so that it maps every row in the same way.",
        )
    network = Network(
        model,
        tuple(probe.shape[1:]),
        tuple(out.shape[1:]),
        like.new_empty(()),
        argument=argument,
        output=output,
    )
    network(probe)
    scale = out.abs().amax().clamp_min(torch.finfo(out.dtype).tiny)
    if random:
        raise random_model()
    apart = bool((out[:half] - part).abs().amax() > allowed_between_batches(out) * scale)
    if apart or _rows_act_on_each_other(network, probe):
        raise InputError(
            "a model in which the rows of a batch act on each other",
            "an output for each row that depends on that row alone",
            sequence_first(model) or "Put batch normalisation in evaluation mode.",
        )
    return network


def _rows_act_on_each_other(network: Network, x: Tensor) -> bool:
    """True if the derivative of one row's output by another row is not zero, however small."""
    with torch.enable_grad():
        try:
            rows = network.rows(x).detach().clone().requires_grad_()
            out = network.raw(rows)
            if not out.requires_grad:
                return False
            direction = torch.linspace(1, 2, out.shape[1], dtype=torch.float64).to(out)
            for i in (0, len(rows) - 1):
                (slope,) = torch.autograd.grad(
                    out[i] @ direction, rows, retain_graph=i == 0, allow_unused=True
                )
                others = torch.arange(len(rows), device=rows.device) != i
                if slope is not None and bool((slope[others].nan_to_num(0.0) != 0).any()):
                    return True
        except (RuntimeError, NotImplementedError, TypeError):  # no derivative: values alone speak
            return False
    return False


def check_module(model: object) -> list[nn.Parameter]:
    """The parameters of ``model``."""
    model = check_is_module(model)
    parameters = list(model.parameters())
    for name, held in (*model.named_parameters(), *model.named_buffers()):
        check_values(held, f"'{name}' of the model")
    if not parameters:
        raise InputError(
            f"a {type(model).__name__} without parameters",
            "a network with weights",
            "Pass the whole network, not one activation of it.",
        )
    return parameters


def parts(x: Tensor, size: int) -> Iterator[Tensor]:
    """The rows in chunks, never of one row, which ``squeeze()`` would take for no batch.

    Example:
        >>> [[len(part) for part in parts(torch.zeros(n, 1), 4)] for n in (9, 6)]
        [[4, 5], [4, 2]]
    """
    whole = list(x.split(size))
    if len(whole) > 1 and len(whole[-1]) == 1:
        whole[-2:] = [x[-size - 1 :]]
    yield from whole


def is_scripted(model: nn.Module) -> bool:
    """True if a model is compiled to TorchScript: its parts cannot be hooked or replaced."""
    return isinstance(model, torch.jit.ScriptModule)


def check_not_scripted(model: nn.Module) -> None:
    """Raise for TorchScript."""
    for name, part in model.named_modules():
        if is_scripted(part):
            raise StructureError(
                f"a ScriptModule{f' ({name})' if name else ''}, whose parts cannot be exchanged",
                "a torch.nn.Module",
                "Pass the module that it was scripted or traced from.",
            )


def copied(model: nn.Module) -> nn.Module:
    """A deep copy, also of modules that hold a tensor with a gradient, as under ``weight_norm``."""
    kept = [
        t
        for part in model.modules()
        for t in vars(part).values()
        if isinstance(t, Tensor) and not t.is_leaf
    ]
    try:
        return deepcopy(model, {id(t): t.detach().clone() for t in kept})
    except (RuntimeError, TypeError, NotImplementedError, AttributeError, PicklingError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise StructureError(
            f"a model that cannot be copied: {first}",
            "one that copy.deepcopy takes",
            "Remove what cannot be copied, such as open files, locks or tensors with a history.",
        ) from error


def _output(model: nn.Module, x: Tensor, output: Output, argument: str | None) -> Tensor:
    batch = Batch((x,)) if argument is None else Batch((), {argument: x})
    return call(model, batch, output).clone()


def _embeds(model: nn.Module) -> bool:
    return any(isinstance(part, nn.Embedding | nn.EmbeddingBag) for part in model.modules())


@dataclass(frozen=True, eq=False)
class Resolution:
    """Sizes (roots of mean squares) of rounding errors of each output, ``(O,)`` in float64.

    Attributes:
        stored: of writing down the output in its dtype, a twelfth of the square of its last digit.
        computed: of the arithmetic of the whole network, at least those.
        dtype: its name.
        hides: whether outputs vary in the other precision.
    """

    stored: Tensor
    computed: Tensor
    dtype: str
    hides: bool = False

    def scaled(self, factor: float) -> Resolution:
        """Of outputs times a number, of which it is not known whether they vary elsewhere."""
        return Resolution(factor * self.stored, factor * self.computed, self.dtype)

    def mixed(self, head: Tensor) -> Resolution:
        """Of linear combinations of the outputs, ``(O, k)``."""
        squares = head.double().cpu().square()
        stored, computed = (
            (sizes.square() @ squares).sqrt() for sizes in (self.stored, self.computed)
        )
        return Resolution(stored, computed, self.dtype, self.hides)


def resolution(network: Network, rows: Tensor) -> Resolution:
    """The rounding errors of the outputs on these rows, measured in another precision.

    Half precision and float32 are compared with float64; the errors of float64 are those that
    float32 makes, times the ratio of the two resolutions. If the network runs in its own precision
    only, the last digit of its outputs remains.

    Example:
        >>> net = torch.nn.Linear(3, 1)
        >>> _ = torch.nn.init.constant_(net.bias, 1e4)
        >>> x = torch.randn(50, 3)
        >>> 1e-4 < float(resolution(as_network(net, x), x).stored) < 1e-3
        True
    """
    rows = rows[:RESOLUTION_ROWS]
    dtype = network.like.dtype
    eps = torch.finfo(dtype).eps
    f = network(rows).double().cpu()
    size = f.abs()
    digit = torch.where(
        size > 0, eps * torch.exp2(size.clamp_min(1e-300).log2().floor()), torch.zeros_like(size)
    )
    stored = (digit.square().mean(0) / 12).sqrt()
    other = torch.float32 if dtype == torch.float64 else torch.float64
    wide = network.in_precision(other)
    if wide is None:
        return Resolution(stored, stored, _name(dtype))
    with torch.no_grad():
        out = wide.raw(rows).double().cpu()
    gap = (out - f).abs()
    if dtype == torch.float64:
        gap = gap * (eps / torch.finfo(other).eps)
    measured = MAD_TO_DEVIATION * gap.median(0).values.nan_to_num(
        0.0, posinf=0.0
    )  # float32 overflows before float64
    return Resolution(
        stored, torch.maximum(stored, measured), _name(dtype), bool((out != out[:1]).any())
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

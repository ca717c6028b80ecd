"""Consecutive linear layers folded into one, exactly, with a report of what was not folded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import FlopCounterMode

from rectilinear.checks import check_finite
from rectilinear.errors import DtypeError, RectilinearError, ShapeError
from rectilinear.maps.fuse_rules import folded, may_fold
from rectilinear.maps.module_pairs import Neighbours, from_graph, from_run
from rectilinear.maps.network_costs import parameters_of
from rectilinear.networks.batches import array_of, as_tensor
from rectilinear.networks.determinism import random_model
from rectilinear.networks.forward_pass import constant_parameters
from rectilinear.networks.network import check_module, check_not_scripted, copied
from rectilinear.networks.places import inner
from rectilinear.networks.weight_matrices import guesses

EXACT = 1e-9  # relative error that folding may leave in float64
ROUNDED = 10.0  # times the root of machine precision: the same, of a model not in float64
Checked = Literal["x", "random rows", "nothing"]
UNSEEN: dict[Checked, str] = {
    "random rows": "not checked on data",
    "nothing": "checked on nothing, for no input could be guessed: the graph is trusted; pass x",
}
FOLD_ROWS = 8  # rows of x that each fold is checked on
SAME_ROWS = 64.0  # times machine precision: differences from another order of sums
RUN_ERRORS = (
    RuntimeError,
    TypeError,
    ValueError,
    IndexError,
    AttributeError,
    AssertionError,
    NotImplementedError,
)


@dataclass(frozen=True)
class Fold:
    """Two modules that became one, or the ``reason`` why they did not."""

    first: str
    second: str
    reason: str = ""

    def __str__(self) -> str:
        pair = f"{self.first}, {self.second}" if self.first else self.second
        return f"{pair} left: {self.reason}" if self.reason else f"{pair} folded"


@dataclass(frozen=True, eq=False)
class Fused:
    """A model with folded layers.

    Attributes:
        model: the new model.
        folds: the pairs that became one layer, in the order in which that was done.
        left: normalisations and neighbouring linear layers that stay, and why.
        error: the largest difference of the outputs on ``x`` over the largest output; None without
            ``x``.
        checked: on what the two were compared: "x", "random rows" that the first layer suggests, or
            "nothing", where no input could be guessed and the graph alone speaks.
        parameters: how many parameters, before and after.
        flops: floating-point operations on ``x`` that torch counts, for each of its rows, before
            and after; None without ``x``.
    """

    model: nn.Module
    folds: tuple[Fold, ...]
    left: tuple[Fold, ...]
    error: float | None
    checked: Checked = "x"
    parameters: tuple[int, int] = (0, 0)
    flops: tuple[int, int] | None = None

    def __str__(self) -> str:
        lines = [*map(str, self.folds), *map(str, self.left)]
        checked = (
            UNSEEN[self.checked]
            if self.error is None
            else f"largest relative error on x {self.error:.2g}"
        )
        counts = {"parameters": self.parameters, "operations a row": self.flops}
        lines += [f"{what} {n[0]:,} -> {n[1]:,}" for what, n in counts.items() if n is not None]
        return "\n".join([*lines, f"{len(self.folds)} folded, {len(self.left)} left, {checked}"])


@overload
def fuse(model: nn.Module, x: Any = None, *, report: Literal[False] = False) -> nn.Module: ...


@overload
def fuse(model: nn.Module, x: Any = None, *, report: Literal[True]) -> Fused: ...


def fuse(model: nn.Module, x: Any = None, *, report: bool = False) -> nn.Module | Fused:
    """A copy of the model with consecutive linear layers folded into one: the same function.

    The copy is in evaluation mode. Folded are: linear layers into each other; batch normalisation
    into the linear layer or convolution before it, or the linear layer after it; 1 x 1 convolutions
    into the convolution before. Modules without effect in evaluation mode (dropout, a leaky ReLU of
    slope one) are passed over. Where batch normalisation and activation are one class, the
    activation stays. A folded layer leaves ``nn.Identity``, or what remains of it, so names stay.
    Products are taken in float64, and only where the result has no more parameters than the two
    layers.

    Without ``x`` only folds that the model's whole graph proves are made: ``torch.fx`` must be able
    to trace it. The result is checked on random rows if the first layer tells their shape; else
    ``checked`` in the report says that it is not. With ``x``, every fold is checked on some of its
    rows and undone if it changes the output, and the result is checked on all of it. A model that
    ``torch.fx`` cannot trace is then folded as it runs on ``x``, unless its control flow depends on
    values.

    Args:
        model: the network; it is not changed.
        x: what the model is called with: a tensor, a tuple of arguments, or a mapping of keyword
            arguments.
        report: return a :class:`Fused`, with the folds, what is left and why, and the error on
            ``x``.

    Raises:
        DtypeError, InputError: if the model is no module, has no parameters, or some without
        values; if it is random.
        NonFiniteError: if ``x`` is not finite.
        ShapeError: if the model does not take ``x``.
        StructureError: for a ``ScriptModule``, or a model that cannot be copied.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2), nn.ReLU(), nn.Linear(2, 3)).eval()
        >>> fused, x = fuse(net), torch.randn(5, 4)
        >>> fused[0], fused[1], torch.allclose(fused(x), net(x), atol=1e-6)
        (Linear(in_features=4, out_features=2, bias=True), Identity(), True)
        >>> net = nn.Sequential(nn.Linear(20, 2), nn.BatchNorm1d(2), nn.Linear(2, 20))
        >>> print(fuse(net, report=True))
        0, 1 folded
        0, 2 left: the product is larger than the two
        parameters 106 -> 102
        1 folded, 1 left, not checked on data
    """
    check_module(model)
    check_not_scripted(inner(model))
    with torch.random.fork_rng(devices=[]):
        original = copied(inner(model)).eval()
        found = _Folding(original, None if x is None else _Call(x)).run()
    return found if report else found.model


def _read(value: Any) -> Any:
    """A tensor of an array or a data frame; any other argument as it is."""
    value = array_of(value)
    return as_tensor(value, "x") if isinstance(value, np.ndarray) else value


class _Call:
    """A call of a model, and of its mirrored input where that exists."""

    def __init__(self, x: Any) -> None:
        x = tree_map(_read, dict(x) if isinstance(x, Mapping) else x)
        for t in tree_leaves(x if isinstance(x, Tensor | tuple | list | dict) else None):
            if isinstance(t, Tensor) and t.is_floating_point():
                check_finite(t.detach(), "x")
        if not isinstance(x, Tensor | tuple | Mapping):
            raise DtypeError(
                f"x of type {type(x).__name__}",
                "a tensor, an array, a data frame, a tuple of arguments or a mapping",
                "Convert it with torch.as_tensor.",
            )
        self.args: tuple[Any, ...] = (
            () if isinstance(x, Mapping) else x if isinstance(x, tuple) else (x,)
        )
        self.kwargs: dict[str, Any] = dict(x) if isinstance(x, Mapping) else {}

    def __call__(self, model: nn.Module, factor: float = 1.0) -> list[Tensor]:
        """The tensors that the model returns for copies of the arguments in its dtype."""
        like = next(
            (p for p in (*model.parameters(), *model.buffers()) if p.is_floating_point()), None
        )

        def own(t: Any) -> Any:
            if not isinstance(t, Tensor):
                return t
            if not t.is_floating_point() or like is None:
                return t.detach().clone()
            return (factor * t.detach()).to(like)

        args, kwargs = tree_map(own, (self.args, self.kwargs))
        with torch.no_grad():
            out = model(*args, **kwargs)
        values = dict(out) if isinstance(out, Mapping) else out
        return [t.clone() for t in tree_leaves(values) if isinstance(t, Tensor)]

    @property
    def rows(self) -> int:
        """The length of the first axis if all tensors share it, else 1."""
        held = [t for t in tree_leaves((self.args, self.kwargs)) if isinstance(t, Tensor)]
        lengths = {len(t) if t.ndim else 0 for t in held}
        return lengths.pop() if len(lengths) == 1 and 0 not in lengths else 1

    def some(self, count: int) -> tuple[_Call, Tensor]:
        """The call with a few of the rows, evenly spread, and their indices."""
        chosen = torch.linspace(0, self.rows - 1, count).round().long()

        def of(t: Any) -> Any:
            return t[chosen.to(t.device)] if isinstance(t, Tensor) else t

        few = copy(self)
        few.args, few.kwargs = tree_map(of, (self.args, self.kwargs))
        return few, chosen


class _Folding:
    """Folding of pairs in a float64 copy of the model; each fold and the whole are checked."""

    def __init__(self, original: nn.Module, call: _Call | None, on_all: bool = False) -> None:
        self.original, self.call = original, call
        self.few, self.on_all = call, on_all
        self.work = _in_float64(original)
        self.folds: list[Fold] = []
        self.left: dict[tuple[str, str], str] = {}
        self.touched: set[str] = set()
        self.plain: list[Tensor] = []
        self.wanted: list[tuple[float, list[Tensor]]] = []
        self.allowed = EXACT
        self.given = call is not None
        if call is not None:
            self._read_outputs(call)
        else:
            self._guess()
        self.graph = from_graph(self.work)

    def _read_outputs(self, call: _Call) -> None:
        try:
            self.plain = call(self.original)
            self.few, before = self._few(call)
            again = self.few(self.original)
        except RectilinearError:
            raise
        except RUN_ERRORS as error:
            raise ShapeError(
                f"x, on which the model fails: {_said(error)}",
                "what the model is called with",
                "Pass one batch: a tensor, a tuple of arguments, or a mapping of their names.",
            ) from error
        if not sum(t.numel() for t in self.plain):
            raise ShapeError(
                "x on which the model returns no numbers", "at least one row", "Pass some rows."
            )
        dtypes = [t.dtype for t in self.plain if t.is_floating_point()]
        rounding = max((torch.finfo(dtype).eps for dtype in dtypes), default=0.0)
        if not _error(before, again) <= 1e3 * rounding:
            raise random_model()
        try:
            self.wanted = [(1.0, self.few(self.work))]
        except RUN_ERRORS:  # it makes numbers of another precision on the way
            self.work, self.wanted = copied(self.original), [(1.0, again)]
        if any(t.is_floating_point() and t.dtype != torch.float64 for t in self.wanted[0][1]):
            self.allowed = ROUNDED * rounding**0.5
        with suppress(*RUN_ERRORS):  # where it takes the mirror image
            self.wanted.append((-1.0, self.few(self.work, -1.0)))

    def _few(self, call: _Call) -> tuple[_Call, list[Tensor]]:
        """The call with a few rows, and its output, if the model treats rows independently."""
        if self.on_all or call.rows <= 2 * FOLD_ROWS:
            return call, self.plain
        few, chosen = call.some(FOLD_ROWS)
        with suppress(*RUN_ERRORS):
            found = few(self.original)
            alike = [t.ndim and len(t) == call.rows for t in self.plain]
            if all(alike) and len(found) == len(self.plain):
                before = [t[chosen.to(t.device)] for t in self.plain]
                if _error(found, before) <= SAME_ROWS * self._eps():
                    return few, before
        return call, self.plain

    def _eps(self) -> float:
        dtypes = [t.dtype for t in self.plain if t.is_floating_point()]
        return max((torch.finfo(dtype).eps for dtype in dtypes), default=0.0)

    def _guess(self) -> None:
        """Try random rows that the model accepts, to check its graph.

        It is traced without values: code that reads the type of its input, or whether it is traced,
        has another graph at run time.
        """
        for x in guesses(self.original):
            self.call = _Call(x)
            with suppress(RectilinearError, *RUN_ERRORS):
                self._read_outputs(self.call)
                return
            self.call, self.few, self.wanted, self.allowed = None, None, [], EXACT

    def run(self) -> Fused:
        """Fold pairs until none is left."""
        while pairs := [pair for pair in self._neighbours().pairs if pair not in self.left]:
            undo: dict[tuple[str, str], list[tuple[str, nn.Module]]] = {}
            for pair in pairs:
                if not any(name in other for other in undo for name in pair) and (
                    old := self._apply(pair)
                ):
                    undo[pair] = old
            if self._difference():
                for old in undo.values():
                    self._put_back(old)
                self._one_by_one(list(undo))
            else:
                self.folds += [Fold(*pair) for pair in undo]
        left = self._account()
        fused = copied(self.original)
        for name in self.touched:
            self._finish(name, fused)
        error = flops = None
        if self.given and self.call is not None and self.few is not None:
            error = _error(self.call(fused), self.plain)
            if self.few is not self.call and error > SAME_ROWS * self._eps() and self._differs():
                return _Folding(self.original, self.call, on_all=True).run()
            flops = _flops(self.original, self.few), _flops(fused, self.few)
        sizes = parameters_of(self.original), parameters_of(fused)
        return Fused(fused, tuple(self.folds), left, error, self._checked(), sizes, flops)

    def _differs(self) -> bool:
        """True if the folded model gives other outputs on ``x``, in float64."""
        assert self.call is not None
        try:
            wanted = self.call(_in_float64(self.original))
        except RUN_ERRORS:  # it makes numbers of another precision on the way
            wanted = self.plain
        return not _error(self.call(self.work), wanted) <= self.allowed

    def _checked(self) -> Checked:
        return "nothing" if self.call is None else "x" if self.given else "random rows"

    def _one_by_one(self, pairs: list[tuple[str, str]]) -> None:
        for pair in pairs:
            old = self._apply(pair)
            if reason := self._difference():
                self._put_back(old)
                self.left[pair] = reason
            elif old:
                self.folds.append(Fold(*pair))

    def _neighbours(self) -> Neighbours:
        if self.graph.graph is not None:
            return from_graph(self.work, frozenset(self.touched))
        return (
            from_run(self.work, self.few) if self.given and self.few is not None else Neighbours(())
        )

    def _apply(self, pair: tuple[str, str]) -> list[tuple[str, nn.Module]]:
        """Exchange the two modules; return the former ones, or None if they stay."""
        a, b = (self.work.get_submodule(name) for name in pair)
        found = folded(a, b, self._dtype(pair)) if may_fold(a, b) else ""
        if isinstance(found, str):
            self.left[pair] = found
            return []
        for name, module in zip(pair, found, strict=True):
            _put(self.work, name, module)
        self.touched.update(pair)
        return list(zip(pair, (a, b), strict=True))

    def _put_back(self, old: list[tuple[str, nn.Module]]) -> None:
        for name, module in old:
            _put(self.work, name, module)

    def _dtype(self, pair: tuple[str, str]) -> torch.dtype:
        weights = (getattr(self.original.get_submodule(name), "weight", None) for name in pair)
        return next(
            (w.dtype for w in weights if isinstance(w, Tensor) and w.ndim > 1), torch.float32
        )

    def _difference(self) -> str:
        """The reason to undo folds; None if outputs are unchanged."""
        if self.graph.graph is not None and not self.graph.agrees(
            from_graph(self.work, frozenset(self.touched))
        ):
            return "the model reads more of them than their output, such as a weight or a shape"
        for factor, wanted in self.wanted:
            assert self.few is not None
            try:
                found = self.few(self.work, factor)
            except RUN_ERRORS as error:
                return f"the model fails without them: {_said(error)}"
            if not (change := _error(found, wanted)) <= self.allowed:
                return f"the output would change by {change:.2g} of its largest entry"
        return ""

    def _finish(self, name: str, fused: nn.Module) -> None:
        """Copy what became of a module into the result, in the module's dtype."""
        module, old = self.work.get_submodule(name), self.original.get_submodule(name)
        like = next((p for p in old.parameters() if p.is_floating_point()), None)
        _put(fused, name, module if like is None else module.to(like.dtype))

    def _account(self) -> tuple[Fold, ...]:
        gone = {fold.second for fold in self.folds}
        left = [
            Fold(*pair, reason)
            for pair, reason in self.left.items()
            if reason and pair[1] not in gone
        ]
        named = {name for fold in left for name in (fold.first, fold.second)}
        why = "it does not see the output of one linear layer or convolution alone"
        if self.graph.graph is None:
            lost = f"torch.fx cannot follow the model ({self.graph.reason})"
            call = self.few if self.given else None
            reason = "" if call is None else from_run(self.work, call).reason
            why = f"{lost}: pass x" if call is None else f"{lost}, and {reason}" if reason else why
        norms = [
            n for n, m in self.work.named_modules() if isinstance(m, _BatchNorm) and n not in named
        ]
        return (*left, *(Fold("", name, why) for name in norms))


def _flops(model: nn.Module, call: _Call) -> int:
    """Floating-point operations that torch counts, for each row."""
    with constant_parameters(model), FlopCounterMode(display=False) as counter:
        call(model)
    return counter.get_total_flops() // call.rows


def _in_float64(model: nn.Module) -> nn.Module:
    try:
        return copied(model).double()
    except (TypeError, RuntimeError):  # a device without float64
        return copied(model)


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    model.get_submodule(parent)._modules[last] = module.eval()


def _error(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """The largest difference over the largest entry; infinite for other shapes or infinities."""
    if [t.shape for t in found] != [t.shape for t in wanted]:
        return float("inf")
    worst = 0.0
    for a, b in zip(found, wanted, strict=True):
        finite = torch.isfinite(b)
        if not torch.allclose(a[~finite].to(b), b[~finite], equal_nan=True):
            return float("inf")
        if not b.is_floating_point() and not b.is_complex():
            worst = worst if torch.equal(a, b) else float("inf")
        elif bool(finite.any()):
            gap = (a - b)[finite].abs().max() / b[finite].abs().max().clamp_min(
                torch.finfo(b.dtype).tiny
            )
            worst = max(worst, float(gap.nan_to_num(float("inf"))))
    return worst


def _said(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__

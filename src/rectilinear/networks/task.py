"""What the model is for: the loss and the score of each row, from labels of any usual kind.

Progress of long work, on standard error.

The rounding errors of a network's outputs, below which nothing about it can be measured.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from rectilinear.errors import ConfigError, ShapeError
from rectilinear.networks.calls import Network

Loss = Literal["square", "logistic", "hinge", "cross_entropy"]


@dataclass(frozen=True, eq=False)
class Task:
    """A loss for each row of outputs ``(b, O)`` and labels.

    Attributes:
        loss: its name, or "given" for a function.
        out_dim: ``O``.
        function: the loss of each row.
        signs: whether labels become -1 and 1.
        cut: what separates two classes, of outputs and of targets; None where there are not two.
    """

    loss: str
    out_dim: int
    function: Callable[[Tensor, Tensor], Tensor]
    signs: bool = False
    cut: float | None = None

    def targets(self, y: Tensor, like: Tensor) -> Tensor:
        """Labels as the loss takes them: classes ``(b,)``, or numbers ``(b, O)``."""
        if self.loss in ("cross_entropy", "given"):
            return y.to(like.device)
        y = y.to(like).reshape(len(y), -1)
        return torch.where(y > 0, 1.0, -1.0).to(like) if self.signs else y

    def losses(self, out: Tensor, y: Tensor) -> Tensor:
        """The loss of each row, ``(b,)``.

        Raises:
            ShapeError: if a function that was given returns anything else, such as a mean.
        """
        found = self.function(out, self.targets(y, out))
        if not isinstance(found, Tensor) or found.shape not in ((len(out),), (len(out), 1)):
            got = (
                f"of shape {tuple(found.shape)}"
                if isinstance(found, Tensor)
                else f"of type {type(found).__name__}"
            )
            raise ShapeError(
                f"a loss {got} for {len(out)} rows",
                "one number for each row (n,)",
                "Pass a function that does not average, such as one with reduction='none', summed over the outputs.",
            )
        return found.detach().reshape(-1)

    def hits(self, out: Tensor, y: Tensor) -> Tensor | None:
        """Whether each row is classified rightly; None where there are no classes."""
        if self.loss == "cross_entropy":
            return out.argmax(1) == y.to(out.device).reshape(-1)
        if self.cut is None:
            return None
        return (out[:, 0] > self.cut) == (self.targets(y, out)[:, 0] > self.cut)


def task_for(
    y: Tensor, out_dim: int, loss: str | Callable[[Tensor, Tensor], Tensor] | None
) -> Task:
    """The task that labels and outputs make, with the loss asked for.

    By default classes (integers) with several outputs make a cross-entropy; two classes with one
    output a logistic loss; other numbers half the square, summed over outputs.

    Args:
        y: labels ``(n,)``, ``(n, 1)`` or ``(n, O)``.
        out_dim: ``O``.
        loss: "square", "logistic", "hinge", "cross_entropy", or a function of outputs ``(b, O)``
            and labels that gives ``(b,)``.

    Raises:
        ConfigError: for another loss.
        ShapeError: if the labels do not fit the outputs.

    Example:
        >>> task_for(torch.tensor([0, 1, 1]), 1, None).loss, task_for(torch.tensor([0, 2, 1]), 3, None).loss
        ('logistic', 'cross_entropy')
    """
    if callable(loss):
        return Task("given", out_dim, loss)
    if loss is not None and loss not in get_args(Loss):
        raise ConfigError(f"loss = {loss!r}", f"one of {', '.join(get_args(Loss))}, or a function")
    values = y.reshape(len(y), -1)
    whole = not y.is_floating_point()
    binary = values.shape[1] == 1 == out_dim and _binary(values)
    if loss is None:
        loss = (
            "logistic"
            if whole and binary
            else "cross_entropy"
            if whole and out_dim > 1
            else "square"
        )
    if loss == "cross_entropy":
        _check_classes(values, whole, out_dim)
        return Task(
            loss, out_dim, lambda out, t: cross_entropy(out, t.reshape(-1).long(), reduction="none")
        )
    if values.shape[1] != out_dim:
        raise ShapeError(
            f"labels of shape {tuple(y.shape)} for {out_dim} outputs",
            f"(n, {out_dim}) for the loss '{loss}'" if out_dim > 1 else "one number for each row",
            "Pass other labels, or loss='cross_entropy' for classes.",
        )
    if loss in ("logistic", "hinge"):
        if not binary:
            raise ShapeError(
                f"labels that are no signs, for the loss '{loss}'",
                "two values, 0 and 1 or -1 and 1",
            )
        margin = (
            (lambda m: softplus(-m)) if loss == "logistic" else (lambda m: (1 - m).clamp_min(0))
        )
        return Task(loss, 1, lambda out, t: margin(out * t)[:, 0], signs=True, cut=0.0)
    cut = (0.0 if bool((values < 0).any()) else 0.5) if binary else None
    return Task(loss, out_dim, lambda out, t: (out - t).square().sum(1) / 2, cut=cut)


def _binary(values: Tensor) -> bool:
    """Whether the values are 0 and 1, or -1 and 1."""
    found = set(values.unique().tolist()) if values.numel() else set()
    return len(found) == 2 and (found == {0, 1} or found == {-1, 1})


def _check_classes(values: Tensor, whole: bool, out_dim: int) -> None:
    if values.shape[1] != 1 or not whole:
        raise ShapeError(
            f"labels of shape {tuple(values.shape)} and dtype {values.dtype}",
            "integer classes (n,)",
            "Pass y.argmax(1) for one-hot rows, y.long() for classes, or loss='square' for numbers.",
        )
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= out_dim:
        raise ShapeError(
            f"classes from {low} to {high} for {out_dim} outputs",
            f"classes from 0 to {out_dim - 1}",
            "Renumber the labels, or audit the model that they belong to.",
        )


@contextmanager
def progress_of(shown: bool, total: int) -> Iterator[Callable[[str], None]]:
    """A function that tells what is done next; it draws a bar where standard error is a terminal.

    Example:
        >>> with progress_of(False, total=2) as advance: advance("one")
    """
    if not shown or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as display:
        task = display.add_task("", total=total)
        started = False

        def advance(text: str) -> None:
            nonlocal started
            display.update(task, description=text, advance=1 if started else 0)
            started = True

        yield advance


ROWS = 64  # rows on which the arithmetic is repeated in another precision
MARGIN = 4.0  # rounding errors that a variation must exceed to be one
TO_DEVIATION = 1.4826  # from the median of normal errors to their standard deviation


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
    """The rounding errors of the outputs on these rows, measured against the same arithmetic in
    another precision.

    Half precision and float32 are compared with float64; the errors of float64 are those that
    float32 makes, times the ratio of the two resolutions. Where the network runs in its own
    precision only, what remains is the last digit of its outputs.

    Example:
        >>> from rectilinear.networks.calls import as_network
        >>> net = torch.nn.Linear(3, 1)
        >>> _ = torch.nn.init.constant_(net.bias, 1e4)
        >>> x = torch.randn(50, 3)
        >>> 1e-4 < float(resolution(as_network(net, x), x).stored) < 1e-3
        True
    """
    rows = rows[:ROWS]
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
    measured = TO_DEVIATION * gap.median(0).values.nan_to_num(
        0.0, posinf=0.0
    )  # float32 overflows before float64
    return Resolution(
        stored, torch.maximum(stored, measured), _name(dtype), bool((out != out[:1]).any())
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

"""The data of an audit: rows and labels, whole or in batches; the rows held out; the task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from rectilinear.checks import check_finite, check_floating
from rectilinear.errors import ConfigError, DataError, DtypeError, InputError, ShapeError
from rectilinear.networks.batches import (
    Batch,
    array_of,
    as_tensor,
    check_labels_once,
    check_rereadable,
    one_batch,
)
from rectilinear.random import stream
from rectilinear.scalars import check_same_order

BATCH_ROWS = 1024
SAMPLE_ROWS = 4096  # rows that costly measurements run on
MAX_NUMBERS = 2**26  # numbers of batches that are joined in memory: 256 MB in float32
HASHED_NUMBERS = 2**22  # numbers that are hashed at once
MIXER = -0x61C8864680B583EB  # odd, of the golden ratio: a sign bit alone would cancel in the sum
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # as wide as floats of so many bytes
HELD_OUT_SHARE = 4  # one distinct row in so many is held out
MIN_DISTINCT_ROWS = 8  # distinct rows of which some can be held out

Loss = Literal["square", "logistic", "hinge", "cross_entropy"]


@dataclass(frozen=True, eq=False)
class Data:
    """``n`` rows; a random sample of them in memory, and all of them where they fit.

    Attributes:
        n: how many rows.
        rows: all of them ``(n, ...)``, or None where they are read in batches.
        labels: all labels in the order in which they were read first, or None.
        sample: at most ``SAMPLE_ROWS`` rows, in random order.
        sample_labels: theirs.
        source: what gives the batches where ``rows`` is None.
        argument: the name of the model's argument that takes the rows; None for the first.
    """

    n: int
    rows: Tensor | None
    labels: Tensor | None
    sample: Tensor
    sample_labels: Tensor | None
    source: Iterable[Any] | None = None
    argument: str | None = None

    @property
    def is_whole(self) -> bool:
        """True if all rows are in memory."""
        return self.rows is not None

    def batches(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """All rows and their labels, batch by batch."""
        if self.rows is None:
            assert self.source is not None
            for batch in self.source:
                yield _pair(batch)[:2]
            return
        for start in range(0, self.n, BATCH_ROWS):
            part = slice(start, start + BATCH_ROWS)
            yield self.rows[part], None if self.labels is None else self.labels[part]


def read(x: Any, y: Any, seed: int) -> Data:
    """The data as rows with a sample.

    Args:
        x: a tensor or an array ``(n, ...)``, a mapping with one of them, a tuple ``(x, y)``, or an
            iterable that gives batches of these each time it is iterated, such as a ``DataLoader``.
        y: labels ``(n, ...)`` of a tensor.
        seed: of the sample.

    Raises:
        DtypeError: if ``x`` is neither, or not floating point.
        ShapeError: if there are no rows, or not as many labels.
        NonFiniteError: for NaN or infinite entries.
        DataError: if the batches can be read once only, or labels are given beside them.

    Example:
        >>> read([torch.zeros(3, 2), torch.ones(2, 2)], None, seed=0).n
        5
    """
    check_same_order(x, y)
    x = array_of(x)
    if isinstance(x, Tensor):
        return _from_tensor(x, y if y is None else as_tensor(y, "labels"), seed)
    if isinstance(x, np.ndarray | Mapping | tuple):
        rows, own, argument = _pair(x)
        check_labels_once(own, y)
        labels = own if y is None else as_tensor(y, "labels")
        return replace(_from_tensor(rows, labels, seed), argument=argument)
    if not hasattr(x, "__iter__") or hasattr(x, "__array__") or isinstance(x, str):
        raise DtypeError(
            f"x of type {type(x).__name__}",
            "a tensor, an array, a data frame, or batches of tensors",
            "Convert it with torch.as_tensor.",
        )
    check_rereadable(x, y)
    return _from_batches(x, seed)


def are_rows(batch: Batch) -> bool:
    """True if a batch is rows of numbers: one floating-point tensor without padding."""
    tensors = [v for v in (*batch.args, *batch.kwargs.values()) if isinstance(v, Tensor)]
    return len(tensors) == 1 and tensors[0].is_floating_point() and batch.mask is None


def row_keys(x: Tensor) -> Tensor:
    """A 64-bit key of each row ``(n, ...)``, ``(n,)`` int64 on the CPU: equal for equal rows.

    Among a million distinct rows two collide with a probability of 3e-8.

    Example:
        >>> a, b, c = row_keys(torch.tensor([[0.0, 1.0], [1.0, 0.0], [-0.0, 1.0]])).tolist()
        >>> a == c, a == b
        (True, False)
    """
    flat = x.detach().flatten(1)
    bits = INTEGERS[flat.element_size()]
    random = stream(0, "row keys")
    odd = (
        torch.randint(-(2**62), 2**62, (flat.shape[1],), generator=random, dtype=torch.int64) * 2
        + 1
    )
    odd = odd.to(flat.device)
    at_once = max(1, HASHED_NUMBERS // max(1, flat.shape[1]))
    keys = []
    for part in flat.split(at_once):
        whole = (part + 0.0).contiguous().view(bits).to(torch.int64)
        mixed = (whole ^ (whole >> 31)) * MIXER
        keys.append(((mixed ^ (mixed >> 29)) * odd).sum(1).cpu())
    return torch.cat(keys)


def mixed(keys: Tensor) -> Tensor:
    """Keys ``(n,)`` int64 with all their bits mixed, so that they are as if random."""
    spread = (keys ^ (keys >> 31)) * MIXER
    return spread ^ (spread >> 29)


def _from_tensor(x: Tensor, y: Tensor | None, seed: int) -> Data:
    x = _rows(x, "x")
    if x.ndim < 2 or not x.numel():
        what = "rows (n, ...), at least one, of at least one number"
        raise ShapeError(f"x of shape {tuple(x.shape)}", what, "Put the batch axis first.")
    for part in x.split(64 * BATCH_ROWS):
        check_finite(part, "x")
    if y is not None:
        y = _labels_of(x, y, "Pass those of these rows.")
    chosen = torch.randperm(len(x), generator=stream(seed, "sample"))[
        :SAMPLE_ROWS
    ]  # in random order: parts of it are used
    picks = chosen.to(x.device)
    return Data(len(x), x, y, x[picks], None if y is None else y[chosen.to(y.device)])


def _from_batches(source: Iterable[Any], seed: int) -> Data:
    """One pass: all rows while they fit, and a uniform sample by random keys."""
    random = stream(seed, "sample")
    kept: list[Tensor] | None = []
    labels: list[Tensor] = []
    n, numbers = 0, 0
    keys, sample, sample_labels, argument = torch.empty(0), None, None, None
    for batch in source:
        x, y, argument = _pair(batch)
        if n and (y is None) != (not labels):
            raise DataError(
                "batches with and without labels",
                "labels in all of them or in none",
                "Let each batch be (x, y).",
            )
        if sample is not None and x.shape[1:] != sample.shape[1:]:
            shapes = f"{tuple(sample.shape[1:])} and {tuple(x.shape[1:])}"
            raise ShapeError(
                f"batches with rows of shapes {shapes}",
                "one shape",
                "Pad or crop them, or group them.",
            )
        n, numbers = n + len(x), numbers + x.numel()
        labels += [] if y is None else [y]
        kept = [*kept, x] if kept is not None and numbers <= MAX_NUMBERS else None
        keys = torch.cat([keys, torch.rand(len(x), generator=random)])
        sample = x if sample is None else torch.cat([sample, x])
        sample_labels = y if sample_labels is None or y is None else torch.cat([sample_labels, y])
        if len(keys) > 2 * SAMPLE_ROWS:
            best = keys.topk(SAMPLE_ROWS).indices
            keys, sample = keys[best], sample[best.to(sample.device)]
            sample_labels = (
                None if sample_labels is None else sample_labels[best.to(sample_labels.device)]
            )
    if not n or sample is None:
        raise DataError("no batches", "at least one", "Check what x iterates over.")
    y = torch.cat(labels) if labels else None
    if kept is not None:
        return replace(_from_tensor(torch.cat(kept), y, seed), argument=argument)
    best = keys.topk(min(SAMPLE_ROWS, len(keys))).indices
    chosen = None if sample_labels is None else sample_labels[best.to(sample_labels.device)]
    return Data(n, None, y, sample[best.to(sample.device)], chosen, source, argument)


def _pair(batch: Any) -> tuple[Tensor, Tensor | None, str | None]:
    """``x`` and ``y`` of a batch, checked, and the name of the argument that takes ``x``."""
    found = one_batch(batch)
    if not are_rows(found) and (len(found.kwargs) > 1 or found.mask is not None):
        raise DtypeError(
            f"a batch of {', '.join(map(repr, found.kwargs))}",
            "rows of floating-point numbers",
            "rl.audit, rl.linear_map and rl.linearize take such batches.",
        )
    x, y = _rows(found.main, "a batch of x"), found.labels
    if x.ndim < 2:
        raise ShapeError(
            f"a batch of shape {tuple(x.shape)}", "rows (b, ...)", "Put the batch axis first."
        )
    check_finite(x, "a batch of x")
    if y is not None:
        y = _labels_of(x, y, "Yield as many labels as rows in each batch.")
    return x, y, next((name for name in found.kwargs), None)


def _rows(x: object, name: str) -> Tensor:
    """``x`` as a plain tensor of numbers."""
    check_floating(x, name)
    assert isinstance(x, Tensor)
    if x.layout != torch.strided:
        layout = str(x.layout).removeprefix("torch.")
        raise DtypeError(
            f"{name} of layout {layout}", "a dense tensor", "Convert it with .to_dense()."
        )
    return x.detach()


def _labels_of(x: Tensor, y: Any, fix: str) -> Tensor:
    """The labels of the rows of ``x``; ShapeError where there are not as many."""
    labels = _labels(y)
    if len(labels) != len(x):
        got = f"{len(labels)} labels for {len(x)} rows"
        raise ShapeError(got, "one label for each row", fix)
    return labels


def _labels(y: object) -> Tensor:
    if not isinstance(y, Tensor) or y.is_complex() or y.ndim == 0:
        raise DtypeError(
            f"labels of type {type(y).__name__}",
            "a real tensor (n,) or (n, O)",
            "Use torch.as_tensor.",
        )
    if y.is_floating_point():
        check_finite(y, "y")
    return y.detach()


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The held-out rows: those whose hash is at most ``threshold``.

    The hash is one of a row's numbers, so that batches may come in another order each time, and
    equal rows are on the same side.
    """

    threshold: int
    seed: int

    @classmethod
    def of(cls, sample: Tensor, seed: int) -> HeldOut:
        """A quarter of the distinct rows of a sample, and all further rows with such hashes.

        Example:
            >>> rows = torch.arange(40.0).reshape(20, 2).repeat(3, 1)
            >>> held = HeldOut.of(rows, seed=0)(rows)
            >>> int(held.sum()), bool((held[:20] == held[20:40]).all())
            (15, True)
        """
        hashes = _hashes(sample, seed).unique()
        if len(hashes) < MIN_DISTINCT_ROWS:
            raise InputError(
                f"{len(hashes)} distinct rows",
                f"at least {MIN_DISTINCT_ROWS}: some are held out, "
                "to judge what is fitted on the others",
                "Pass more rows.",
            )
        return cls(int(hashes[len(hashes) // HELD_OUT_SHARE - 1]), seed)

    def __call__(self, x: Tensor) -> Tensor:
        """A mask ``(n,)`` of the rows that are held out."""
        return _hashes(x, self.seed) <= self.threshold


def repeated(x: Tensor, others: Tensor) -> Tensor:
    """A mask ``(n,)`` of the rows of ``x`` that are also among ``others``.

    Example:
        >>> repeated(torch.tensor([[1.0], [2.0]]), torch.tensor([[2.0], [3.0]])).tolist()
        [False, True]
    """
    return torch.isin(row_keys(x), row_keys(others)).to(x.device)


def _hashes(x: Tensor, seed: int) -> Tensor:
    """One integer of 64 bits for each row, ``(n,)``; 0 and -0 are the same number."""
    flat = x.detach().flatten(1)
    width = flat.shape[1]
    random = torch.randint(-(2**62), 2**62, (width,), generator=stream(seed, "held out"))
    factors = (2 * random + 1).to(flat.device)
    found = []
    for rows in flat.split(max(1, HASHED_NUMBERS // max(1, width))):
        bits = (rows + 0.0).contiguous().view(INTEGERS[rows.element_size()])
        mixed = (bits.long() * factors).sum(1)
        mixed = (mixed ^ (mixed >> 31)) * MIXER
        found.append(mixed ^ (mixed >> 29))
    return torch.cat(found) if found else flat.new_zeros(0, dtype=torch.int64)


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
                "Pass a function that does not average, such as one with reduction='none', "
                "summed over the outputs.",
            )
        return found.detach().reshape(-1)

    def hits(self, out: Tensor, y: Tensor) -> Tensor | None:
        """True for each row that is classified correctly; None without classes."""
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

    Example:
        >>> y = torch.tensor([0, 1, 1])
        >>> task_for(y, 1, None).loss, task_for(2 * y, 3, None).loss
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
                "Pass two classes, or another loss.",
            )
        margin = (
            (lambda m: softplus(-m)) if loss == "logistic" else (lambda m: (1 - m).clamp_min(0))
        )
        return Task(loss, 1, lambda out, t: margin(out * t)[:, 0], signs=True, cut=0.0)
    cut = (0.0 if bool((values < 0).any()) else 0.5) if binary else None
    return Task(loss, out_dim, lambda out, t: (out - t).square().sum(1) / 2, cut=cut)


def _binary(values: Tensor) -> bool:
    """True if the values are 0 and 1, or -1 and 1."""
    found = set(values.unique().tolist()) if values.numel() else set()
    return len(found) == 2 and (found == {0, 1} or found == {-1, 1})


def _check_classes(values: Tensor, whole: bool, out_dim: int) -> None:
    if values.shape[1] != 1 or not whole:
        raise ShapeError(
            f"labels of shape {tuple(values.shape)} and dtype {values.dtype}",
            "integer classes (n,)",
            "Pass y.argmax(1) for one-hot rows, y.long() for classes, or loss='square'.",
        )
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= out_dim:
        raise ShapeError(
            f"classes from {low} to {high} for {out_dim} outputs",
            f"classes from 0 to {out_dim - 1}",
            "Renumber the labels, or audit the model that they belong to.",
        )

"""Tasks of linear networks: rows, classes, entries of a matrix, or linear measurements of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn.functional import log_softmax, softplus

from rectilinear.errors import ConfigError, InputError, ShapeError
from rectilinear.notebook import short_repr
from rectilinear.scalars import check_finite_array

LossName: TypeAlias = Literal["square", "logistic", "cross_entropy"]
Kind: TypeAlias = Literal["rows", "entries", "sensing"]


@dataclass(frozen=True, eq=False)
class Task:
    """Linear measurements of a map ``W`` ``(m, d)``, their targets and a loss, over ``runs``.

    :func:`regression`, :func:`classification`, :func:`completion` and :func:`sensing` make one.

    Attributes:
        kind: how ``W`` is measured: ``rows``, ``X W'``; ``entries``, all of them; or ``sensing``,
            ``<A_k, W>``.
        design: ``(*runs, n, d)`` for rows, ``(*runs, n, m, d)`` for sensing; empty for entries.
        target: ``(*runs, n, k)``, ``k`` numbers a measurement.
        share: ``(*runs, n)``, the weight of each measurement in the loss; they add up to one.
        loss: the name of the loss of a measurement, summed over its ``k`` numbers.
        shape: ``(m, d)``.
    """

    kind: Kind
    design: np.ndarray
    target: np.ndarray
    share: np.ndarray
    loss: LossName
    shape: tuple[int, int]

    __repr__ = short_repr

    @property
    def runs(self) -> tuple[int, ...]:
        """The shape of the batch, ``()`` for one task that all networks share."""
        return np.broadcast_shapes(self.target.shape[:-2], self.share.shape[:-1])

    def operator(self) -> np.ndarray:
        """The measurements as a matrix ``(*runs, n k, m d)`` on the rows of ``W``, one by one."""
        m, d = self.shape
        if self.kind == "entries":
            return np.broadcast_to(np.eye(m * d), (*self.runs, m * d, m * d))
        if self.kind == "sensing":
            return self.design.reshape(*self.design.shape[:-2], m * d)
        blocks = np.einsum("...nd,ij->...nijd", self.design, np.eye(m))
        return blocks.reshape(*self.design.shape[:-2], -1, m * d)

    def on(self, dtype: torch.dtype, device: torch.device | str) -> Loss:
        """The loss of a batch of runs as a torch function, computed in ``dtype`` on ``device``."""
        axes = (3 if self.kind == "sensing" else 2, 2, 1)
        design, target, share = (
            torch.as_tensor(np.array(array), dtype=dtype, device=device).reshape(
                -1, *np.shape(array)[np.ndim(array) - count :]
            )
            if array.size
            else torch.zeros(0, dtype=dtype, device=device)
            for array, count in zip((self.design, self.target, self.share), axes, strict=True)
        )
        return Loss(self.kind, design, target, share, self.loss)


@dataclass(frozen=True, eq=False)
class Loss:
    """The loss ``(runs,)`` of maps ``(runs, m, d)``; the fields are those of :class:`Task`."""

    kind: Kind
    design: Tensor
    target: Tensor
    share: Tensor
    name: LossName

    def predict(self, maps: Tensor) -> Tensor:
        """The measurements ``(runs, n, k)`` of the maps."""
        if self.kind == "entries":
            return maps.flatten(1)[..., None]
        if self.kind == "sensing":
            return self.design.flatten(2) @ maps.flatten(1)[..., None]
        return self.design @ maps.mT

    def __call__(
        self, maps: Tensor, *, share: Tensor | None = None, target: Tensor | None = None
    ) -> Tensor:
        """The loss, with other shares or targets than its own where they are given."""
        found = self.predict(maps)
        wanted = self.target if target is None else target
        if self.name == "square":
            each = (found - wanted).square().sum(-1) / 2
        elif self.name == "logistic":
            each = softplus(-wanted * found).sum(-1)
        else:
            each = -(wanted * log_softmax(found, -1)).sum(-1)
        return ((self.share if share is None else share) * each).sum(-1)


def regression(X: ArrayLike, y: ArrayLike) -> Task:
    """The task of predicting rows: half the mean over rows of the squared errors, ``W x ~ y``.

    Networks have no bias: give centred data, or a column of ones. The mean of the loss is as in
    :func:`~rectilinear.deeplinear.train_ensemble`.

    Args:
        X: inputs ``(n, d)``, or ``(runs, n, d)``.
        y: targets ``(n,)`` or ``(n, m)``, likewise.

    Raises:
        ShapeError: if rows do not agree.
        NonFiniteError: for NaN or infinite numbers.

    Example:
        >>> regression(np.eye(3), np.ones((3, 2))).shape
        (2, 3)
    """
    inputs, outputs = _rows(X, y)
    return _of_rows(inputs, outputs, "square")


def classification(X: ArrayLike, y: ArrayLike) -> Task:
    """The task of predicting classes: logistic loss for two of them, cross-entropy for more.

    With two classes there is one output and the loss of a row is ``log(1 + exp(-s w'x))`` with
    ``s = 1`` for the larger label and ``-1`` for the other.

    Args:
        X: inputs ``(n, d)``, or ``(runs, n, d)``.
        y: labels ``(n,)``, likewise.

    Raises:
        InputError: for fewer than two classes.
        ShapeError: if rows do not agree.

    Example:
        >>> task = classification(np.eye(3), ["a", "b", "c"])
        >>> task.loss, task.shape
        ('cross_entropy', (3, 3))
    """
    labels = np.asarray(y)
    classes = np.unique(labels)
    if len(classes) < 2:
        raise InputError(f"{len(classes)} class", "at least two")
    if len(classes) == 2:
        inputs, signs = _rows(X, np.where(labels == classes[1], 1.0, -1.0))
        return _of_rows(inputs, signs, "logistic")
    inputs, hot = _rows(X, (labels[..., None] == classes).astype(float))
    return _of_rows(inputs, hot, "cross_entropy")


def completion(matrix: ArrayLike, mask: ArrayLike) -> Task:
    """The task of completing a matrix: half the mean squared error over the entries of a mask.

    Args:
        matrix: ``(m, d)``, or ``(runs, m, d)``; entries outside of the mask are not read.
        mask: of the same shape, true where an entry is seen.

    Raises:
        ShapeError: if the shapes differ.
        InputError: for a mask without entries.

    Example:
        >>> completion([[1.0, 2.0], [3.0, np.nan]], [[True, True], [True, False]]).share
        array([0.33333333, 0.33333333, 0.33333333, 0.        ])
    """
    seen, values = np.asarray(mask, dtype=bool), np.asarray(matrix, dtype=float)
    if seen.shape != values.shape or values.ndim < 2:
        raise ShapeError(
            f"a matrix of shape {values.shape} and a mask of shape {seen.shape}",
            "(m, d), or (runs, m, d), for both",
            "Give a mask of the shape of the matrix.",
        )
    values = np.where(seen, values, 0.0)
    check_finite_array(values, "matrix")
    flat = seen.reshape(*seen.shape[:-2], -1)
    if not flat.any(-1).all():
        raise InputError(
            "a mask without entries",
            "at least one entry in each run",
            "Keep the runs of kept = mask.any((-2, -1)): completion(matrix[kept], mask[kept])."
            if flat.any()
            else "",
        )
    share = flat / flat.sum(-1, keepdims=True)
    target = values.reshape(*values.shape[:-2], -1, 1)
    return Task(
        "entries", np.zeros(0), target, share, "square", (values.shape[-2], values.shape[-1])
    )


def sensing(matrices: ArrayLike, y: ArrayLike) -> Task:
    """The task of finding a matrix from linear measurements ``<A_k, W> ~ y_k``, least squares.

    Args:
        matrices: ``A`` ``(n, m, d)``, or ``(runs, n, m, d)``.
        y: ``(n,)``, likewise.

    Raises:
        ShapeError: if the numbers of measurements differ.

    Example:
        >>> sensing(np.ones((5, 2, 3)), np.ones(5)).operator().shape
        (5, 6)
    """
    design, target = np.asarray(matrices, dtype=float), np.asarray(y, dtype=float)
    if design.ndim < 3 or target.shape != design.shape[:-2]:
        raise ShapeError(
            f"measurements of shape {design.shape} and targets of shape {target.shape}",
            "(n, m, d) and (n,), or with runs in front",
            "Write one measurement as matrices[None], a column of targets as y.ravel().",
        )
    check_finite_array(design, "matrices")
    check_finite_array(target, "y")
    share = np.full(target.shape, 1 / target.shape[-1])
    return Task("sensing", design, target[..., None], share, "square",
                (design.shape[-2], design.shape[-1]))  # fmt: skip


def _of_rows(X: np.ndarray, y: np.ndarray, loss: LossName) -> Task:
    assert loss in get_args(LossName)
    share = np.full(X.shape[:-1], 1 / X.shape[-2])
    return Task("rows", X, y, share, loss, (y.shape[-1], X.shape[-1]))


def _rows(X: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    try:
        inputs, outputs = np.asarray(X, dtype=float), np.asarray(y, dtype=float)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            "data that are no numbers",
            "arrays of numbers",
            "Encode text as numbers, and give all rows one length.",
        ) from error
    if outputs.ndim == inputs.ndim - 1:
        outputs = outputs[..., None]
    if inputs.ndim < 2 or inputs.shape[:-1] != outputs.shape[:-1] or 0 in inputs.shape:
        raise ShapeError(
            f"X of shape {inputs.shape} and y of shape {np.shape(y)}",
            "X (rows, inputs) and y (rows,) or (rows, outputs), with runs in front or not",
            "Write one input as X[:, None]."
            if inputs.ndim == 1
            else "Write X.T, a row for each of y."
            if inputs.ndim == 2 and inputs.shape[1:] == outputs.shape[:1]
            else "",
        )
    check_finite_array(inputs, "X")
    check_finite_array(outputs, "y")
    return inputs, outputs

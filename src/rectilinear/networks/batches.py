"""Data in common forms as batches that a model can be called on."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rectilinear.checks import check_finite
from rectilinear.errors import ConfigError, DataError, DtypeError, ShapeError
from rectilinear.scalars import check_same_order

BATCH_SIZE = 32
LABELS = ("labels", "label", "label_ids")  # keys of a mapping that are not the model's
REAL = ("attention_mask",)  # masks that are 1 at real tokens
PADDED = ("src_key_padding_mask", "key_padding_mask", "padding_mask")  # and 1 at padding
NO_LIMIT = 10**6  # tokens from which on a tokenizer's limit is none

Tokenizer = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Batch:
    """One call of a model: ``model(*args, **kwargs)``.

    Attributes:
        args: positional arguments.
        kwargs: keyword arguments.
        mask: ``(b, t)``, True at real tokens and False at padding; None without padding.
        labels: ``(b, ...)``, or None.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    mask: Tensor | None = None
    labels: Tensor | None = None

    @property
    def main(self) -> Tensor:
        """The first tensor, ``(b, ...)``: ids, images, rows."""
        return next(v for v in (*self.args, *self.kwargs.values()) if isinstance(v, Tensor))

    def __len__(self) -> int:
        return len(self.main)

    def with_main(self, value: Tensor) -> Batch:
        """The batch with another first tensor."""
        old = self.main
        args = tuple(value if v is old else v for v in self.args)
        return replace(
            self, args=args, kwargs={n: value if v is old else v for n, v in self.kwargs.items()}
        )

    def take(self, rows: Tensor | slice) -> Batch:
        """The batch of some of the samples, by indices, a mask ``(b,)``, or a slice.

        Example:
            >>> Batch((torch.arange(6).reshape(3, 2),)).take(slice(1)).main.tolist()
            [[0, 1]]
        """
        size = len(self)

        def of(value: Any) -> Any:
            if not isinstance(value, Tensor) or value.ndim == 0 or len(value) != size:
                return value
            return value[rows if isinstance(rows, slice) else rows.to(value.device)]

        return Batch(
            tuple(map(of, self.args)),
            {name: of(value) for name, value in self.kwargs.items()},
            of(self.mask),
            of(self.labels),
        )

    def to(self, like: Tensor) -> Batch:
        """On the device of ``like``, floats in its dtype; labels stay as they are."""

        def of(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            return value.to(like) if value.is_floating_point() else value.to(like.device)

        return Batch(
            tuple(map(of, self.args)),
            {name: of(value) for name, value in self.kwargs.items()},
            None if self.mask is None else self.mask.to(like.device),
            self.labels,
        )


class Batches:
    """A re-iterable of :class:`Batch`, each time the same; made by :func:`read_batches`.

    Attributes:
        like: an empty tensor of the model's dtype and device.
    """

    def __init__(self, like: Tensor, start: Callable[[], Iterator[Batch]]) -> None:
        self.like = like
        self._start = start
        self._size: int | None = None

    def __iter__(self) -> Iterator[Batch]:
        seen = 0
        for batch in self._start():
            if not len(batch):
                continue
            seen += len(batch)
            yield batch.to(self.like)
        if not seen:
            raise DataError("no data", "at least one sample", "Pass data that are not empty.")
        self._size = seen

    @property
    def size(self) -> int:
        """The number of samples; the first access reads them all."""
        if self._size is None:
            for _ in self:
                pass
        assert self._size is not None
        return self._size

    def head(self, samples: int) -> Batch:
        """The first batch, or the first samples of it where it has more.

        Example:
            >>> read_batches(torch.randn(100, 3), nn.Linear(3, 1)).head(8).main.shape
            torch.Size([8, 3])
        """
        return next(iter(self)).take(slice(samples))


def check_is_module(model: object) -> nn.Module:
    """The model, if torch knows it.

    Raises:
        DtypeError: for anything but a module, such as a model of scikit-learn.

    Example:
        >>> check_is_module(nn.Linear(2, 1))
        Linear(in_features=2, out_features=1, bias=True)
    """
    if not isinstance(model, nn.Module):
        raise DtypeError(
            f"a model of type {type(model).__name__}",
            "a torch.nn.Module",
            "Wrap a function in one; build networks of scikit-learn, Keras or ONNX in torch first.",
        )
    return model


def read_batches(
    data: Any,
    model: nn.Module,
    labels: Any = None,
    *,
    tokenizer: Tokenizer | None = None,
    batch_size: int = BATCH_SIZE,
) -> Batches:
    """Batches of the data, on the device and in the floating-point dtype of the model.

    ========================================  ====================================================
    data                                      the call
    ========================================  ====================================================
    tensor, array, data frame ``(n, ...)``    ``model(x)``
    mapping of such                           ``model(**batch)``, without its "labels"
    tuple of such                             ``model(a, b)`` for a model that requires two, and
                                              so on; one more are the labels: ``(x, y)``
    tuple of a mapping and labels             ``model(**batch)``
    list of texts, with ``tokenizer``         ``model(**tokenizer(texts))``, padded on the right
    ``DataLoader`` or list of any of these    as each of its batches, whose size it keeps
    ========================================  ====================================================

    A mapping's ``attention_mask`` ``(b, t)`` marks the real tokens; ``src_key_padding_mask`` and
    the like mark the padding. Arrays that are given as a whole are cut into batches.

    Args:
        data: any of these; read again at each iteration.
        model: whose device, dtype and required arguments count; nothing else is asked of it.
        labels: ``(n, ...)``, where the data are whole and have none among them.
        tokenizer: a function of a list of texts, such as those of Hugging Face.
        batch_size: samples in a batch, of data that come whole.

    Raises:
        ConfigError: for a batch size below one.
        DataError: for data that can be read once only, are empty, or texts without a tokenizer.
        DtypeError: for data of another form.
        ShapeError: for parts of unequal lengths.
        NonFiniteError: for NaN or infinite numbers.

    Example:
        >>> net = nn.Embedding(9, 2)
        >>> words = {"input": torch.tensor([[1, 2], [3, 0]])}
        >>> [len(batch) for batch in read_batches(words, net, batch_size=1)]
        [1, 1]
    """
    check_is_module(model)
    check_same_order(data, labels)
    data, labels = array_of(data), array_of(labels)
    if batch_size < 1:
        raise ConfigError(f"batch_size = {batch_size}", "at least 1")
    reader = _Reader(_required(model), tokenizer, _most_tokens(model))
    like = _like(model)
    if _is_whole(data):
        everything = reader.is_text(data) or reader.batch(data)
        if isinstance(everything, Batch):
            everything = _labelled(everything, labels)
            return Batches(like, lambda: _cut(everything, batch_size))
        known = None if labels is None else as_tensor(labels, "labels")
        if known is not None and len(known) != len(data):
            raise ShapeError(
                f"{len(known)} labels for {len(data)} texts",
                "one label for each text",
                "Pass as many labels as texts.",
            )
        return Batches(like, lambda: _cut_texts(reader, data, known, batch_size))
    if not isinstance(data, Iterable):
        raise DtypeError(
            f"data of type {type(data).__name__}",
            "a tensor, an array, a mapping, a tuple, texts, or batches of these",
            "Convert it with torch.as_tensor.",
        )
    check_rereadable(data, labels)
    return Batches(like, lambda: (reader.batch(part) for part in data))


def check_rereadable(batches: Iterable[Any], labels: Any) -> None:
    """Raise a DataError for batches that can be read once only, or with labels beside them."""
    if iter(batches) is batches:
        raise DataError(
            "batches that can be read only once",
            "an iterable that starts again, such as a DataLoader or a list",
            "Pass the DataLoader instead of an iterator or a generator.",
        )
    if labels is not None:
        raise DataError(
            "batches and, apart from them, labels",
            "batches of (x, y)",
            "Let each batch bring its labels.",
        )


def one_batch(part: Any) -> Batch:
    """A tensor, an array, a mapping or a tuple as one batch, on its present device.

    Example:
        >>> one_batch((torch.zeros(3, 2), torch.ones(3))).labels.tolist()
        [1.0, 1.0, 1.0]
    """
    return _Reader(1, None, None).batch(part)


def _is_whole(data: Any) -> bool:
    """True if the data are one batch, or texts, rather than an iterable of batches."""
    if isinstance(data, Tensor | Mapping | np.ndarray | tuple):
        return True
    return isinstance(data, Sequence) and bool(data) and isinstance(data[0], str)


@dataclass(frozen=True)
class _Reader:
    """Makes a :class:`Batch` of one batch in any form."""

    required: int
    tokenizer: Tokenizer | None
    most_tokens: int | None

    def is_text(self, data: Any) -> bool:
        """True for texts."""
        if isinstance(data, str):
            raise DtypeError("one text", "a list of texts", "Put it into a list.")
        return (
            isinstance(data, Sequence)
            and bool(data)
            and all(isinstance(text, str) for text in data)
        )

    def batch(self, part: Any) -> Batch:
        if self.is_text(part):
            return self._tokenized(part)
        if isinstance(part, Mapping):
            return _from_mapping(part)
        if not isinstance(part, tuple | list):
            return _checked(Batch((as_tensor(part, "x"),)))
        if isinstance(part[0], Mapping) or self.is_text(part[0]):
            return self._with_labels(self.batch(part[0]), part[1:])
        values = [as_tensor(value, f"part {i + 1} of a batch") for i, value in enumerate(part)]
        for value in part[1:]:
            check_same_order(part[0], value)
        count = min(self.required, len(values))
        return self._with_labels(Batch(tuple(values[:count])), values[count:])

    def _with_labels(self, batch: Batch, rest: Sequence[Any]) -> Batch:
        if len(rest) > 1:
            raise DataError(
                f"a batch of {len(batch.args or (0,)) + len(rest)} parts",
                f"the {self.required} that the model requires, and perhaps labels",
                "Give a mapping of the model's arguments instead.",
            )
        return _checked(_labelled(batch, rest[0] if rest else None))

    def _tokenized(self, texts: Sequence[str]) -> Batch:
        if self.tokenizer is None:
            raise DataError(
                "texts without a tokenizer", "numbers, or a tokenizer", "Pass tokenizer=."
            )
        limit = min(
            (n for n in (self.most_tokens, getattr(self.tokenizer, "model_max_length", None)) if n),
            default=NO_LIMIT,
        )
        try:
            cut = {"truncation": True, "max_length": int(limit)} if limit < NO_LIMIT else {}
            found = self.tokenizer(list(texts), **cut)
        except TypeError:  # a plain function of texts
            found = self.tokenizer(list(texts))
        if not isinstance(found, Mapping):
            found = {"input_ids": found}
        return _from_mapping(_padded(found, getattr(self.tokenizer, "pad_token_id", None) or 0))


def _padded(found: Mapping[str, Any], padding: int) -> dict[str, Any]:
    """Lists of lists of numbers as tensors, padded on the right, with the mask of what is real."""
    if all(isinstance(v, Tensor | np.ndarray) for v in found.values()):
        return dict(found)
    lengths = [len(ids) for ids in found["input_ids"]]
    longest = max(lengths)
    out: dict[str, Any] = {}
    for name, rows in found.items():
        fill = padding if name == "input_ids" else 0
        filled = [list(row) + [fill] * (longest - len(row)) for row in rows]
        out[name] = torch.tensor(filled, dtype=torch.long)
    real = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return out | ({} if "attention_mask" in out else {"attention_mask": real.long()})


def _from_mapping(part: Mapping[str, Any]) -> Batch:
    """A mapping as keyword arguments; labels and masks are found by their names."""
    kwargs = {name: _argument(value, name) for name, value in part.items()}
    labels = next((kwargs.pop(name) for name in LABELS if name in kwargs), None)
    if not any(isinstance(value, Tensor) for value in kwargs.values()):
        raise DataError(
            f"a mapping of {', '.join(map(repr, part)) or 'nothing'}",
            "at least one tensor among the model's arguments",
            "Name the arguments of the model's forward, with tensors as values.",
        )
    mask: Tensor | None = None
    for name in (*REAL, *PADDED):
        found = kwargs.get(name)
        if mask is None and isinstance(found, Tensor) and found.ndim == 2:
            real = found if name in REAL else ~_is_padding(found)
            mask = real.bool()
    return _checked(Batch((), kwargs, mask, labels if isinstance(labels, Tensor) else None))


def _is_padding(mask: Tensor) -> Tensor:
    return mask if mask.dtype == torch.bool else mask != 0


def _argument(value: Any, name: str) -> Any:
    """A tensor of what holds numbers; anything else, such as a flag, as it is."""
    value = array_of(value)
    if isinstance(value, Tensor | np.ndarray):
        return as_tensor(value, f"'{name}'")
    if isinstance(value, list | tuple) and value and isinstance(value[0], list | int | float):
        try:
            return torch.as_tensor(value)
        except (ValueError, TypeError, RuntimeError) as error:
            raise DataError(
                f"'{name}' as lists of unequal lengths",
                "one tensor",
                "Pad them: tokenizer(texts, padding=True, return_tensors='pt').",
            ) from error
    return value


def array_of(value: Any) -> Any:
    """The array of a data frame or series, of pandas or polars; anything else as it is."""
    if isinstance(value, Tensor | np.ndarray) or not hasattr(value, "to_numpy"):
        return value
    return np.ascontiguousarray(value.to_numpy())  # sums do not depend on how a frame is stored


def as_tensor(value: Any, name: str) -> Tensor:
    """A tensor of an array, a data frame or a tensor, without gradients."""
    value = array_of(value)
    if isinstance(value, Tensor):
        if value.layout != torch.strided:
            layout = str(value.layout).removeprefix("torch.")
            raise DtypeError(
                f"{name} of layout {layout}", "a dense tensor", "Convert it with .to_dense()."
            )
        return value.detach()
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        native = value.astype(value.dtype.newbyteorder("="), copy=False)
        return torch.from_numpy(native if native.flags.writeable else native.copy())
    kind = f"array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
    raise DtypeError(
        f"{name} of type {kind}",
        "a tensor or an array of real numbers",
        "Convert it: torch.tensor(rows) of lists, frame.astype(float) of a data frame of pandas, "
        "frame.cast(float) of polars.",
    )


def as_pair(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Points and their labels as tensors, each of a tensor, an array or a data frame.

    Raises:
        DtypeError: for anything else.
        DataError: for data frames whose rows are in different orders.

    Example:
        >>> [part.shape for part in as_pair(np.zeros((3, 2)), torch.ones(3))]
        [torch.Size([3, 2]), torch.Size([3])]
    """
    check_same_order(x, y)
    return as_tensor(x, "x"), as_tensor(y, "labels")


def check_labels_once(own: Any, given: Any) -> None:
    """Raise a DataError for labels among the data and beside them."""
    if own is not None and given is not None:
        raise DataError(
            "labels twice, among the data and beside them", "labels once", "Leave one of them out."
        )


def _labelled(batch: Batch, labels: Any) -> Batch:
    if labels is None:
        return batch
    check_labels_once(batch.labels, labels)
    found = as_tensor(labels, "labels")
    if found.ndim == 0 or len(found) != len(batch):
        raise ShapeError(
            f"labels of shape {tuple(found.shape)} for {len(batch)} samples",
            "one label for each sample",
            "Pass labels (n,) or (n, o) of the same samples, in their order.",
        )
    return replace(batch, labels=found)


def _checked(batch: Batch) -> Batch:
    """The batch, after checks of its numbers and of its mask's length."""
    if batch.main.ndim == 0:
        raise ShapeError("a tensor of one number", "samples (n, ...)", "Put the batch axis first.")
    for value in (*batch.args, *batch.kwargs.values()):
        if isinstance(value, Tensor) and value.is_floating_point() and value is batch.main:
            check_finite(value, "the data")
    if batch.mask is not None and not bool(batch.mask.any(1).all()):
        raise DataError(
            "samples that are all padding",
            "at least one real token in each",
            "Leave these samples out.",
        )
    return batch


def _cut(batch: Batch, size: int) -> Iterator[Batch]:
    for start in range(0, len(batch), size):
        yield batch.take(slice(start, start + size))


def _cut_texts(
    reader: _Reader, texts: Sequence[str], labels: Tensor | None, size: int
) -> Iterator[Batch]:
    for start in range(0, len(texts), size):
        part = slice(start, start + size)
        yield _labelled(reader.batch(texts[part]), None if labels is None else labels[part])


def _like(model: nn.Module) -> Tensor:
    held = [*model.parameters(), *model.buffers()]
    first = next((p for p in held if p.is_floating_point()), torch.empty(()))
    return first.detach().new_empty(())


def _required(model: nn.Module) -> int:
    """The number of required positional arguments of the model's ``forward``, at least one."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return 1
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return max(1, sum(p.kind in kinds and p.default is p.empty for p in parameters))


def _most_tokens(model: nn.Module) -> int | None:
    """The number of positions in the configuration of the model or a wrapped one."""
    for part in model.modules():
        found = getattr(getattr(part, "config", None), "max_position_embeddings", None)
        if isinstance(found, int) and found > 0:
            return found
    return None

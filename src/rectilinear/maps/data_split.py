"""Data in three parts: to fit maps on, to choose among them, and to test them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from rectilinear.errors import InputError
from rectilinear.networks.batches import Batch, Batches
from rectilinear.networks.sample_split import SampleSplit

Portion = Literal["fit", "choose", "test"]
CHOSEN_ON = 0.2  # share of the samples that are not held out


class Portions:
    """The samples of a data set in three parts; equal samples are in one part.

    A quarter of the samples is for "test": every reported number comes from them. A fifth of the
    others is to "choose" forms, ridges and spans, and the rest to "fit"; if too few samples remain
    for that, both are all of them.

    Example:
        >>> from torch import nn
        >>> from rectilinear.networks.batches import read_batches
        >>> data = read_batches(torch.randn(100, 3), nn.Linear(3, 1))
        >>> portions = Portions(data, seed=0)
        >>> [sum(map(len, portions.of(name))) for name in ("test", "choose", "fit")]
        [25, 15, 60]
    """

    def __init__(self, data: Batches, seed: int) -> None:
        self.data = data
        self._test = SampleSplit.of(data, seed)
        rest = Batches(data.like, lambda: self._kept(lambda batch: ~self._test(batch)))
        try:
            self._choose: SampleSplit | None = SampleSplit.of(rest, seed + 1, CHOSEN_ON)
        except InputError:
            self._choose = None

    def of(self, portion: Portion) -> Iterator[Batch]:
        """The batches of one part."""

        def chosen(batch: Batch) -> Tensor:
            test = self._test(batch)
            if portion == "test":
                return test
            if self._choose is None:
                return ~test
            choose = self._choose(batch)
            return ~test & (choose if portion == "choose" else ~choose)

        return self._kept(chosen)

    def _kept(self, chosen: Callable[[Batch], Tensor]) -> Iterator[Batch]:
        """The samples chosen; a single sample is joined to the ones before it if shapes agree.

        Models may take a batch of one for no batch, as with ``squeeze()``.
        """
        held: Batch | None = None
        for batch in self.data:
            rows = chosen(batch)
            if not bool(rows.any()):
                continue
            found = batch.take(rows)
            both = (
                joined(held, found) if held is not None and 1 in (len(held), len(found)) else None
            )
            if held is not None and both is None:
                yield held
            held = found if both is None else both
        if held is not None:
            yield held


def joined(a: Batch, b: Batch) -> Batch | None:
    """The samples of two batches as one batch; None if their shapes differ.

    Example:
        >>> both = joined(Batch((torch.zeros(2, 3),)), Batch((torch.zeros(1, 3),)))
        >>> both and both.main.shape
        torch.Size([3, 3])
    """
    fields = [((*x.args, *x.kwargs.values(), x.mask, x.labels), tuple(x.kwargs)) for x in (a, b)]
    if fields[0][1] != fields[1][1] or len(fields[0][0]) != len(fields[1][0]):
        return None
    made: list[Any] = []
    for one, other in zip(fields[0][0], fields[1][0], strict=True):
        per_sample = isinstance(one, Tensor) and one.ndim > 0 and len(one) == len(a)
        if not per_sample:
            if isinstance(one, Tensor) or one is not other:
                return None
            made.append(one)
        elif isinstance(other, Tensor) and other.shape[1:] == one.shape[1:]:
            made.append(torch.cat([one, other]))
        else:
            return None
    args, named = made[: len(a.args)], made[len(a.args) : -2]
    return Batch(tuple(args), dict(zip(a.kwargs, named, strict=True)), made[-2], made[-1])

"""Alternating splits: permutations between couplings that undo themselves at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rectilinear._seed import check_seed
from rectilinear.invertible.chain import Chain
from rectilinear.invertible.reshape import Permutation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rectilinear.invertible.base import Invertible


def alternate(
    shape: tuple[int, ...],
    couplings: Sequence[Invertible],
    orders: Sequence[tuple[int, Tensor]],
    *,
    checkpoint: bool = False,
) -> Chain:
    """A chain in which coupling ``i`` sees axis ``orders[i][0]`` in the order ``orders[i][1]`` of the input.

    The last permutations restore the order of the input, so the chain is the identity where every coupling is.
    """
    current = {axis: torch.arange(size, device="cpu") for axis, size in enumerate(shape)}

    def move(axis: int, order: Tensor) -> list[Invertible]:
        index = current[axis].argsort()[order]
        current[axis] = order
        return [] if torch.equal(index, torch.arange(len(index), device="cpu")) else [Permutation(shape, index, axis)]

    blocks: list[Invertible] = []
    for coupling, (axis, order) in zip(couplings, orders, strict=True):
        parts = [*move(axis, order), coupling]
        blocks.append(Chain(*parts) if len(parts) > 1 else coupling)
    for axis, size in enumerate(shape):
        blocks += move(axis, torch.arange(size, device="cpu"))
    return Chain(*blocks, checkpoint=checkpoint)


def random_orders(size: int, count: int, seed: int) -> list[Tensor]:
    """``count`` orders of ``size`` entries: the given one, its halves exchanged, a random one, its halves exchanged.

    Two successive couplings that keep the first half move every entry once.
    """
    generator = torch.Generator("cpu").manual_seed(check_seed(seed))
    orders: list[Tensor] = []
    for i in range(count):
        if i % 2:
            orders.append(orders[-1].roll(size // 2))
        else:
            first = torch.arange(size, device="cpu")
            orders.append(torch.randperm(size, generator=generator, device="cpu") if i else first)
    return orders

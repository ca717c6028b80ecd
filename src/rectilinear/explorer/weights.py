"""The numbers of the page in one block: large arrays in half precision, the rest in single."""

from __future__ import annotations

from base64 import b64encode
from typing import TypedDict

import numpy as np
from torch import Tensor

from rectilinear.checks import check_finite

HALF_NUMBERS = 4096  # arrays with more numbers are kept in half precision
LARGEST_HALF = float(np.finfo(np.float16).max)
PAIR_SCALE = 2048  # of the second half of a pair: what the first leaves is that much smaller


class Place(TypedDict):
    """The position of an array in the block: its type, its first byte, its length in numbers."""

    type: str
    offset: int
    length: int


class Weights:
    """Arrays one after the other, and the number of each.

    Example:
        >>> import torch
        >>> weights = Weights()
        >>> weights.add(torch.ones(2)), weights.add(torch.zeros(5000)), weights.add(None)
        (0, 1, -1)
        >>> [(place["type"], place["offset"]) for place in weights.places]
        [('f32', 0), ('f16', 8)]
    """

    def __init__(self) -> None:
        self.places: list[Place] = []
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, values: Tensor | None, *, fine: bool = False) -> int:
        """The number under which the page finds ``values``; -1 for None.

        ``fine`` keeps large arrays as pairs of halves, with 22 bits of each number.

        Raises:
            NonFiniteError: for numbers that are not finite.
        """
        if values is None:
            return -1
        array = values.detach().cpu().flatten()
        if not array.is_floating_point():
            return self._append("i32", array.numpy().astype("<i4"), len(array))
        check_finite(array, "a parameter of the generator")
        if len(array) > HALF_NUMBERS and float(array.abs().max()) <= LARGEST_HALF:
            half = array.numpy().astype("<f2")
            if not fine:
                return self._append("f16", half, len(half))
            rest = (array.numpy() - half.astype("<f4")) * PAIR_SCALE
            return self._append("pair", np.stack([half, rest.astype("<f2")]), len(half))
        return self._append("f32", array.numpy().astype("<f4"), len(array))

    def base64(self) -> str:
        """All bytes as text."""
        return b64encode(b"".join(self._parts)).decode()

    def _append(self, kind: str, array: np.ndarray, length: int) -> int:
        data = array.tobytes()
        data += bytes(-len(data) % 4)  # the next array begins at a multiple of four
        self.places.append({"type": kind, "offset": self._size, "length": length})
        self._parts.append(data)
        self._size += len(data)
        return len(self.places) - 1

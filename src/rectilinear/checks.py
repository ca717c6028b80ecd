"""Checks of arguments: floating, finite, of the right shape; counts and numbers; the tolerance."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from math import inf
from numbers import Number, Real
from operator import index
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor  # no public name says it
from torch.autograd.forward_ad import unpack_dual
from torch.nn.parameter import is_lazy

from rectilinear.errors import (
    ConfigError,
    DataError,
    DataWarning,
    DtypeError,
    InputError,
    ShapeError,
)
from rectilinear.scalars import check_finite_array
from rectilinear.scalars import is_count as is_count
from rectilinear.scalars import is_within as is_within

MISSING_CODES = (
    *(-99.0, -999.0, -9999.0, -99999.0, -999999.0, -99.9, -999.9, -9999.9, -99.99, -999.99),
    *(99.0, 999.0, 9999.0, 99999.0, 999999.0, 99.9, 999.9, 9999.9, 99.99, 999.99, -200.0),
)
"""Numbers that stand for missing values in many tables."""

STANDARDISED_REACH = 30.0  # that standardised images may lie outside 0 to 1


def check_tensor(x: object, name: str) -> None:
    """Raise unless ``x`` is a tensor, of any numbers.

    Example:
        >>> check_tensor([0, 1], "labels")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        rectilinear.errors.DtypeError: Got labels of type list; expected a torch.Tensor. Convert ...
    """
    if not isinstance(x, Tensor):
        raise DtypeError(
            f"{name} of type {type(x).__name__}",
            "a torch.Tensor",
            "Convert it with torch.as_tensor, of a data frame its .to_numpy().",
        )


def check_floating(x: object, name: str) -> None:
    """Raise unless ``x`` is a real floating-point tensor.

    Example:
        >>> check_floating(torch.ones(2, dtype=torch.int64), "x")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        rectilinear.errors.DtypeError: Got x of dtype torch.int64; expected a floating-point ...
    """
    check_tensor(x, name)
    assert isinstance(x, Tensor)
    if not x.is_floating_point():
        raise DtypeError(
            f"{name} of dtype {x.dtype}",
            "a floating-point tensor",
            "Convert it: .float() of a tensor, .astype(float) of an array or a frame of pandas, "
            ".cast(float) of polars.",
        )


def check_values(x: Tensor, name: str) -> None:
    """Raise for a tensor without values.

    Example:
        >>> check_values(torch.ones(2, device="meta"), "x")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        rectilinear.errors.InputError: Got x on the meta device, where tensors have no values; ...
    """
    if is_lazy(x):
        raise InputError(
            f"{name} in a lazy layer, without a shape",
            "a model that has run once",
            "Call it on a batch first.",
        )
    if x.is_meta:
        raise InputError(
            f"{name} on the meta device, where tensors have no values",
            "numbers",
            "Build it on another device, or move it with to_empty and load its values.",
        )


def check_finite(x: Tensor | NDArray[Any], name: str) -> None:
    """Raise if a tensor or an array of numbers holds a NaN or an infinity.

    Example:
        >>> check_finite(torch.tensor([[0.0, float("nan")]]), "data")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        rectilinear.errors.NonFiniteError: Got 1 NaN or infinite entry in data, first at (0, 1); ...
    """
    if isinstance(x, Tensor):
        check_values(x, name)
        if bool(torch.isfinite(x).all()):
            return
        x = x.detach().cpu().double().numpy() if x.is_floating_point() else x.detach().cpu().numpy()
    check_finite_array(x, name)


def check_limits(
    x: Tensor, name: str, limits: tuple[float, float] | None, widths: float = 3.0
) -> None:
    """Raise for NaN, and for values outside of ``limits`` by more than ``widths`` of their width.

    Noise, and images that are not clipped, lie within.

    Example:
        >>> check_limits(torch.tensor([0.0, 200.0]), "an image", (0, 1))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        rectilinear.errors.DataError: Got an image with values from 0 to 200; expected values ...
    """
    check_finite(x, name)
    if limits is None or not x.numel():
        return
    low, high = limits
    least, most = float(x.detach().amin()), float(x.detach().amax())
    if least < low - widths * (high - low) or most > high + widths * (high - low):
        raise DataError(
            f"{name} with values from {least:.3g} to {most:.3g}",
            f"values from {low:g} to {high:g}",
            "Scale them; divide bytes by 255.",
        )


def check_scale(x: Tensor, name: str, widths: float = 3.0) -> None:
    """Raise for images far outside 0 to 1, and for whole numbers of which one is above 1.

    Those are bytes as floats: a photo in the dark may have none above 15.

    Example:
        >>> check_scale(torch.tensor([0.0, 1.01]), "an image")
        >>> check_scale(torch.tensor([0.0, 2.0]), "an image")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        rectilinear.errors.DataError: Got an image of whole numbers from 0 to 2; expected values ...
    """
    check_floating(x, name)
    check_limits(x, name, (0, 1), widths)
    if x.numel() and float(x.detach().amax()) > 1 and bool((x == x.round()).all()):
        raise DataError(
            f"{name} of whole numbers from {float(x.amin()):g} to {float(x.amax()):g}",
            "values from 0 to 1",
            "Divide bytes by 255.",
        )


def check_batch(x: object, shape: tuple[int, ...] | None, name: str) -> None:
    """Raise unless ``x`` is a floating-point tensor of shape ``(b, *shape)`` with ``b >= 1``.

    A ``shape`` of None is any.

    Raises:
        DtypeError: if it is not a floating-point tensor.
        ShapeError: if it has another shape or no rows.

    Example:
        >>> check_batch(torch.ones(5, 3), (4,), "data")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        rectilinear.errors.ShapeError: Got data of shape (5, 3); expected (batch, 4). ...
    """
    check_floating(x, name)
    assert isinstance(x, Tensor)
    if x.ndim == 0 or (shape is not None and tuple(x.shape[1:]) != tuple(shape)):
        axes = ["..."] if shape is None else map(str, shape)
        raise ShapeError(
            got=f"{name} of shape {tuple(x.shape)}",
            expected=f"({', '.join(['batch', *axes])})",
            fix="Put the batch axis first and reshape the rest.",
        )
    if not len(x):
        raise ShapeError(f"{name} with no rows", "at least one", f"Pass {name} that is not empty.")


def whole(value: object, name: str, least: int = 0) -> int:
    """``value`` as an int, from Python, numpy or an integer tensor.

    Example:
        >>> whole(np.int64(3), "steps")
        3
    """
    try:
        number = index(value)  # type: ignore[arg-type] # which is what is asked
    except TypeError:
        number = least - 1
    if number < least:
        raise ConfigError(f"{name} = {value!r}", f"an integer of at least {least}")
    return number


def check_classes(classes: Tensor, count: int, name: str) -> None:
    """Raise unless ``classes`` are ``count`` integers from 0.

    Example:
        >>> check_classes(torch.tensor([0.0, 1.0]), 2, "labels")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        rectilinear.errors.DtypeError: Got labels of torch.float32; expected integers from 0. ...
    """
    check_tensor(classes, name)
    number = f"Number them: {name}.unique(return_inverse=True)[1]."
    if classes.is_floating_point() or classes.is_complex() or classes.dtype == torch.bool:
        rounded = classes.long()
        fix = f"Convert them: {name}.long()." if bool((rounded == classes).all()) else number
        raise DtypeError(f"{name} of {classes.dtype}", "integers from 0", fix)
    if classes.shape != (count,):
        fix = f"Write one-hot rows as {name}.argmax(1), one column as {name}.flatten()."
        raise ShapeError(
            f"{name} of shape {tuple(classes.shape)}",
            f"({count},)",
            fix if classes.shape[:1] == (count,) else "",
        )
    if int(classes.min()) < 0:
        raise ConfigError(f"{int(classes.min())} in {name}", "integers from 0", number)


def single(x: Tensor) -> Tensor:
    """``x`` in float32 where it is of half precision, which LAPACK and transforms do not know."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def is_differentiated(x: Tensor) -> bool:
    """True if derivatives are taken through ``x``: by autograd, ``torch.func``, or forward mode.

    Example:
        >>> is_differentiated(torch.ones(1)), is_differentiated(torch.ones(1, requires_grad=True))
        (False, True)
    """
    if x.requires_grad or torch.compiler.is_compiling():
        return x.requires_grad
    return is_functorch_wrapped_tensor(x) or unpack_dual(x).tangent is not None


def is_concrete(x: Tensor) -> bool:
    """True if the numbers can be read: not while a graph is traced, compiled or vectorised.

    Example:
        >>> is_concrete(torch.ones(1)), is_concrete(torch.ones(1, device="meta"))
        (True, False)
    """
    return not (x.is_meta or torch.compiler.is_compiling() or is_functorch_wrapped_tensor(x))


def is_factor(value: object) -> TypeGuard[float | Tensor]:
    """True if ``value`` can multiply: a number, of Python or numpy, or a tensor.

    Example:
        >>> is_factor(2), is_factor(np.float32(2)), is_factor("2")
        (True, True, False)
    """
    return isinstance(value, Number | Tensor) or (isinstance(value, np.ndarray) and value.ndim == 0)


def is_zero(value: object) -> bool:
    """True if ``value`` is the number 0, with which Python's ``sum`` starts.

    Example:
        >>> is_zero(0), is_zero(0.5), is_zero(torch.zeros(()))
        (True, False, False)
    """
    return isinstance(value, Real) and value == 0


def real_number(value: object, name: str) -> float | None:
    """A real number from Python, numpy or a tensor of one entry; None for what is none.

    Example:
        >>> real_number(torch.tensor(0.5), "p"), real_number(torch.ones(2), "p")
        (0.5, None)
    """
    if isinstance(value, Tensor) and value.requires_grad:
        raise InputError(f"{name} with a gradient", "a number", "Pass it as p.detach().")
    if isinstance(value, Tensor | np.ndarray) and value.ndim == 0:
        value = value.item()
    return float(value) if isinstance(value, Real) else None


def check_tolerance(value: object, name: str) -> None:
    """Raise unless ``value`` is a finite number that is not negative, or None.

    Example:
        >>> check_tolerance(-1.0, "rtol")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        rectilinear.errors.ConfigError: Got rtol = -1; expected a finite number ...
    """
    if value is None:
        return
    if (number := real_number(value, name)) is None:
        raise DtypeError(f"{name} of type {type(value).__name__}", "a number that is not negative")
    if not 0 <= number < inf:
        raise ConfigError(f"{name} = {number:g}", "a finite number that is not negative")


def tolerance(dtype: torch.dtype, scale: float = 1.0, n: int = 1) -> float:
    """Rounding error to allow for a result of size ``scale`` that sums ``n`` terms.

    ``100 eps scale sqrt(n)``: rounding errors add like a random walk, and 100 covers the handful of
    operations that a result goes through. ``scale`` is the size of the result times the condition
    number of the problem.

    Example:
        >>> tolerance(torch.float64, scale=10.0, n=4) < 1e-12
        True
    """
    return 100 * torch.finfo(dtype).eps * scale * max(n, 1) ** 0.5


def warn_of_codes(values: NDArray[np.float64], names: Sequence[str]) -> None:
    """A warning of each column with a usual code for missing values far outside of its others.

    Far is more than twice the range of the others, of which there are at least three.

    Args:
        values: ``(n, d)``; NaN are passed over.
        names: of the columns.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warn_of_codes(np.array([[3.0, 0], [4, 1], [-999, 2], [5, 3]]), ["t", "y"])
        >>> print(said[0].message)
        't' is -999 in 1 of 4 rows and else from 3 to 5; where that means missing, leave cells empty
    """
    least, most = np.fmin.reduce(values), np.fmax.reduce(values)  # of the rows, without NaN
    coded = np.isin(least, MISSING_CODES) | np.isin(most, MISSING_CODES)
    for i in map(int, np.flatnonzero(coded)):
        column = values[np.isfinite(values[:, i]), i]
        for code in {float(least[i]), float(most[i])} & set(MISSING_CODES):
            others = column[column != code]
            low, high = others.min(initial=inf), others.max(initial=-inf)
            far = max(low - code, code - high) > 2 * (high - low)
            if far and len(np.unique(others)) > 2:
                warnings.warn(
                    f"'{names[i]}' is {code:g} in {len(column) - len(others)} of {len(values)} "
                    f"rows and else from {low:g} to {high:g}; where that means missing, leave "
                    "cells empty",
                    DataWarning,
                    stacklevel=3,
                )

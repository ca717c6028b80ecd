"""Registration of verbs and of ``@``, ``+``, ``.T`` by class; their shared checks and precision."""

from __future__ import annotations

from cmath import isfinite
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import singledispatch, wraps
from inspect import signature
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from rectilinear.checks import check_finite, check_tolerance, is_concrete, real_number
from rectilinear.errors import ConfigError, DtypeError, InputError, NonFiniteError
from rectilinear.modules import precision_of
from rectilinear.operators.base import ALGEBRA, Operator

if TYPE_CHECKING:
    from functools import _SingleDispatchCallable


T = TypeVar("T")
P = ParamSpec("P")
M = TypeVar("M", bound=nn.Module)
F = TypeVar("F", bound=Callable[..., Operator])
HALF = (torch.float16, torch.bfloat16)
TOLERANCES = ("rtol", "tol", "damping")
LARGEST_POWER = 2.0**53  # beyond it floats leave whole numbers out


def verb(*, infinite: bool = False) -> Callable[[Callable[..., T]], _SingleDispatchCallable[T]]:
    """A generic function of an operator that refuses NaN and infinities, and answers with none.

    LAPACK knows no half precision: such operators are computed in float32 and the answer is rounded
    to theirs. ``infinite`` allows an infinite answer, such as the condition number of a singular
    operator.

    Raises:
        NonFiniteError: for NaN or infinite entries, also of the arguments, and for an answer too
            large for its dtype.
        ConfigError, DtypeError: for a tolerance or an exponent that is none.
        InputError: inside ``torch.func.vmap`` over the operator's numbers, on which the verb
            decides.
    """

    def decorate(default: Callable[..., T]) -> _SingleDispatchCallable[T]:
        table = singledispatch(default)
        name, (_, *arguments) = default.__name__, signature(default).parameters

        @wraps(default)
        def call(A: object, /, *args: Any, **kwargs: Any) -> T:
            if not isinstance(A, Operator):
                return table(A, *args, **kwargs)
            for tensor in _held(A):
                _require_finite(tensor, "the operator")
            for argument, value in (*zip(arguments, args, strict=False), *kwargs.items()):
                _check_argument(argument, value)
            like = A.like
            with precision_of(like), _named_failures(name, A):
                if like.dtype not in HALF:
                    result = table(A, *args, **kwargs)
                else:
                    single = [_changed(x, like.dtype, torch.float32) for x in (A, *args)]
                    wide = table(
                        *single,
                        **{k: _changed(x, like.dtype, torch.float32) for k, x in kwargs.items()},
                    )
                    result = cast("T", _changed(wide, torch.float32, like.dtype))
                    _check_answer(name, A, result if not infinite else (), wide, result)
            if not infinite:
                _check_answer(name, A, result)
            return result

        for attribute in ("register", "dispatch", "registry"):
            setattr(call, attribute, getattr(table, attribute))
        return cast("_SingleDispatchCallable[T]", call)

    return decorate


@contextmanager
def _named_failures(name: str, A: Operator) -> Iterator[None]:
    try:
        yield
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined] # not in its stub
        raise NonFiniteError(
            (
                f"{name} of a {A.out_dim} x {A.in_dim} {type(A).__name__}, on which LAPACK fails "
                f"({error})"
            ),
            f"numbers well within the range of {A.like.dtype}",
            "Scale the operator, or convert it with .double().",
        ) from error
    except RuntimeError as error:
        if "vmap" not in str(error) and "functorch" not in str(error):
            raise
        raise InputError(
            (
                f"{name} of a {A.out_dim} x {A.in_dim} {type(A).__name__} inside torch.func, which "
                "cannot map it"
            ),
            "an operator whose numbers can be read",
            (
                "In place of vmap give it all matrices along leading axes (b, ...); differentiate "
                "by torch.autograd."
            ),
        ) from error


def unknown(verb: str, A: object) -> DtypeError:
    """The error of a verb for what is neither an operator nor registered with it."""
    return DtypeError(
        f"{verb} of a {type(A).__name__}",
        "an Operator or a Linearizer",
        "Wrap a matrix as Dense(weight=matrix).",
    )


def _check_argument(name: str, value: object) -> None:
    """Raise for an argument of a verb that is NaN or infinite, or out of range."""
    if name in TOLERANCES:
        check_tolerance(value, name)
    elif name == "p":
        _check_exponent(value)
    elif isinstance(value, Tensor):
        _require_finite(value, name)
    elif isinstance(value, float | complex) and not isfinite(value):
        raise NonFiniteError(f"{name} = {value}", "a finite number")


def _check_exponent(p: object) -> None:
    if (number := real_number(p, "an exponent")) is None:
        raise DtypeError(f"an exponent of type {type(p).__name__}", "a real number")
    if not abs(number) <= LARGEST_POWER:
        raise ConfigError(
            f"the exponent {number:g}", f"a number of at most {LARGEST_POWER:.0e} in size"
        )


class Rules(Protocol[P]):
    """A function that a Python operator calls, with rules for classes of operators."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Operator: ...

    def register(self, *kinds: type[Operator]) -> Callable[[F], F]:
        """A decorator that adds a rule for operators of these classes, one class an operand."""


def rules(
    check: Callable[..., None] = lambda *_: None,
) -> Callable[[Callable[P, Operator]], Rules[P]]:
    """A function of one or two operators that ``@``, ``+``, ``*`` or ``.T`` calls, open to rules.

    ``check`` sees the operands first. Then the rule that was registered last for their classes
    answers; where it returns ``NotImplemented``, the one before it, and at last the function
    itself. All are computed in the dtype of the operators, also inside ``torch.autocast``.
    """

    def decorate(default: Callable[P, Operator]) -> Rules[P]:
        table: list[tuple[tuple[type[Operator], ...], Callable[..., Operator]]] = []

        @wraps(default)
        def call(*args: P.args, **kwargs: P.kwargs) -> Operator:
            check(*args, **kwargs)
            with precision_of(cast("Operator", args[0]).like):
                for kinds, rule in reversed(table):
                    if all(isinstance(x, kind) for x, kind in zip(args, kinds, strict=False)):
                        answer = rule(*args, **kwargs)
                        if answer is not NotImplemented:
                            return answer
                return default(*args, **kwargs)

        def register(*kinds: type[Operator]) -> Callable[[F], F]:
            def add(rule: F) -> F:
                table.append((kinds, rule))
                return rule

            return add

        call.register = register  # type: ignore[attr-defined]
        ALGEBRA[default.__name__] = call
        return cast("Rules[P]", call)

    return decorate


def recast(A: M, change: Callable[[Tensor], Tensor], memo: dict[int, nn.Module] | None = None) -> M:
    """A shallow copy with changed tensors, which stay in the graph; shared parts stay shared."""
    memo = {} if memo is None else memo
    if id(A) in memo:
        return cast("M", memo[id(A)])
    copy = memo[id(A)] = type(A).__new__(type(A))
    copy.__dict__.update(A.__dict__)
    tensors = {**A._parameters, **A._buffers}
    copy.__dict__["_parameters"] = {}
    copy.__dict__["_buffers"] = {
        name: None if x is None else change(x) for name, x in tensors.items()
    }
    modules = {
        name: None if m is None else recast(m, change, memo) for name, m in A._modules.items()
    }
    copy.__dict__["_modules"] = modules
    return copy


def _changed(value: Any, old: torch.dtype, new: torch.dtype) -> Any:
    """Tensors and operators of the old dtype in the new one, also inside tuples."""
    if isinstance(value, Tensor):
        return value.to(new) if value.dtype == old else value
    if isinstance(value, Operator):
        return recast(value, lambda x: x.to(new) if x.dtype == old else x)
    if isinstance(value, tuple):
        parts = [_changed(part, old, new) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def _held(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, nn.Module):
        yield from (x for _, x in value.named_parameters(remove_duplicate=False))
        yield from (x for _, x in value.named_buffers(remove_duplicate=False))
    elif isinstance(value, tuple):
        for part in value:
            yield from _held(part)


def _check_answer(name: str, A: Operator, *results: object) -> None:
    """Raise where an answer is not finite; of two, where only the first is."""
    if len(results) == 3:
        pairs = zip(_held(results[1]), _held(results[2]), strict=True)
        lost = any(
            is_concrete(b) and bool((torch.isfinite(a) & ~torch.isfinite(b)).any())
            for a, b in pairs
        )
    else:
        lost = any(is_concrete(x) and not bool(torch.isfinite(x).all()) for x in _held(results[0]))
    if lost:
        raise NonFiniteError(
            got=(
                f"{name} of a {A.out_dim} x {A.in_dim} {type(A).__name__} with entries too large "
                f"for {A.like.dtype}"
            ),
            expected="a result within the range of the dtype",
            fix="Scale the operator, or convert it with .double().",
        )


def _require_finite(x: Tensor, name: str) -> None:
    if is_concrete(x) and (x.is_floating_point() or x.is_complex()):
        check_finite(x.detach(), name)

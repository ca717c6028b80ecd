"""Frozen dataclasses as JSON, and strictly back; JSON files without NaN."""

from __future__ import annotations

import json
import math
import types
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from rectilinear.errors import ConfigError, MissingDependencyError, NonFiniteError
from rectilinear.files import write_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

T = TypeVar("T")


def to_json(config: Any) -> dict[str, Any]:
    """The dataclass as a dictionary of JSON values, nested dataclasses included.

    Example:
        >>> from dataclasses import make_dataclass
        >>> to_json(make_dataclass("C", ["sizes", "path"])((1, 2), Path("a/b")))
        {'sizes': [1, 2], 'path': 'a/b'}
    """
    if not is_dataclass(config) or isinstance(config, type):
        raise ConfigError(
            f"a {type(config).__name__}", "a dataclass instance", "Pass the configuration itself."
        )
    return {f.name: _encode(getattr(config, f.name)) for f in fields(config)}


def from_json(cls: type[T], data: Mapping[str, Any]) -> T:
    """The dataclass ``cls`` from a dictionary of JSON values: the inverse of :func:`to_json`.

    Fields may be ``bool int float str Path None``, ``Literal``, unions, tuples, lists, dictionaries
    and dataclasses. A key may be missing only where the field has a default.

    Raises:
        ConfigError: for a key that is unknown, missing or of the wrong type, named by its path.

    Example:
        >>> from dataclasses import make_dataclass
        >>> from_json(make_dataclass("C", [("width", int)]), {"width": "3"})
        Traceback (most recent call last):
        rectilinear.errors.ConfigError: Got width = '3'; expected an integer.
    """
    return _decode_dataclass(cls, data, "")


def as_frame(records: Sequence[Mapping[str, Any]], index: str) -> pd.DataFrame:
    """Records as a data frame with one of their fields as the index.

    Example:
        >>> as_frame([{"name": "a", "value": 1.0}], "name").loc["a", "value"].item()
        1.0
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingDependencyError.of("to_frame", "pandas", instead="use to_json") from error
    return pd.DataFrame(list(records)).set_index(index)


def write_json(path: Path | str, obj: Any) -> None:
    """Write a dataclass or JSON values as indented JSON: the whole file, or none of it.

    Raises:
        DiskError: if the disk is full or cannot be written.
        NonFiniteError: if ``obj`` holds a NaN or an infinity, which JSON has not.
    """
    value = _encode(obj)
    try:
        text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    except ValueError as error:
        raise NonFiniteError(
            f"a NaN or an infinity for {path}", "finite numbers", "Leave it out, or write null."
        ) from error
    write_text(path, text)


def nan_to_null(value: Any) -> Any:
    """``value`` with None for each NaN and infinity, at any depth; tuples become lists.

    Example:
        >>> nan_to_null({"loss": [float("nan"), 1.0]})
        {'loss': [None, 1.0]}
    """
    if isinstance(value, dict):
        return {str(key): nan_to_null(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [nan_to_null(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _encode(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return to_json(value)
    if isinstance(value, tuple | list):
        return [_encode(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _encode(item) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(
        f"a value of type {type(value).__name__}",
        "JSON values, tuples, paths and dataclasses",
        "Write an array or a tensor as value.tolist().",
    )


def _decode_dataclass(cls: type[T], data: Any, where: str) -> T:
    assert is_dataclass(cls)
    known = [f for f in fields(cls) if f.init]
    names = [f.name for f in known]
    if not isinstance(data, dict):
        raise ConfigError(
            f"{where or 'configuration'} = {data!r}",
            f"the fields of {cls.__name__}",
            f'Write an object, {{"{names[0]}": ...}}.' if names else "Write {}.",
        )
    if unknown := sorted(set(data) - set(names)):
        raise ConfigError(
            got=f"unknown key {', '.join(_join(where, str(key)) for key in unknown)}",
            expected=f"keys of {cls.__name__}: {', '.join(names)}",
            fix="Remove or rename it.",
        )
    required = [f.name for f in known if f.default is MISSING and f.default_factory is MISSING]
    if missing := [name for name in required if name not in data]:
        raise ConfigError(
            got=f"no {', '.join(_join(where, key) for key in missing)}",
            expected=f"every key of {cls.__name__} that has no default",
        )
    hints = get_type_hints(cls)
    return cls(
        **{key: _decode(hints[key], value, _join(where, key)) for key, value in data.items()}
    )


def _decode(hint: Any, value: Any, where: str) -> Any:
    """``value`` as the type ``hint``, or ConfigError."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin is Literal:
        if any(value == choice and type(value) is type(choice) for choice in args):
            return value
        raise ConfigError(f"{where} = {value!r}", f"one of {', '.join(map(repr, args))}")
    if origin in (Union, types.UnionType):
        return _decode_union(args, value, where)
    if is_dataclass(hint):
        return _decode_dataclass(hint, value, where)  # type: ignore[arg-type] # is_dataclass also admits instances
    if origin in (tuple, list) and isinstance(value, list | tuple):
        if origin is list or args[-1] is Ellipsis:
            return origin(_decode(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
        if len(args) == len(value):
            return tuple(
                _decode(a, item, f"{where}[{i}]")
                for i, (a, item) in enumerate(zip(args, value, strict=True))
            )
    if origin is dict and isinstance(value, dict):
        return {key: _decode(args[1], item, _join(where, key)) for key, item in value.items()}
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    if hint in (int, bool, str, type(None), dict, list) and type(value) is hint:
        return value
    lone = origin in (tuple, list) and args[1:] in ((), (Ellipsis,)) and not isinstance(value, dict)
    fix = f"Write a list: [{json.dumps(value, default=str)}]." if lone else ""
    raise ConfigError(f"{where} = {value!r}", _name(hint), fix)


def _decode_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    error: ConfigError | None = None
    for option in options:
        try:
            return _decode(option, value, where)
        except ConfigError as failed:
            if error is None or is_dataclass(option):
                error = failed
    if (
        any(is_dataclass(option) for option in options)
        and isinstance(value, dict)
        and error is not None
    ):
        raise error
    raise ConfigError(f"{where} = {value!r}", " or ".join(map(_name, options)))


_KINDS = {
    type(None): "null",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "a string",
}


def _name(hint: Any) -> str:
    if hint in _KINDS:
        return _KINDS[hint]
    if get_origin(hint) in (tuple, list):
        first, *others = get_args(hint)
        if others in ([], [Ellipsis]):
            return f"a list, each entry {_name(first)}"
        return f"a list of {', '.join(map(_name, (first, *others)))}"
    return (
        hint.__name__
        if isinstance(hint, type) and not get_args(hint)
        else str(hint).replace("typing.", "")
    )


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key

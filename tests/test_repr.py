"""The text of a result is a line or a few: no class of the package prints tensors."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import makers_invertible
import makers_operators
import rectilinear as rl

SURFACE = Path(__file__).with_name("surface.txt").read_text().splitlines()
LONGEST = 1500  # characters


def public_classes() -> dict[str, type]:
    found = {}
    for name in SURFACE:
        module, _, attribute = name.strip().rpartition(".")
        if module.startswith("rectilinear"):
            value = getattr(import_module(module), attribute)
            if inspect.isclass(value):
                found[name.strip()] = value
    return found


def annotations(kind: type) -> dict[str, str]:
    """The names of the fields of a dataclass or a named tuple, with their types in words."""
    if dataclasses.is_dataclass(kind):
        return {f.name: str(f.type) for f in dataclasses.fields(kind)}
    return {f: str(kind.__annotations__[f]) for f in getattr(kind, "_fields", ())}


def content(words: str) -> Any:
    """A value with many numbers where the type says tensors or arrays; of another type, a text."""
    tensor, array = torch.rand(4, 3, 5), np.linspace(0, 1, 40).reshape(4, 10)
    one = tensor if "Tensor" in words else array
    if not any(kind in words for kind in ("Tensor", "ndarray", "NDArray", "Array")):
        return "text"
    if words.startswith(("Mapping", "dict")):
        return {"first": [one, one] if "Sequence" in words else one}
    return [one] * 9 if words.startswith(("list", "tuple", "Sequence")) else one


def filled(kind: type) -> Any:
    values = {name: content(words) for name, words in annotations(kind).items()}
    if hasattr(kind, "_fields"):
        return kind(**values)
    found = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(found, name, value)
    return found


RESULTS = {name: kind for name, kind in public_classes().items() if annotations(kind)}


def is_short(text: str) -> bool:
    return not any(words in text for words in ("tensor(", "array(", "0.")) and len(text) < LONGEST


@pytest.mark.parametrize("name", RESULTS)
def test_results_print_no_numbers_of_tensors(name: str) -> None:
    text = repr(filled(RESULTS[name]))
    assert text.startswith(RESULTS[name].__name__)
    assert is_short(text), text


def test_the_results_with_tensors_are_found() -> None:
    """Of those whose fields are tensors, there are many."""
    words = [" ".join(annotations(kind).values()) for kind in RESULTS.values()]
    assert sum("Tensor" in w or "rray" in w for w in words) > 20


@pytest.mark.parametrize(("_name", "make"), makers_operators.OPERATORS + makers_invertible.NETWORKS)
def test_modules_print_no_tensors(_name: str, make: Callable[..., nn.Module]) -> None:
    text = repr(make())
    assert "tensor(" not in text


def test_principal_components_say_their_shapes() -> None:
    space = rl.InducedSpace(rl.invertible.Identity((3,)))
    found = space.pca(torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), 2)
    assert repr(found) == (
        "PrincipalComponents(space=InducedSpace(Identity of shape (3,)), mean=float32 (3,), "
        "directions=float32 (2, 3), variances=float32 (2,))"
    )


def test_modules_are_named_and_scalars_shown() -> None:
    found = rl.svd(rl.operators.Dense(3, 2))
    assert repr(found) == f"SVD(u={found.u!r}, s=float32 (2,), v={found.v!r})"
    posterior = rl.projector.Posterior(torch.ones(2, 3), torch.ones(2, 3), torch.tensor(0.25))
    assert repr(posterior).endswith("log_evidence=0.25)")


def test_long_collections_are_cut() -> None:
    series = rl.datasets.SeriesFile([np.zeros((8, 2))] * 500, None, ("a", "b"), ("run",) * 500)
    assert repr(series).count("float64 (8, 2)") == 6
    assert repr(series).count("... of 500") == 2

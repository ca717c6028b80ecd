"""Fixtures of several folders of tests."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from rectilinear import cli
from rectilinear.datasets.mnist import FILES, find
from rectilinear.errors import DataError

settings.register_profile(
    "ci", derandomize=True
)  # a change is not refused for an example that another run found
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what ``each_value`` leaves out.

    Of a product of parameters the fast suite runs the cases in which some value comes first.
    """
    seen: dict[str, set[tuple[str, int]]] = {}
    for item in items:
        if item.get_closest_marker("each_value") and not item.get_closest_marker("slow"):
            values = {(name, id(value)) for name, value in item.callspec.params.items()}
            known = seen.setdefault(item.nodeid.split("[")[0], set())
            if values <= known:
                item.add_marker(pytest.mark.slow)
            known |= values


@pytest.fixture
def rewound(request: pytest.FixtureRequest) -> None:
    """``RNG`` of the module, of numpy or torch, at the beginning of its stream, and torch's own.

    A test then draws the same numbers whichever ran before.
    """
    torch.manual_seed(0)
    random = getattr(request.module, "RNG", None)
    if isinstance(random, torch.Generator):
        random.manual_seed(random.initial_seed())
    elif random is not None:
        stream = random.bit_generator
        stream.state = type(stream)(stream.seed_seq).state


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Run a command with --json and give its answer."""

    def run(*words: str | Path) -> dict[str, Any]:
        capsys.readouterr()
        assert cli.main([*map(str, words), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def ask_error(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command with a mistake and give the one line that it says."""

    def run(*words: object) -> str:
        capsys.readouterr()
        assert cli.main([*map(str, words)]) == 2
        lines = capsys.readouterr().err.splitlines()
        (said,) = (line for line in lines if line.startswith("rectilinear: "))
        return said

    return run


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The folder that holds MNIST: ``$RECTILINEAR_DATA``, or ``shared/data`` beside the repository;
    else skip.
    """
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    for root in filter(None, (os.environ.get("RECTILINEAR_DATA"), beside)):
        try:
            for file in sum(FILES.values(), ()):
                find("mnist", file, Path(root))
        except DataError:
            continue
        return Path(root)
    pytest.skip("MNIST is not here: set RECTILINEAR_DATA to the folder that holds it")

"""What several folders of tests share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from rectilinear.datasets.mnist import FILES, find
from rectilinear.errors import DataError

settings.register_profile(
    "ci", derandomize=True
)  # a change is not refused for an example that another run found
if os.environ.get("CI"):
    settings.load_profile("ci")


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

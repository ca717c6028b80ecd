"""Models that come with the package: trained weights in half precision, checked when loaded."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

from rectilinear.errors import CheckpointError
from rectilinear.flow import LinearFlow
from rectilinear.serialization import from_pretrained
from rectilinear.style import StyleCollection
from rectilinear.tensor_files import WEIGHTS, file_sha256

FOLDER = Path(__file__).resolve().parent / "weights"
SHA256: dict[str, str] = {
    "digits": "990a33b8e39ead069270e715d3c6b59440961c639c69c100bec8fb59ba084a17",
    "fashion_mnist": "0e5732a52334ab88578ef7b03e6cc8dae002dfcccf9efc7a448b5e6492dc4d76",
    "mnist": "efe722ef2d38f810f35bb8aeb98091a3f5e45b684f6d8ba2e9df16391037ed18",
}
"""The generators by name, and the SHA-256 of the weights of each."""
STYLES = {"styles": "63ef8ce9a2df96d10aa9a7b79a35a2687a4d51f34727316ff8776a2cf593cbaa"}
"""The collections of styles by name, likewise."""


def is_packaged(source: Path | str) -> bool:
    """True for the name of a model of the package, unless it is a folder.

    Example:
        >>> is_packaged("mnist"), is_packaged("runs/mnist")
        (True, False)
    """
    return str(source) in SHA256 | STYLES and not Path(source).is_dir()


def load_packaged(name: str) -> LinearFlow | StyleCollection:
    """The model ``name`` of the package, in float32, on the CPU and in evaluation mode."""
    expected = (SHA256 | STYLES)[name]
    found = file_sha256(FOLDER / name / WEIGHTS) if (FOLDER / name / WEIGHTS).exists() else "none"
    if found != expected:
        raise CheckpointError(
            f"weights of '{name}' with SHA-256 {found[:12]}",
            f"{expected[:12]}, those of this version",
            "Install rectilinear again.",
        )
    model = from_pretrained(FOLDER / name)
    assert isinstance(model, LinearFlow | StyleCollection)
    # Rotations, rounded to half precision, become orthogonal again on the way.
    return model.float().requires_grad_(requires_grad=False)


def load_generator(name: str) -> LinearFlow:
    """The generator ``name`` of the package."""
    model = load_packaged(name)
    if not isinstance(model, LinearFlow):
        raise CheckpointError(
            f"'{name}', a {type(model).__name__}",
            f"a generator, one of {', '.join(SHA256)}",
            "Use rectilinear stylize for styles.",
        )
    return model


def halved(flow: LinearFlow) -> LinearFlow:
    """A copy in half precision: every block is exactly invertible whatever its numbers are."""
    return deepcopy(flow).half()

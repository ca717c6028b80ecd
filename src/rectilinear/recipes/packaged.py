"""Models that come with the package: trained weights in half precision, checked when loaded."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor

from rectilinear.errors import CheckpointError
from rectilinear.flow import LinearFlow
from rectilinear.invertible import MixtureMap
from rectilinear.serialization import from_pretrained
from rectilinear.style import StyleCollection
from rectilinear.tensor_files import WEIGHTS, file_sha256

_MATRIX_BITS, _TRIANGLE_BITS = 7, 4
FOLDER = Path(__file__).resolve().parent / "weights"
SHA256: dict[str, str] = {
    "digits": "ac7a86d57e1447bdb6f00a3c4957707c4c236fe9695ac133f5eaf04aed722447",
    "fashion_mnist": "6de6d06520bb5bc0e8be1b4414cf2c4fb0db8b94fa6c2b1fe2b302025587b3c2",
    "mnist": "67c2ab63e176a774a818e9dec9be28cf69040c91e2bb31dd610cb0bd14322565",
}
"""The generators by name, and the SHA-256 of the weights of each."""
STYLES = {"styles": "7229911b52833b3e0e6a09d41321b130203ddcec7c727be18b6f63b1d205cd2a"}
"""The collections of styles by name, likewise."""
NAMES = (*SHA256, *STYLES)
"""The models of the package."""


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
    """A copy in half precision: every block is exactly invertible whatever its numbers are.

    Matrices keep seven bits of each number's fraction, and the triangles of mixtures, which are
    many and estimated from few images each, four: compressed they take little space.
    """
    found = deepcopy(flow)
    for block in found.modules():
        for name, part in [
            *block.named_parameters(recurse=False),
            *block.named_buffers(recurse=False),
        ]:
            if part.is_floating_point() and part.ndim > 1:
                triangle = isinstance(block, MixtureMap) and name == "lower"
                if triangle or not isinstance(block, MixtureMap):
                    _round(part, _TRIANGLE_BITS if triangle else _MATRIX_BITS)
    return found.half()


@torch.no_grad()
def _round(x: Tensor, bits: int) -> None:
    """Round every number in place to so many bits of its fraction."""
    fraction, exponent = torch.frexp(x)
    x.copy_(torch.ldexp((fraction * 2**bits).round() / 2**bits, exponent))

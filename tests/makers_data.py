"""Random numbers and images, a comparison, and gradient descent, for several folders of tests."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from rectilinear.learning import half_squared_error

TOLERANCE = 1e-10  # the promise for float64


def every(*groups: list) -> pytest.MarkDecorator:
    """The test with each maker of these lists, by its name."""
    pairs = [pair for group in groups for pair in group]
    return pytest.mark.parametrize(
        "make", [make for _, make in pairs], ids=[name for name, _ in pairs]
    )


def rand(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers of this shape, in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(got: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> bool:
    """True if shapes are equal and numbers within the tolerance."""
    return got.shape == expected.shape and torch.allclose(
        got, expected, rtol=tolerance, atol=tolerance
    )


def images(n: int = 200) -> Tensor:
    """Images ``(n, 1, 4, 4)`` whose pixels are correlated."""
    mix = torch.randn(20, 16, generator=torch.Generator().manual_seed(0))
    z = torch.randn(n, 20, generator=torch.Generator().manual_seed(1))
    return (0.5 + 0.1 * z @ mix).unflatten(1, (1, 4, 4))


def image_folder(root: Path, count: int, size: tuple[int, int]) -> Path:
    """A new folder of images of random colours: ``000.png``, ``001.png``, ..."""
    root.mkdir(parents=True)
    random = np.random.default_rng(0)
    for i in range(count):
        pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{i:03}.png")
    return root


def losses_of_descent(model: nn.Module, x: Tensor, y: Tensor, lr: float, steps: Tensor) -> Tensor:
    """The loss at these steps of PyTorch's own gradient descent."""
    optimizer, losses = torch.optim.SGD(model.parameters(), lr), []
    for _ in range(int(steps[-1]) + 1):
        optimizer.zero_grad()
        loss = half_squared_error(model(x), y)
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    return torch.tensor(losses, dtype=torch.float64)[steps]

"""Random numbers and a comparison that the tests share."""

import torch

TOLERANCE = 1e-10  # the promise for float64


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    """Standard normal numbers of this shape, in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(got: torch.Tensor, expected: torch.Tensor, tolerance: float = TOLERANCE) -> bool:
    """True if shapes are equal and numbers within the tolerance."""
    return got.shape == expected.shape and torch.allclose(
        got, expected, rtol=tolerance, atol=tolerance
    )

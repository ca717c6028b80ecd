"""Rows that repeat each other, and rows that are only similar."""

import pytest
import torch

from rectilinear.networks.data import repeated


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("width", [1, 2, 3, 4, 8])
def test_mirrored_rows_are_no_repeats(dtype: torch.dtype, width: int) -> None:
    """In 64 bits the signs of an even number of columns once cancelled."""
    x = torch.rand(20, width, generator=torch.Generator().manual_seed(0)).add(0.5).to(dtype)
    assert not repeated(-x, x).any()
    assert repeated(torch.cat([x, -x]), x).tolist() == [True] * 20 + [False] * 20
    assert repeated(torch.zeros(1, width, dtype=dtype), -torch.zeros(1, width, dtype=dtype)).all()

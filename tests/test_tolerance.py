import pytest
import torch

from rectilinear.checks import tolerance


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.complex128])
def test_it_covers_rounding_and_little_more(dtype):
    exact = torch.rand(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    error = abs((exact.to(dtype).sum() - exact.to(dtype).to(torch.complex128).sum()).item())
    allowed = tolerance(dtype, scale=exact.sum().item(), n=1000)
    assert error <= allowed
    assert tolerance(dtype) < 101 * torch.finfo(dtype).eps


def test_it_grows_with_scale_and_with_the_root_of_n():
    assert tolerance(torch.float32, 6.0, 25) == pytest.approx(30 * tolerance(torch.float32))

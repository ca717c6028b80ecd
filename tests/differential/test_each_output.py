"""Large outputs do not hide small ones: in blocks, in linearize, on the command line."""

import numpy as np
import pytest
import torch
from torch import nn

import rectilinear as rl
from rectilinear.networks.batches import Batch, read_batches
from rectilinear.networks.sample_split import SampleSplit

SIZES = (1e6, 1.0, 1e-6)


class Uneven(nn.Module):
    """Outputs of other sizes: the first and the last linear, the second a sine."""

    def __init__(self, sizes=SIZES):
        super().__init__()
        self.mix = nn.Linear(4, 3, bias=False)
        self.register_buffer("sizes", torch.tensor(sizes, dtype=torch.float64))

    def forward(self, x):
        h = self.mix(x)
        return torch.stack([h[:, 0], (5 * h[:, 1]).sin(), h[:, 2]], 1) * self.sizes


class Held(nn.Module):
    def __init__(self, inside):
        super().__init__()
        self.inside = inside

    def forward(self, x):
        return self.inside(x)


def rows(n=240, d=4):
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def made(sizes=SIZES):
    torch.manual_seed(0)
    return Held(Uneven(sizes)).double()


def test_linearize_tells_the_worst_output():
    found, even = (
        rl.linearize(made(sizes), rows(), blocks="inside", form="affine", progress=False)
        for sizes in (SIZES, (1.0, 1.0, 1.0))
    )
    assert found.output_r2 > 0.999
    assert found.worst_output[0] == 1
    assert found.worst_output[1] == found.blocks[0].worst_r2 < 0.6
    assert found.output_r2_each == pytest.approx(even.output_r2_each, abs=1e-9)
    assert f"of output 1 {found.worst_output[1]:.4g}" in str(found)


def test_each_share_is_that_of_numpy_on_the_rows_held_out():
    model, x = made(), rows()
    found = rl.linearize(model, x, blocks="inside", form="affine", progress=False)
    held = found.held_out
    apart = SampleSplit.of(read_batches(x, model), 0)(Batch((x,))).numpy()
    assert apart.sum() == held
    fitted = np.concatenate([x.numpy(), np.ones((len(x), 1))], 1)
    y = model(x).detach().numpy()
    map_ = np.linalg.lstsq(fitted[~apart], y[~apart], rcond=None)[0]
    left = (fitted[apart] @ map_ - y[apart]) ** 2
    shares = 1 - left.sum(0) / ((y[apart] - y[apart].mean(0)) ** 2).sum(0)
    assert found.output_r2_each == pytest.approx(shares, abs=1e-9)


def test_a_constant_output_has_no_share():
    class Constant(Uneven):
        def forward(self, x):
            return torch.cat([super().forward(x)[:, :1], 0.1 * torch.ones(len(x), 1).to(x)], 1)

    torch.manual_seed(0)
    found = rl.linearize(Held(Constant()).double(), rows(), blocks="inside", progress=False)
    assert found.worst_output == (0, pytest.approx(1))
    assert np.isnan(found.output_r2_each[1])


def test_the_blocks_of_an_audit_tell_their_worst_output():
    row = rl.audit(made(), rows(), progress=False).measures["blocks"].details["blocks"][0]
    assert row["r2"] > 0.999
    assert row["worst_r2"] == row["worst_output_r2"] < 0.6


def test_the_rank_is_a_whole_number():
    with pytest.raises(rl.errors.ConfigError, match=r"rank = 2\.5"):
        rl.linearize(made(), rows(), blocks="inside", rank=2.5, progress=False)

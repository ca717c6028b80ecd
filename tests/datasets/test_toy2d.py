import pytest
import torch

from rectilinear.datasets import toy2d
from rectilinear.datasets.synthetic import TOYS
from rectilinear.errors import ConfigError


@pytest.mark.parametrize("name", TOYS)
def test_seeded_and_of_unit_scale(name):
    x = toy2d(name, 4000, seed=3)
    assert x.shape == (4000, 2)
    assert x.dtype == torch.float32
    assert torch.equal(x, toy2d(name, 4000, seed=3))
    assert not torch.equal(x, toy2d(name, 4000, seed=4))
    assert 0.5 < x.std() < 1.5
    assert x.mean(0).abs().max() < 0.1


def test_shapes():
    assert set(TOYS) == {"moons", "rings", "checkerboard", "gaussians", "spirals"}
    field = (toy2d("checkerboard", 4000) + 2).floor()
    assert (field.sum(1) % 2 == 0).all()
    assert len(field.unique(dim=0)) == 8
    radius = toy2d("rings", 4000).norm(dim=1)
    assert torch.allclose((2 * radius).round() / 2, radius, atol=0.2)
    x = toy2d("gaussians", 4000)
    sector = (torch.atan2(x[:, 1], x[:, 0]) / (torch.pi / 4)).round() % 8
    assert (sector.long().bincount(minlength=8) > 400).all()
    moons = toy2d("moons", 4000)
    off = [
        ((moons - torch.tensor(centre)).norm(dim=1) - 1).abs()
        for centre in ([-0.5, -0.25], [0.5, 0.25])
    ]
    assert torch.minimum(*off).max() < 0.3
    spiral = toy2d("spirals", 4000)
    turn = 3 * torch.pi * spiral.norm(dim=1) / 2 - torch.atan2(spiral[:, 1], spiral[:, 0])
    off = (turn / torch.pi - (turn / torch.pi).round()).abs()[spiral.norm(dim=1) > 0.5]
    assert (
        off.quantile(0.95) < 0.25
    )  # on one of two arms, half a turn apart; at random it would be 0.475


def test_bad_arguments():
    with pytest.raises(ConfigError, match="expected one of moons"):
        toy2d("swissroll", 10)
    with pytest.raises(ConfigError, match="n = 0"):
        toy2d("moons", 0)

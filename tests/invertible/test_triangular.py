"""The triangular network: its order of coordinates, and its errors."""

import pytest
import torch

from makers_invertible import perturb
from rectilinear.errors import ConfigError
from rectilinear.invertible import TriangularFlow


def network() -> TriangularFlow:
    return perturb(TriangularFlow((4, 6, 10), blocks=2, width=8).double())


def test_leading_latents_depend_on_leading_inputs_alone() -> None:
    g = network()
    x = torch.randn(10, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: g(v[None])[0], x)
    for end in (4, 6):
        assert jacobian[:end, end:].abs().max() == 0
        assert torch.linalg.matrix_rank(jacobian[:end, :end]) == end
    assert jacobian[6:, :6].abs().max() > 0  # later ones see the leading


def test_every_coordinate_moves() -> None:
    x = torch.randn(4, 10, dtype=torch.float64)
    assert ((network()(x) - x).abs().amax(0) > 0).all()


def test_cutting_latents_off_keeps_the_leading_inputs() -> None:
    g = network()
    x = torch.randn(4, 10, dtype=torch.float64)
    z = g(x)
    z[:, 6:] = 0
    torch.testing.assert_close(g.inverse(z)[:, :6], x[:, :6])


@pytest.mark.parametrize("ends", [(), (1, 4), (4, 4), (4, 2)])
def test_segments_must_have_two_coordinates(ends: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="ends="):
        TriangularFlow(ends)


def test_settings_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="blocks=0"):
        TriangularFlow((2, 4), blocks=0)
    with pytest.raises(ConfigError, match=r"scale_budget=-1.0"):
        TriangularFlow((2, 4), scale_budget=-1.0)

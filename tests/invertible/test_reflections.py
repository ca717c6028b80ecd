import pytest
import torch

from rectilinear.errors import NotInvertibleError, ShapeError
from rectilinear.invertible import Reflections, Rotation


def orthonormal(n: int, k: int) -> torch.Tensor:
    return torch.linalg.qr(
        torch.randn(n, k, dtype=torch.float64, generator=torch.Generator().manual_seed(n + k))
    ).Q


@pytest.mark.parametrize(("n", "k"), [(7, 1), (7, 3), (7, 6), (7, 7), (1, 1)])
def test_the_leading_coordinates_are_those_along_the_axes(n: int, k: int) -> None:
    axes, mean, x = orthonormal(n, k), torch.randn(n).double(), torch.randn(5, n).double()
    g = Reflections(axes, mean)
    z = g(x)
    torch.testing.assert_close(z[:, :k], (x - mean) @ axes)
    torch.testing.assert_close(z.norm(dim=1), (x - mean).norm(dim=1))
    torch.testing.assert_close(g.inverse(z), x)


def test_all_axes_are_a_rotation() -> None:
    q, x = orthonormal(6, 6), torch.randn(4, 6).double()
    torch.testing.assert_close(Reflections(q)(x), Rotation.from_matrix(q)(x))


def test_axes_of_the_basis_itself_are_kept() -> None:
    x = torch.randn(4, 5).double()
    z = Reflections(torch.eye(5, 2).double())(x)
    torch.testing.assert_close(z[:, :2], x[:, :2])


def test_a_map_of_single_precision_is_orthogonal_to_double_after_its_conversion() -> None:
    g = Reflections(orthonormal(50, 8).float()).double()
    x = torch.randn(5, 50).double()
    torch.testing.assert_close(
        g.inverse(g(x)), x, rtol=0, atol=1e-13
    )  # whatever the rounding of the vectors


def test_what_are_no_axes_is_refused() -> None:
    with pytest.raises(NotInvertibleError, match="orthonormal"):
        Reflections(2 * torch.eye(4, 2))
    with pytest.raises(ShapeError, match=r"\(2, 4\)"):
        Reflections(torch.eye(2, 4))
    with pytest.raises(ShapeError, match="mean"):
        Reflections(torch.eye(4, 2), torch.zeros(3))
    with pytest.raises(ShapeError, match=r"\(4,\)"):
        Reflections(torch.ones(4))

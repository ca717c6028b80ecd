import pytest
import torch

from makers_invertible import perturb
from rectilinear.checks import tolerance
from rectilinear.errors import ConfigError, NotInvertibleError, ShapeError
from rectilinear.invertible import Conv1x1, Rotation

ATOL = tolerance(torch.float64, n=8)


def test_starts_as_the_fixed_matrix() -> None:
    g = Rotation(6, reflections=4).double()
    x = torch.randn(5, 6, dtype=torch.float64)
    torch.testing.assert_close(g(x), x @ g.matrix, rtol=0, atol=ATOL)


def test_is_the_product_of_its_reflections() -> None:
    g = perturb(Rotation(6, reflections=4).double())
    x = torch.randn(5, 6, dtype=torch.float64)
    expected = x @ g.matrix
    for v in g.vectors:
        expected = expected - 2 * torch.outer(expected @ v, v) / v.dot(v)
    torch.testing.assert_close(g(x), expected, rtol=0, atol=ATOL)


def test_stays_orthogonal_in_training() -> None:
    torch.manual_seed(0)
    g = Rotation(6, reflections=6).double()
    x = torch.randn(20, 6, dtype=torch.float64)
    skew = torch.randn(6, 6, dtype=torch.float64)
    target = g(x).detach() @ torch.linalg.matrix_exp(0.3 * (skew - skew.T))
    optimizer = torch.optim.Adam(g.parameters(), lr=0.05)
    errors = []
    for _ in range(60):
        optimizer.zero_grad()
        error = (g(x) - target).square().mean()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    q = g(torch.eye(6, dtype=torch.float64))
    torch.testing.assert_close(q.T @ q, torch.eye(6, dtype=torch.float64), rtol=0, atol=ATOL)
    assert errors[-1] < 0.1 * errors[0]


def test_initialisation_from_pca_decorrelates() -> None:
    x = torch.randn(50, 4, dtype=torch.float64) @ torch.randn(4, 4, dtype=torch.float64) + 3
    _, s, vh = torch.linalg.svd(x - x.mean(0))
    z = Rotation.from_matrix(vh.T, x.mean(0))(x)
    torch.testing.assert_close(z.T @ z, (s**2).diag(), rtol=0, atol=1e3 * ATOL)  # entries up to 1e3
    torch.testing.assert_close(z.mean(0), torch.zeros(4, dtype=z.dtype), rtol=0, atol=ATOL)


def test_double_precision_of_a_float32_rotation() -> None:
    g = Rotation(40).double()
    torch.testing.assert_close(
        g.matrix.T @ g.matrix, torch.eye(40, dtype=torch.float64), rtol=0, atol=ATOL
    )


def test_what_is_not_orthogonal_is_refused() -> None:
    with pytest.raises(NotInvertibleError, match="orthogonal"):
        Rotation.from_matrix(2 * torch.eye(3))
    with pytest.raises(NotInvertibleError):
        Rotation.from_matrix(torch.full((3, 3), torch.nan))
    with pytest.raises(ShapeError):
        Rotation.from_matrix(torch.eye(3)[:, :2])
    with pytest.raises(ShapeError):
        Rotation.from_matrix(torch.eye(3), torch.zeros(2))
    with pytest.raises(ConfigError, match="even"):
        Rotation(3, reflections=3)


def test_conv1x1_mixes_every_pixel_alike() -> None:
    g = perturb(Conv1x1((3, 2, 4)).double())
    x = torch.randn(5, 3, 2, 4, dtype=torch.float64)
    by_pixel = torch.stack([g.rotation(x[:, :, i, j]) for i in range(2) for j in range(4)], dim=2)
    torch.testing.assert_close(g(x).flatten(2), by_pixel, rtol=0, atol=ATOL)


def test_autocast_does_not_reach_the_product() -> None:
    g = Rotation(16)
    x = torch.randn(5, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = g(x)
    assert torch.equal(inside, g(x))

"""Projectors from PCA: equal to PCA before training, an error without such a rank."""

import pytest
import torch

from rectilinear.errors import ConfigError
from rectilinear.induced_space import InducedSpace
from rectilinear.invertible import Identity, Scaling
from rectilinear.metrics import pca_curve
from rectilinear.projector import ProjectorObjective, from_pca
from rectilinear.projector.training import tightness


def images(n: int = 60) -> torch.Tensor:
    mix = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z = torch.randn(n, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return (z @ mix).unflatten(1, (1, 2, 3))


@pytest.mark.parametrize("leading", [3, 6])
def test_it_is_pca_at_every_rank_in_the_dtype_of_the_images(leading: int) -> None:
    x = images()
    f, errors = from_pca(x, 3, leading=leading, blocks=2, width=4)
    ranks = [1, 2, 3, 5]
    found = torch.stack([(f.at(k)(x) - x).square().mean() for k in ranks])
    torch.testing.assert_close(found.detach(), pca_curve(x, x, ranks))
    torch.testing.assert_close(
        errors[ranks] * 59 / 60, pca_curve(x, x, ranks)
    )  # variances are over n - 1


def test_with_couplings_on_the_pixels_it_starts_as_pca_and_stays_idempotent() -> None:
    x = torch.rand(40, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    f, errors = from_pca(x, 3, leading=6, blocks=2, width=4, pixel_blocks=2, pixel_width=4)
    error = (f(x) - x).square().mean()
    torch.testing.assert_close(error, errors[3] * 39 / 40)
    moving = [p for name, p in f.named_parameters() if "leave" in name]
    assert len(moving) == 2 * (2 + 2 + 1), "two of each kind of coupling, and that of the tail"
    with torch.no_grad():
        for i, p in enumerate(moving):
            p += 0.1 * torch.randn(
                p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(i)
            )
    y = f(x)
    assert not torch.allclose(y, x, atol=0.01)
    torch.testing.assert_close(f(y), y, rtol=0, atol=1e-12)


def test_nested_errors_are_relative_to_pca_at_each_rank() -> None:
    x = images()
    f, errors = from_pca(x, 4, blocks=2, width=4)
    objective = ProjectorObjective(f, errors, "nested", lowest=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        values = torch.stack([objective(x)["error"].detach() for _ in range(200)])
    assert values.mean().item() == pytest.approx(59 / 60, abs=0.02)
    assert values.std() > 0, "ranks are drawn again"


def test_tightness_says_the_same_at_every_scale() -> None:
    x = images().flatten(1)
    double = InducedSpace(Scaling(torch.full((6,), 2.0, dtype=torch.float64)))
    expected = torch.tensor(4.0, dtype=torch.float64).log().square()
    for scale in (1e-3, 1.0, 1e3):
        torch.testing.assert_close(tightness(double, scale * x), expected)
        assert tightness(InducedSpace(Identity(6)), scale * x).item() == 0.0


def test_what_cannot_be_is_refused() -> None:
    x = images()
    with pytest.raises(ConfigError, match="rank 7"):
        from_pca(x, 7)
    f, errors = from_pca(x, 2, blocks=2, width=4)
    with pytest.raises(ConfigError, match="one of fixed"):
        ProjectorObjective(f, errors, "free")  # type: ignore[arg-type] # that is the test
    with pytest.raises(ConfigError, match="ranks 3 to 2"):
        ProjectorObjective(f, errors, "nested", lowest=3)
    with pytest.raises(ConfigError, match=r"errors of shape.*from_pca"):
        ProjectorObjective(f, errors[:-1])
    with pytest.raises(ConfigError, match="spread"):
        ProjectorObjective(type(f)(f.g, f.selection), errors, likelihood=1.0)

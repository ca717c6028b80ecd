"""Corruption and restoration of images."""

import pytest
import torch

from rectilinear.errors import ConfigError, ShapeError
from rectilinear.invertible import Chain, Flatten, Rotation
from rectilinear.projector import (
    CORRUPTIONS,
    Projector,
    RandomCorruption,
    Selection,
    corrupt,
    masked,
    restoration,
    restore,
)


def images(count: int = 8, side: int = 12, channels: int = 2) -> torch.Tensor:
    shape = count, channels, side, side
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_corruption_grows_with_severity_follows_the_seed_and_is_what_its_measurement_says(
    kind: str,
) -> None:
    x = images()
    mild, strong = (corrupt(x, kind, s, torch.Generator().manual_seed(3)) for s in (0.1, 0.4))
    again = corrupt(x, kind, 0.4, torch.Generator().manual_seed(3))
    assert torch.equal(strong.images, again.images)
    assert 0 < (mild.images - x).square().mean() < (strong.images - x).square().mean()
    if strong.measurement is None:
        assert kind in ("noise", "salt")
    else:
        torch.testing.assert_close(strong.measurement(x.flatten(1)).reshape(x.shape), strong.images)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_severity_zero_changes_nothing(kind: str) -> None:
    torch.testing.assert_close(corrupt(images(), kind, 0.0).images, images())


def test_sizes_of_corruptions() -> None:
    x = torch.ones(40, 1, 20, 20)
    assert corrupt(x, "occlusion", 0.5).images.sum((1, 2, 3)).eq(300).all()
    assert corrupt(x, "missing", 0.3).images.mean().item() == pytest.approx(0.7, abs=0.02)
    assert corrupt(0 * x + 0.5, "salt", 0.3).images.eq(0.5).float().mean().item() == pytest.approx(
        0.7, abs=0.02
    )
    assert corrupt(0 * x, "noise", 0.3).images.std().item() == pytest.approx(0.3, abs=0.02)
    torch.testing.assert_close(corrupt(x, "blur", 0.1).images, x)
    left = corrupt(x, "occlusion", 0.5).images[:, 0, :, 0].eq(0).any(1)
    assert 0 < left.sum() < 40, "squares lie anywhere"


def test_unknown_kinds_and_severities_are_refused() -> None:
    x = images()
    with pytest.raises(ConfigError, match="one of noise"):
        corrupt(x, "rust", 0.1)
    with pytest.raises(ConfigError, match="severity"):
        corrupt(x, "missing", 1.5)
    with pytest.raises(ConfigError, match="severity"):
        corrupt(x, "noise", float("nan"))
    with pytest.raises(ShapeError):
        corrupt(x[0], "noise", 0.1)
    with pytest.raises(ConfigError, match="rust"):
        RandomCorruption(("noise", "rust"))


def test_random_corruption_leaves_a_part_clean() -> None:
    x = images(50)
    corrupted = RandomCorruption(("noise", "missing", "occlusion", "blur"))(x)
    changed = (corrupted != x).flatten(1).any(1)
    assert not changed[:10].any()
    assert changed[10:20].all()
    assert torch.equal(RandomCorruption(())(x), x)


def pca_projector(n: int = 6, rank: int = 2) -> tuple[Projector, torch.Tensor]:
    q = torch.linalg.qr(
        torch.randn(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ).Q
    return Projector(
        Chain(Flatten((1, 2, 3)), Rotation.from_matrix(q)), Selection.leading(n, rank).double()
    ), q


def test_restoration_from_observed_pixels_is_least_squares_for_a_linear_projector() -> None:
    """The fixed point of the alternating projections: the point of the plane that fits the
    observed pixels.
    """
    f, q = pca_projector()
    plane = q[:, :2]
    x = torch.randn(4, 2, dtype=torch.float64) @ plane.T
    observed = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    noisy = x + 0.1 * torch.randn_like(x)
    found = restore(
        f,
        (observed * noisy).reshape(4, 1, 2, 3),
        masked(observed.expand(4, 1, 6).reshape(4, 1, 2, 3)),
        1500,
    )
    rows = observed.bool()
    fitted = torch.linalg.lstsq(plane[rows], noisy[:, rows].T).solution.T @ plane.T
    torch.testing.assert_close(found.flatten(1)[:, ~rows], fitted[:, ~rows])
    torch.testing.assert_close(found.flatten(1)[:, rows], noisy[:, rows])


def test_restoration_without_a_measurement_is_the_map() -> None:
    f, _ = pca_projector()
    y = torch.randn(3, 1, 2, 3, dtype=torch.float64)
    assert torch.equal(restore(f, y), f(y))
    with pytest.raises(ConfigError, match="steps = 0"):
        restore(f, y, None, 0)


def test_rows_of_the_table() -> None:
    f, _ = pca_projector()
    x = images(5, 4, 1)[:, :, :2, :3]
    rows = restoration(
        {"f": f, "same": lambda y: y}, x, {"noise": (0.1, 0.2), "missing": (0.5,)}, steps=3
    )
    assert [(row.kind, row.severity, row.with_measurement) for row in rows] == [
        ("none", 0.0, False), ("noise", 0.1, False), ("noise", 0.2, False), ("missing", 0.5, False),
        ("missing", 0.5, True),
    ]  # fmt: skip
    assert all(row.psnr["same"] == row.corrupted for row in rows if not row.with_measurement)
    assert rows[0].psnr["f"] == pytest.approx(
        -10 * (f(x).clamp(0, 1) - x).square().mean().log10().item(), rel=1e-12
    )

"""Restoration by a map: what is kept, and that the best result is chosen without the truth."""

from functools import partial

import pytest
import torch

import rectilinear as rl
from rectilinear.errors import ConfigError, DataError, DtypeError, ShapeError
from rectilinear.operators import Diagonal
from rectilinear.projector import (
    BlindRestorer,
    Projector,
    RandomCorruption,
    Selection,
    corrupt,
    fit_blind,
    from_pca,
    restoration,
    restore,
)
from rectilinear.projector.prior import fit_prior


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    return (rl.datasets.load("digits", "train").images, rl.datasets.load("digits", "test").images)


def linear(train: torch.Tensor, rank: int) -> Projector:
    return from_pca(train, rank, blocks=1, width=4)[0].requires_grad_(requires_grad=False)


def error(x: torch.Tensor, y: torch.Tensor) -> float:
    return float((x - y).square().mean())


def test_with_known_noise_it_is_no_worse_than_the_input_or_blind(
    digits: tuple[torch.Tensor, torch.Tensor],
) -> None:
    train, x = digits
    f = linear(train, 12)
    for noise in (0.0, 0.02, 0.1, 0.3):
        y, _ = corrupt(x, "noise", noise, torch.Generator().manual_seed(0))
        found = error(restore(f, y, noise=noise, steps=5), x)
        assert found <= 1.02 * min(error(y, x), error(f(y), x))


def test_with_a_mask_the_held_out_values_choose(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    train, x = digits
    y, K = corrupt(x, "missing", 0.3, torch.Generator().manual_seed(0))
    f = linear(train, 12)
    assert error(restore(f, y, K, noise=0.0, steps=20), x) < error(y, x)
    useless = lambda z: 1 - z  # noqa: E731 - a map that helps nobody
    assert error(restore(useless, x, noise=0.1, steps=3), x) < 0.001


def test_damped_steps_reach_the_same_point(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    train, x = digits
    f = linear(train.double(), 8)
    y, K = corrupt(x[:9].double(), "occlusion", 0.4, torch.Generator().manual_seed(0))
    full, damped = restore(f, y, K, 100), restore(f, y, K, 200, damping=0.5)
    torch.testing.assert_close(f(full), f(damped), atol=1e-3, rtol=0)
    for bad in (0.0, 1.5):
        with pytest.raises(ConfigError, match="damping"):
            restore(f, y, K, damping=bad)


def test_the_prior_is_above_the_map_and_limits_hold(
    digits: tuple[torch.Tensor, torch.Tensor],
) -> None:
    train, x = digits
    f, prior = linear(train, 16), fit_prior(train, rank=24, components=4)
    for kind in ("missing", "occlusion"):
        y, K = corrupt(x, kind, 0.5, torch.Generator().manual_seed(0))
        found = restore(prior, y, K)
        assert error(found, x) < 0.8 * error(restore(f, y, K, 30), x)
        assert found.min() >= 0
        assert found.max() <= 1


@pytest.mark.whole
def test_blind_restoration_tells_kinds_apart(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    train, x = digits
    blind = fit_blind(fit_prior(train, rank=16, components=4), train[:250], ("noise", "missing"))
    for kind, severity, way in (("noise", 0.25, "noise"), ("missing", 0.5, "zeros")):
        y, K = corrupt(x[:60], kind, severity, torch.Generator().manual_seed(0))
        assert blind.probabilities(y)[:, blind.answers.index(way)].mean() > 0.8
        assert error(restore(blind, y), x[:60]) < 0.6 * error(y, x[:60])
        informed = restore(blind, y, K, noise=None if K is not None else severity)
        assert error(informed, x[:60]) < error(restore(blind, y), x[:60]) * 1.05
    with pytest.raises(ConfigError, match="salt"):
        fit_blind(blind.prior, train, ("salt",))
    with pytest.raises(DataError, match="divide bytes by 255"):
        blind(255 * train[:2])
    with pytest.raises(DataError, match="whole numbers"):  # bytes of a dark photo
        blind((6 * train[:2]).round())


def bits(x: torch.Tensor) -> torch.Tensor:
    """Images as a file has them."""
    return (255 * x.clamp(0, 1)).round() / 255


@pytest.fixture(scope="module")
def blind_photos() -> tuple[BlindRestorer, torch.Tensor]:
    """A blind restorer of patches, and held-out photos of 48 pixels as files have them."""
    train, test = (
        rl.datasets.load("photos", split, size=48).images.mean(1, keepdim=True)
        for split in ("train", "test")
    )
    prior = fit_prior(train, rank=12, patch=6, components=6)
    return fit_blind(prior, train, progress=False), bits(test)


@pytest.mark.whole
def test_kinds_are_told_apart_on_photos_and_in_files(
    blind_photos: tuple[BlindRestorer, torch.Tensor],
) -> None:
    """Noise that was cut off at 0 is no missing pixel, and nothing is missing without zeros."""
    blind, x = blind_photos
    x = x.clone()
    x[2:6] = bits(x[2:6] - 0.3)  # with black parts, up to a half
    answers = {"noise": 0.1, "missing": 0.3, "occlusion": 0.2}
    for kind, severity in answers.items():
        y, K = corrupt(x, kind, severity, torch.Generator().manual_seed(2))
        y = bits(y)
        found = blind.probabilities(y)[:, blind.answers.index("noise" if K is None else "zeros")]
        light = [0, 1, *range(6, 12)]
        # a black square among black parts may be one of them, and is left as it is
        assert (found[light if kind == "occlusion" else slice(None)] > 0.5).all(), kind
        known = restore(blind.prior, y, K, noise=severity if K is None else 0.0)
        assert error(restore(blind, y)[light], x[light]) < 1.5 * error(known[light], x[light]), kind
    full = x.clamp(min=0.01)
    assert (blind.probabilities(full)[:, blind.answers.index("zeros")] == 0).all()
    black = torch.zeros(1, 1, 60, 60)
    assert torch.equal(restore(blind, black), black)


@pytest.mark.whole
def test_blind_restoration_of_any_size_in_half_precision_and_between_black_bars(
    blind_photos: tuple[BlindRestorer, torch.Tensor],
) -> None:
    blind, x = blind_photos
    assert blind.kinds == ("noise", "missing", "occlusion")
    y, _ = corrupt(x[:4], "noise", 0.1, torch.Generator().manual_seed(0))
    for size in (42, 43, 44, 47):  # a column that is repeated to fill a patch has another noise
        part = y[..., :size, :43]
        assert (blind.probabilities(part)[:, blind.answers.index("noise")] > 0.9).all(), size
    half = restore(blind, y.half())
    assert half.dtype == torch.float16
    assert error(half.float(), restore(blind, y)) < 1e-5
    barred = x[:4].clamp(min=1 / 255)
    barred[:, :, :8] = 0
    barred[..., 40:] = 0
    assert error(restore(blind, barred), barred) < 1e-4
    z, _ = corrupt(barred, "missing", 0.3, torch.Generator().manual_seed(0))
    found = restore(blind, z)
    assert torch.equal(found * (barred == 0), torch.zeros_like(found))
    assert error(found, barred) < 0.3 * error(z, barred)


def test_zeros_of_small_images_are_explained_before_a_kind_is_chosen(
    digits: tuple[torch.Tensor, torch.Tensor],
) -> None:
    """Black squares among black pixels are known by what the prior expects in them."""
    train, x = digits[0], digits[1][:100]
    blind = fit_blind(fit_prior(train, components=12), train, progress=False)
    y, K = corrupt(x, "occlusion", 0.375, torch.Generator().manual_seed(1))
    changed = (y != x).flatten(1).any(1)
    zeros = blind.probabilities(y)[changed, blind.answers.index("zeros")]
    assert zeros.mean() > 0.85
    known = error(restore(blind.prior, y, K), x)
    assert error(restore(blind, y), x) < min(2.2 * known, 0.3 * error(y, x))


def test_backprojection_hits_the_image_and_keeps_the_rest() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        g = rl.invertible.VectorFlow(6, blocks=3, width=16).double()
        for p in g.parameters():
            torch.nn.init.normal_(p, std=0.2)
        other = rl.invertible.VectorFlow(6, blocks=2, width=8).double()
        f = rl.truncate(rl.Linearizer(g, rl.operators.Dense(6, 6).double(), other), 3)
        x = torch.randn(20, 6, dtype=torch.float64)
        y = f(torch.randn(20, 6, dtype=torch.float64))
        nearest = rl.backproject(f, x, y)
        torch.testing.assert_close(f(nearest), y, atol=1e-8, rtol=0)
        # any other solution is farther, in the space of the inputs
        others = rl.backproject(f, x + torch.randn_like(x), y)
        away = [(g(z) - g(x)).norm(dim=1) for z in (nearest, others)]
        assert bool((away[0] <= away[1] + 1e-9).all())
        torch.testing.assert_close(rl.backproject(f, nearest, y), nearest)
        p = Projector(g, Selection.leading(6, 2).double())
        z = torch.randn_like(x)
        torch.testing.assert_close(p(rl.backproject(p.linearizer, x, p(z))), p(z))
        with pytest.raises(ShapeError, match="20 points"):
            rl.backproject(f, x, y[:3])


def test_leading_axes_train_where_all_are_too_many() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, 6, 6, generator=draw).double() * 0.01
    waves = torch.randn(12, 108, generator=draw).double() / torch.arange(1, 13)[:, None]
    x = x + (torch.randn(40, 12, generator=draw).double() @ waves).reshape(x.shape)
    f, errors = from_pca(x, rank=8, axes=16, leading=12, blocks=2, width=8)
    all_axes, all_errors = from_pca(x, rank=8, leading=12, blocks=2, width=8)
    torch.testing.assert_close(f(x), all_axes(x), atol=1e-3, rtol=0)
    torch.testing.assert_close(errors[:9], all_errors[:9], rtol=2e-2, atol=0)
    with pytest.raises(ConfigError, match="axes"):
        from_pca(x, rank=17, axes=16)


def test_blank_images_are_not_the_most_usual(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    train, x = digits
    f = linear(train, 16).fitted(train, 0.05)
    blank = torch.rand(50, 1, 1, 1, generator=torch.Generator().manual_seed(0)).expand(50, 1, 8, 8)
    for images in (blank, torch.zeros(50, 1, 8, 8)):
        normal, odd = f.scores(x)["typicality"], f.scores(images)["typicality"]
        assert rl.metrics.roc(normal, odd).area > 0.99


def test_data_on_another_scale_than_the_prior(
    digits: tuple[torch.Tensor, torch.Tensor],
) -> None:
    images, held_out = digits
    prior = fit_prior(images, rank=12, components=2)
    with pytest.raises(ConfigError, match="Divide bytes by 255"):
        restore(prior, 255 * held_out, noise=0.1)
    dark = 20 * held_out  # of bytes, too
    observed = Diagonal(torch.ones(held_out[0].numel()), trainable=False)
    for measurement in (None, observed):
        with pytest.raises(ConfigError, match="Divide bytes by 255"):
            restore(prior, dark, measurement, noise=0.01)
    standard = fit_prior(20 * (images - images.mean()), rank=12, components=2)
    assert torch.isfinite(restore(standard, 20 * (held_out - images.mean()), noise=0.1)).all()
    few = torch.randn(held_out.shape, generator=torch.Generator().manual_seed(0))
    for y, noise in (
        (255 * held_out, 25.0),
        (255 * held_out + 25 * few, 25.0),
        (held_out, 25.0),
        (held_out + 0.1 * few, 25.0),
    ):
        with pytest.raises(ConfigError, match="standard deviation of their noise"):
            restore(prior, y, noise=noise)
    assert torch.isfinite(restore(prior, held_out + 25 * few, noise=25.0)).all()
    wide = fit_prior(20 * images, rank=12, components=2)  # not clipped to 1
    found = restore(wide, 20 * held_out, noise=2.0)
    torch.testing.assert_close(found / 20, restore(prior, held_out, noise=0.1), atol=0.2, rtol=0)
    patches = fit_prior(images, rank=4, patch=4, components=1)
    with pytest.raises(DtypeError, match="float"):
        restore(patches, torch.ones(1, 1, 8, 8, dtype=torch.uint8))


def test_bytes_as_floats_are_no_images_to_fit(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, _ = digits
    fits = (
        fit_prior,
        partial(fit_prior, patch=4),
        lambda x: restoration({"same": lambda y: y}, x),
        RandomCorruption(("noise",)),
    )
    whole = (16 * images).round()  # of bytes in the dark
    for fit in fits:
        for x in (255 * images, whole):
            with pytest.raises(DataError, match=r"from 0 to 1.*ivide bytes by 255"):
                fit(x)


def test_what_is_missing_or_of_another_kind_is_one_error(
    digits: tuple[torch.Tensor, torch.Tensor],
) -> None:
    images, x = digits[0], digits[1][:9]
    y, K = corrupt(x, "missing", 0.3, torch.Generator().manual_seed(0))
    whole, patches = (fit_prior(images, 8, patch=p, components=1) for p in (None, 4))
    for prior in (whole, patches):
        with pytest.raises(ConfigError, match="neither a measurement nor noise"):
            restore(prior, y)
        assert torch.equal(restore(prior, y, noise=0.0), y)
        for mask in (y != 0, (y != 0).numpy()):
            with pytest.raises(DtypeError, match=r"masked\(pixels"):
                restore(prior, y, mask)
        with pytest.raises(ConfigError, match="from -1 to 1"):
            restore(prior, 2 * x - 1, noise=0.2)
        assert torch.isfinite(restore(prior, x - 0.05, noise=0.2)).all()
        assert torch.isfinite(restore(prior, torch.where(y == 0, -1.0, y), K)).all()
    with pytest.raises(DtypeError, match=r"masked\(pixels"):
        restore(linear(images, 12), y, y != 0)


@pytest.mark.filterwarnings("error")
def test_a_mask_with_gradients_warns_of_nothing(
    digits: tuple[torch.Tensor, torch.Tensor],
) -> None:
    images, x = digits
    prior = fit_prior(images, rank=8, components=1)
    y, seen = x[:3] * 0.5, torch.ones(x[0].numel())
    learned = restore(prior, y, Diagonal(seen.clone()), noise=0.1)
    fixed = restore(prior, y, Diagonal(seen, trainable=False), noise=0.1)
    torch.testing.assert_close(learned, fixed)

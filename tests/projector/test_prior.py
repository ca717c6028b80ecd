"""Posteriors of the prior against the formulas for each Gaussian, and restoration with them."""

import sys
from pathlib import Path

import pytest
import torch

import rectilinear as rl
from rectilinear.errors import CheckpointError, ConfigError, DtypeError, ShapeError
from rectilinear.operators import Dense, Diagonal, Operator
from rectilinear.projector import (
    BlindRestorer,
    ImagePrior,
    Overlapping,
    conditioning,
    corrupt,
    fit_prior,
    masked,
    posterior,
    restore,
    similar,
)
from rectilinear.projector import prior as prior_module
from rectilinear.projector.blind import feature_counts
from rectilinear.projector.conditioning import Natural
from rectilinear.projector.patches import Patches, patch_evidence, patch_posterior
from rectilinear.tensor_files import read_model, write_model


def images(count: int = 300, seed: int = 0) -> torch.Tensor:
    """Two kinds of 2 x 3 images."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 1, 2, 3, dtype=torch.float64, generator=draw)
    mix = torch.randn(3, 3, dtype=torch.float64, generator=draw)
    return x @ mix + 3.0 * (torch.arange(count) % 2)[:, None, None, None]


@pytest.fixture(scope="module")
def prior() -> ImagePrior:
    return fit_prior(images(), rank=4, components=2)


def by_components(
    prior: ImagePrior, y: torch.Tensor, K: torch.Tensor, noise: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean, deviations and evidence from the textbook formulas on all values."""
    natural, V, mixture = Natural.of(prior.mixture), prior.axes, prior.mixture
    eye = torch.eye(len(K), dtype=K.dtype)
    evidence, means, variances = [], [], []
    for k, weight in enumerate(mixture.log_weights.log_softmax(0)):
        cov = V @ torch.linalg.inv(natural.precisions[k]) @ V.T + prior.residual.square().diag()
        mean = prior.centre.flatten() + V @ mixture.means[k]
        of_y = K @ cov @ K.T + noise**2 * eye
        normal = torch.distributions.MultivariateNormal(K @ mean, of_y)
        evidence.append(weight + normal.log_prob(y.flatten(1)))
        gain = cov @ K.T @ torch.linalg.inv(of_y)
        means.append(mean + (y.flatten(1) - K @ mean) @ gain.T)
        variances.append((cov - gain @ K @ cov).diagonal())
    shares = torch.stack(evidence, 1).softmax(1)[..., None]
    each, spread = torch.stack(means, 1), torch.stack(variances)
    mean = (shares * each).sum(1)
    std = ((shares * (spread + each.square())).sum(1) - mean.square()).sqrt()
    return mean.reshape(y.shape), std.reshape(y.shape), torch.stack(evidence, 1).logsumexp(1)


def measurements() -> dict[str, tuple[Operator | None, torch.Tensor]]:
    gains = torch.tensor([1.0, 0.5, 2.0, 1.0, 1.0, 3.0], dtype=torch.float64)
    matrix = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    return {
        "all": (None, torch.eye(6, dtype=torch.float64)),
        "gains": (Diagonal(gains), gains.diag()),
        "one for each": (Diagonal(gains.repeat(4, 1)), gains.diag()),
        "a matrix": (Dense(matrix), matrix),
    }


@pytest.mark.parametrize("kind", ["all", "gains", "one for each", "a matrix"])
def test_the_posterior_is_that_of_every_component(prior: ImagePrior, kind: str) -> None:
    K, matrix = measurements()[kind]
    y = (images(4, seed=1).flatten(1) @ matrix.T).reshape(4, 1, 2, 3)
    found, expected = prior.posterior(y, K, 0.3), by_components(prior, y, matrix, 0.3)
    torch.testing.assert_close(found.mean, expected[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.std, expected[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.log_evidence, expected[2], atol=1e-5, rtol=0)


def test_many_masks_are_taken_some_at_a_time(
    prior: ImagePrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row with a mask of its own holds a matrix: they must not all be held at once."""
    y = images(8, seed=1)
    K = Diagonal((torch.rand(8, 6, generator=torch.Generator().manual_seed(0)) < 0.5).double())
    expected = prior.posterior(y, K, 0.3)
    sizes = []
    each = conditioning._each

    def counted(mixture, data, axes, likely):  # type: ignore[no-untyped-def]
        sizes.append(len(data.gram))
        return each(mixture, data, axes, likely)

    monkeypatch.setattr(conditioning, "_each", counted)
    monkeypatch.setattr(prior_module, "ROWS_AT_A_TIME", 3)
    found = prior.posterior(y, K, 0.3)
    assert sizes == [3, 3, 2]
    torch.testing.assert_close(found.mean, expected.mean)
    torch.testing.assert_close(found.std, expected.std)
    torch.testing.assert_close(found.log_evidence, expected.log_evidence)


def test_images_that_are_seen_in_full_share_a_matrix_beside_others(
    prior: ImagePrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    y, gains = images(5, seed=1), torch.ones(5, 6, dtype=torch.float64)
    gains[1, 2] = gains[3, 4] = 0
    expected = [prior.posterior(y[i : i + 1], Diagonal(gains[i]), 0.3) for i in range(5)]
    sizes = []
    each = conditioning._each

    def counted(mixture, data, axes, likely):  # type: ignore[no-untyped-def]
        sizes.append(len(data.gram))
        return each(mixture, data, axes, likely)

    monkeypatch.setattr(conditioning, "_each", counted)
    found = prior.posterior(y, Diagonal(gains), 0.3)
    assert sizes == [2]
    for name in ("mean", "std", "log_evidence"):
        torch.testing.assert_close(
            getattr(found, name), torch.cat([getattr(one, name) for one in expected])
        )


def test_components_of_patches_follow_the_number_of_different_patches() -> None:
    draw = torch.Generator().manual_seed(0)
    few, more = (torch.rand(1, 1, side, side, generator=draw) for side in (40, 60))
    counts = [fit_prior(x, rank=2, patch=4).mixture.components for x in (few, more)]
    assert counts == [3, 5], "37^2 and 57^2 places, one component for 1000, and two of background"


def test_photos_with_constant_areas_are_restored_to_them() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(4, 1, 20, 20, generator=draw)
    x[:, :, :12] = torch.rand(4, 1, 1, 1, generator=draw)
    prior = fit_prior(x, patch=4, components=4)
    flat = torch.full((1, 1, 11, 9), 0.4)
    for noise in (0.05, 1.0):
        y = flat + noise * torch.randn(flat.shape, generator=draw)
        found = posterior(prior, y, noise=noise)
        assert found.std.isfinite().all()
        assert (found.mean - flat).square().mean() < 0.5 * noise**2
    y, K = corrupt(flat, "missing", 0.5, draw)
    found = posterior(prior, y, K)
    assert (found.mean - flat).abs().max() < 0.02


def test_the_adapted_mixture_is_a_step_of_expectation_maximisation(prior: ImagePrior) -> None:
    y, counts, noise = images(9, seed=2), 30.0, 0.3
    natural, V, mixture = Natural.of(prior.mixture), prior.axes, prior.mixture
    G = (V.T / (prior.residual.square() + noise**2)) @ V
    h = (y - prior.centre).flatten(1) / (prior.residual.square() + noise**2) @ V
    joint, moments = [], []
    cov = torch.linalg.inv(natural.precisions)
    for k, weight in enumerate(mixture.log_weights.log_softmax(0)):
        of_y = V @ cov[k] @ V.T + (prior.residual.square() + noise**2).diag()
        centre = prior.centre.flatten() + V @ mixture.means[k]
        normal = torch.distributions.MultivariateNormal(centre, of_y)
        joint.append(weight + normal.log_prob(y.flatten(1)))
        C = torch.linalg.inv(natural.precisions[k] + G)
        moments.append(((natural.shifts[k] + h) @ C, C))
    shares = torch.stack(joint, 1).softmax(1)
    found = prior.adapted(y, noise, counts).mixture
    of_found = torch.linalg.inv(Natural.of(found).precisions)
    for k, (c, C) in enumerate(moments):
        share, total = shares[:, k], shares[:, k].sum() + counts
        mean = (share @ c + counts * mixture.means[k]) / total
        second = (c * share[:, None]).T @ c + share.sum() * C
        second = second + counts * (cov[k] + torch.outer(mixture.means[k], mixture.means[k]))
        expected = second / total - torch.outer(mean, mean)
        torch.testing.assert_close(found.means[k], mean, atol=1e-2, rtol=0)
        torch.testing.assert_close(of_found[k], expected, atol=1e-2, rtol=1e-2)
    evidence = torch.stack(joint, 1).logsumexp(1)
    torch.testing.assert_close(prior.log_prob(y, noise), evidence, atol=1e-5, rtol=0)
    with pytest.raises(ConfigError, match="counts"):
        prior.adapted(y, noise, counts=0)


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 4, 21), (3, 17, 30)])
def test_noise_alone_leaves_no_seams_in_images_of_any_size(
    shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(6, shape[0], 40, 40, generator=draw)
    x = torch.nn.functional.avg_pool2d(x, 5, 1)
    prior = fit_prior(x, rank=10, patch=4, components=2)
    y = x[:2, :, : shape[1], : shape[2]]
    y = y + 0.1 * torch.randn(y.shape, generator=draw)
    found = posterior(prior, torch.nn.functional.pad(y, (0, 1)), noise=0.1)
    assert found.mean.isfinite().all()
    assert (found.std > 0).all()
    ones = Diagonal(torch.ones(y[0].numel()))
    for a, b in zip(
        vars(posterior(prior, y, ones, noise=0.1)).values(),
        vars(posterior(prior, y, noise=0.1)).values(),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
    guide = torch.nn.functional.avg_pool2d(y, 3, 1, padding=1)
    at_once = similar.from_similar(prior, y, guide, 0.1)
    monkeypatch.setattr(similar, "_BAND_PIXELS", 1)
    torch.testing.assert_close(similar.from_similar(prior, y, guide, 0.1), at_once)


def test_blur_of_larger_images_is_refused_in_the_evidence() -> None:
    small = fit_prior(torch.rand(9, 1, 4, 4), rank=4, components=1)
    kinds = ("noise", "blur")
    scales = [torch.ones(2, n) for n in feature_counts(kinds)]
    found = BlindRestorer(small, kinds, torch.zeros(1), *scales)
    with pytest.raises(ConfigError, match="with a prior of patches"):
        found.probabilities(torch.rand(1, 1, 16, 16))
    with pytest.raises(ConfigError, match="Fit it again"):
        BlindRestorer(small, ("noise",), torch.zeros(1), *scales)


def test_the_error_of_a_blind_restorer_of_another_version_says_to_fit_it_again(
    tmp_path: Path,
) -> None:
    small = fit_prior(torch.rand(9, 1, 4, 4), rank=4, components=1)
    scales = [torch.ones(2, n) for n in feature_counts(("noise",))]
    BlindRestorer(small, ("noise",), torch.zeros(1), *scales).save_pretrained(tmp_path)
    config, tensors = read_model(tmp_path)
    narrow = {
        name: t[:, 1:].contiguous() if t.shape == scales[0].shape else t
        for name, t in tensors.items()
    }
    fewer = {name: t for name, t in tensors.items() if not name.startswith("where.1")}
    for odd in (narrow, fewer):
        write_model(tmp_path, dict(config), odd)
        with pytest.raises(CheckpointError) as error:
            rl.from_pretrained(tmp_path)
        assert error.value.fix == "Fit it again with fit_blind."


def test_a_prior_of_single_precision_draws_samples() -> None:
    drawn = fit_prior(images().float(), rank=4, components=2).sample(400)
    assert drawn.dtype == torch.float32
    torch.testing.assert_close(drawn.mean(0), images().float().mean(0), atol=0.5, rtol=0)


def test_observed_values_stay_and_the_uncertainty_is_that_of_the_errors(prior: ImagePrior) -> None:
    x = prior.sample(500, torch.Generator().manual_seed(0))
    x = x + prior.residual.reshape(1, 2, 3) * torch.randn(x.shape, dtype=x.dtype)
    seen = torch.tensor([[[[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]]], dtype=torch.float64)
    K = Diagonal(seen.flatten(1), trainable=False)
    found = prior.posterior(x * seen, K)
    assert torch.equal(found.mean * seen, x * seen)
    missing = (seen == 0).expand_as(x)
    z = ((x - found.mean) / found.std)[missing]
    assert 0.85 < z.square().mean().sqrt() < 1.15
    # better than the projection of the image with zeros
    worse = (prior(x * seen) - x)[missing].square().mean()
    assert (x - found.mean)[missing].square().mean() < 0.5 * worse


def test_the_mean_goes_from_the_data_to_the_prior_as_noise_grows(prior: ImagePrior) -> None:
    x = images()[100:]
    draw = torch.Generator().manual_seed(4)
    for noise in (0.0, 0.1, 1.0, 10.0):
        y = x + noise * torch.randn(x.shape, dtype=x.dtype, generator=draw)
        error = (restore(prior, y, noise=noise, limits=(-99, 99)) - x).square().mean()
        assert error <= 1.001 * (y - x).square().mean()
        assert error <= (x - x.mean(0)).square().mean() * 1.05


def test_its_projector_is_the_same_map_and_it_is_saved(prior: ImagePrior, tmp_path: Path) -> None:
    x = images(5, seed=5)
    torch.testing.assert_close(prior.projector(x), prior(x))
    torch.testing.assert_close(prior(prior(x)), prior(x))
    prior.save_pretrained(tmp_path)
    torch.testing.assert_close(
        rl.from_pretrained(tmp_path).posterior(x).std, prior.posterior(x).std
    )


def test_patches_restore_images_of_any_size() -> None:
    draw = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.interpolate(
        torch.rand(4, 1, 5, 6, generator=draw), (29, 34), mode="bilinear"
    )
    prior = fit_prior(smooth[:3], rank=12, patch=4, components=2)
    x = smooth[3:]
    y = x + 0.1 * torch.randn(x.shape, generator=draw)
    assert (restore(prior, y, noise=0.1) - x).square().mean() < 0.3 * (y - x).square().mean()
    seen = (torch.rand(x.shape, generator=draw) < 0.5).float()
    found = posterior(prior, x * seen, Diagonal(seen.flatten(1), trainable=False))
    assert torch.equal(found.mean * seen, x * seen)
    assert (found.mean - x).square().mean() < 0.05 * (x * seen - x).square().mean()
    tiles = Overlapping(prior, stride=4)
    torch.testing.assert_close(tiles(tiles(x[..., :28, :32])), tiles(x[..., :28, :32]))


def test_the_mixture_is_adapted_to_an_image_with_missing_pixels() -> None:
    draw = torch.Generator().manual_seed(0)
    prior = fit_prior(torch.rand(9, 1, 24, 24, generator=draw), rank=16, patch=4, components=2)
    x = (torch.arange(40) % 4 < 2).float().expand(1, 1, 40, 40)  # stripes, unlike the images
    y, K = corrupt(x, "missing", 0.3, draw)
    error = [
        float((patch_posterior(prior, y, K, 0.0, adapt=adapt).mean - x).square().mean())
        for adapt in (False, True)
    ]
    assert error[1] < 0.2 * error[0]


def test_deviations_are_as_large_as_errors_where_patches_are_nearly_empty() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(50, 1, 40, 40, generator=draw, dtype=torch.float64)
    for _ in range(3):
        x = torch.nn.functional.avg_pool2d(x, 5, 1)
    x = 0.5 + 0.15 * x / x.std()
    prior = fit_prior(x[:40], rank=16, patch=4, components=1)
    y, K = corrupt(x[40:], "missing", 0.9, draw)
    assert K is not None
    found = posterior(prior, y, K)
    missing = K(torch.ones_like(y).flatten(1)).reshape(y.shape) == 0
    z = ((found.mean - x[40:]) / found.std)[missing]
    assert 0.8 < z.square().mean().sqrt() < 2


@pytest.mark.whole
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_holes_wider_than_a_patch_are_filled_from_what_is_around(noise: float) -> None:
    draw = torch.Generator().manual_seed(1)
    smooth = torch.nn.functional.interpolate(
        torch.rand(5, 1, 4, 4, generator=draw), (37, 40), mode="bicubic"
    )
    prior = fit_prior(smooth[:4], rank=16, patch=4, components=2)
    x, seen = smooth[4:], torch.ones(1, 1, 37, 40)
    seen[..., 9:23, 12:26] = 0  # 14 pixels wide
    y = (x + noise * torch.randn(x.shape, generator=draw)) * seen
    found = posterior(prior, y, Diagonal(seen.flatten(1), trainable=False), noise)
    hole = seen == 0
    edge = x[..., 8:24, 11:27][(seen == 1)[..., 8:24, 11:27]].mean()
    error = lambda z: (z - x)[hole].square().mean()  # noqa: E731
    assert error(found.mean) < 0.3 * error(torch.full_like(x, edge))


def test_patches_in_a_hole_know_what_those_beside_them_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw = torch.Generator().manual_seed(2)
    images = torch.randn(60, 1, 40, 40, generator=draw)
    for _ in range(3):
        images = torch.nn.functional.avg_pool2d(images, 5, 1)
    images = 0.5 + 0.15 * images / images.std()
    prior = fit_prior(images[:45], rank=16, patch=4, components=1)
    x, seen = images[45:], torch.ones(1, 1, 28, 28)
    seen[..., 10:16, 11:17] = 0  # a hole half as wide again as a patch
    error = []
    for weak in (False, True):
        if weak:
            monkeypatch.setattr(sys.modules[patch_posterior.__module__], "_GUESS", 1e6)
        K = Diagonal(seen.expand_as(x).flatten(1), trainable=False)
        found = patch_posterior(prior, x * seen, K, 0.0)
        assert torch.equal(found.mean * seen, x * seen)
        error.append(float((found.mean - x)[seen.expand_as(x) == 0].square().mean()))
    assert error[0] < 0.9 * error[1]


@pytest.fixture(scope="module")
def patches() -> dict[int, ImagePrior]:
    """Priors of patches of grey images and of images in colour."""
    draw = torch.Generator().manual_seed(0)
    return {
        c: fit_prior(torch.rand(3, c, 12, 12, generator=draw), rank=6, patch=4, components=1)
        for c in (1, 3)
    }


@pytest.mark.parametrize("channels", [1, 3])
def test_masks_of_pixels(patches: dict[int, ImagePrior], channels: int) -> None:
    """A mask (h, w) is one of grey images; expanded, one of images in colour."""
    draw = torch.Generator().manual_seed(1)
    pixels = torch.rand(9, 11, generator=draw) > 0.4
    x = torch.rand(2, channels, 9, 11, generator=draw)
    found = restore(patches[channels], x * pixels, masked(pixels.expand(x.shape)))
    assert torch.equal((found * pixels), x * pixels)
    if channels == 1:
        assert torch.equal(restore(patches[1], x * pixels, masked(pixels)), found)
        small = pixels[:4, :4]
        y = x[..., :4, :4] * small  # of the size of the patches
        assert torch.equal(restore(patches[1], y, masked(small)) * small, y)
    else:
        with pytest.raises(ShapeError, match="expand"):
            restore(patches[3], x * pixels, masked(pixels))
    with pytest.raises(ShapeError, match="3 measurements"):
        restore(patches[channels], x, masked(pixels.expand(3, channels, 9, 11)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(patches: dict[int, ImagePrior], dtype: torch.dtype) -> None:
    y = torch.rand(1, 1, 9, 11, generator=torch.Generator().manual_seed(2)).to(dtype)
    seen = torch.eye(9, 11)
    for mask in (None, masked(seen), masked(seen.to(dtype))):
        found = posterior(patches[1], y, mask, 0.2)
        assert found.mean.dtype == found.std.dtype == dtype
        wide = posterior(patches[1], y.float(), None if mask is None else masked(seen), 0.2)
        assert torch.equal(found.mean, wide.mean.to(dtype))


@pytest.mark.parametrize(
    ("channels", "shape", "remedy"),
    [
        (1, (9, 11), "Add axes"),
        (3, (3, 9, 11), "Add axes"),
        (3, (1, 9, 11, 3), r"movedim\(3, 1\)"),
        (1, (1, 3, 9, 11), "pass the channels"),
        (3, (1, 4, 9, 11), "images of 3 channels"),
    ],
)
def test_images_of_other_axes_or_channels(
    patches: dict[int, ImagePrior], channels: int, shape: tuple[int, ...], remedy: str
) -> None:
    with pytest.raises(ShapeError, match=remedy):
        restore(patches[channels], torch.rand(shape), noise=0.1)


def test_other_types_are_refused(patches: dict[int, ImagePrior]) -> None:
    y = torch.rand(1, 1, 9, 11)
    with pytest.raises(DtypeError, match=r"torch\.as_tensor"):
        restore(patches[1], y.numpy(), noise=0.1)
    with pytest.raises(ConfigError, match="noise=a Tensor"):
        restore(patches[1], y, noise=torch.full((9, 11), 0.1))


def test_what_cannot_be_is_refused(prior: ImagePrior) -> None:
    x = images(3)
    with pytest.raises(ConfigError, match="noise"):
        restore(prior, x, noise=-1.0)
    with pytest.raises(ShapeError, match="6 x 6"):
        prior.posterior(x, Diagonal(torch.ones(5)))
    patches = fit_prior(torch.rand(3, 1, 8, 8), 4, patch=4, components=1)
    with pytest.raises(ConfigError, match="mask"):
        posterior(patches, torch.rand(1, 1, 8, 8), Dense(torch.eye(64)))
    with pytest.raises(ShapeError, match="no rows"):
        posterior(patches, torch.rand(0, 1, 8, 8), noise=0.1)
    with pytest.raises(ShapeError, match=r"two or more.*patch=8"):
        fit_prior(x[:1])
    assert fit_prior(torch.rand(1, 1, 16, 16), 4, patch=8, components=1).shape == (1, 8, 8)
    with pytest.raises(ShapeError, match=r"make the prior with fit_prior"):
        ImagePrior(prior.centre, prior.axes[:, :-1], prior.residual, prior.mixture)
    with pytest.raises(ShapeError, match=r"Make the prior with fit_prior"):
        ImagePrior(prior.centre, prior.axes[1:], prior.residual, prior.mixture)
    with pytest.raises(ConfigError, match="all equal"):
        fit_prior(torch.full((3, 1, 8, 8), 0.5), 4, patch=4)
    with pytest.raises(ConfigError, match="patches of 9"):
        fit_prior(torch.rand(3, 1, 8, 8), 4, patch=9)
    with pytest.raises(ConfigError, match="side"):
        Overlapping(lambda z: z)


@pytest.mark.parametrize("side", [4, 8, 9, 15, 16])
@pytest.mark.parametrize("stride", [1, 3, 4])
def test_every_patch_lies_in_its_image(side: int, stride: int) -> None:
    x = torch.rand(2, 3, side, side + 2, generator=torch.Generator().manual_seed(0))
    parts = Patches(x, 4, stride)
    patches = parts.of(x)
    windows = x.unfold(2, 4, 1).unfold(3, 4, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 4, 4)
    equal = (patches.flatten(1)[:, None] == windows.flatten(1)).all(2)
    assert equal.any(1).all()
    torch.testing.assert_close(parts.mean(patches, torch.rand_like(patches) + 0.1), x)
    assert Patches(x[:0], 4, stride).of(x[:0]).shape == (0, 3, 4, 4)


def test_evidence_of_noise_does_not_depend_on_the_side() -> None:
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(8, 1, 24, 24, generator=draw).cumsum(2).cumsum(3)
    prior = fit_prior(images / images.amax(), rank=20, patch=8, components=2)
    y = 0.5 + 0.1 * torch.randn(20, 1, 64, 64, generator=draw)
    per_value = [
        float(patch_evidence(prior, y[..., :side, :side], 0.1).mean()) / side**2
        for side in (64, 57, 58, 63)
    ]
    # 0.01 nats a value: three deviations of the mean of so many
    assert max(abs(each - per_value[0]) for each in per_value[1:]) < 0.01

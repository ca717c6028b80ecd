"""Priors of images in colour, and messages about data that are not as a prior's images."""

from collections.abc import Callable

import pytest
import torch

from rectilinear.errors import ConfigError, DtypeError, NonFiniteError, RectilinearError
from rectilinear.operators import Identity
from rectilinear.projector import (
    CombinedPrior,
    RandomCorruption,
    corrupt,
    fit_blind,
    fit_prior,
    posterior,
    restore,
)
from rectilinear.projector.combined import FEATURES
from rectilinear.projector.patches import patch_posterior
from rectilinear.projector.prior import ImagePrior
from rectilinear.random import generator

X = torch.rand(40, 3, 16, 16, generator=generator(0))


def small(channels: int = 3, **sizes: int) -> ImagePrior:
    return fit_prior(X[:, :channels], components=1, **sizes)


def test_patches_in_colour_have_more_axes() -> None:
    assert small(patch=8).rank == 96
    assert small(channels=1, patch=8).rank == 64
    assert small(patch=4).rank == 48, "all values of a patch"
    assert fit_prior(X.repeat(2, 1, 1, 1) + 0, components=1).rank == 64, "whole images"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_data_that_are_not_finite_are_named_where_they_are(value: float) -> None:
    prior, y = small(patch=4, rank=8), X[:2].clone()
    y[1, 2, 14, 3] = value
    blind = fit_blind(prior, X, ("noise",), progress=False)
    for call in (
        lambda: restore(blind, y),
        lambda: restore(prior, y, noise=0.1),
        lambda: posterior(prior, y, noise=0.1),
        lambda: restore(lambda x: x, y),
    ):
        with pytest.raises(
            NonFiniteError, match=r"1 NaN or infinite.* y, first at \(1, 2, 14, 3\)"
        ):
            call()


LARGE = torch.rand(4, 3, 40, 40, generator=generator(1))


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: fit_blind(small(rank=4), X, kinds="noise"), ConfigError, r"\('noise',\)"),  # type: ignore[arg-type]
        (lambda: fit_blind(small(rank=4), X, kinds=("salt",)), ConfigError, "'salt' for blind"),
        (lambda: RandomCorruption("noise"), ConfigError, r"\('noise',\)"),  # type: ignore[arg-type]
        (lambda: fit_prior(list(X), patch=8), DtypeError, "stack tiles"),  # type: ignore[arg-type]
        (lambda: fit_prior(X.movedim(1, 3), patch=8), ConfigError, r"movedim\(3, 1\)"),
        (
            lambda: restore(fit_prior(LARGE, 2), *corrupt(LARGE, "blur", 0.1), noise=0.1),
            ConfigError,
            r"flatten\(0, 1\)\[:, None\]",
        ),
    ],
)
def test_messages_say_what_to_do(
    call: Callable[[], object], error: type[RectilinearError], said: str
) -> None:
    with pytest.raises(error, match=said):
        call()


def test_channels_of_larger_images_are_restored_from_blur_as_the_message_says() -> None:
    grey = LARGE.flatten(0, 1)[:, None]
    y, K = corrupt(grey, "blur", 0.03)
    assert restore(fit_prior(grey, 2), y, K, noise=0.01).shape == y.shape


def test_the_patches_of_a_combined_prior_are_adapted_to_large_images_with_noise() -> None:
    x = torch.rand(6, 3, 48, 48, generator=generator(2))
    local, unit = fit_prior(x, 12, patch=8, components=2), torch.tensor([[0.0], [1.0]])
    f = CombinedPrior(fit_prior(x, 2), local, unit.repeat(1, FEATURES))
    last = [m for m in f.network.modules() if isinstance(m, torch.nn.Linear)][-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.constant_(last.bias, 100.0)  # the patches alone
    y, _ = corrupt(x[:1], "noise", 0.1, generator(3))
    for K in (None, Identity(y[0].numel())):
        alone = patch_posterior(local, y, K, 0.1)
        torch.testing.assert_close(f.posterior(y, K, 0.1).mean, alone.mean)
    plain = patch_posterior(local, y, None, 0.1, adapt=False)
    assert not torch.allclose(plain.mean, alone.mean)

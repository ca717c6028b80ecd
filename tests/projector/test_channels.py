"""Images of other channels or another size than a restorer was fitted to: one clear error."""

import pytest
import torch

from rectilinear.errors import ShapeError
from rectilinear.operators import Diagonal
from rectilinear.projector import (
    BlindRestorer,
    Overlapping,
    fit_blind,
    fit_prior,
    masked,
    posterior,
    restore,
)
from rectilinear.projector.blind import feature_counts


def images(count, channels, side=12, seed=0):
    x = torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(seed))
    return 0.3 * x + 0.7 * x.mean((2, 3), keepdim=True)


def prior_of(channels, patch=None):
    return fit_prior(images(40, channels), rank=6, components=2, patch=patch)


def blind_of(prior, zeros):
    unit = torch.tensor([[0.0], [1.0]])
    kinds = ("noise", "missing")
    return BlindRestorer(prior, kinds, zeros, *(unit.repeat(1, c) for c in feature_counts(kinds)))


def seen(y):
    return masked((torch.arange(y[0].numel()) % 3 > 0).reshape(y[:1].shape).expand(y.shape))


GREY_TO = {
    "restore": lambda prior, y: restore(prior, y, noise=0.1),
    "restore with a mask": lambda prior, y: restore(prior, y, seen(y)),
    "posterior": lambda prior, y: posterior(prior, y, noise=0.1),
    "prior.posterior": lambda prior, y: prior.posterior(y, noise=0.1),
    "adapted": lambda prior, y: prior.adapted(y, 0.1),
    "log_prob": lambda prior, y: prior.log_prob(y),
    "prior": lambda prior, y: prior(y),
    "overlapping": lambda prior, y: Overlapping(prior)(y),
    "overlapping projector": lambda prior, y: Overlapping(prior.projector)(y),
    "restore with a projector": lambda prior, y: restore(prior.projector, y, noise=0.1),
    "fit_blind": fit_blind,
    "blind": lambda prior, y: blind_of(prior, torch.zeros(1))(y),
    "probabilities": lambda prior, y: blind_of(prior, torch.zeros(1)).probabilities(y),
    "restore blind": lambda prior, y: restore(blind_of(prior, torch.zeros(1)), y),
}


@pytest.mark.parametrize("patch", [None, 4])
@pytest.mark.parametrize("name", GREY_TO)
def test_images_in_colour_for_a_grey_prior_and_grey_ones_for_one_in_colour(name, patch):
    with pytest.raises(ShapeError) as found:
        GREY_TO[name](prior_of(1, patch), images(5, 3))
    assert "of shape (5, 3, 12, 12); expected (b, 1, h, w), as it was fitted to" in str(found.value)
    assert ".flatten(0, 1)[:, None]" in str(found.value)
    with pytest.raises(ShapeError) as found:
        GREY_TO[name](prior_of(3, patch), images(5, 1))
    assert "of shape (5, 1, 12, 12); expected (b, 3, h, w), as it was fitted to" in str(found.value)
    assert ".expand(-1, 3, -1, -1)" in str(found.value)


def test_what_the_errors_advise():
    grey, colour = prior_of(1, 4), prior_of(3, 4)
    y = images(2, 3)
    each = restore(grey, y.flatten(0, 1)[:, None], noise=0.1)
    assert each.shape == (6, 1, 12, 12)
    assert restore(colour, images(2, 1).expand(-1, 3, -1, -1), noise=0.1).shape == (2, 3, 12, 12)
    with pytest.raises(ShapeError, match=r"Move the channels: y\.movedim\(3, 1\)"):
        restore(colour, y.movedim(1, 3), noise=0.1)
    with pytest.raises(ShapeError, match=r"Move the channels: y\.movedim\(3, 1\)"):
        restore(grey, y.movedim(1, 3), noise=0.1)
    with pytest.raises(ShapeError, match=r"image\[None\] to one in colour"):
        restore(colour, y[0], noise=0.1)


def test_images_of_another_size():
    whole, y = prior_of(1), images(2, 1, side=20)
    with pytest.raises(ShapeError, match=r"\(b, 1, 12, 12\).*posterior\(prior, y\)"):
        whole.posterior(y, Diagonal(torch.ones(400)))
    assert posterior(whole, y, noise=0.1).mean.shape == y.shape
    with pytest.raises(ShapeError, match=r"\(b, 1, 12, 12\).*restore\(Overlapping\(f\), y"):
        restore(whole.projector, y, noise=0.1)
    assert restore(Overlapping(whole.projector), y, noise=0.1).shape == y.shape
    blind = blind_of(whole, torch.zeros(144))
    with pytest.raises(ShapeError, match=r"\(b, 1, 12, 12\): it was fitted to whole images"):
        blind(y)


def test_a_network_of_other_channels():
    with pytest.raises(ShapeError, match="Pass images with 1 in place of 3 channels"):
        prior_of(1).projector(images(2, 3))

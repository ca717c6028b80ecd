import pytest
import torch

from rectilinear.errors import InputError, ShapeError
from rectilinear.invertible import Chain, Flatten, Patches, Permutation, Reshape, Rotation, Squeeze

IMAGES = torch.arange(2 * 3 * 4 * 6, dtype=torch.float64).reshape(2, 3, 4, 6)


def test_squeeze_channels_are_phases() -> None:
    z = Squeeze((3, 4, 6), 2)(IMAGES)
    assert z.shape == (2, 12, 2, 3)
    for c in range(3):
        for dy in range(2):
            for dx in range(2):
                assert torch.equal(z[:, 4 * c + 2 * dy + dx], IMAGES[:, c, dy::2, dx::2])


def test_tokens_are_patches() -> None:
    g = Patches((3, 4, 6), 2)
    z = g(IMAGES)
    assert z.shape == (2, 6, 12)
    for i in range(2):
        for j in range(3):
            patch = IMAGES[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            assert torch.equal(z[:, 3 * i + j], patch.flatten(1))
    assert torch.equal(g.inverse(z), IMAGES)


def test_permutation_orders_an_axis() -> None:
    g = Permutation((3, 4, 6), index=[2, 0, 1], axis=0)
    z = g(IMAGES)
    assert torch.equal(z[:, 0], IMAGES[:, 2])
    assert torch.equal(g.inverse(z), IMAGES)


def test_flatten_is_a_reshape() -> None:
    assert torch.equal(Flatten((3, 4, 6))(IMAGES), IMAGES.flatten(1))


@pytest.mark.parametrize("index", [[0, 0, 1], [0, 1], [1, 2, 3]])
def test_no_permutation_is_refused(index: list[int]) -> None:
    with pytest.raises(InputError, match="permutation"):
        Permutation(3, index=index)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match="divisible"):
        Squeeze((1, 5, 4), 2)
    with pytest.raises(ShapeError):
        Patches((4, 4), 2)
    with pytest.raises(ShapeError, match="same number"):
        Reshape((4,), (5,))
    with pytest.raises(ShapeError, match="Flatten"):
        Chain(Squeeze((1, 4, 4), 2), Rotation(16))
    with pytest.raises(InputError, match="at least one"):
        Chain()

from itertools import pairwise

import numpy as np
import pytest

from rectilinear.deeplinear import SufficientStatistics, initial_weights, train_ensemble
from rectilinear.deeplinear.initialisation import INITIALISATIONS
from rectilinear.errors import ConfigError, ShapeError

SIZES = (3, 5, 4, 2)


@pytest.mark.parametrize("init", INITIALISATIONS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("runs", [(), (7,), (2, 3)])
def test_shapes_seeds_and_scale(init: str, bias: bool, runs: tuple[int, ...]) -> None:
    weights, biases = initial_weights(init, SIZES, runs, bias=bias, seed=3)
    assert [w.shape for w in weights] == [(*runs, 5, 3), (*runs, 4, 5), (*runs, 2, 4)]
    assert [b.shape for b in biases] == ([(*runs, 5), (*runs, 4), (*runs, 2)] if bias else [])
    again, _ = initial_weights(init, SIZES, runs, bias=bias, seed=3, scale=0.5)
    for w, half in zip(weights, again, strict=True):
        np.testing.assert_array_equal(half, w / 2)
    if init != "identity":
        other, _ = initial_weights(init, SIZES, runs, bias=bias, seed=4)
        assert not np.array_equal(weights[0], other[0])


def test_bounds_and_moments() -> None:
    weights, biases = initial_weights("uniform", SIZES, (4000,))
    for a in (*weights, *biases):
        assert 0.99 < np.abs(a).max() < 1
        assert abs(np.log(np.abs(a)).mean() + 1) < 0.05  # the geometric mean is 1/e
    weights, biases = initial_weights("torch", SIZES, (4000,))
    for a, fan_in in zip((*weights, *biases), (3, 5, 4) * 2, strict=True):
        assert 0.99 < np.abs(a).max() * fan_in**0.5 < 1
    weights, _ = initial_weights("normal", SIZES, (4000,))
    for w, fan_in in zip(weights, (3, 5, 4), strict=True):
        assert abs(w.var() * fan_in - 1) < 0.05


def test_orthogonal_rows_or_columns() -> None:
    for init in ("orthogonal", "identity", "zero_last"):
        weights, _ = initial_weights(init, SIZES, (6,))
        for w in weights[: 2 if init == "zero_last" else 3]:
            gram = (
                w @ np.swapaxes(w, -1, -2)
                if w.shape[-2] <= w.shape[-1]
                else np.swapaxes(w, -1, -2) @ w
            )
            np.testing.assert_allclose(
                gram, np.broadcast_to(np.eye(gram.shape[-1]), gram.shape), atol=1e-14
            )
    assert not weights[-1].any()
    signs = initial_weights("orthogonal", (1, 1), (1000,))[0][0]
    assert 400 < (signs > 0).sum() < 600


@pytest.mark.parametrize("sizes", [(3, 5, 4, 2), (2, 2, 2), (4, 1, 1, 3), (1, 1), (3, 7, 5)])
def test_balanced(sizes: tuple[int, ...]) -> None:
    weights, _ = initial_weights("balanced", sizes, (6,))
    for before, after in pairwise(weights):
        inner, outer = np.swapaxes(after, -1, -2) @ after, before @ np.swapaxes(before, -1, -2)
        np.testing.assert_allclose(inner, outer, atol=1e-13)
    product = weights[0]
    for w in weights[1:]:
        product = w @ product
    assert np.linalg.matrix_rank(product[0]) == min(sizes)


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match="one of uniform, torch"):
        initial_weights("xavier", SIZES)


@pytest.mark.parametrize("wrong", ["few", "transposed", "no biases"])
def test_given_weights_of_the_wrong_shape(wrong: str) -> None:
    statistics = SufficientStatistics.from_data(np.eye(3), np.ones(3))
    weights, biases = initial_weights("torch", (3, 4, 1))
    layers = {
        "few": (weights[:1], biases[:1]),
        "transposed": ((weights[0].T, weights[1]), biases),
        "no biases": (weights, ()),
    }[wrong]
    with pytest.raises(ShapeError, match="weights and biases that end in"):
        train_ensemble(statistics, (4,), init=layers, steps=1)

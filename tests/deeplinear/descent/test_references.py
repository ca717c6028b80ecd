"""Solutions of least norms: found by networks, and by other means."""

import numpy as np
import pytest

from rectilinear.deeplinear import (
    classification,
    completion,
    descend,
    diagonal,
    diagonal_init,
    diagonal_limit,
    initial_weights,
    low_rank_teacher,
    references,
    regression,
    sensing,
    sparse_teacher,
)
from rectilinear.errors import ConfigError, InputError

RNG = np.random.default_rng(0)
pytestmark = pytest.mark.usefixtures("rewound")
SEEN = np.subtract.outer(np.arange(8), np.arange(8)) % 3 > 0  # two of three entries


def test_one_layer_from_zero_finds_the_smallest_norm() -> None:
    X, y = RNG.normal(size=(5, 9)), RNG.normal(size=(5, 2))
    run = descend(regression(X, y), [np.zeros((1, 2, 9))], lr=0.3, steps=1000, measures=["loss"])
    name, apart = run.nearest(references(regression(X, y)))[0]
    assert name == "minimum_norm"
    assert apart < 1e-3
    np.testing.assert_allclose(run.maps[0, -1].T, np.linalg.pinv(X) @ y, atol=1e-3)


def test_diagonal_networks_find_l1_or_l2() -> None:
    w = sparse_teacher((1, 30), 2, seed=3)[0, 0]
    X = RNG.normal(size=(15, 30))
    task = regression(X, X @ w)
    found = references(task, ["minimum_norm", "l1"])
    np.testing.assert_allclose(found["l1"][0, 0], w, atol=1e-9)
    run = descend(
        task, diagonal_init(30, [1e-3, 3.0]), diagonal(), lr=[0.05, 2e-3], steps=1500,
        measures=["loss"],
    )  # fmt: skip
    assert [name for name, _ in run.nearest(found)] == ["l1", "minimum_norm"]
    np.testing.assert_allclose(
        diagonal_limit(X, X @ w, 30.0), found["minimum_norm"][0, 0], atol=1e-3
    )
    np.testing.assert_allclose(diagonal_limit(X, X @ w, 1e-9), w, atol=1e-6)


@pytest.mark.whole
def test_the_nuclear_norm_completes_and_senses_matrices() -> None:
    truth = low_rank_teacher((8, 8), [2.0], seed=1)[0]
    task = completion(truth, SEEN)
    found = references(task, ["minimum_norm", "nuclear_norm"])
    np.testing.assert_allclose(found["nuclear_norm"][0][SEEN], truth[SEEN], atol=1e-6)
    assert 1.9 < np.linalg.norm(found["nuclear_norm"][0], "nuc") < 2.0 + 1e-6
    np.testing.assert_allclose(found["minimum_norm"][0].ravel(), task.target[:, 0], atol=1e-12)
    small = initial_weights("normal", (8, 8, 8), bias=False, scale=0.03)[0]
    run = descend(task, small, lr=3.0, steps=3000, measures=["effective_rank"])
    assert run.nearest(found)[0][0] == "nuclear_norm"
    assert run.measure("effective_rank")[0, -1] < 2 < run.measure("effective_rank")[0, 0]
    A = RNG.normal(size=(45, 8, 8))
    sensed = references(sensing(A, np.einsum("nij,ij->n", A, truth)), ["nuclear_norm"])
    np.testing.assert_allclose(sensed["nuclear_norm"][0], truth, atol=1e-5)


@pytest.mark.whole
def test_reduced_rank_is_what_a_narrow_network_finds() -> None:
    X = RNG.normal(size=(60, 4))
    Y = X @ low_rank_teacher((3, 4), [3.0, 2.0, 1.0], seed=2)[0].T + 0.1 * RNG.normal(size=(60, 3))
    task = regression(X, Y)
    X0 = initial_weights("normal", (4, 2, 3), bias=False, scale=0.3)[0]
    run = descend(task, X0, lr=0.1, steps=2500, measures=["loss"])
    name, apart = run.nearest(references(task, ["minimum_norm"], rank=2))[0]
    assert (name, apart < 1e-6) == ("reduced_rank", True)


def test_references_that_are_not_defined() -> None:
    task = classification(np.eye(4), [0, 1, 0, 1])
    with pytest.raises(ConfigError, match="square loss"):
        references(task)
    with pytest.raises(ConfigError, match=r"rank = 1.*Leave rank out"):
        references(completion(np.eye(2), np.ones((2, 2))), [], rank=1)
    with pytest.raises(InputError, match="fits up to"):
        diagonal_limit(np.ones((2, 1)), np.array([1.0, 2.0]), 1.0)

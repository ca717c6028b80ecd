"""Gated networks against closed forms: one context is Saxe's network, disjoint ones are several."""

import numpy as np
import pytest

from rectilinear.deeplinear import (
    aligned_map,
    descend,
    factorised,
    gated,
    in_contexts,
    mode_flow,
    regression,
)
from rectilinear.errors import ShapeError

RNG = np.random.default_rng(0)
pytestmark = pytest.mark.usefixtures("rewound")
WHITE = np.linalg.qr(RNG.normal(size=(40, 3)))[0] * 40**0.5
ONE, OTHER = (
    np.diag([3.0, 2.0, 1.0]),
    np.linalg.qr(RNG.normal(size=(3, 3)))[0] @ np.diag([2.5, 1, 0.5]),
)
FLOW = {"optimizer": "flow", "lr": 0.01, "steps": 400, "measures": ["loss"]}


def test_one_gate_for_every_row_is_the_linear_network() -> None:
    task = regression(in_contexts(WHITE, np.zeros(40, int)), WHITE @ ONE.T)
    run = descend(task, factorised(aligned_map(ONE, 1e-3), [3]), gated([np.ones((1, 3))]), **FLOW)
    modes = mode_flow([3, 2, 1], 1e-3, 0.01 * run.steps)
    np.testing.assert_allclose(np.linalg.svd(run.maps[0])[1].T, modes, atol=1e-6)


def test_disjoint_contexts_learn_their_own_closed_form() -> None:
    """A quarter of the rows has a quarter of the time."""
    x = np.concatenate([WHITE, WHITE, WHITE, WHITE])
    context = np.repeat([0, 1, 1, 1], 40)
    y = np.where(context[:, None] == 0, x @ ONE.T, x @ OTHER.T)
    small = [factorised(aligned_map(s, 1e-3), [3]) for s in (ONE, OTHER)]
    first = np.concatenate([layers[0] for layers in small], 1)
    second = np.concatenate([layers[1] for layers in small], 2)
    gates = np.repeat(np.eye(2), 3, axis=1)
    run = descend(regression(in_contexts(x, context), y), (first, second), gated([gates]), **FLOW)
    blocks = run.maps[0].reshape(-1, 3, 2, 3)
    for k, (share, s) in enumerate([(0.25, [3, 2, 1]), (0.75, [2.5, 1, 0.5])]):
        modes = mode_flow(s, 1e-3, 0.01 * share * run.steps)
        np.testing.assert_allclose(np.linalg.svd(blocks[:, :, k])[1].T, modes, atol=1e-6)


def test_a_shared_path_learns_faster_than_one_of_its_own() -> None:
    """Two contexts with one target race: shared units see all rows, the others half of them."""
    x, context = np.concatenate([WHITE, WHITE]), np.repeat([0, 1], 40)
    task = regression(in_contexts(x, context), x @ ONE.T)
    gates = np.repeat([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]], 3, axis=1)
    W1, W2 = factorised(1e-3 * np.eye(3), [3])
    layers = np.concatenate([W1] * 3, 1), np.concatenate([W2] * 3, 2)
    run = descend(task, layers, gated([gates]), **FLOW)
    first, second = run.layers
    sizes = [np.abs(second[0][:, k : k + 3] @ first[0][k : k + 3]).max() for k in (0, 3, 6)]
    assert sizes[0] > 10 * max(sizes[1:])


def test_gates_that_do_not_fit() -> None:
    with pytest.raises(ShapeError, match="contexts"):
        gated([np.ones((2, 3)), np.ones((1, 3))])
    with pytest.raises(ShapeError, match=r"gated\(\[gates\]\)"):
        gated(np.ones((2, 3)))
    with pytest.raises(ShapeError, match=r"X\[:, None\]"):
        in_contexts(np.ones(4), [0, 1, 0, 1])
    with pytest.raises(ShapeError, match=r"0, 1, \.\.\..*return_inverse=True"):
        in_contexts(WHITE, np.full(40, -1))
    assert in_contexts(WHITE, np.unique(["a", "b"] * 20, return_inverse=True)[1]).shape == (40, 6)
    with pytest.raises(ShapeError, match="as the gates have"):
        descend(regression(WHITE, WHITE), factorised(np.eye(3), [3]), gated([np.ones((1, 4))]))
    with pytest.raises(ShapeError, match=r"integer for each row.*return_inverse=True"):
        in_contexts(WHITE, np.zeros(40))

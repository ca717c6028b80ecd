from itertools import pairwise
from math import exp, log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectilinear.errors import ConfigError
from rectilinear.flow.integrators import EndpointStep, grid

METHODS = st.sampled_from(["euler", "midpoint", "rk4", "magnus2", "magnus4"])


@settings(deadline=None, max_examples=25)
@given(METHODS, st.integers(1, 40), st.floats(0, 0.9), st.floats(0.05, 1.0), st.booleans())
def test_steps_are_as_many_as_asked_and_tile_the_time(method, steps, t0, length, singular):
    t1 = min(t0 + length, 1.0)
    intervals = grid(method, steps, singular=singular, t0=t0, t1=t1)
    times = [node.t for step in intervals for node in step.nodes]
    assert len(intervals) == steps
    assert times == sorted(times)
    assert t0 - 1e-12 <= times[0]
    assert times[-1] <= t1
    if not singular:
        assert sum(step.width for step in intervals) == pytest.approx(t1 - t0)


def test_neighbours_share_their_common_node_exactly():
    intervals = grid("rk4", 97, t1=0.83)
    assert all(a.nodes[-1] == b.nodes[0] for a, b in pairwise(intervals))


@settings(deadline=None, max_examples=20)
@given(METHODS, st.integers(1, 30), st.sampled_from([None, 0.02]))
def test_a_singular_family_ends_with_its_prediction_and_is_never_asked_nearer_to_one(
    method, steps, end
):
    *body, last = grid(method, steps, singular=True, end=end)
    width = 1.0 if steps == 1 else end or 1 / steps
    assert len(body) == steps - 1
    assert isinstance(last.method, EndpointStep)
    assert last.width == pytest.approx(width)
    assert all(node.t <= 1 - width + 1e-12 for step in body for node in step.nodes)


def test_magnus_intervals_are_equal_in_t_plus_a_fifth_of_tau():
    *body, _ = grid("magnus2", 30, singular=True, end=0.01)
    edges = [0.0]
    for step in body:
        edges.append(edges[-1] + step.width)
    clock = [1 - exp(-tau) + tau / 5 for tau in edges]
    assert edges[-1] == pytest.approx(-log(0.01))
    assert [b - a for a, b in pairwise(clock)] == pytest.approx([clock[-1] / 29] * 29)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps = 0"),
        ({"t0": 0.5, "t1": 0.5}, "times from 0.5 to 0.5"),
        ({"t1": 1.5}, "times from 0.0 to 1.5"),
        ({"singular": True, "end": 0.0}, "end=0.0"),
        ({"singular": True, "end": 0.6, "t0": 0.5}, "end=0.6 from t0=0.5"),
    ],
)
def test_what_is_out_of_range_is_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        grid("rk4", **({"steps": 4} | arguments))

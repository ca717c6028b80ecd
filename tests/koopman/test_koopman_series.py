"""Series and windows: layouts, gaps, delays."""

import numpy as np
import pytest
import torch

from rectilinear.errors import ConfigError, DataError, ShapeError
from rectilinear.koopman import as_series, embed, windows
from rectilinear.koopman.series import unpack


def test_layouts() -> None:
    assert as_series(np.arange(5.0)).states[0].shape == (5, 1)
    assert as_series(np.zeros((5, 2))).dim == 2
    assert len(as_series(np.zeros((3, 5, 2))).states) == 3
    uneven = as_series([np.zeros((5, 2)), np.zeros((7, 2))])
    assert [len(x) for x in uneven.states] == [5, 7]
    assert as_series(np.arange(3), dt=0.25).dt == 0.25


def test_gaps_are_refused_with_their_place() -> None:
    x = np.arange(20.0)
    x[7] = np.nan
    with pytest.raises(DataError, match="first at row 7"):
        as_series(x)
    clock = np.arange(20.0)
    clock[10:] += 8
    with pytest.raises(DataError, match="times 9 to 18"):
        as_series(np.arange(20.0), clock)
    with pytest.raises(DataError, match="do not increase"):
        as_series(np.arange(3.0), [0.0, 0.0, 1.0])
    with pytest.raises(ShapeError, match=r"2 times for 3 rows of series 0.*pass dt"):
        as_series(np.arange(3.0), [0.0, 1.0])
    with pytest.raises(ShapeError, match=r"\[times\] \* 2"):
        as_series(np.ones((2, 3, 1)), [np.arange(3.0)])
    with pytest.raises(ShapeError, match=r"x\.reshape\(len\(x\), -1\)"):
        as_series([np.ones((3, 2, 2))])
    with pytest.raises(ShapeError, match="columns"):
        as_series([np.zeros((5, 2)), np.zeros((5, 3))])
    with pytest.raises(ConfigError, match="dt"):
        as_series(np.arange(3.0), dt=-1.0)


def test_rows_with_gaps_left_out_are_irregular() -> None:
    clock = np.delete(np.arange(20.0), [4, 9])
    series = as_series(np.sin(clock), clock)
    assert not series.regular
    assert series.dt == 1.0
    with pytest.raises(DataError, match="irregular"):
        windows(series, delays=2, before=0, after=3)


def test_windows_against_a_loop() -> None:
    x = torch.arange(24.0, dtype=torch.float64).reshape(12, 2)
    found = windows(as_series(x, dt=0.5), delays=3, before=1, after=4)
    expected = [t for t in range(12) if t - 2 >= 0 and t - 1 >= 0 and t + 4 < 12]
    assert len(found) == len(expected)
    for i, t in enumerate(expected):
        assert found.anchors[i].tolist() == torch.cat([x[t], x[t - 1], x[t - 2]]).tolist()
        assert torch.equal(found.observed[i], x[t - 1 : t + 5])
    assert found.times[0].tolist() == [-0.5, 0.0, 0.5, 1.0, 1.5, 2.0]
    anchors, observed, times = unpack(found.packed(), 6, 2)
    assert torch.equal(anchors, found.anchors)
    assert torch.equal(observed, found.observed)
    assert torch.equal(times, found.times)


def test_spread_draws_rare_states_more_often() -> None:
    common, rare = (
        torch.zeros(3000, 1) + 1e-3 * torch.randn(3000, 1),
        torch.linspace(1, 9, 300)[:, None],
    )
    found = windows(as_series([torch.cat([common, rare])]), 1, 0, 0).spread(400)
    assert len(found) == 400
    assert (found.anchors > 0.5).double().mean() > 0.5, "a tenth of the windows"


def test_too_short() -> None:
    with pytest.raises(DataError, match="one of 5 or more"):
        windows(as_series(np.arange(4.0)), delays=2, before=0, after=3)
    with pytest.raises(DataError):
        embed(torch.zeros(2, 1), 3)

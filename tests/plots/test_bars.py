import pytest

from rectilinear import plots
from rectilinear.plots.charts import shares, svg


def test_shares_fill_the_axis():
    figure = shares({"a": {"odd": 3.0, "even": 1.0}, "b": {"odd": 0.0, "even": 0.0}})
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [0.75, 0.25, 0.0, 0.0]
    assert [text.get_text() for text in axes.texts] == ["odd", "even"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]


def test_bars_show_values_and_intervals():
    figure = plots.bars({"a": (0.5, (0.4, 0.7)), "b": (-0.25, None)}, "R²")
    (axes,) = figure.axes
    assert [tuple(line.get_xdata()) for line in axes.lines] == [(0.4, 0.7), (0.5,), (-0.25,)]
    low, high = axes.get_xlim()
    assert low < -0.25
    assert high > 1
    assert svg(figure) == svg(plots.bars({"a": (0.5, (0.4, 0.7)), "b": (-0.25, None)}, "R²"))


@pytest.mark.parametrize("draw", [shares, lambda rows: plots.bars(rows, "x")])
def test_nothing_to_draw(draw):
    assert draw({}).axes

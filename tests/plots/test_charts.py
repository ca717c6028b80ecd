import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from rectilinear import plots
from rectilinear.errors import DiskError
from rectilinear.plots.charts import ROLES, svg

CHARTS = {
    "spectrum": lambda: plots.spectrum(
        {"a": np.geomspace(1, 1e-3, 20), "b": np.geomspace(1, 1e-2, 20)}
    ),
    "curves": lambda: plots.curves(
        {"a": ([1, 10, 100], [3, 2, 1])}, "step", "loss", logx=True, logy=True, markers=True
    ),
    "histogram": lambda: plots.histogram(
        {"x": (np.linspace(-3, 3, 99), stats.norm()), "y": ([60.0, 70.0], stats.chi2(64))}
    ),
}


@pytest.mark.parametrize("name", CHARTS)
def test_svg_is_one_scalable_element_in_the_colours_of_its_page(name: str) -> None:
    text = svg(CHARTS[name]())
    root = ET.fromstring(text)
    assert root.tag.endswith("svg")
    assert "viewBox" in root.attrib
    assert "width" not in root.attrib
    assert "height" not in root.attrib
    assert not [colour for colour in ROLES.values() if colour in text]
    assert "font-family" not in text
    assert "DejaVu" not in text
    ids = re.findall(r' id="([^"]*)"', text)
    assert all(f"#{name}" in text for name in ids), (
        "ids that nothing refers to would clash between charts"
    )


@pytest.mark.whole
@pytest.mark.parametrize("name", CHARTS)
def test_the_same_chart_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    for suffix in ("png", "svg"):
        plots.save(CHARTS[name](), tmp_path / f"a.{suffix}")
        plots.save(CHARTS[name](), tmp_path / f"b.{suffix}")
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


def test_histogram_follows_its_distribution() -> None:
    values = stats.norm().rvs(20_000, random_state=np.random.default_rng(0))
    (axes,) = plots.histogram({"x": (values, stats.norm())}, bins=30).axes
    x, density = axes.lines[0].get_data()
    heights = np.array([bar.get_height() for bar in axes.patches])
    centres = np.array([bar.get_x() + bar.get_width() / 2 for bar in axes.patches])
    assert np.abs(np.interp(centres, x, density) - heights).max() < 0.03, (
        "four standard errors of a bin"
    )


def test_only_several_lines_are_named() -> None:
    assert plots.spectrum({"a": [1.0, 0.5]}).axes[0].get_legend() is None
    legend = plots.spectrum({"a": [1.0, 0.5], "b": [1.0, 0.2]}).axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]


def test_save_to_a_place_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError):
        plots.save(plots.spectrum({"a": [1.0]}), tmp_path / "file" / "chart.png")

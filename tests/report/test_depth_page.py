"""The section on depth: its sentences agree with its numbers."""

import re
from importlib import resources

import pytest

from rectilinear.plots.page import page
from rectilinear.report import audit as depth


@pytest.mark.whole
def test_sections_and_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth, "_LAYERS", (1, 10))
    sections, metrics = depth.depth_sections(seed=0)
    assert set(metrics) == {"depth_D_10", "depth_D_10_adam", "depth_networks_per_second"}
    assert metrics["depth_D_10"] > 0.4
    assert metrics["depth_D_10_adam"] < 0.01
    assert metrics["depth_networks_per_second"] > 1
    text = page("k", "t", "l", [], sections, "f")
    assert text.count("<svg") == 5
    assert text.count("<section>") == 3


def test_no_part_of_a_page_grows_with_its_widest_table() -> None:
    """A column of 1fr is as wide as what it holds: on a telephone the text beside it is cut."""
    style = resources.files("rectilinear.plots").joinpath("page.css").read_text(encoding="utf-8")
    columns = re.findall(r"section \{[^}]*grid-template-columns: ([^;]*);", style)
    assert len(columns) == 2
    assert all("minmax(0, 1fr)" in column for column in columns)

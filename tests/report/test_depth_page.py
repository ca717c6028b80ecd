"""The section on depth: its sentences agree with its numbers."""

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

import pytest

from rectilinear.plots.page import page
from rectilinear.report import audit as report


def check(metrics, sections):
    assert set(metrics) == {"audit_r2_symmetrised", "predicted_curve_error"}
    text = page("", "", "", [], sections, "")
    assert text.count("<svg") == 2
    assert "not linear" in text


@pytest.mark.whole
def test_sections_of_a_short_run(monkeypatch):
    monkeypatch.setattr(report, "STEPS", 30)
    sections, metrics = report.audit_sections(seed=0)
    check(metrics, sections)
    assert metrics["predicted_curve_error"] < 1e-2


@pytest.mark.slow
def test_the_mirrored_network_is_linear_and_its_curve_is_known():
    sections, metrics = report.audit_sections(seed=0)
    check(metrics, sections)
    assert metrics["audit_r2_symmetrised"] > 0.999
    assert metrics["predicted_curve_error"] < 0.01

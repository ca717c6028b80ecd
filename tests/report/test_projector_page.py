"""The page on projectors."""

import pytest

from rectilinear.plots.page import page
from rectilinear.report import projector


@pytest.mark.slow
def test_untrained_it_is_the_page_of_pca(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projector, "_train", lambda *_: None)
    sections, found = projector.projector_sections(seed=1)
    assert found.keys() == {"projector_idempotence", "projector_psnr_gain", "projector_auroc"}
    assert found["projector_idempotence"] < 1e-5, "float32"
    assert found["projector_psnr_gain"] == pytest.approx(0.0, abs=1e-3), "it starts as PCA"
    assert 0.5 < found["projector_auroc"] <= 1
    text = page("kicker", "title", "lede", [], sections, "foot")
    assert text.count("<svg") == 1
    for words in (
        "Occlusion 0.375.",
        "with measurement",
        "PCA, Gaussian",
        "rotated digits",
        "usual range",
    ):
        assert words in text


@pytest.mark.slow
def test_trained_it_is_above_pca_at_every_corruption() -> None:
    sections, found = projector.projector_sections()
    assert found["projector_idempotence"] < 1e-5, "float32"
    assert found["projector_psnr_gain"] > 1
    assert found["projector_auroc"] > 0.95
    assert "above it in 25 of 25 rows" in sections[1].text

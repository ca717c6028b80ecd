"""The figure of the idempotent model after a few steps: claims that need no training."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from rectilinear.papers.berman2025_linearizer import projector
from rectilinear.training import TrainConfig


@pytest.mark.whole
def test_idempotence_needs_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = TrainConfig(steps=3, batch_size=20, device="cpu")
    tiny = replace(
        projector.PRESETS["small"],
        blocks=2,
        width=8,
        density_blocks=2,
        density_width=8,
        training=short,
        density=short,
    )
    monkeypatch.setitem(projector.PRESETS, "small", tiny)
    result = projector.compute("small", seed=3)
    claims = {claim.name: claim for claim in projector.claims(result)}
    twice = [claim for name, claim in claims.items() if name.startswith("|f(f(x))")]
    assert len(twice) == 12
    assert all(claim.ok for claim in twice)
    assert claims["learned rank (at least)"].value == result.rank
    assert claims["latents of noise over those of data, untrained (at least)"].ok
    assert not claims["mean gain over PCA of the same rank, dB (at least)"].ok, (
        "three steps are PCA"
    )
    projector.draw(result, tmp_path / "figure.png")
    assert Image.open(tmp_path / "figure.png").width > 500

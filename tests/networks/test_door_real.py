"""The door on pretrained networks from packages: texts, images and sound."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import rectilinear as rl

pytestmark = pytest.mark.slow
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def models():
    """The makers of ``benchmarks/_real_models.py``; without network the tests are skipped."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        found = pytest.importorskip("_real_models")
    finally:
        sys.path.remove(str(BENCHMARKS))

    def make(name, *given):
        try:
            return getattr(found, name)(*given)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"the weights cannot be downloaded: {error}")

    return make


def test_texts_through_minilm(models):
    transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")
    model, folder = models("minilm")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = models("sentences", 24)
    found = rl.audit(model.bert, texts, tokenizer=tokenizer, measures="verdict", progress=False)
    assert found.verdict.label in ("not linear", "undecided")
    assert "encoder.layer.0@input" in found.start
    local = rl.local_map(model.bert.double(), texts[:1], tokenizer=tokenizer, freeze=True)
    assert local.error < 1e-10
    shares = local.shares()
    assert float(shares.input.sum()) + shares.bias == pytest.approx(1)


def test_images_through_mobilenet(models):
    model, x = models("mobilenet"), models("crops", 64)
    found = rl.audit(model, x, measures="verdict", progress=False)
    assert found.verdict.label == "not linear"
    fused = rl.fuse(model, x[:8], report=True)
    assert fused.parameters[1] < fused.parameters[0]
    with torch.no_grad():
        assert torch.equal(fused.model(x).argmax(1), model(x).argmax(1))
    local = rl.local_map(model.double(), x[0].double(), freeze=True)
    assert local.error < 1e-10


def test_sound_through_a_recurrent_network(models):
    model, x = models("voice").double(), models("sounds", 200).double()
    found = rl.audit(model, x, measures="verdict", progress=False)
    assert found.verdict.label == "not linear"
    local = rl.local_map(model, x[:1], freeze=True, source="conv1@input")
    assert local.error < 1e-10
    made = rl.linear_map(model, "lstm_cell@input", "final_conv@output", x, progress=False)
    assert made.r2 > 0.8

"""MiniLM with fewer layers: the numbers that the documentation promises, on the real weights."""

import sys
from pathlib import Path

import pytest
import torch

import rectilinear as rl

pytest.importorskip("transformers", reason="needs the extra 'hf' (transformers)")
pytestmark = pytest.mark.slow
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def case():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        real_networks = pytest.importorskip("real_networks")
        try:
            yield real_networks.minilm(500)
        except (OSError, real_networks.subprocess.CalledProcessError) as error:
            pytest.skip(f"the weights cannot be downloaded: {error}")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize(
    ("length", "least", "folded"), [(1, 0.94, 0.93), (2, 0.87, 0.86), (3, 0.8, 0.76)]
)
def test_layers_of_minilm_go(case, length, least, folded, tmp_path):
    from transformers import AutoModel

    options = case.more | {"progress": False}
    search = rl.span_costs(
        case.model, case.data, lengths=(length,), fold=True, by="score", **options
    )
    name = search.best(length).name
    assert rl.linearize(case.model, case.data, blocks=name, **options).score >= least
    smaller = rl.linearize(case.model, case.data, blocks=name, fold=True, **options)
    assert smaller.score >= folded
    assert smaller.stock
    assert smaller.parameters_after < smaller.parameters_before
    smaller.model.bert.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    ids = case.data["input_ids"][:4]
    with torch.no_grad():
        assert torch.allclose(again(ids)[0], smaller.model.bert(ids)[0], atol=1e-5)

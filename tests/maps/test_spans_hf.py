"""Spans of small transformers with random weights, folded into stock models and loaded again."""

import pytest
import torch

import rectilinear as rl
from rectilinear.errors import StructureError

makers = pytest.importorskip("makers_hf", reason="needs the extra 'hf' (transformers)")
transformers = makers.transformers
SPANS = {"bert": "layer.1:layer.2", "gpt2": "h.1:h.2", "llama": "layers.1:layers.2"}


@pytest.mark.parametrize("name", SPANS)
def test_a_folded_model_is_stock(name, tmp_path):
    model, data = getattr(makers, name)(), makers.token_batch(60)
    found = rl.linearize(model, data, blocks=SPANS[name], fold=True, progress=False)
    assert found.stock is True
    assert found.model.config.num_hidden_layers == 2
    assert found.parameters_after < found.parameters_before
    assert found.flops_after < found.flops_before
    kind = "post-norm" if name == "bert" else "pre-norm"
    assert kind in found.blocks[0].form
    found.model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path, dtype=torch.float64).eval()
    with torch.no_grad():
        ours, theirs = found.model(**data)[0], again(**data)[0]
    assert torch.allclose(ours, theirs, atol=1e-12)
    indices = [part.layer_idx for part in again.modules() if hasattr(part, "layer_idx")]
    assert max(indices) == 1


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_generation_keeps_its_cache(name):
    model, data = getattr(makers, name)(), makers.token_batch(60)
    found = rl.linearize(model, data, blocks=SPANS[name], fold=True, progress=False)
    ids = data["input_ids"][:2, :3]
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    fast, slow = (found.model.generate(ids, use_cache=cache, **options) for cache in (True, False))
    assert torch.equal(fast, slow)


def test_a_span_that_adds_a_constant_folds_exactly():
    model, data = makers.gpt2(), makers.token_batch(60)
    with torch.no_grad():
        block = model.transformer.h[1]
        block.attn.c_proj.weight.zero_(), block.mlp.c_proj.weight.zero_()
        block.mlp.c_proj.bias.normal_()
    found = rl.linearize(model, data, blocks="h.1:h.2", fold=True, progress=False)
    with torch.no_grad():
        out, wanted = (m(**data).logits for m in (found.model, model))
    real = data["attention_mask"].bool()
    assert torch.allclose(out[real], wanted[real], atol=1e-9)


def test_layers_that_take_tokens_as_rows_fold_with_padding():
    model, data = makers.opt(), makers.token_batch(60)
    with torch.no_grad():
        block = model.model.decoder.layers[1]
        block.self_attn.out_proj.weight.zero_(), block.fc2.weight.zero_()
        block.fc2.bias.normal_()
    found = rl.linearize(model, data, blocks="layers.1:layers.2", fold=True, progress=False)
    with torch.no_grad():
        out, wanted = (m(**data).logits for m in (found.model, model))
    real = data["attention_mask"].bool()
    assert torch.allclose(out[real], wanted[real], atol=1e-9)


@pytest.mark.parametrize("name", SPANS)
def test_a_span_becomes_one_map_of_tokens(name):
    model, data = getattr(makers, name)(), makers.token_batch(60)
    found = rl.linearize(model, data, blocks=SPANS[name], progress=False)
    assert found.blocks[0].acts_on == "tokens"
    assert found.blocks[0].parameters_after < found.blocks[0].parameters_before
    assert found.output_r2 < 1
    assert 0 < found.agreement <= 1


def test_a_model_that_scales_by_the_number_of_a_block_is_refused():
    config = transformers.GPT2Config(
        n_embd=16, n_layer=4, n_head=2, vocab_size=50, scale_attn_by_inverse_layer_idx=True
    )
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config).double().eval()
    with pytest.raises(StructureError, match="another function"):
        rl.linearize(model, makers.token_batch(60), blocks="h.1:h.2", fold=True, progress=False)


@pytest.mark.whole
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", SPANS)
def test_half_precision(name, dtype):
    model, data = getattr(makers, name)().to(dtype), makers.token_batch(60)
    found = rl.linearize(model, data, blocks=SPANS[name], fold=True, progress=False)
    assert next(found.model.parameters()).dtype == dtype
    assert found.stock is True
    assert found.output_r2 > 0.5
    in_place = rl.linearize(model, data, blocks=SPANS[name], progress=False)
    assert in_place.output_r2 > 0.5


def swin():
    sizes = {"image_size": 16, "patch_size": 2, "embed_dim": 8, "window_size": 2}
    config = transformers.SwinConfig(**sizes, depths=[2, 5], num_heads=[1, 2])
    torch.manual_seed(0)
    return transformers.SwinModel(config).double().eval()


def test_blocks_of_a_stage_of_swin(tmp_path):
    """Its windows alternate: two blocks can go, one cannot."""
    x = torch.randn(60, 3, 16, 16, dtype=torch.float64)
    stage = "encoder.layers.1.blocks"
    found = rl.linearize(
        swin(), x, blocks=f"{stage}.1:{stage}.3", fold=True, output="last_hidden_state"
    )
    assert found.stock is True
    assert found.model.config.depths == [2, 3]
    found.model.save_pretrained(tmp_path)
    again = transformers.SwinModel.from_pretrained(tmp_path, dtype=torch.float64).eval()
    with torch.no_grad():
        assert torch.allclose(again(x[:4])[0], found.model(x[:4])[0], atol=1e-12)
    with pytest.raises(StructureError, match="two at once"):
        rl.linearize(swin(), x, blocks=f"{stage}.1", fold=True, output="last_hidden_state")

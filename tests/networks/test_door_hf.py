"""The door of small transformers of Hugging Face, with random weights."""

import pytest
import torch
from torch import nn

from makers_hf import bert, gpt2, llama, token_batch, vit
from rectilinear.networks.batches import read_batches
from rectilinear.networks.forward_pass import call, forward
from rectilinear.networks.places import block_names, find
from rectilinear.networks.token_vectors import vectors

MODELS = {
    "bert": (bert, "encoder.layer"),
    "gpt2": (gpt2, "transformer.h"),
    "llama": (llama, "model.layers"),
}


@pytest.mark.parametrize("name", MODELS)
def test_layers_are_read_and_replaced(name: str) -> None:
    make, layers = MODELS[name]
    model, tokens = make(), token_batch()
    batch = read_batches(tokens, model).head(24)
    whole = model(**tokens, output_hidden_states=True)
    places = [f"{layers}.{i}" for i in range(3)]
    assert [n for n in block_names(model) if n.startswith(layers)] == places
    seen = forward(model, batch, [*places, f"{places[0]}@input"])
    assert torch.equal(seen.out, whole[0])
    assert torch.equal(seen.at[f"{places[0]}@input"], whole.hidden_states[0])
    assert torch.equal(seen.at[places[0]], whole.hidden_states[1])
    assert len(vectors(seen.at[places[0]], batch.mask)) == int(tokens["attention_mask"].sum())
    other = forward(model, batch, [places[2]], {places[1]: lambda h: 0 * h})
    assert not torch.allclose(other.out, seen.out)
    assert torch.equal(forward(model, batch, (), {p: lambda h: h for p in places}).out, seen.out)


def test_a_classifier_behind_wrappers() -> None:
    model = bert("AutoModelForSequenceClassification")
    wrapped = nn.DataParallel(model)
    tokens = token_batch() | {"labels": torch.zeros(24, dtype=torch.int64)}
    batch = read_batches(tokens, wrapped).head(24)
    assert batch.labels is not None
    assert call(wrapped, batch).shape == (24, 2)
    assert torch.equal(call(wrapped, batch, "logits"), call(wrapped, batch))
    assert find(wrapped, "encoder.layer.2").name == "bert.encoder.layer.2"
    assert "bert.encoder.layer.1" in block_names(wrapped)


def test_images_of_a_vision_transformer() -> None:
    model = vit()
    pixels = torch.randn(6, 3, 16, 16)
    by_keyword = read_batches({"pixel_values": pixels}, model).head(6)
    by_position = read_batches(pixels, model).head(6)
    assert call(model, by_keyword).shape == (6, 3)
    assert torch.equal(call(model, by_keyword), call(model, by_position))
    layers = [n for n in block_names(model) if ".layers." in n]
    assert len(layers) == 3
    assert forward(model, by_keyword, layers).at[layers[0]].shape == (6, 17, 16)

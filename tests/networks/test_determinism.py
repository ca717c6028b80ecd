"""Networks that are random, or in which samples act on each other, are refused by every verb."""

import pytest
import torch
from torch import nn

import rectilinear as rl
from rectilinear.errors import InputError, RectilinearError
from rectilinear.networks.batches import Batch
from rectilinear.networks.determinism import check_steady, twice
from rectilinear.networks.network import evaluating


class Noisy(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.layer, self.size = nn.Linear(4, 3), size

    def forward(self, x):
        out = self.layer(x)
        return out + self.size * torch.randn_like(out)


class Pairs(nn.Module):
    """Compares every image with every text, as CLIP does."""

    def __init__(self):
        super().__init__()
        self.words, self.pixels = nn.Embedding(20, 4), nn.Linear(5, 4)
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))

    def forward(self, input_ids, pixel_values):
        h = self.words(input_ids)
        for layer in self.layers:
            h = layer(h).tanh()
        texts, images = h.mean(1), self.pixels(pixel_values)
        return {"logits": images @ texts.T, "text_embeds": texts, "image_embeds": images}


def encoder(batch_first):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).double().eval()


@pytest.mark.parametrize("size", [1e-7, 1e-3, 1.0])
def test_noise_however_weak(size):
    torch.manual_seed(0)
    x = torch.randn(40, 4)
    model = Noisy(size)
    assert twice(lambda: model(x))[1]
    for verb in (
        lambda: rl.audit(model, x),
        lambda: rl.linear_map(model, "@input", "@output", x),
        lambda: rl.linearize(model, x, blocks=["layer"]),
        lambda: rl.local_map(model, x[0]),
    ):
        with pytest.raises(InputError, match="random in evaluation mode"):
            verb()


def test_numbers_that_change_nothing_are_no_noise():
    model = Noisy(0.0)
    assert not twice(lambda: model(torch.randn(3, 4, generator=torch.Generator().manual_seed(0))))[
        1
    ]


def test_time_first_is_refused_with_the_way_to_go():
    x = torch.randn(40, 6, 8, dtype=torch.float64)
    model = encoder(batch_first=False)
    for verb in (
        lambda: rl.linear_map(model, "layers.0", "layers.1", x),
        lambda: rl.layer_profile(model, x, samples=4),
        lambda: rl.span_costs(model, x),
        lambda: rl.linearize(model, x, blocks=["layers.1"]),
        lambda: rl.audit(model, x),
    ):
        with pytest.raises(InputError, match="batch_first=True"):
            verb()
    assert rl.linear_map(encoder(batch_first=True), "layers.0", "layers.1", x).r2 > 0.2


def test_outputs_of_pairs_of_samples():
    torch.manual_seed(0)
    data = {"input_ids": torch.randint(0, 20, (37, 6)), "pixel_values": torch.randn(37, 5)}
    model = Pairs()
    for verb in (
        lambda: rl.audit(model, data),
        lambda: rl.linear_map(model, "layers.0", "layers.1", data),
        lambda: rl.span_costs(model, data, lengths=(1,)),
        lambda: rl.linearize(model, data, blocks=["layers.1"]),
    ):
        with pytest.raises(InputError, match=r"\(8, 8\) and \(4, 4\)"):
            verb()
    assert rl.linear_map(model, "layers.0", "layers.1", data, output="text_embeds").r2 > 0.9


def test_one_sample_cannot_tell():
    with evaluating(model := nn.Linear(3, 2)):
        check_steady(model, Batch((torch.randn(1, 3),)))
    with pytest.raises(RectilinearError), evaluating(model := Noisy(1.0)):
        check_steady(model, Batch((torch.randn(1, 4),)))

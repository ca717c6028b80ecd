"""Audits of networks of tokens: ids, masks, texts; held out by sample."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rectilinear as rl
from makers_hf import bert, gpt2, llama, token_batch, vit
from rectilinear import errors
from rectilinear.networks.batches import Batch, read_batches
from rectilinear.networks.embeddings import embeddings_of
from rectilinear.networks.forward_pass import forward
from rectilinear.networks.network import evaluating
from rectilinear.networks.sample_split import SampleSplit
from rectilinear.networks.token_vectors import vectors

TOKENS = token_batch(64)
STARTS = {bert: "encoder.layer.0", gpt2: "transformer.h.0", llama: "model.layers.0"}


def strong(model: nn.Module) -> nn.Module:
    """With weights large enough for it to be far from linear."""
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim > 1:
                p.mul_(12.0)
    return model


@pytest.mark.whole
@pytest.mark.parametrize("make", STARTS, ids=lambda make: make.__name__)
def test_transformers_are_not_linear_from_their_embeddings_on(make: object) -> None:
    found = rl.audit(strong(make()), TOKENS, measures=["blocks"], progress=False)
    start = f"{STARTS[make]}@input"
    assert found.verdict.label == "not linear"
    assert "halfway between" in found.verdict.reasons[0]
    assert start in found.start
    assert any(start in reason for reason in found.verdict.reasons)
    assert found.vectors == int(TOKENS["attention_mask"].sum())
    rows = {row["name"]: row for row in found.measures["blocks"].details["blocks"]}
    assert set(rows) >= {STARTS[make].replace(".0", f".{i}") for i in range(3)}
    assert all(row["output_r2"] > row["deleted_output_r2"] for row in rows.values())


@pytest.mark.whole
def test_padding_changes_nothing() -> None:
    model = strong(bert())
    wider = {name: nn.functional.pad(v, (0, 5)) for name, v in TOKENS.items()}
    a, b = (
        rl.audit(model, data, measures=["blocks", "parity"], progress=False)
        for data in (
            TOKENS,
            [{k: v[:30] for k, v in wider.items()}, {k: v[30:] for k, v in wider.items()}],
        )
    )
    for name in ("affine_r2", "blocks"):
        assert a.measures[name].value == pytest.approx(b.measures[name].value, rel=1e-6)
    assert a.vectors == b.vectors


def test_the_map_of_tokens_is_that_of_numpy_on_samples_held_out() -> None:
    model = strong(bert())
    found = rl.audit(model, TOKENS, measures="verdict", progress=False).measures["affine_r2"]
    batches = read_batches(TOKENS, model)
    split = SampleSplit.of(batches, 0)
    parts: dict[bool, list[Tensor]] = {True: [], False: []}
    with evaluating(model):
        for batch in batches:
            seen = forward(model, batch, ["encoder.layer.0@input"])
            x, y = (vectors(v, batch.mask) for v in (seen.at["encoder.layer.0@input"], seen.out))
            held = split(batch)[x.samples]
            both = torch.cat([x.rows, y.rows], 1)
            parts[True].append(both[held])
            parts[False].append(both[~held])
    fit, judge = (torch.cat(parts[held]).numpy() for held in (False, True))
    d = 16
    mean = fit.mean(0)
    x, y = fit[:, :d] - mean[:d], fit[:, d:] - mean[d:]
    gram = x.T @ x
    gram += found.details["ridge"] * np.trace(gram) / d * np.eye(d)
    left = (judge[:, :d] - mean[:d]) @ np.linalg.solve(gram, x.T @ y) + mean[d:] - judge[:, d:]
    r2 = 1 - (left**2).sum() / ((judge[:, d:] - mean[d:]) ** 2).sum()
    assert found.value == pytest.approx(r2, abs=1e-6)
    low, high = found.interval
    assert low < r2 < high


def test_a_linear_network_of_tokens_is_effectively_linear() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(50, 6), nn.Linear(6, 4)).double()
    found = rl.audit(model, TOKENS["input_ids"], progress=False)
    assert found.verdict.label == "effectively linear"
    assert found.measures["affine_r2"].value == pytest.approx(1.0)
    assert found.measures["segments"].value == pytest.approx(1.0)
    assert str(found.start).endswith("(0@output)")


def test_texts_and_labels() -> None:
    def tokenizer(texts: list[str]) -> dict[str, list[list[int]]]:
        return {"input_ids": [[ord(c) % 50 for c in text] for text in texts]}

    texts = [chr(65 + i % 26) * 3 + chr(70 + i % 7) * (i % 5) for i in range(60)]
    model = strong(bert("AutoModelForSequenceClassification"))
    y = torch.arange(60) % 2
    found = rl.audit(
        model, texts, y, tokenizer=tokenizer, measures=["affine_score"], progress=False
    )
    assert found.measures["affine_score"].applies
    assert (found.rows, found.out_shape) == (60, (2,))
    assert "accuracy" in found.measures["affine_score"].details
    with pytest.raises(errors.DataError, match="tokenizer"):
        rl.audit(model, texts, progress=False)


def test_half_precision_models_are_measured() -> None:
    model = strong(bert()).bfloat16()
    found = rl.audit(model, TOKENS, measures=["blocks"], progress=False)
    wanted = rl.audit(strong(bert()), TOKENS, measures=["blocks"], progress=False)
    assert found.verdict.label == "not linear"
    for name in ("segments", "affine_r2", "blocks"):
        assert found.measures[name].value == pytest.approx(wanted.measures[name].value, abs=0.05)


def test_a_vision_transformer_is_measured_layer_by_layer() -> None:
    pixels = torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = rl.audit(
        strong(vit()),
        {"pixel_values": pixels},
        measures=["blocks"],
        output="logits",
        progress=False,
    )
    assert found.verdict.label == "not linear"
    names = [row["name"] for row in found.measures["blocks"].details["blocks"]]
    assert [n for n in names if ".layers." in n] == [f"vit.layers.{i}" for i in range(3)]


class Several(nn.Module):
    """Reads its ids at the beginning and at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Embedding(50, 4), nn.Embedding(50, 3)
        self.body = nn.Linear(4, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.body(self.first(ids)) + self.last(ids)


class Recurrent(nn.Module):
    """A classifier of texts."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 4)
        self.lstm = nn.LSTM(4, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(ids))[0][:, -1])


def test_where_the_embeddings_end_is_found_by_trial() -> None:
    torch.manual_seed(0)
    batch = Batch((TOKENS["input_ids"],))
    assert str(embeddings_of(Recurrent(), batch)) == "embed@output"
    with pytest.raises(errors.InputError, match="several places"):
        embeddings_of(Several(), batch)
    with pytest.raises(errors.DtypeError, match="floating"):
        rl.audit(nn.Linear(8, 2), TOKENS["input_ids"], progress=False)

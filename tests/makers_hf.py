"""Small transformers with random weights, in float64; nothing is downloaded."""

from pathlib import Path
from typing import Any

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="needs the extra 'hf' (transformers)")

SMALL = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}


def _of(config: Any, kind: str = "AutoModel") -> torch.nn.Module:
    torch.manual_seed(0)
    return getattr(transformers, kind).from_config(config).double().eval()


def bert(kind: str = "AutoModel", attention: str = "eager", **more: Any) -> torch.nn.Module:
    size = SMALL | {"intermediate_size": 32, "vocab_size": 50, "max_position_embeddings": 40}
    config = transformers.BertConfig(**size, **more)
    config._attn_implementation = attention
    return _of(config, kind)


def gpt2(kind: str = "AutoModelForCausalLM") -> torch.nn.Module:
    return _of(
        transformers.GPT2Config(n_embd=16, n_layer=3, n_head=2, vocab_size=50, n_positions=40), kind
    )


def llama(kind: str = "AutoModelForCausalLM") -> torch.nn.Module:
    size = SMALL | {"intermediate_size": 32, "vocab_size": 50, "max_position_embeddings": 40}
    return _of(transformers.LlamaConfig(**size, num_key_value_heads=1), kind)


def opt(kind: str = "AutoModelForCausalLM") -> torch.nn.Module:
    size = SMALL | {"ffn_dim": 32, "vocab_size": 50, "max_position_embeddings": 40}
    return _of(transformers.OPTConfig(**size, word_embed_proj_dim=16, pad_token_id=0), kind)


def vit(kind: str = "AutoModelForImageClassification") -> torch.nn.Module:
    size = SMALL | {"intermediate_size": 32, "image_size": 16, "patch_size": 4, "num_labels": 3}
    return _of(transformers.ViTConfig(**size), kind)


def token_batch(n: int = 24, longest: int = 8, seed: int = 0) -> dict[str, torch.Tensor]:
    """Ids ``(n, longest)`` with the mask of texts of 3 to ``longest`` tokens."""
    random = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 50, (n, longest), generator=random)
    lengths = torch.randint(3, longest + 1, (n,), generator=random)
    mask = (torch.arange(longest) < lengths[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


WORDS = ("red", "green", "blue", "one", "two", "three", "four", "up", "down", "left", "right",
         "in", "out", "here", "there")  # fmt: skip


def write_bert(folder: Path) -> None:
    """A folder as ``save_pretrained`` writes it: a small BERT and a tokenizer of :data:`WORDS`."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    config = transformers.BertConfig(**SMALL, intermediate_size=32, vocab_size=len(vocabulary))
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)

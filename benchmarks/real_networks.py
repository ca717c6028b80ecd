"""Spans of pretrained networks replaced by one map and folded away, beside other ways to do so.

    python benchmarks/real_networks.py      # about twenty minutes on one core, and 90 MB

Writes ``benchmarks/results/real_networks.md``. MiniLM (BERT, six layers), a character GPT that is
trained first, and MobileNetV2; the texts are Python's documentation, the images those of a package.
Spans are chosen by ``rl.span_costs`` on samples that no number below comes from.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _real_models as models
import _span_peers as peers
import torch
from _page import ran
from scipy.stats import spearmanr
from torch import Tensor, nn

import rectilinear as rl
from rectilinear.maps.data_split import Portions
from rectilinear.maps.fold_fit import fit_fold, gather
from rectilinear.maps.fold_target import neighbour_of, set_weight
from rectilinear.maps.linearize import read_for
from rectilinear.maps.network_costs import Outputs, cost, outputs
from rectilinear.maps.spans import span_of, without
from rectilinear.networks.forward_pass import forward
from rectilinear.networks.network import copied, evaluating
from rectilinear.networks.token_vectors import vectors

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULT = Path(__file__).parent / "results" / "real_networks.md"
LENGTHS = (1, 2, 3)
TITLES = ("MiniLM", "Character GPT", "MobileNetV2", "silero-vad")
FRESH = """
import sys, torch, transformers
kind, folder, ids, out = sys.argv[1:]
model = getattr(transformers, kind).from_pretrained(folder).eval()
with torch.no_grad():
    torch.save(model(**torch.load(ids))[0], out)
"""


@dataclass(frozen=True)
class Case:
    """A network, its data, and the measure that counts.

    Attributes:
        name: of the network.
        model: the network.
        data: the data, as ``rl.linearize`` takes them.
        by: the measure.
        more: further options.
    """

    name: str
    model: nn.Module
    data: Any
    by: str
    more: dict[str, Any]


def similarity_ranks(found: Tensor, wanted: Tensor) -> float:
    """Spearman's correlation of the similarities of all pairs of sentences."""
    pairs = torch.triu_indices(len(found), len(found), 1)
    both = [(e @ e.mT)[pairs[0], pairs[1]].numpy() for e in (found, wanted)]
    return float(spearmanr(*both).statistic)


def minilm(count: int) -> Case:
    """MiniLM as a sentence embedder, on sentences of the documentation."""
    from transformers import AutoTokenizer

    model, folder = models.minilm()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    words = tokenizer(
        models.sentences(count), padding=True, truncation=True, max_length=16, return_tensors="pt"
    )
    data = {key: words[key] for key in ("input_ids", "attention_mask")}
    return Case("MiniLM", model, data, "score", {"score": similarity_ranks})


def character_gpt(count: int) -> Case:
    """The character GPT, on text that it was not trained on."""
    more = {"output": "logits"}
    return Case("Character GPT", models.character_gpt(), models.windows(count), "loss", more)


def mobilenet(count: int) -> Case:
    """MobileNetV2 with its batch normalisations folded, on crops."""
    model = rl.fuse(models.mobilenet())
    assert isinstance(model, nn.Module)
    more = {"container": "features"}
    return Case("MobileNetV2", model, models.crops(count), "agreement", more)


def measured(case: Case, found: Outputs, wanted: Outputs) -> float:
    """The measure of a case."""
    costs = cost(found, wanted, None, case.more.get("score"))
    if case.by == "loss":
        assert costs.loss is not None
        return costs.loss[1]
    return float(costs.score if case.by == "score" else costs.agreement or 0.0)


def of_result(case: Case, found: Any) -> float:
    """The measure of a case in a result of ``rl.linearize``."""
    return {"score": found.score, "loss": found.loss_after, "agreement": found.agreement}[case.by]


def run(case: Case, lengths: Sequence[int] = LENGTHS) -> list[str]:
    """The table of one network."""
    print(case.name, flush=True)
    begun = time.process_time()
    options = {key: value for key, value in case.more.items() if key != "container"}
    search = rl.span_costs(
        case.model, case.data, lengths=lengths, fold=True, by=case.by, **case.more
    )
    print(search, f"{time.process_time() - begun:.0f} s", flush=True)
    lines = [
        f"## {case.name}",
        "",
        (
            f"The measure is {WORDS[case.by]}; of the network as it is {search.reference:.4f} on "
            f"the samples of the search, which took {time.process_time() - begun:.0f} CPU seconds."
        ),
        "",
        "| blocks out | span | way | " + case.by + " | parameters | operations | seconds a batch |",
        "|---|---|---|---|---|---|---|",
    ]
    for length in lengths:
        try:
            name = search.best(length).name
        except rl.errors.ConfigError:
            continue
        lines += rows_of(case, name, length, options)
        print("\n".join(lines[-8:]), flush=True)
    return [*lines, ""]


WORDS = {
    "score": "Spearman's correlation of the similarities of all pairs of held-out sentences with "
    "those of the whole network",
    "loss": "the cross-entropy of the next character on held-out text, in nats",
    "agreement": "the share of held-out crops that get the class of the whole network",
}


def rows_of(case: Case, name: str, length: int, options: dict[str, Any]) -> list[str]:
    """The rows of one span: in place, folded, and the peers."""
    folded = rl.linearize(case.model, case.data, blocks=name, fold=True, **options)
    in_place = rl.linearize(case.model, case.data, blocks=name, **options)
    loaded = reloaded(folded.model)
    ways = [
        ("nothing taken out", None, "", "", f"{folded.seconds_before:.3f}"),
        (f"rl.linearize, {in_place.blocks[0].form}", of_result(case, in_place), *sizes(in_place)),
        (f"rl.linearize, folded{loaded}", of_result(case, folded), *sizes(folded)),
    ]
    whole = (folded.parameters_before, folded.flops_before)
    ways[0] = ("nothing taken out", whole_value(case), f"{whole[0]:,}", f"{whole[1]:,}", ways[0][4])
    ways += [(peer, value, "", "", "") for peer, value in peer_values(case, name).items()]
    return [
        f"| {length} | {name} | {way} | {value:.4f} | {a} | {b} | {c} |"
        for way, value, a, b, c in ways
    ]


def whole_value(case: Case) -> float:
    """The measure of the network as it is, on the samples of the other rows."""
    portions = Portions(
        read_for(case.model, case.data, None, None, None, case.more.get("output")), 0
    )
    with evaluating(case.model):
        found = outputs(case.model, portions.of("test"), case.more.get("output"))
    return measured(case, found, found)


def sizes(found: Any) -> tuple[str, str, str]:
    """Parameters, operations and seconds of a result."""
    return f"{found.parameters_after:,}", f"{found.flops_after:,}", f"{found.seconds_after:.3f}"


def reloaded(model: nn.Module) -> str:
    """Save a folded transformer, load it in another process with transformers alone, compare."""
    part = next((m for m in model.modules() if hasattr(m, "save_pretrained")), None)
    if part is None:
        return ""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        part.save_pretrained(folder / "model")
        count = part.config.vocab_size
        ids = torch.randint(count, (4, 16), generator=torch.Generator().manual_seed(0))
        torch.save({"input_ids": ids}, folder / "ids.pt")
        command = [type(part).__name__, folder / "model", folder / "ids.pt", folder / "out.pt"]
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        subprocess.run(
            [sys.executable, "-c", FRESH, *map(str, command)], check=True, env=environment
        )
        with torch.no_grad():
            gap = float((part(input_ids=ids)[0] - torch.load(folder / "out.pt")).abs().max())
    assert gap < 1e-5, f"the loaded model differs by {gap}"
    return f" (loaded by transformers alone: largest difference {gap:.0e})"


def peer_values(case: Case, name: str) -> dict[str, float]:
    """The measure with each peer's weights, on the samples of the other rows.

    All start from the same activations; gradient descent takes the seconds of the library's fit.
    """
    model, output = case.model, case.more.get("output")
    portions = Portions(read_for(model, case.data, None, None, None, output), 0)
    span = span_of(model, name)
    with evaluating(model), torch.random.fork_rng():
        neighbour = neighbour_of(model, next(iter(portions.of("fit"))), span, output)
        seen = gather(model, portions.of("fit"), span, neighbour, output)
        begun = time.process_time()
        fit_fold(model, neighbour, seen, seen)
        seconds = time.process_time() - begun
        layer = model.get_submodule(neighbour.layer)
        norm = None if neighbour.norm is None else model.get_submodule(neighbour.norm)
        wanted = outputs(model, portions.of("test"), output)
        ways = {
            "deletion (identity)": peers.deletion,
            "ReplaceMe, least squares": peers.replaceme,
            f"ReplaceMe, cosine, Adam for {seconds:.0f} s": peers.replaceme_cosine,
        }
        values: dict[str, float] = {}
        for way, function in ways.items():
            small = copied(model)
            set_weight(small.get_submodule(neighbour.layer), *function(layer, norm, seen, seconds))
            without(small, span)
            values[way] = measured(case, outputs(small, portions.of("test"), output), wanted)
        values[f"tuned lens' loop in place, {seconds:.0f} s"] = lens_value(
            case, span, portions, wanted, seconds
        )
    return values


def lens_value(case: Case, span: Any, portions: Portions, wanted: Outputs, seconds: float) -> float:
    """The measure with an affine map in place of the span that gradient descent found."""
    output, (first, last) = case.more.get("output"), (span.names[0], span.names[-1])
    places = [f"{first}@input", f"{last}@output"]
    rows: list[tuple[Tensor, Tensor]] = []
    for batch in portions.of("fit"):
        at = forward(case.model, batch, places, output=output).at
        rows.append(tuple(vectors(at[place], batch.mask).rows for place in places))
    matrix, constant = peers.tuned_lens(*(torch.cat(r) for r in zip(*rows, strict=True)), seconds)
    box: list[Tensor] = []

    def keep(value: Tensor) -> Tensor:
        box[:] = [value.detach().clone()]
        return value

    def through(_: Tensor) -> Tensor:
        x = box[0] if box[0].ndim < 4 else box[0].movedim(1, -1)
        out = x @ matrix.mT + constant
        return out if box[0].ndim < 4 else out.movedim(-1, 1)

    around = {places[0]: keep, places[1]: through}
    found = outputs(
        case.model,
        portions.of("test"),
        output,
        lambda batch: forward(case.model, batch, (), around, output=output).out,
    )
    return measured(case, found, wanted)


def recurrent(count: int) -> list[str]:
    """What the library says of a recurrent network of audio, beside the simplest maps."""
    model, x = models.voice(), models.sounds(count)
    begun = time.process_time()
    found = rl.audit(model, x, measures="verdict", progress=False)
    seconds = time.process_time() - begun
    lines = [
        "## silero-vad",
        "",
        (
            f"A voice detector of convolutions and an LSTM, on {count} windows of a synthetic voice: "
            f"{found.verdict.label}, in {seconds:.1f} CPU seconds. {found.verdict.reasons[0]}"
        ),
        "",
        "| to the logit from | method | held-out R² | R² of the mean | CPU seconds |",
        "|---|---|---|---|---|",
    ]
    for source in ("conv1@input", "lstm_cell@input", "lstm_cell@output"):
        for method in ("least_squares", "mean_jacobian", "frozen_jacobian"):
            begun = time.process_time()
            made = rl.linear_map(
                model, source, "final_conv@output", x, method=method, progress=False
            ).report
            seconds = time.process_time() - begun
            lines.append(
                f"| {source} | {method} | {made.r2:.3f} | {made.mean_r2:.3f} | {seconds:.1f} |"
            )
    local = rl.local_map(model.double(), x[:1].double(), freeze=True, source="conv1@input")
    lines += [
        "",
        (
            "With gates held, from the magnitudes of the first window in float64: `f = J x + sum_b "
            f"J_b b` to {local.error:.0e}; the biases give {local.shares().bias:.0%} of the logit."
        ),
        "",
    ]
    print("\n".join(lines), flush=True)
    return lines


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULT, help="the table")
    parser.add_argument("--sentences", type=int, default=500, help="for MiniLM")
    parser.add_argument("--windows", type=int, default=200, help="for the character GPT")
    parser.add_argument("--crops", type=int, default=300, help="for MobileNetV2")
    parser.add_argument("--lengths", type=int, nargs="*", default=LENGTHS, help="blocks taken out")
    parser.add_argument("--only", nargs="*", help="minilm, gpt, mobilenet, silero")
    parser.add_argument("--windows-of-sound", type=int, default=500, help="for silero-vad")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    makers = {
        "minilm": lambda: minilm(options.sentences),
        "gpt": lambda: character_gpt(options.windows),
        "mobilenet": lambda: mobilenet(options.crops),
    }
    found = {
        key: "\n".join(run(make(), options.lengths))
        for key, make in makers.items()
        if not options.only or key in options.only
    }
    if not options.only or "silero" in options.only:
        found["silero"] = "\n".join(recurrent(options.windows_of_sound))
    write(options.out, found)


HEAD = """# Spans of pretrained networks as one map, and folded away

Made by `python benchmarks/real_networks.py`; a part by `--only` and its name. Parameters and
operations are of one sample; the ways of one span share data, machine and process.
"""


def write(path: Path, found: dict[str, str]) -> None:
    """The page, of which the parts that were not measured now stay as they are."""
    said = path.read_text(encoding="utf-8") if path.exists() else ""
    parts = {part.partition("\n")[0]: part.strip() for part in said.split("\n## ")[1:]}
    made = ran(f"real_networks.py {' '.join(sys.argv[1:])}", "one thread, float32") + "."
    for text in found.values():
        title, _, rest = text.removeprefix("## ").partition("\n")
        parts[title] = f"{title}\n\n{made}\n\n{rest.strip()}"
    parts = {title: parts[title] for title in TITLES if title in parts}
    whole = [HEAD, *(f"## {part}\n" for part in parts.values())]
    path.write_text("\n".join(whole), encoding="utf-8")


if __name__ == "__main__":
    main()

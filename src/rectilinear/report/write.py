"""The report of a run: an evaluation, its numbers as JSON, its page, and the demo's chapters."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import torch

from rectilinear import __version__
from rectilinear.config import nan_to_null, write_json
from rectilinear.datasets import Images
from rectilinear.files import atomic_write
from rectilinear.flow import LinearFlow
from rectilinear.metrics.linearity import Embedding
from rectilinear.plots.page import Section, page
from rectilinear.report.audit import audit_sections, depth_sections
from rectilinear.report.evaluate import evaluate
from rectilinear.report.generator import facts, samples_picture, sections
from rectilinear.report.koopman import dynamics_sections
from rectilinear.report.projector import projector_sections
from rectilinear.report.style import style_sections
from rectilinear.training import read_log

Chapter = Callable[[int], tuple[list[Section], dict[str, float]]]


def write_report(
    flow: LinearFlow,
    train: Images,
    test: Images,
    features: Embedding,
    run: Path,
    *,
    out: Path | None = None,
    seed: int = 0,
    stages: Sequence[Mapping[str, Any]] = (),
    chapters: Mapping[str, Chapter] | None = None,
    links: Mapping[str, str] | None = None,
) -> dict[str, float | str | None]:
    """The numbers of ``flow``; writes ``report.html``, ``samples.png`` and ``metrics.json``.

    Numbers that need more images than there are, such as distances from fewer than eight, are None.

    Args:
        flow: the trained generator.
        train: the images it was trained on.
        test: held-out images.
        features: the network in whose features samples are scored.
        run: the folder of the run, whose log and configuration the page shows.
        out: where to write; ``run`` by default.
        seed: of the noise.
        stages: the rows of :attr:`rectilinear.recipes.Run.stages`.
        chapters: more of the page, by title: functions of the seed that give sections and more
            numbers.
        links: other files in the folder, by the name of each.

    Raises:
        DiskError: if the disk is full or cannot be written.
    """
    out = run if out is None else out
    e = evaluate(flow, train, test, features, seed=seed)
    log = read_log(run)
    seconds = log[-1]["seconds"] if log else 0.0
    one, many = e.scores.get(e.finish), e.scores_many
    metrics: dict[str, float | None] = {
        "random_features": e.classes == 1,  # of a network that images of one class taught nothing
        "collapse_error": next(row.float32 for row in e.collapse_errors if row.method == "rk4"),
        "inversion": e.inversion,
        "inversion_float32": e.inversion_float32,
        "noise_std": e.normality.std,
        "noise_mean_norm": e.normality.mean_norm,
        "scored_samples": None if many is None else many.n,
        "fd_one_step": None if one is None else one.fd,
        "fd_many_step": None if many is None else many.fd,
        "fd_decoded": None if e.scores_decoded is None else e.scores_decoded.fd,
        "fd_real": None if many is None else many.fd_real,
        "recall": None if one is None else one.recall,
        "nearest_samples": e.nearest_samples,
        "nearest_held_out": e.nearest_held_out,
        "seconds_train": seconds,
        "seconds_per_1000_one_step": e.seconds_one,
        "seconds_per_1000_many_step": e.seconds_many,
    }
    write_json(
        out / "metrics.json", nan_to_null(metrics)
    )  # before what is drawn: the numbers took the time
    machine = {
        "Date": date.today().isoformat(),
        "Machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "Device": next(flow.parameters()).device.type,
        "PyTorch": torch.__version__,
        "Training": f"{seconds:.0f} seconds",
        **{f"Stage {row['stage']}": _ended(row) for row in stages},
    }
    config = run / "config.json"
    body = sections(e, log, config.read_text(encoding="utf-8") if config.exists() else "", machine)
    if chapters:
        body[0] = replace(body[0], chapter="Build")
    for title, chapter in (chapters or {}).items():
        (first, *rest), more = chapter(seed)
        body += [replace(first, chapter=title), *rest]
        metrics |= more
    text = page(
        f"rectilinear  ·  {train.name}",
        "A hundred steps in one",
        "A generator of images that is linear in spaces of its own: all its sampling steps fold "
        "into one matrix, which can be inverted, decomposed and cut to any rank. Every number of "
        "this page is in metrics.json or in the tables below.",
        facts(metrics),
        body,
        f"Made by rectilinear {__version__} from {run}.",
        links,
    )
    write_json(out / "metrics.json", nan_to_null(metrics))
    with atomic_write(out / "report.html") as tmp:
        tmp.write_text(text, encoding="utf-8")
    with atomic_write(out / "samples.png") as tmp:
        tmp.write_bytes(samples_picture(e))
    return {"report": str(out / "report.html"), **nan_to_null(metrics)}


def _ended(row: Mapping[str, Any]) -> str:
    """The words on how a stage of training ended."""
    done = f"{row['steps']:,} of {row['steps_planned']:,} steps in {row['seconds']:.0f} seconds"
    return done if row["ended_by"] == "steps" else f"{done}: the limit max_seconds ended it"


CHAPTERS: dict[str, Chapter] = {
    "Project": projector_sections,
    "Style": style_sections,
    "Forecast": dynamics_sections,
    "Measure and predict": audit_sections,
    "Study depth": depth_sections,
}

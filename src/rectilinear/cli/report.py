"""``rectilinear demo``, ``report`` and ``reproduce``: pages of runs, figures of papers."""

import sys
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from rectilinear.cli._options import Common, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rectilinear.metrics.linearity import Embedding
    from rectilinear.recipes import Run
    from rectilinear.report.write import Chapter

_DEMO_SECONDS = 35.0  # of training: 25 more change the Fréchet distance of digits by 2 %


@dataclass(frozen=True, kw_only=True)
class Demo(Common):
    """Train a generator of digits; write report.html, with every other use, and explorer.html."""

    out: Path = Path("runs/demo")
    """Folder of the run; the same command resumes it."""


def demo(arguments: Demo) -> dict[str, Any]:
    """The paths of report and explorer, and the numbers of the report."""
    import torch

    from rectilinear import recipes
    from rectilinear.explorer import write_explorer
    from rectilinear.files import locked
    from rectilinear.report.write import CHAPTERS

    torch.set_num_threads(1)  # small matrices: more threads only wait for each other
    fields = {"training.seed": arguments.seed, "training.max_seconds": _DEMO_SECONDS}
    recipe = recipes.recipe_named("digits", fields)
    with locked(arguments.out):
        run = recipes.train("digits", recipe, arguments.out)
        page = arguments.out / "explorer.html"
        links = {"Explorer": page.name}
        answer = report_on(run, None, None, None, arguments.seed, CHAPTERS, links)
        data = run.load("train"), run.load("test")
        written = write_explorer(run.flow, page, "digits", *data, links={"report": "report.html"})
        paths = {"report": answer["report"], "explorer": written["explorer"]}
        return {**paths, **answer, "stages": run.stages}


@dataclass(frozen=True, kw_only=True)
class Report(Common):
    """Evaluate a generator's run; write report.html, metrics.json and samples.png."""

    run: tyro.conf.Positional[Path]
    """Folder of the run of a generator."""
    out: Path | None = None
    """Folder for the files; the run's folder by default."""
    features: str | None = None
    """Folder of a network from rectilinear train features, or FILE.py:NAME, a function without
    arguments that returns a module, and the file is run: the features that score the samples; by
    default one is trained in the run's folder."""
    data_dir: Path | None = None
    """Folder of data sets; by default $RECTILINEAR_DATA, else ./data."""


def report(arguments: Report) -> dict[str, Any]:
    """The numbers of the report, and its path."""
    from rectilinear import recipes

    run = recipes.open_run(arguments.run)
    return report_on(run, arguments.out, arguments.features, arguments.data_dir, arguments.seed)


def report_on(
    run: "Run",
    out: Path | None,
    features: str | None,
    data_dir: Path | None,
    seed: int,
    chapters: "Mapping[str, Chapter] | None" = None,
    links: "Mapping[str, str] | None" = None,
) -> dict[str, Any]:
    """Write the report of a run, with more ``chapters`` and ``links``; return its numbers."""
    from rectilinear import report

    print("evaluating: samples, spectrum, inversion, scores, timing", file=sys.stderr)
    network = _features(run, features, data_dir, seed)
    train, test = run.load("train", data_dir), run.load("test", data_dir)
    return report.write_report(
        run.flow,
        train,
        test,
        network,
        run.path,
        out=out,
        seed=seed,
        stages=run.stages,
        chapters=chapters,
        links=links,
    )


def _features(run: "Run", source: str | None, data_dir: Path | None, seed: int) -> "Embedding":
    """The network that scores samples: of the user's own, saved, or trained in the run."""
    from rectilinear import recipes
    from rectilinear.cli._options import load_model
    from rectilinear.metrics import ModuleFeatures

    if source is not None and ".py:" in source:
        return ModuleFeatures(load_model(source), Path(source).name)
    recipe = run.recipe
    folder = run.path / "features" if source is None else Path(source)
    return recipes.Features(recipe.data, recipe.size, recipe.labels, seed=seed).train(
        folder, data_dir
    )


@dataclass(frozen=True, kw_only=True)
class Reproduce(Common):
    """Compute a figure of a paper and check its claims; write a PNG and a JSON file.

    The exit code is 1 if a claim fails.
    """

    paper: tyro.conf.Positional[str]
    """Name of the paper, such as berman2025_linearizer."""
    figure: tyro.conf.Positional[str]
    """Name of the figure, such as one_step."""
    preset: Literal["small", "full"] = "small"
    """Size of the experiment: small takes seconds, full is that of the paper."""
    out: Path = Path("runs/figures")
    """Folder for the figure, PAPER-FIGURE-PRESET, and its .json."""
    format: Literal["png", "svg", "pdf"] = "png"
    """Format of the figure: png of 200 pixels an inch, svg or pdf."""
    data_dir: Path | None = None
    """Folder of data sets; by default $RECTILINEAR_DATA, else ./data."""


def reproduce(arguments: Reproduce) -> dict[str, Any]:
    """The path of the figure, and its claims."""
    from importlib import import_module

    from rectilinear.config import write_json

    if arguments.figure not in figures().get(arguments.paper, []):
        pairs = "; ".join(
            f"{paper} {figure}" for paper, names in figures().items() for figure in names
        )
        raise UsageError(
            f"'{arguments.paper} {arguments.figure}' is no figure that is reproduced here: {pairs}."
        )
    module = import_module(f"rectilinear.papers.{arguments.paper}.{arguments.figure}")
    stem = arguments.out / f"{arguments.paper}-{arguments.figure}-{arguments.preset}"
    result = module.compute(arguments.preset, seed=arguments.seed, data_dir=arguments.data_dir)
    image = stem.with_suffix(f".{arguments.format}")
    module.draw(result, image)
    claims = [asdict(claim) for claim in module.claims(result)]
    for claim in claims:  # JSON knows no NaN
        claim["value"] = claim["value"] if isfinite(claim["value"]) else None
    answer = {"figure": str(image), "claims": claims}
    write_json(stem.with_suffix(".json"), answer)
    return answer


def figures() -> dict[str, list[str]]:
    """The figures of each paper: the modules in its folder, by their files' names."""
    from rectilinear import papers

    (root,) = map(Path, papers.__path__)
    names = {
        folder.name: [f.stem for f in folder.glob("[a-z]*.py")]
        for folder in root.iterdir()
        if folder.is_dir()
    }
    return {paper: sorted(found) for paper, found in sorted(names.items()) if found}

"""``rectilinear reproduce``."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from rectilinear.cli._options import Common, UsageError


@dataclass(frozen=True, kw_only=True)
class Reproduce(Common):
    """Compute and draw a figure of a paper, and check its claims.

    The exit code is 1 where a claim fails.
    """

    paper: tyro.conf.Positional[str]
    """Name of the paper, such as berman2025_linearizer."""
    figure: tyro.conf.Positional[str]
    """Name of the figure, such as one_step."""
    preset: Literal["small", "full"] = "small"
    """Size: small runs in seconds, full is that of the paper."""
    out: Path = Path("runs/figures")
    """Folder for the figure and its JSON."""
    data_dir: Path | None = None
    """Folder of data sets; $RECTILINEAR_DATA, then ./data, by default."""


def reproduce(arguments: Reproduce) -> dict[str, Any]:
    """The figure's path and its claims."""
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
    image = stem.with_suffix(".png")
    module.draw(result, image)
    answer = {"figure": str(image), "claims": [asdict(claim) for claim in module.claims(result)]}
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

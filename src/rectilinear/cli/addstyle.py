"""``rectilinear addstyle``: a new style from pairs of images, the networks left as they are."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from rectilinear.cli._options import Common, UsageError

if TYPE_CHECKING:
    from rectilinear.style import Lessons, PlaceOperator, StyleTransfer

POOR_DB = 1.5  # dB above the best constant colour; below it gradient steps are tried
HELD_OUT = 5  # one pair in HELD_OUT is held out


@dataclass(frozen=True, kw_only=True)
class Addstyle(Common):
    """Fit a style to pairs of images and add it to a model; write the new model into --out."""

    run: tyro.conf.Positional[Path]
    """Folder of a run of the recipe style or of a saved model; styles for that of the package."""
    name: str
    """Name of the new style; one that the model has is replaced."""
    photos: Path
    """Folder of photos."""
    paintings: Path
    """Folder with every photo in the style, under the same file name."""
    steps: int = 60
    """Gradient steps, taken where the closed-form fit is poor on held-out pairs."""
    size: int = 224
    """Shorter side of the images in pixels; larger images are scaled down."""
    out: Path
    """Folder for the model that has the style."""


def addstyle(arguments: Addstyle) -> dict[str, Any]:
    """The saved model and its held-out dB: fitted on four fifths of the pairs, then on all."""
    from rectilinear import recipes
    from rectilinear.random import seed_all
    from rectilinear.style import StyleCollection, StyleTransfer, fit_style, fit_way_back
    from rectilinear.style.photos import pairs

    model = recipes.load(str(arguments.run))
    if not isinstance(model, StyleTransfer | StyleCollection):
        raise UsageError(f"{arguments.run} holds a {type(model).__name__} and no model of styles.")
    seed_all(arguments.seed)
    lessons = pairs(arguments.photos, {arguments.name: arguments.paintings}, None, arguments.size)
    parts = [*model.members] if isinstance(model, StyleCollection) else [model]
    found = [_measured(part, lessons, arguments.steps) for part in parts]
    best = max(range(len(found)), key=lambda i: max(found[i].values()))
    scores = found[best]
    steps = arguments.steps if scores.get("gradient_db", -100.0) > scores["closed_form_db"] else 0
    part = parts[best]
    A = fit_style(part, lessons.photos, lessons.paintings[arguments.name], steps)
    part = part.added(arguments.name, A)
    part = part.added(arguments.name, A, fit_way_back(part, arguments.name, lessons.photos))
    parts[best] = part
    whole = StyleCollection(parts) if isinstance(model, StyleCollection) else part
    whole.save_pretrained(arguments.out)
    return {
        "model": str(arguments.out),
        "style": arguments.name,
        "pairs": len(lessons.photos),
        "fit": f"{steps} gradient steps" if steps else "closed form",
        "numbers": A.rows.numel(),
        **scores,
    }


def _measured(model: "StyleTransfer", lessons: "Lessons", steps: int) -> dict[str, float]:
    """Held-out dB above the best constant colour, in closed form and, where poor, by steps."""
    from rectilinear.style import fit_style
    from rectilinear.style.measure import above_flat

    ((name, paintings),) = lessons.paintings.items()
    test = range(0, len(paintings), HELD_OUT)
    train = [i for i in range(len(paintings)) if i not in test] or [*test]
    photos, painted = ([x[i] for i in train] for x in (lessons.photos, paintings))
    held = [(lessons.photos[i], paintings[i]) for i in test]

    def score(A: "PlaceOperator") -> float:
        return above_flat(model.added(name, A).style(name), held)

    scores = {"closed_form_db": score(fit_style(model, photos, painted))}
    if scores["closed_form_db"] < POOR_DB:
        scores["gradient_db"] = score(fit_style(model, photos, painted, steps))
    return scores

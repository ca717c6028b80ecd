"""``rectilinear addstyle``: a new style from pairs of images, the networks left as they are."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from rectilinear.cli._options import Common, UsageError
from rectilinear.errors import DataWarning

if TYPE_CHECKING:
    from torch import Tensor

    from rectilinear.style import Lessons, PlaceOperator, StyleTransfer

    Pairs = list[tuple[Tensor, Tensor]]

POOR_DB = 1.5  # dB above the best constant colour; below it gradient steps are tried
LESS_DB = 0.5  # below a map of colours alone, from which a warning says so
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
    """The saved model and its held-out dB: fitted on four fifths of the pairs, then on all.

    All dB are above the best constant colour. A warning where a map of colours alone is better.
    """
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
    train, held = _split(lessons)
    found = [_measured(part, train, held, arguments.steps) for part in parts]
    best = max(range(len(found)), key=lambda i: max(found[i].values()))
    scores, peers = found[best], _peers(train, held)
    if peers["colours_db"] > max(scores.values()) + LESS_DB:
        warnings.warn(
            f"a least-squares map of colours alone, pixel by pixel, is nearer to the paintings: "
            f"{peers['colours_db']:.1f} dB above a constant colour, this style "
            f"{max(scores.values()):.1f}",
            DataWarning,
            stacklevel=2,
        )
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
        **peers,
    }


def _split(lessons: "Lessons") -> "tuple[Pairs, Pairs]":
    """Pairs to fit, and one in five that are held out."""
    ((_, paintings),) = lessons.paintings.items()
    both = [*zip(lessons.photos, paintings, strict=True)]
    held = both[::HELD_OUT]
    return [pair for i, pair in enumerate(both) if i % HELD_OUT] or held, held


def _peers(train: "Pairs", held: "Pairs") -> dict[str, float]:
    """The held-out dB of the photo unchanged, and of the best affine map of its colours."""
    import torch

    from rectilinear.numerics import lstsq
    from rectilinear.style.measure import above_flat

    def rows(x: "Tensor") -> "Tensor":
        return torch.nn.functional.pad(x.flatten(1).T.double(), (0, 1), value=1.0)

    scale = 1.0 if train[0][0].is_floating_point() else 255.0
    x, y = (torch.cat([rows(pair[i] / scale) for pair in train]) for i in (0, 1))
    A = lstsq(x.T @ x, x.T @ y[:, :-1])

    def colours(z: "Tensor") -> "Tensor":
        return (rows(z) @ A).T.reshape(z.shape).to(z)

    return {
        "unchanged_db": above_flat(lambda z: z, held),
        "colours_db": above_flat(colours, held),
    }


def _measured(
    model: "StyleTransfer", train: "Pairs", held: "Pairs", steps: int
) -> dict[str, float]:
    """Held-out dB above the best constant colour, in closed form and, where poor, by steps."""
    from rectilinear.style import fit_style
    from rectilinear.style.measure import above_flat

    photos, painted = ([pair[i] for pair in train] for i in (0, 1))

    def score(A: "PlaceOperator") -> float:
        return above_flat(model.added("new", A).style("new"), held)

    scores = {"closed_form_db": score(fit_style(model, photos, painted))}
    if scores["closed_form_db"] < POOR_DB:
        scores["gradient_db"] = score(fit_style(model, photos, painted, steps))
    return scores

"""Exchange and removal of painted styles from images of 8 bits, beside one linear regression."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rectilinear.style import Lessons, StyleTransfer, new_model
from rectilinear.style.fit import fit_way_back_from
from rectilinear.style.measure import score, way_back_scores
from rectilinear.style.style_map import as_eight_bit


def ways_back(model: StyleTransfer, photos: Sequence[Tensor], test: Lessons) -> str:
    """Exchange and removal from own images of 8 bits."""
    found, plain = way_back_scores(model, test.photos[::4]), by_regression(model, photos, test)
    lines = ["| | fitted | exact inverse | regression | as it is |", "|---|---|---|---|---|"]
    for kind in ("exchange", "removal"):
        values = (
            found[kind],
            found[f"{kind}, exact inverse"],
            plain[kind],
            found[f"{kind}, nothing"],
        )
        lines.append(f"| {kind} | {' | '.join(f'{value:.1f}' for value in values)} |")
    lines.append("")
    lines.append(
        f"Photo at strength 0: {found['strength 0']:.0f} dB; removal from images that were not "
        f"rounded: {found['removal, float']:.0f} dB."
    )
    return "\n".join(lines)


@torch.no_grad()
def by_regression(
    model: StyleTransfer, photos: Sequence[Tensor], test: Lessons
) -> dict[str, float]:
    """Exchange and removal by one linear regression of 4 x 4 pixels each, of cosines that overlap."""
    linear, found = new_model(["any"], couplings=0, basis="lapped"), {"exchange": [], "removal": []}

    def made(images: Sequence[Tensor], name: str) -> list[Tensor]:
        return [model(image.float() / 255, name) for image in images]

    some = test.photos[::4]
    seen, held = ({k: made(x, k) for k in model.names} for x in (photos, some))
    for i in model.styles:
        saved, shown = ([as_eight_bit(x) for x in kept[i]] for kept in (seen, held))
        for j in model.names:
            if i != j:
                back = fit_way_back_from(linear, saved, seen[j])
                f = linear.added("any", linear._operator("any"), back).removal("any")
                kind = "removal" if j == "identity" else "exchange"
                found[kind] += [score(f(a), b) for a, b in zip(shown, held[j], strict=True)]
    return {kind: float(np.mean(values)) for kind, values in found.items()}


@torch.no_grad()
def foreign(model: StyleTransfer, lessons: Lessons, test: Lessons) -> str:
    """Exchange between the teacher's own 8-bit paintings, by operators fitted to these."""
    rows = []
    for i in model.styles:
        back = fit_way_back_from(model, lessons.paintings[i][::32], lessons.photos[::32])
        turned = model.added(i, model._operator(i), back)
        for j in model.styles:
            if i != j:
                f = turned.between(i, j)
                for photo, a, b in [
                    *zip(test.photos, test.paintings[i], test.paintings[j], strict=True)
                ][::4]:
                    goal = b.float() / 255
                    rows.append(
                        [
                            score(f(a), goal),
                            score(model(photo, j), goal),
                            score(a.float() / 255, goal),
                        ]
                    )
    fitted, ceiling, before = np.mean(rows, 0)
    return (
        f"Exchange of the teacher's 8-bit paintings, by operators fitted to these: {fitted:.1f} dB "
        f"(from the photo {ceiling:.1f}, as they are {before:.1f})."
    )

"""The explorer of a generator as one HTML file, with scripts, weights and images in it."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from math import ceil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rectilinear import __version__
from rectilinear.datasets import Images
from rectilinear.explorer.content import content
from rectilinear.explorer.translate import check_images, translate
from rectilinear.explorer.weights import Weights
from rectilinear.files import atomic_write
from rectilinear.flow import LinearFlow, collapse
from rectilinear.plots.charts import png

ENGINE = ("numbers", "layers", "nets", "mixture", "model", "worker")
SCRIPTS = (
    *("numbers", "engine", "draw", "state", "directions", "algebra"),
    *("fit", "pad", "own", "start"),
)
INK = ("mnist", "digits")  # strokes, which read as ink on paper
TILES_ACROSS = 40


def write_explorer(
    flow: LinearFlow,
    out: Path,
    name: str,
    train: Images | None = None,
    test: Images | None = None,
    links: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The path of the page and its size; writes the file ``out``.

    Args:
        flow: a generator of images of at most 64 x 64 pixels.
        out: the HTML file.
        name: of the data, for the headline.
        train: training images, of which some are shown beside an image of the reader's own.
        test: held-out images to choose from; samples of the generator by default.
        links: other files in the folder, by the name of each.

    Raises:
        StructureError: for a generator that the page cannot run.
        DiskError: if the file cannot be written.
    """
    text = explorer_page(flow, name, train, test, links)
    with atomic_write(out) as tmp:
        tmp.write_text(text, encoding="utf-8")
    return {"explorer": str(out), "megabytes": len(text) / 1e6}


def explorer_page(
    flow: LinearFlow,
    name: str,
    train: Images | None = None,
    test: Images | None = None,
    links: Mapping[str, str] | None = None,
) -> str:
    """The whole document."""
    weights = Weights()
    check_images(flow)
    operator = collapse(flow).operator
    spec = translate(flow, operator, weights)
    found = content(flow, operator, train, test)
    facts = {
        "shape": spec["shape"],
        "velocity": spec["velocity"] is not None,
        "ink": name in INK,
        "fit": _fit(name, spec["shape"][1]),
        "tiles": len(found.tiles),
        **found.page,
        "sprite": _sprite(found.tiles),
    }
    parts = {
        "style": _web("explorer.css"),
        "name": escape(name),
        "things": escape(_THINGS.get(name, f"images like those of {name}")),
        "n": str(facts["n"]),
        "source": escape(found.page["gallerySource"]),
        "sections": _sections(facts),
        "page": _json(facts),
        "scripts": "\n".join(_web(f"{script}.js") for script in SCRIPTS),
        "engine": "\n".join(_web(f"{script}.js") for script in ENGINE),
        "neighbours": json.dumps(None if found.neighbours is None else _sprite(found.neighbours)),
        "spec": _json({**spec, "tensors": weights.places}),
        "weights": weights.base64(),
        "links": "".join(
            f' <a href="{escape(to)}">The {escape(text)}.</a>' for text, to in (links or {}).items()
        ),
        "version": __version__,
    }
    return _filled(_web("explorer.html"), parts)


_THINGS = {
    "mnist": "images of handwritten digits",
    "digits": "small images of handwritten digits",
    "fashion_mnist": "images of clothes",
}


def _fit(name: str, side: int) -> dict[str, Any] | None:
    """Box that strokes of the data fill, in pixels, and its centre; None for other data.

    MNIST's are scaled to 20 x 20 pixels of 28 and moved by their centre of mass to pixel 14, which
    is half a pixel after the middle; those of digits fill all 8 rows.

    Example:
        >>> _fit("mnist", 32)["box"], _fit("mnist", 28)["centre"], _fit("photos", 32)
        (20, 14.5, None)
    """
    if name not in INK:
        return None
    mnist = name == "mnist"
    own, box = (28, 20) if mnist else (8, 8)
    scale = min(1, side / own)
    words = f"scaled to {box * scale:g} pixels and centred"
    return {
        "box": box * scale,
        "mass": mnist,
        "centre": (side + scale * mnist) / 2,
        "words": f"{words} by the centre of mass, as MNIST was made" if mnist else words,
    }


def _sections(facts: dict[str, Any]) -> str:
    """The numbered sections that this generator has."""
    names = ["directions", "ranks", "between", "sums", "own", "steps", "classes"]
    missing = {"steps": not facts["velocity"], "classes": not facts["classes"]}
    shown = [name for name in names if not missing.get(name)]
    texts = _web("sections.html").split("<!--next-->")
    found = {text.split('id="', 1)[1].split('"', 1)[0]: text for text in texts}
    simple = "" if facts["noise"] else " hidden"
    return "".join(
        _filled(
            found[name],
            {
                "i": str(i),
                "n": str(facts["n"]),
                "rank": str(facts["rank"]),
                "more": str(facts["sliders"] - facts["first"]),
                "sliders": str(facts["sliders"]),
                "without_more": " hidden" if facts["sliders"] == facts["first"] else "",
                "noise": f"{facts['noise']:g}",
                "without_noise": simple,
                "without_classes": "" if facts["classes"] else " hidden",
                "without_fit": "" if facts["fit"] else " hidden",
                "source": escape(facts["gallerySource"]),
                "size": f"{facts['shape'][2]} × {facts['shape'][1]}",
            },
        )
        for i, name in enumerate(shown, start=1)
    )


def _filled(template: str, parts: dict[str, str]) -> str:
    """The template with ``{{name}}`` replaced, read once: no part is taken for another."""
    pieces = template.split("{{")
    return pieces[0] + "".join(
        parts[piece.split("}}", 1)[0]] + piece.split("}}", 1)[1] for piece in pieces[1:]
    )


def _json(value: object) -> str:
    """JSON that cannot end the script element that holds it."""
    return json.dumps(value, ensure_ascii=True).replace("<", "\\u003c")


def _sprite(images: Tensor) -> str:
    """All images in one PNG, in reading order, as a data address."""
    n, c, h, w = images.shape
    across = min(n, TILES_ACROSS)
    padded = torch.cat([images, images.new_zeros(-n % across, c, h, w)])
    rows = padded.unflatten(0, (ceil(n / across), across))
    pixels = rows.permute(0, 3, 1, 4, 2).reshape(-1, across * w, c)
    data = (pixels.clamp(0, 1) * 255).round().byte().expand(-1, -1, 3).contiguous().numpy()
    return f"data:image/png;base64,{b64encode(png(data)).decode()}"


def _web(name: str) -> str:
    return files("rectilinear.explorer").joinpath("web", name).read_text(encoding="utf-8")

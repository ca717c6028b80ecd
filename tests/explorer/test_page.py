"""The file of the explorer: what is in it, and what is refused."""

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rectilinear import invertible
from rectilinear.datasets import Images
from rectilinear.errors import NonFiniteError
from rectilinear.explorer.content import content
from rectilinear.explorer.page import explorer_page
from rectilinear.explorer.weights import Weights
from rectilinear.flow import LinearFlow, SolvedVelocity, collapse

MAX_CHARACTERS = 1.3e6  # of the page of digits


def facts(text: str) -> dict[str, Any]:
    return json.loads(re.search(r"<script>const page = (.*?);</script>", text)[1])


def test_the_command_writes_one_file_that_holds_all_it_needs(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(text) < MAX_CHARACTERS
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert "default-src 'none'" in text
    assert "{{" not in text.split("<script>")[0]
    assert text.count("</script>") == text.count("<script")


def test_first_images_are_those_of_python(digits: LinearFlow, page: Path) -> None:
    known = facts(page.read_text(encoding="utf-8"))
    data = base64.b64decode(known["sprite"].split(",")[1])
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    start = torch.zeros(1, 64)
    start[0, : known["sliders"]] = torch.tensor(known["start"])
    operator = collapse(digits).operator
    image = digits.g_data.inverse(operator(start)).clamp(0, 1)[0, 0]
    np.testing.assert_allclose(pixels[:8, :8] / 255, image.numpy(), atol=0.51 / 255)
    rows = known["ranks"] + [0] * known["classRows"]
    assert known["neighbourCount"] == 1500
    assert known["tiles"] == 1 + 9 * known["first"] + 7 * len(rows) + known["gallery"]


def small() -> LinearFlow:
    g = invertible.ImageFlow((3, 4, 4), blocks=2, width=4)
    moments = torch.ones(48), torch.arange(1.0, 49.0)
    return LinearFlow(g, invertible.Flatten((3, 4, 4)), SolvedVelocity(*moments))


def test_without_data_the_gallery_is_sampled_and_says_so() -> None:
    generator = small()
    found = content(generator, collapse(generator).operator, None, None)
    assert found.neighbours is None
    assert found.page["gallerySource"] == "samples of the generator itself"
    images = found.tiles[-found.page["gallery"] :] * 255
    torch.testing.assert_close(images, images.round())


def test_names_cannot_leave_their_place() -> None:
    bad = "</script><b>"
    images = Images(torch.rand(6, 3, 4, 4), torch.zeros(6, dtype=torch.int64), (bad, "x"), bad)
    text = explorer_page(small(), bad, images, images)
    assert bad not in text
    assert "rectilinear · &lt;/script&gt;&lt;b&gt;" in text


def test_weights_keep_what_they_hold() -> None:
    weights, large = Weights(), torch.linspace(-3, 3, 5000)
    assert [weights.add(large), weights.add(large, fine=True), weights.add(large * 1e5)] == [
        0,
        1,
        2,
    ]
    assert [place["type"] for place in weights.places] == ["f16", "pair", "f32"]
    block, place = base64.b64decode(weights.base64()), weights.places[1]
    halves = np.frombuffer(block, "<f2", 10000, place["offset"]).astype("f8").reshape(2, -1)
    assert np.abs(halves[0] + halves[1] / 2048 - large.numpy()).max() < 3 * 2.0**-22
    with pytest.raises(NonFiniteError):
        weights.add(torch.tensor([float("nan")]))


def test_data_that_were_asked_for_must_be_there(
    tmp_path: Path, ask_error: Callable[..., str]
) -> None:
    words = ["explore", "mnist", "--data-dir", str(tmp_path), "--out", str(tmp_path / "x.html")]
    assert "mnist" in ask_error(*words)

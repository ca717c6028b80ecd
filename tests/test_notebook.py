"""The views of results in notebooks: small, escaped, and right in their numbers."""

import re

import pytest
import torch

import rectilinear as rl
from rectilinear import deeplinear, flow, invertible, notebook, operators
from rectilinear.flow import LinearFlow

MAX_CHARACTERS = 20_000


def checked(markup: str) -> str:
    """The markup, if it is small, closed and without anything that runs."""
    assert len(markup) < MAX_CHARACTERS
    assert "<script" not in markup
    for tag in ("div", "table", "tr", "td", "svg"):
        assert markup.count(f"<{tag}") == markup.count(f"</{tag}>"), tag
    return markup


def test_decompositions_show_their_singular_values() -> None:
    A = operators.Diagonal(torch.tensor([1.0, -4.0, 2.0]))
    markup = checked(rl.svd(A)._repr_html_())
    assert "SVD of a 3 x 3 operator" in markup
    assert "3, from 4 to 1" in markup
    assert re.findall(r'height="([\d.]+)" fill', markup) == ["56.0", "28.0", "14.0"]
    g = invertible.VectorFlow(3, blocks=2, width=4)
    assert "SVD of a 3 x 3 Linearizer" in checked(rl.svd(rl.Linearizer(g, A))._repr_html_())
    batch = operators.Diagonal(torch.ones(5, 2))
    assert "the first of a batch (5,)" in checked(rl.svd(batch)._repr_html_())
    zero = rl.svd(operators.Diagonal(torch.zeros(2)))
    assert "infinite" in checked(zero._repr_html_())


def test_large_decompositions_stay_small() -> None:
    markup = checked(rl.svd(operators.Diagonal(torch.rand(5000)))._repr_html_())
    assert markup.count("<rect") == notebook.MAX_BARS
    assert "5,000, from" in markup


def test_linearizers_show_spaces_and_operator() -> None:
    g = invertible.VectorFlow(4, blocks=2, width=4)
    markup = checked(rl.Linearizer(g, operators.Dense(4, 4))._repr_html_())
    assert "4 -&gt; 4, one space" in markup
    assert "Dense(4 x 4)" in markup


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 4, 4)])
def test_generators_of_images_show_samples(shape: tuple[int, int, int]) -> None:
    g = invertible.ImageFlow(shape, blocks=2, width=4)
    n = g.dim
    names = ("<b>", "two")
    model = LinearFlow(
        g,
        invertible.Flatten(shape),
        flow.SolvedVelocity(torch.ones(n), torch.ones(n)),
        classes=names,
    )
    markup = checked(model._repr_html_())
    assert markup.count("<img") == 1
    assert "&lt;b&gt;, two" in markup


def test_generators_of_vectors_and_untrained_ones_show_facts_alone() -> None:
    velocity = flow.SolvedVelocity(torch.ones(4), torch.ones(4))
    vectors = LinearFlow(invertible.VectorFlow(4, 2, 4), None, velocity)
    assert "<img" not in checked(vectors._repr_html_())
    velocity = flow.SolvedVelocity(torch.ones(16), torch.ones(16))
    g = invertible.ImageFlow((1, 4, 4), blocks=2, width=4, actnorm=True)
    fresh = LinearFlow(g, None, velocity)
    assert "<img" not in checked(fresh._repr_html_())
    assert fresh.training
    assert not any(bool(b) for name, b in g.named_buffers() if name.endswith("initialized"))


def test_studies_show_every_model() -> None:
    study = deeplinear.DepthStudy(trials=2, steps=50, data=deeplinear.Synthetic(noise=(0.1,)))
    result = study.run()
    markup = checked(result._repr_html_())
    assert markup.count("<tr>") == 1 + len(result.models)
    assert result.names[1] in markup
    assert "success" in markup

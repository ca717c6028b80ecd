"""The network of the page against that of Python: the same images, the same coordinates."""

import base64
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from chromium import Browser
from makers_invertible import ADAPTERS, BLOCKS, IMAGE_NETWORKS, VECTOR_NETWORKS
from rectilinear import flow, invertible, load, operators
from rectilinear.errors import StructureError
from rectilinear.explorer.content import noise
from rectilinear.explorer.page import ENGINE, _web
from rectilinear.explorer.translate import check_images, layer, translate
from rectilinear.explorer.weights import Weights
from rectilinear.flow import LinearFlow

PIXEL = 1e-3  # of a pixel on a scale from 0 to 1
SINGLE = (
    2e-5  # parameters that the page keeps in single precision, through networks of a few layers
)
REFUSED = {"vit-affine", "vit-additive", "coupling-tokens"}


@pytest.fixture(scope="module")
def engine(browser: Browser) -> Browser:
    """An empty page that has the scripts of the network."""
    browser.send("Page.navigate", {"url": "about:blank"})
    browser.run("\n".join(_web(f"{name}.js") for name in ENGINE) + "\nvar found = null;0")
    return browser


def parts(spec: dict[str, Any], weights: Weights) -> str:
    return json.dumps([{**spec, "tensors": weights.places}, weights.base64()])


def numbers(browser: Browser, script: str) -> Tensor:
    """The float64 numbers of an expression of the page, bit by bit."""
    code = f"btoa(Array.from(new Uint8Array(Float64Array.from({script}).buffer), (b) => String.fromCharCode(b)).join(''))"
    return torch.from_numpy(np.frombuffer(base64.b64decode(browser.run(code)), "<f8").copy())


def listed(values: Tensor) -> str:
    return json.dumps(values.double().flatten().tolist())


@pytest.mark.parametrize(
    ("name", "make"),
    VECTOR_NETWORKS + IMAGE_NETWORKS + BLOCKS,
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_layers_are_those_of_python(
    engine: Browser, name: str, make: Callable[[], invertible.Invertible]
) -> None:
    g, weights = make(), Weights()
    if name in REFUSED:
        with pytest.raises(StructureError, match="expected"):
            layer(g, weights)
        return
    x = torch.rand(2, *g.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    spec = parts({"network": layer(g, weights)}, weights)
    engine.run(
        f"(([spec, text]) => {{ const bytes = bytesOf(text), tensors = spec.tensors.map((p) => numbersAt(bytes.buffer, p));"
        f" tensors[-1] = null; found = layer(spec.network, tensors); }})({spec})"
    )
    for row in x:
        z = g(row[None]).detach()
        made = numbers(engine, f"found.encode(Float64Array.from({listed(row)}))")
        torch.testing.assert_close(made, z.flatten(), atol=SINGLE, rtol=SINGLE)
        back = numbers(engine, f"found.decode(Float64Array.from({listed(z)}))")
        torch.testing.assert_close(back, row.flatten(), atol=SINGLE, rtol=SINGLE)


@pytest.mark.parametrize(("name", "make"), ADAPTERS, ids=lambda v: v if isinstance(v, str) else "")
def test_networks_of_others_are_one_clear_error(
    name: str, make: Callable[[], invertible.Invertible]
) -> None:
    g = make()
    with pytest.raises(StructureError, match="one that the explorer can run"):
        layer(g, Weights())


def load_model(engine: Browser, generator: LinearFlow) -> tuple[operators.Operator, Tensor]:
    """Put the generator into the page; its left singular vectors and values."""
    weights, operator = Weights(), flow.collapse(generator).operator
    spec = parts(translate(generator, operator, weights), weights)
    engine.run(f"(([spec, text]) => {{ found = model(spec, bytesOf(text)); }})({spec})")
    u, s, _ = operators.svd(operator)
    return u, s


@pytest.mark.whole
def test_ten_states_have_the_pixels_of_python(engine: Browser) -> None:
    generator = load("mnist")
    assert isinstance(generator, LinearFlow)
    u, s = load_model(engine, generator)
    c = torch.stack([noise(k, len(s)) for k in range(10)])
    low = torch.cat([c[:, :32], torch.zeros_like(c[:, 32:])], 1)
    with torch.no_grad():
        images, sevens = (
            g.g_data.inverse(u(low * s)).flatten(1).double()
            for g in (generator, generator.given(7))
        )
        found = flow.inversion(generator, images[:2].float().view(-1, *generator.g_data.shape))
        classes = generator.class_probabilities(images[:2].float().view_as(found.noise)).double()
    for k in range(10):
        made = numbers(engine, f"found.image(Float64Array.from({listed(c[k])}), 32)")
        assert (made - images[k]).abs().max() < PIXEL
        seven = numbers(engine, f"found.image(Float64Array.from({listed(c[k])}), 32, 7)")
        assert (seven - sevens[k]).abs().max() < PIXEL
    for k in range(2):
        coordinates = f"found.coordinates({listed(images[k])})"
        back = numbers(engine, f"found.image({coordinates})")
        assert (back - images[k]).abs().max() < 1e-5  # the page computes in float64
        recovered = numbers(engine, f"found.noiseOf({coordinates})")
        assert (recovered - found.noise[k].flatten()).abs().max() < PIXEL
        likely = numbers(engine, f"found.logOfClasses({listed(images[k])})")
        assert (likely.softmax(0) - classes[k]).abs().max() < PIXEL
    steps = numbers(
        engine, f"found.decode(found.steps(Float64Array.from({listed(c[0])}), 100, 32, () => 0))"
    )
    assert (steps - images[0]).abs().max() < 1e-4  # two ways to round


def test_a_dense_operator_is_decomposed(engine: Browser) -> None:
    g = invertible.ImageFlow((1, 4, 4), blocks=2, width=4)
    matrix = torch.randn(16, 16, generator=torch.Generator().manual_seed(0)) / 4
    velocity = flow.ConstantVelocity(operators.Dense(weight=matrix))
    generator = LinearFlow(g, invertible.Flatten((1, 4, 4)), velocity)
    u, s = load_model(engine, generator)
    c = noise(3, 16)
    with torch.no_grad():
        image = generator.g_data.inverse(u((c * s)[None])).flatten().double()
        again = flow.inversion(generator, image.float().view(1, 1, 4, 4)).noise.flatten().double()
    made = numbers(engine, f"found.image(Float64Array.from({listed(c)}))")
    torch.testing.assert_close(made, image, atol=SINGLE, rtol=SINGLE)
    recovered = numbers(engine, f"found.noiseOf(found.coordinates({listed(image)}))")
    torch.testing.assert_close(recovered, again, atol=1e-4, rtol=1e-4)  # of condition 60


def test_the_noise_is_that_of_python(engine: Browser) -> None:
    drawn = numbers(engine, "noise(12345, 1001)")
    torch.testing.assert_close(drawn, noise(12345, 1001).double(), atol=1e-6, rtol=1e-6)


def test_every_tail_of_the_normal_distribution(engine: Browser) -> None:
    t = torch.tensor([-60.0, -38.0, -8.0, -2.0, -0.5, 0.0, 0.3, 1.0, 4.0, 9.0]).double()
    logs = numbers(engine, f"{listed(t)}.map(logNormalTail)")
    torch.testing.assert_close(logs, torch.special.log_ndtr(t), rtol=1e-13, atol=1e-300)
    low = torch.special.log_ndtr(t[t < 0])
    torch.testing.assert_close(numbers(engine, f"{listed(low)}.map(quantileOfLog)"), t[t < 0])


def test_generators_of_large_images_are_one_clear_error() -> None:
    def generator(side: int) -> LinearFlow:
        g = invertible.ImageFlow((1, side, side), blocks=2, width=4)
        return LinearFlow(g, None, flow.SolvedVelocity(torch.ones(side**2), torch.ones(side**2)))

    check_images(generator(64))  # as many pixels as the recipe of a folder chooses
    with pytest.raises(StructureError, match="at most 64 x 64"):
        check_images(generator(68))


def test_couplings_in_half_precision_are_one_clear_error() -> None:
    g = invertible.AffineCoupling(4, nn.Linear(2, 4), precision="bf16")
    with pytest.raises(StructureError, match="bf16"):
        layer(g, Weights())

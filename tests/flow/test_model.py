import pytest
import torch

from rectilinear import from_pretrained
from rectilinear.errors import ConfigError, DtypeError, InputError, NonFiniteError, ShapeError
from rectilinear.flow import (
    ChebyshevVelocity,
    LinearFlow,
    LowRankEndpoint,
    SolvedVelocity,
    bits_per_dimension,
    collapse,
    denoise,
    interpolate,
    inversion,
    invert,
    sample,
)
from rectilinear.flow.conditional import class_index
from rectilinear.invertible import Flatten, Identity, VectorFlow
from rectilinear.linearizer import Linearizer
from rectilinear.operators import Diagonal


@pytest.fixture
def flow():
    torch.manual_seed(0)
    flow = LinearFlow(
        VectorFlow(12, 2, 16), Identity(12), ChebyshevVelocity(12, rank=1, degree=2)
    ).double()
    with torch.no_grad():
        for p in flow.g_data.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return flow


def test_the_collapsed_sampler_equals_the_sampler(flow, method):
    noise = torch.randn(5, 12, dtype=torch.float64)
    assert torch.allclose(
        collapse(flow, 20, method)(noise), sample(flow, noise, 20, method), rtol=1e-11, atol=1e-11
    )


def test_images_keep_their_shape():
    g = Flatten((1, 2, 3))
    flow = LinearFlow(g, g, ChebyshevVelocity(6, rank=1))
    noise = torch.randn(2, 1, 2, 3)
    assert sample(flow, noise, 3).shape == collapse(flow, 3)(noise).shape == noise.shape


def test_data_go_back_to_noise_and_forth_again(flow):
    x = torch.randn(40, 12, dtype=torch.float64)
    noise = invert(flow, x)
    assert torch.allclose(sample(flow, noise), x, atol=1e-9)
    result = inversion(flow, x)
    assert torch.allclose(result.noise, noise, rtol=1e-10)
    assert result.error < 1e-9
    assert result.normality.std == pytest.approx(float(noise.std()))


def test_an_operator_without_inverse_gives_the_nearest_point():
    f = Linearizer(Identity(3), Diagonal(torch.tensor([2.0, 1.0, 0.0])))
    assert invert(f, torch.ones(1, 3)).tolist() == [[0.5, 1.0, 0.0]]


def test_interpolation_is_the_segment_in_the_space_of_the_data(flow):
    a, b = torch.randn(2, 3, 12, dtype=torch.float64)
    f = collapse(flow)
    path = interpolate(f, a, b, n=5)
    assert path.shape == (5, 3, 12)
    assert torch.allclose(
        path, f.out_space.interpolate(a, b, torch.linspace(0, 1, 5).double()), atol=1e-8
    )
    arc = interpolate(flow, a, b, n=3, spherical=True)
    norms = [invert(f, x).norm(dim=-1) for x in (a, arc[1], b)]
    assert torch.allclose(norms[1], (norms[0] + norms[2]) / 2, rtol=1e-8)


def test_denoising_recovers_the_mean_of_a_gaussian():
    std, sigma = torch.tensor([3.0, 0.5], dtype=torch.float64), 0.4
    f = Linearizer(Identity(2), Diagonal((std**2 + sigma**2).sqrt()))
    x = torch.randn(6, 2, dtype=torch.float64)
    assert torch.allclose(denoise(f, x, sigma), x * std**2 / (std**2 + sigma**2))
    assert not denoise(f, x, sigma).requires_grad
    with pytest.raises(ConfigError, match="sigma=-1"):
        denoise(f, x, -1.0)


def test_bits_of_a_uniform_density_are_those_of_the_levels():
    f = Linearizer(Identity(500), Diagonal(torch.full((500,), 0.3, dtype=torch.float64)))
    x = (torch.randn(64, 500, dtype=torch.float64) * 0.3 * 255).round() / 255
    entropy = 0.5 * torch.log2(torch.tensor(2 * torch.pi * torch.e * 0.09)) + torch.log2(
        torch.tensor(255.0)
    )
    assert float(bits_per_dimension(f, x).mean()) == pytest.approx(float(entropy), abs=0.02)
    twin = 8 - f.log_prob(x) / 500 / torch.log(torch.tensor(2.0))
    torch.testing.assert_close(bits_per_dimension(f, x, 256), twin, atol=1e-2, rtol=0)
    with pytest.raises(ConfigError, match="levels = 0"):
        bits_per_dimension(f, x, 0)
    with pytest.raises(NonFiniteError):
        bits_per_dimension(f, x * torch.inf)


def test_a_flow_is_saved_with_its_shared_networks(tmp_path):
    flow = LinearFlow(VectorFlow(6, 2, 8), None, LowRankEndpoint(6, 2, width=8), end=0.05)
    flow.save_pretrained(tmp_path)
    again = from_pretrained(tmp_path)
    noise = torch.randn(3, 6)
    assert again.g_noise is again.g_data
    assert again.end == 0.05
    assert torch.allclose(sample(again, noise, 5), sample(flow, noise, 5), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((Identity(3), None, Diagonal(torch.ones(3))), DtypeError, "velocity of type Diagonal"),
        (
            (Identity(3), Identity(4), SolvedVelocity(torch.ones(3), torch.ones(3))),
            ShapeError,
            "g_noise of 4",
        ),
        (
            (Identity(3), None, SolvedVelocity(torch.ones(3), torch.ones(3)), 1.5),
            ConfigError,
            "end=1.5",
        ),
    ],
)
def test_parts_that_do_not_fit_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        LinearFlow(*arguments)


def test_noise_of_another_shape_is_named(flow):
    with pytest.raises(ShapeError, match=r"shape \(2, 5\)"):
        sample(flow, torch.randn(2, 5, dtype=torch.float64))


def test_a_class_of_a_generator_without_classes_says_so() -> None:
    with pytest.raises(InputError, match=r"without classes\. Leave it out"):
        class_index("0", ())
    with pytest.raises(InputError, match="one of cat, dog"):
        class_index("cow", ("cat", "dog"))

import pytest
import torch
from torch import nn

import rectilinear as rl
from makers_zoo import ZOO
from rectilinear.checks import tolerance
from rectilinear.errors import ConfigError, ShapeError

SMOOTH = {name: make for name, _, make in ZOO if name not in ("branching",)}


@pytest.mark.parametrize("name", SMOOTH)
def test_is_the_jacobian(name):
    model, x = SMOOTH[name]()
    point = x[0]
    J = torch.autograd.functional.jacobian(
        lambda row: model(row[None])[0].flatten(), point
    ).reshape(-1, point.numel())
    A = rl.local_map(model, point)
    eps = tolerance(torch.float64, scale=10 * float(J.abs().max() + 1), n=J.shape[1])
    assert torch.allclose(rl.to_dense(A), J, rtol=0, atol=eps)
    assert torch.allclose(rl.to_dense(A.T), J.mT, rtol=0, atol=eps)
    assert torch.allclose(A.value, model(point[None])[0].flatten())


@pytest.mark.parametrize(
    "name", ["two-layers", "deep-odd", "depth-separation", "difference-of-relus", "absolute-value"]
)
def test_bias_free_nets_are_their_local_map(name):
    model, x = SMOOTH[name]()
    for point in x[:3]:
        A = rl.local_map(model, point)
        assert A.constant.abs().max() < tolerance(
            torch.float64, scale=float(A.value.abs().max()) + 1, n=50
        )


def test_svd_without_the_matrix():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(300, 400), nn.GELU(), nn.Linear(400, 350)).double()
    point = torch.randn(300, dtype=torch.float64)
    A = rl.local_map(model, point)
    u, s, v = A.svd(4)
    expected = torch.linalg.svdvals(rl.to_dense(A))[:4]
    assert torch.allclose(s, expected, rtol=1e-9)  # the iteration stops there
    eye = torch.eye(4, dtype=torch.float64)
    assert torch.allclose(A(v(eye)), u(torch.diag(s)), atol=1e-8)
    assert torch.allclose(v.T(v(eye)), eye, atol=1e-9)
    with pytest.raises(ConfigError):
        A.svd(301)


def test_takes_a_point_with_or_without_its_batch_axis():
    model = nn.Linear(3, 2)
    assert torch.equal(
        rl.local_map(model, torch.ones(1, 3)).value, rl.local_map(model, torch.ones(3)).value
    )
    for wrong in (torch.ones(4), torch.ones(())):
        with pytest.raises(ShapeError):
            rl.local_map(model, wrong)


def test_an_image_of_one_channel_is_a_point():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    image = torch.randn(1, 4, 4)
    for point in (image, image[None]):
        A = rl.local_map(model, point)
        assert (A.in_dim, A.out_dim) == (16, 3)
        assert torch.allclose(A.value, model(image[None])[0], atol=1e-6)
    with pytest.raises(ShapeError, match="rows of shape"):
        rl.local_map(model, torch.ones(1, 1, 5))


def test_a_constant_has_no_slope():
    model = nn.Sequential(nn.Linear(3, 2), nn.Hardtanh(0, 1e-30))
    A = rl.local_map(model, torch.ones(3))
    assert not rl.to_dense(A).any()


def test_likeness_of_jacobians():
    model, x = SMOOTH["affine"]()
    assert rl.audit(model, x).measures["local"].value == pytest.approx(1.0)
    model, x = SMOOTH["large-odd-sine"]()
    assert abs(rl.audit(model, x).measures["local"].value) < 0.3


def test_one_text_is_a_sample_and_a_point_inside_needs_no_batch_axis():
    class Letters(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.out = nn.Embedding(128, 4), nn.Linear(4, 2)

        def forward(self, input_ids):
            return self.out(torch.relu(self.embedding(input_ids))).sum(1)

    model = Letters().double()
    options = {"tokenizer": lambda texts: torch.tensor([[ord(c) for c in t] for t in texts])}
    for text in ("abc", "a"):  # the order of a bag of words does not matter, and one is its own
        one, listed = (rl.local_map(model, x, **options) for x in (text, [text]))
        vectors = model.embedding(torch.tensor([[ord(c) for c in text]]))[0].detach()
        slopes = [model.out.weight * (v > 0) for v in vectors]
        for found in (one, listed):
            assert torch.allclose(
                rl.to_dense(found), torch.cat(slopes, 1), atol=tolerance(torch.float64)
            )

    net, x = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)).double(), torch.randn(5)
    x = x.double()
    for point in (x, x[None], x.numpy()):
        found = rl.local_map(net, point, target="0")
        assert torch.equal(rl.to_dense(found), net[0].weight.detach())
        assert torch.allclose(found.constant, net[0].bias, atol=tolerance(torch.float64))


def test_the_error_of_a_batch_of_one_image_is_about_the_image():
    with pytest.raises(ShapeError, match=r"rows of shape \(3, 8, 8\)"):
        rl.local_map(nn.Conv2d(4, 2, 3), torch.randn(1, 3, 8, 8))

import pytest
import torch

from rectilinear.errors import NotInitializedError
from rectilinear.invertible import ActNorm, Chain, ImageFlow, VectorFlow, check_invertible

DATA = torch.randn(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
DATA = DATA * torch.tensor([0.3, 1.0, 2.0]) + torch.tensor([5.0, 0.0, -1.0])


def test_first_batch_sets_mean_and_scale() -> None:
    g = ActNorm(3).double()
    z = g(DATA)
    torch.testing.assert_close(z.mean(0), torch.zeros(3, dtype=z.dtype))
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(3, dtype=z.dtype))


def test_images_are_normalised_by_channel() -> None:
    x = DATA.T.reshape(1, 3, 10, 20).repeat(2, 1, 1, 1)
    z = ActNorm((3, 10, 20)).double()(x)
    torch.testing.assert_close(z.std((0, 2, 3), correction=0), torch.ones(3, dtype=z.dtype))


def test_a_second_batch_changes_nothing() -> None:
    g = ActNorm(3).double()
    z = g(DATA)
    g(10 * DATA + 3)
    assert torch.equal(g(DATA), z)


@pytest.mark.parametrize("make", [lambda: ActNorm(3), lambda: VectorFlow(3, 2, 8, actnorm=True)])
def test_loading_a_state_dict_and_running_a_batch_does_not_change_the_function(make) -> None:
    g, other = make().double(), make().double()
    z = g(DATA)
    other.load_state_dict(g.state_dict())
    other.train()(10 * DATA + 3)
    assert torch.equal(other(DATA), z)
    assert torch.equal(other.eval()(DATA), z)


def test_an_empty_state_dict_takes_the_initialisation_back() -> None:
    g = ActNorm(3).double()
    empty = {name: value.clone() for name, value in g.state_dict().items()}
    g(DATA)
    g.load_state_dict(empty)
    with pytest.raises(NotInitializedError):
        g.eval()(DATA)


def test_copied_buffers_count() -> None:
    g, other = ActNorm(3).double(), ActNorm(3).double()
    z = g(DATA)
    for source, target in zip(
        [*g.parameters(), *g.buffers()], [*other.parameters(), *other.buffers()], strict=True
    ):
        target.data.copy_(source)
    assert torch.equal(other.eval()(DATA), z)


def test_use_before_the_first_batch_is_refused() -> None:
    g = ActNorm(3).double()
    with pytest.raises(NotInitializedError, match="training mode"):
        g.inverse(DATA)
    with pytest.raises(NotInitializedError):
        check_invertible(Chain(g), DATA)
    with pytest.raises(NotInitializedError):
        g.eval()(DATA)
    assert not g.initialized


def test_a_constant_channel_keeps_its_inverse() -> None:
    x = DATA.clone()
    x[:, 0] = 0.25
    g = ActNorm(3).double()
    assert g(x).isfinite().all()
    assert (g.log_scale - g.common).abs().max() <= g.bound
    check_invertible(g, DATA).raise_if_bad()


def test_a_constant_batch_is_finite() -> None:
    g = ActNorm(3).double()
    z, logdet = g.forward_and_logdet(torch.ones(4, 3, dtype=torch.float64))
    assert z.isfinite().all()
    assert logdet.isfinite().all()


def test_initialisation_under_no_grad_trains_afterwards() -> None:
    g = ImageFlow((1, 4, 4), blocks=2, width=4, actnorm=True)
    with torch.no_grad():
        g(torch.rand(8, 1, 4, 4))
    g.forward_and_logdet(torch.rand(8, 1, 4, 4))[1].sum().backward()
    assert all(p.grad is not None for name, p in g.named_parameters() if name.endswith("raw"))

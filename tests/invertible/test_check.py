import pytest
import torch
from torch import Tensor, nn

from makers_invertible import perturb
from rectilinear.errors import NonFiniteError, NotInvertibleError, ShapeError
from rectilinear.invertible import AdditiveCoupling, VectorFlow, check_invertible, from_callables

X = torch.randn(20, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_a_good_network_passes() -> None:
    g = perturb(VectorFlow(4, 3, 8).double())
    report = check_invertible(g, X, latents=3 * X, logdet=True)
    report.raise_if_bad()
    assert report.ok
    assert report.deterministic
    assert report.problems == []
    assert 0 <= report.forward_error <= report.tolerance
    assert report.logdet_error is not None


def test_amplification_is_that_of_a_matrix() -> None:
    g = from_callables(lambda x: x * 100, lambda z: z / 100, (4,))
    assert check_invertible(g, X).amplification == pytest.approx(100, rel=1e-6)


def test_a_wrong_inverse_is_found() -> None:
    report = check_invertible(from_callables(lambda x: 2 * x, lambda z: z / 2 + 1e-3, (4,)), X)
    assert not report.ok
    with pytest.raises(NotInvertibleError, match="g\\^-1"):
        report.raise_if_bad()


def test_an_inverse_on_the_data_only_is_found() -> None:
    g = from_callables(torch.tanh, lambda z: z.clamp(-0.999, 0.999).atanh(), (4,))
    x = 0.1 * X
    assert check_invertible(g, x, latents=0.1 * X).ok
    report = check_invertible(g, x, latents=3 * X)  # outside the range of tanh
    assert report.forward_error < 1e-12 < report.latent_error
    assert not report.ok


def test_dropout_is_found() -> None:
    g = AdditiveCoupling(
        4, nn.Sequential(nn.Linear(2, 64), nn.Dropout(0.1), nn.Linear(64, 2))
    ).double()
    assert check_invertible(g.eval(), X).ok
    report = check_invertible(g.train(), X)
    assert not report.deterministic
    with pytest.raises(NotInvertibleError, match="eval"):
        report.raise_if_bad()


def test_nan_is_found() -> None:
    def broken(z: Tensor) -> Tensor:
        return z.where(z > 0, torch.nan)

    report = check_invertible(from_callables(lambda x: x, broken, (4,)), X)
    assert not report.ok
    assert report.forward_error == float("inf")
    assert report.amplification == float("inf")


def test_a_wrong_logdet_is_found() -> None:
    g = from_callables(lambda x: 2 * x, lambda z: z / 2, (4,), logdet=lambda x: x.new_zeros(len(x)))
    assert check_invertible(g, X).ok
    assert not check_invertible(g, X, logdet=True).ok


def test_bad_input_is_refused() -> None:
    g = VectorFlow(4, 2, 8).double()
    with pytest.raises(NonFiniteError):
        check_invertible(g, X * torch.nan)
    with pytest.raises(NonFiniteError):
        check_invertible(g, X, latents=X / 0)
    with pytest.raises(ShapeError):
        check_invertible(g, X[:, :3])
    with pytest.raises(ShapeError):
        check_invertible(g, X, latents=X[:, :3])

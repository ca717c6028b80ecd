"""The map of a Gaussian mixture: its density, its ranks, its inverse far off, and its fit."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch import Tensor

from rectilinear.errors import (
    ConfigError,
    DtypeError,
    InputError,
    NonFiniteError,
    ShapeError,
    SingularOperatorError,
)
from rectilinear.invertible import Invertible, MixtureMap, fit_mixture
from rectilinear.invertible.base import autograd_logdet
from rectilinear.invertible.mixture_fit import kmeans
from rectilinear.invertible.mixture_quantiles import (
    EXACT,
    OF_FLOAT32,
    Accuracy,
    mixtures,
    quantile,
    quantile_of_log,
)

D = 6


def rows(n: int, seed: int, spread: float = 0.2) -> tuple[Tensor, Tensor]:
    """Rows of three classes of two clusters each, narrow, with gaps between them; and labels."""
    g = torch.Generator().manual_seed(seed)
    centres = 2 * torch.randn(6, D, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    which = torch.randint(6, (n,), generator=g)
    noise = torch.randn(n, D, dtype=torch.float64, generator=g)
    noise[:, 1:] += 0.8 * noise[:, :-1]
    return centres[which] + spread * noise, which % 3


@pytest.fixture(scope="module")
def fitted() -> MixtureMap:
    return fit_mixture(*rows(1200, 0), components=2).map


def standard_normal(z: Tensor) -> Tensor:
    return (-0.5 * z.square() - 0.5 * math.log(2 * math.pi)).sum(1)


def test_density_is_that_of_the_mixture(fitted: MixtureMap) -> None:
    x = torch.cat([rows(200, 1)[0], 20 * rows(50, 2)[0]])
    with torch.no_grad():
        parts = []
        for k in range(fitted.components):
            p = fitted._whitening()[k]
            normal = torch.distributions.MultivariateNormal(
                fitted.means[k], precision_matrix=p.T @ p
            )
            parts.append(fitted.log_weights.log_softmax(0)[k] + normal.log_prob(x))
        exact = torch.stack(parts).logsumexp(0)
        z, logdet = fitted.forward_and_logdet(x)
        torch.testing.assert_close(standard_normal(z) + logdet, exact, rtol=1e-12, atol=1e-11)
        by_map, direct = standard_normal(z) + logdet, fitted.log_prob(x)
        assert ((by_map - direct).abs() / direct.abs().clamp(min=1)).max() < 1e-13


def test_logdet_is_that_of_the_jacobian_and_triangular(fitted: MixtureMap) -> None:
    x = rows(5, 3)[0]
    logdet = fitted.forward_and_logdet(x)[1]
    torch.testing.assert_close(autograd_logdet(fitted, x), logdet, rtol=0, atol=1e-10)
    jacobian = torch.autograd.functional.jacobian(lambda row: fitted(row[None])[0], x[0])
    assert jacobian.triu(1).abs().max() == 0


def test_leading_latents_do_not_depend_on_the_rest(fitted: MixtureMap) -> None:
    x = rows(20, 4)[0]
    z, changed = fitted(x), x.clone()
    changed[:, 3:] = 7.0
    assert torch.equal(fitted(changed)[:, :3], z[:, :3])
    latents = z.clone()
    latents[:, 3:] = 0.0
    assert torch.equal(fitted.inverse(latents)[:, :3], fitted.inverse(z)[:, :3])


@pytest.mark.parametrize("scale", [1.0, 5.0, 30.0, 1e4])
def test_held_out_and_far_off_inputs_return(fitted: MixtureMap, scale: float) -> None:
    x = scale * rows(300, 5)[0]
    with torch.no_grad():
        error = (fitted.inverse(fitted(x)) - x).abs().max()
    assert error < 1e-8 * scale


@pytest.mark.parametrize("scale", [1.0, 6.0, 60.0])
def test_latents_far_off_return(fitted: MixtureMap, scale: float) -> None:
    g = torch.Generator().manual_seed(6)
    z = scale * torch.randn(300, D, dtype=torch.float64, generator=g)
    with torch.no_grad():
        assert (fitted(fitted.inverse(z)) - z).abs().max() < 1e-9 * scale


@pytest.mark.parametrize("scale", [1.0, 5.0, 30.0])
@pytest.mark.parametrize("spread", [0.2, 0.01])
def test_with_and_without_derivatives_the_map_is_the_same(scale: float, spread: float) -> None:
    g = fit_mixture(*rows(1200, 0, spread), components=20).map
    x = torch.cat([scale * rows(100, 8, spread)[0], torch.full((1, D), math.nan).double()])
    with torch.no_grad():
        z, logdet = g.forward_and_logdet(x)
    slow, slow_logdet = g.forward_and_logdet(x.requires_grad_())
    assert z[:100].isfinite().all()
    torch.testing.assert_close(z, slow.detach(), rtol=1e-11, atol=1e-11, equal_nan=True)
    torch.testing.assert_close(logdet, slow_logdet.detach(), rtol=1e-11, atol=1e-10, equal_nan=True)


def test_a_gap_between_narrow_components_is_crossed() -> None:
    variance = torch.full((2, 1, 1), 1e-4, dtype=torch.float64)
    means = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    g = MixtureMap.from_moments(torch.ones(2, dtype=torch.float64), means, variance)
    z = torch.linspace(-3, 3, 1001, dtype=torch.float64)[:, None]
    with torch.no_grad():
        x = g.inverse(z)
    assert (x.diff(dim=0) > 0).all()
    assert x[0] < -1
    assert x[-1] > 1


def test_float32_at_the_door_and_float64_inside(fitted: MixtureMap) -> None:
    x = rows(300, 7)[0]
    single, double = fitted.float(), fitted.double()
    with torch.no_grad():
        exact = double(x.float().double())
        z = single.float()(x.float())
        assert z.dtype == torch.float32
        torch.testing.assert_close(z.double(), exact, rtol=1e-4, atol=1e-4)
        fitted.double()
        back = fitted.float().inverse(z)
        assert back.dtype == torch.float32
        assert (back - x.float()).abs().quantile(0.99) < 1e-4
    fitted.double()


def test_rows_that_are_not_finite_stay_so(fitted: MixtureMap) -> None:
    z = torch.zeros(3, D, dtype=torch.float64)
    z[1, 2] = math.nan
    with torch.no_grad():
        x = fitted.inverse(z)
    assert x[[0, 2]].isfinite().all()
    assert x[1, :2].isfinite().all()
    assert x[1, 2:].isnan().all()


def test_gradients_of_the_inverse() -> None:
    a = torch.randn(2, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    means = torch.tensor([[-1.0, 0.0], [1.0, 0.5]], dtype=torch.float64)
    g = MixtureMap.from_moments(torch.tensor([0.3, 0.7]), means, a @ a.mT + torch.eye(2))
    names, parts = zip(*g.named_parameters(), strict=True)
    z = torch.tensor([[0.3, -0.5]], dtype=torch.float64, requires_grad=True)

    def inverse(z: Tensor, *parameters: Tensor) -> Tensor:
        given = {f"g.{name}": value for name, value in zip(names, parameters, strict=True)}
        return torch.func.functional_call(_Inverse(g), given, (z,))

    assert torch.autograd.gradcheck(inverse, (z, *parts))


class _Inverse(torch.nn.Module):
    def __init__(self, g: MixtureMap) -> None:
        super().__init__()
        self.g = g

    def forward(self, z: Tensor) -> Tensor:
        return self.g.inverse(z)


def test_quantiles_in_every_tail() -> None:
    z = -torch.tensor(
        [0.0, 1e-3, 1.0, 8.0, 34.0, 36.0, 1e3, 1e6, 1e9, 1e13, 1e100], dtype=torch.float64
    )
    torch.testing.assert_close(
        quantile_of_log(torch.special.log_ndtr(z)), z, rtol=1e-13, atol=1e-15
    )


@pytest.mark.parametrize(("accuracy", "close"), [(EXACT, 1e-13), (OF_FLOAT32, 1e-9)])
@pytest.mark.parametrize("spread", [1.0, 300.0], ids=["all matter", "few matter"])
def test_quantiles_of_mixtures(accuracy: Accuracy, close: float, spread: float) -> None:
    random = torch.Generator().manual_seed(3)
    means, scales, logs = (torch.randn(40, generator=random).double() for _ in range(3))
    z = torch.linspace(-7.5, 7.5, 301, dtype=torch.float64)
    scales, logs = scales.exp(), (spread * logs).expand(len(z), -1)
    least = torch.special.log_ndtr(-z.abs()) - accuracy.negligible
    x = quantile(mixtures(logs, (-means * scales).expand_as(logs), scales, least), z, accuracy)
    sign = torch.where(z < 0, 1.0, -1.0)[:, None]
    tails = torch.special.log_ndtr(sign * (x[:, None] - means) * scales)
    tail = torch.logsumexp(logs.log_softmax(1) + tails, 1)
    torch.testing.assert_close(
        sign[:, 0] * quantile_of_log(tail.clamp(max=math.log(0.5))), z, rtol=close, atol=close
    )


def test_classes(fitted: MixtureMap) -> None:
    x, labels = rows(300, 10)
    with torch.no_grad():
        joint = fitted.log_prob_by_class(x)
        torch.testing.assert_close(joint.logsumexp(1), fitted.log_prob(x))
        assert (joint.argmax(1) == labels).double().mean() > 0.99
        one = fitted.given(1)
        share = (joint[:, 1] - one.log_prob(x)).exp()
        torch.testing.assert_close(share, share[:1].expand_as(share))
        made = one.inverse(torch.randn(200, D, dtype=torch.float64))
        assert (fitted.log_prob_by_class(made).argmax(1) == 1).double().mean() > 0.97
    with pytest.raises(InputError, match="class 3"):
        fitted.given(3)
    unlabelled = MixtureMap(*(p.detach() for p in fitted.parameters()))
    with pytest.raises(InputError, match="without classes"):
        unlabelled.given(0)


def test_saved_and_loaded(fitted: MixtureMap, tmp_path) -> None:
    fitted.save_pretrained(tmp_path)
    loaded = Invertible.from_pretrained(tmp_path)
    x = rows(5, 11)[0]
    assert torch.equal(loaded(x), fitted(x))
    assert torch.equal(loaded.given(2)(x), fitted.given(2)(x))
    MixtureMap(*(p.detach() for p in fitted.parameters())).save_pretrained(tmp_path / "plain")
    assert Invertible.from_pretrained(tmp_path / "plain").classes is None


def test_the_number_of_components_is_that_of_the_data() -> None:
    x, _ = rows(1500, 12)
    fit = fit_mixture(x, components=[1, 2, 6, 30])
    assert fit.components == 6
    assert fit.tried[6] == min(fit.tried.values())
    assert fit_mixture(torch.randn(400, 3, dtype=torch.float64)).components <= 2


def test_clusters_without_iterations() -> None:
    x, _ = rows(600, 13)
    x = x * torch.logspace(-2, 2, D, dtype=torch.float64)
    for standardise in (True, False):
        g = fit_mixture(x, components=4, iterations=0, standardise=standardise, background=0).map
        cluster = kmeans((x - x.mean(0)) / (x.std(0) if standardise else 1), 4)
        means = torch.stack([x[cluster == k].mean(0) for k in range(4)])
        torch.testing.assert_close(g.means.detach(), means)
    fit = fit_mixture(x, components=[2, 6], iterations=1)
    assert fit.tried[fit.components] == min(fit.tried.values())


def test_rows_that_no_component_expects_go_to_the_class_that_spreads_that_way() -> None:
    g = torch.Generator().manual_seed(11)
    labels = torch.arange(2000) % 2
    along = torch.where(labels[:, None] == 0, torch.tensor([1.0, 0.05]), torch.tensor([0.05, 1.0]))
    x = along * torch.randn(2000, 2, dtype=torch.float64, generator=g)
    fitted = fit_mixture(x, labels, components=100, iterations=0, pseudo_counts=0.1).map
    far = torch.tensor([[4.5, 0.0], [-4.5, 0.0], [0.0, 4.5], [0.0, -4.5]], dtype=torch.float64)
    odds = fitted.log_prob_by_class(far).softmax(1)
    assert (odds[:2, 0] > 0.95).all()
    assert (odds[2:, 1] > 0.95).all()


def test_a_fit_knows_no_units() -> None:
    x, labels = rows(600, 13)
    scale, shift = torch.logspace(-6, 6, D, dtype=torch.float64), 1e3
    a = fit_mixture(x, labels, components=2).map
    b = fit_mixture(x * scale + shift * scale, labels, components=2).map
    with torch.no_grad():
        moved = b.log_prob(x * scale + shift * scale) + scale.log().sum()
        torch.testing.assert_close(moved, a.log_prob(x), rtol=1e-5, atol=1e-5)


def test_constant_columns_and_few_rows() -> None:
    x = torch.zeros(5, 3, dtype=torch.float64)
    x[:, 0] = torch.arange(5.0)
    g = fit_mixture(x).map
    with torch.no_grad():
        assert (g.inverse(g(x)) - x).abs().max() < 1e-9
        assert g.inverse(torch.randn(100, 3, dtype=torch.float64))[:, 1:].abs().max() < 1
    absent = fit_mixture(x, torch.tensor([0, 0, 2, 2, 2])).map
    assert sorted(set(absent.classes.tolist())) == [0, 2]


@pytest.mark.parametrize(
    ("x", "options", "error", "text"),
    [
        (torch.ones(4), {}, ShapeError, "one column as x[:, None]"),
        (torch.ones(1, 2), {}, ShapeError, "two rows or more."),
        (torch.rand(4, 2), {"labels": torch.full((4,), 0.5)}, DtypeError, "return_inverse=True"),
        (torch.rand(4, 2), {"labels": torch.zeros(3).long()}, ShapeError, "expected (4,)."),
        (torch.full((4, 2), math.nan), {}, NonFiniteError, "in x"),
        (torch.ones(4, 2, dtype=torch.int64), {}, DtypeError, "int64"),
        (torch.rand(4, 2), {"labels": torch.eye(4, 2).long()}, ShapeError, "labels.argmax(1)"),
        (torch.rand(4, 2), {"labels": torch.zeros(4)}, DtypeError, "labels.long()"),
        (torch.rand(4, 2), {"labels": torch.full((4,), -1)}, ConfigError, "return_inverse=True"),
        (torch.rand(4, 2), {"components": 0}, ConfigError, "components = 0"),
        (torch.rand(4, 2), {"components": []}, ConfigError, "Leave components out"),
        (torch.rand(4, 2), {"pseudo_counts": -1.0}, ConfigError, "at least 0"),
        (torch.rand(4, 2), {"background": 1.0}, ConfigError, "below 1"),
    ],
)
def test_unusable_rows_are_refused(x: Tensor, options: dict, error: type, text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        fit_mixture(x, **options)


def test_labels_may_be_true_and_false() -> None:
    x = torch.randn(40, 2)
    assert set(fit_mixture(x, x[:, 0] > 0, components=1).map.classes.tolist()) == {0, 1}


def test_unusable_parameters_are_refused() -> None:
    one, mean = torch.ones(1), torch.zeros(1, 2)
    with pytest.raises(SingularOperatorError, match="positive definite"):
        MixtureMap.from_moments(one, mean, torch.zeros(1, 2, 2))
    with pytest.raises(ShapeError, match=r"covariances\[None\].*v\.diag_embed\(\)"):
        MixtureMap.from_moments(one, mean, torch.ones(1, 2))
    assert MixtureMap.from_moments(one, mean, torch.ones(1, 2).diag_embed()).shape == (2,)
    with pytest.raises(ShapeError, match=r"lower.*MixtureMap\.from_moments"):
        MixtureMap(one, mean, mean, torch.zeros(1, 2))
    with pytest.raises(DtypeError, match=r"classes\.long\(\)"):
        MixtureMap(one, mean, mean, torch.zeros(1, 1), torch.zeros(1))

import warnings

import pytest
import torch
from torch import nn

from makers_invertible import freia, normflows
from rectilinear.errors import InputError, NotInvertibleError
from rectilinear.invertible import (
    from_callables,
    from_freia,
    from_module,
    from_normflows,
    from_zuko,
)
from rectilinear.invertible.base import autograd_logdet

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


def test_normflows_is_turned_round() -> None:
    g = normflows()
    z, logdet = g.forward_and_logdet(X)
    assert torch.equal(g.flow.inverse(X), z)
    assert torch.equal(g.flow.forward(X), g.inverse(X))
    torch.testing.assert_close(g.flow.log_prob(X), g.flow.q0.log_prob(z) + logdet)


def test_zuko_runs_from_data_to_latents() -> None:
    flows = pytest.importorskip("zuko.flows", reason="zuko is not installed")
    flow = flows.NSF(6, transforms=2, passes=2, hidden_features=(8,))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        g = from_zuko(flow)
    z, logdet = g.forward_and_logdet(X)
    torch.testing.assert_close(flow().log_prob(X), flow().base.log_prob(z) + logdet)
    torch.testing.assert_close(from_zuko(flow.transform, (6,))(X), z)
    torch.testing.assert_close(from_zuko(flow.transform(), (6,))(X), z)


def test_freia_matches() -> None:
    g = freia()
    z, logdet = g.network(X)
    assert torch.equal(g(X), z)
    assert torch.equal(g.forward_and_logdet(X)[1], logdet)


def test_freia_graphs_and_single_modules() -> None:
    framework = pytest.importorskip("FrEIA.framework", reason="FrEIA is not installed")
    modules = pytest.importorskip("FrEIA.modules")
    start = framework.InputNode(6)
    node = framework.Node(start, modules.PermuteRandom, {"seed": 0})
    graph = framework.GraphINN([start, node, framework.OutputNode(node)])
    for net in (graph, modules.PermuteRandom([(6,)], seed=0)):
        g = from_freia(net)
        assert torch.equal(g.inverse(g(X)), X)
        assert torch.equal(g.forward_and_logdet(X)[1], torch.zeros(4))


def test_parameters_train_through_the_adapter() -> None:
    for make in (freia, normflows):
        g = make()
        z, logdet = g.forward_and_logdet(X)
        (z.square().sum() - logdet.sum()).backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in g.parameters())


def test_a_network_of_two_inputs_is_sent_to_functions() -> None:
    net = nn.Identity()
    net.dims_in, net.output_dims = [(2,), (3,)], [(5,)]
    with pytest.raises(NotInvertibleError, match=r"Join them in one tensor.*from_callables"):
        from_freia(net)


def test_autoregressive_flows_warn() -> None:
    flows = pytest.importorskip("zuko.flows", reason="zuko is not installed")
    with pytest.warns(UserWarning, match="6 passes"):
        from_zuko(flows.MAF(6, transforms=1, hidden_features=(8,)))
    nf = pytest.importorskip("normflows", reason="normflows is not installed")
    with pytest.warns(UserWarning, match="6 passes"):
        from_normflows(nf.flows.MaskedAffineAutoregressive(6, 8), (6,))


def test_a_codomain_that_is_not_everything_is_refused() -> None:
    transforms = pytest.importorskip("zuko.transforms", reason="zuko is not installed")
    with pytest.raises(NotInvertibleError, match="all of R"):
        from_zuko(transforms.SoftclipTransform(5.0), (6,))


class WithLogdet(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return 2 * x, 6 * torch.full((len(x),), 2.0).log()

    def inverse(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return z / 2, torch.zeros(len(z))


def test_modules_that_return_their_logdet() -> None:
    g = from_module(WithLogdet(), (6,))
    z, logdet = g.forward_and_logdet(X)
    assert torch.equal(g.inverse(z), X)
    torch.testing.assert_close(logdet, autograd_logdet(g, X))


def test_what_has_no_inverse_is_refused() -> None:
    for adapter in (
        from_freia,
        from_normflows,
        lambda m: from_module(m, (6,)),
        lambda m: from_zuko(m, (6,)),
    ):
        with pytest.raises(NotInvertibleError):
            adapter(nn.Linear(6, 6))


def test_shapes_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="equal numbers"):
        from_callables(torch.sinh, torch.asinh, (6,), latent_shape=(5,))
    nf = pytest.importorskip("normflows", reason="normflows is not installed")
    with pytest.raises(InputError, match="shape"):
        from_normflows(nf.flows.Permute(6))


def test_large_jacobians_are_refused() -> None:
    g = from_callables(torch.sinh, torch.asinh, (2000,))
    assert g(torch.zeros(1, 2000)).shape == (1, 2000)
    with pytest.raises(InputError, match="1024"):
        g.forward_and_logdet(torch.zeros(1, 2000))

import pytest
import torch

from makers_invertible import perturb
from rectilinear.invertible import ImageFlow, VectorFlow, to_grid

BUILD = {
    "vector": lambda: VectorFlow(6, 2, 8, actnorm=True),
    "vector-exact": lambda: VectorFlow(6, 2, 8, coupling="additive", precision="exact"),
    "conv-bf16": lambda: ImageFlow((1, 4, 4), 2, 4, precision="bf16", checkpoint=True),
    "vit": lambda: ImageFlow((1, 8, 8), 2, 8, conditioner="vit", heads=2, hidden=1),
}


def compare(kind: str, backend: str) -> None:
    g = BUILD[kind]()
    x = to_grid(torch.rand(4, *g.shape))
    z = perturb(g)(x).detach()
    for method, argument in (("forward", x), ("inverse", z), ("forward_and_logdet", x)):
        torch._dynamo.reset()
        compiled = torch.compile(getattr(g, method), fullgraph=True, backend=backend)(argument)
        torch.testing.assert_close(
            compiled, getattr(g, method)(argument), rtol=0, atol=1e-4
        )  # float32, reordered


@pytest.mark.whole
def test_the_graph_has_no_break() -> None:
    compare("vector", "eager")


@pytest.mark.slow  # the compiler takes seconds
@pytest.mark.parametrize("kind", BUILD)
def test_compiled_code_agrees(kind: str) -> None:
    compare(kind, "inductor")

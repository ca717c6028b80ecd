import pytest
import torch
from torch import Tensor, nn

from makers_invertible import perturb
from rectilinear.errors import ShapeError
from rectilinear.invertible import (
    Chain,
    Identity,
    ImageFlow,
    Inverse,
    Rotation,
    Scaling,
    VectorFlow,
)
from rectilinear.invertible.flows import alternate, random_orders

BUILD = {
    "vector": lambda **kw: VectorFlow(12, blocks=4, width=64, **kw),
    "conv": lambda **kw: ImageFlow((1, 8, 8), blocks=4, width=16, **kw),
    "vit": lambda **kw: ImageFlow(
        (1, 8, 8), blocks=4, width=16, conditioner="vit", patch=2, hidden=1, **kw
    ),
}


def kept(run, own: nn.Module) -> tuple[Tensor, int]:
    """The result of ``run`` and the bytes that its graph keeps, parameters and buffers apart."""
    mine = {t.untyped_storage().data_ptr() for t in [*own.parameters(), *own.buffers()]}
    held: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        if t.untyped_storage().data_ptr() not in mine:
            held[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        result = run()
    return result, sum(held.values())


@pytest.mark.parametrize("kind", BUILD)
def test_checkpoints_give_the_same_gradient_from_less_memory(kind: str) -> None:
    plain, lean = (perturb(BUILD[kind](checkpoint=on).double()) for on in (False, True))
    lean.load_state_dict(plain.state_dict())
    x = torch.randn(8, *plain.shape, dtype=torch.float64)
    memory = []
    for g in (plain, lean):
        (z, logdet), size = kept(lambda g=g: g.forward_and_logdet(x), g)
        (z.square().sum() - logdet.sum() + g.inverse(z.detach()).sum()).backward()
        memory.append(size)
    for p, q in zip(plain.parameters(), lean.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)
    assert memory[1] < memory[0] / 4


def test_a_chain_composes_and_adds() -> None:
    parts = [perturb(VectorFlow(4, 2, 8, seed=i).double(), seed=i) for i in range(3)]
    x = torch.randn(5, 4, dtype=torch.float64)
    z, total = x, torch.zeros(5, dtype=torch.float64)
    for part in parts:
        z, added = part.forward_and_logdet(z)
        total = total + added
    chain = Chain(*parts)
    assert torch.equal(chain(x), z)
    torch.testing.assert_close(chain.forward_and_logdet(x)[1], total)
    assert torch.equal(Inverse(chain).inverse(x), z)


def test_a_network_may_appear_twice() -> None:
    g = perturb(VectorFlow(4, 2, 8).double())
    chain = Chain(g, Identity(4), Rotation(4).double(), g)
    assert sum(p.numel() for p in chain.parameters()) == sum(p.numel() for p in g.parameters())
    x = torch.randn(5, 4, dtype=torch.float64)
    torch.testing.assert_close(chain.inverse(chain(x)), x)


class Mark(Identity):
    """Notes which coordinates, carried as values, stand in its first and second half."""

    def __init__(self, size: int, seen: list) -> None:
        super().__init__(size)
        self.seen = seen

    def _latents(self, x: Tensor) -> Tensor:
        self.seen.append({int(value) for value in x[0, (x.shape[1] + 1) // 2 :]})
        return x


@pytest.mark.parametrize("size", [2, 5, 8])
def test_two_couplings_in_a_row_move_everything_and_the_order_returns(size: int) -> None:
    seen: list = []
    x = torch.arange(float(size))[None]
    orders = [(0, order) for order in random_orders(size, 6, seed=0)]
    assert torch.equal(alternate((size,), [Mark(size, seen) for _ in orders], orders)(x), x)
    for first, second in zip(seen[::2], seen[1::2], strict=True):
        assert len(first | second) == size - size % 2
    assert size == 2 or len({frozenset(moved) for moved in seen}) > 2


def test_scales_of_two_axes_are_flattened() -> None:
    scale = torch.ones(1, 3)
    with pytest.raises(ShapeError, match=r"scale\.flatten\(\)"):
        Scaling(scale)
    assert Scaling(scale.flatten()).shape == (3,)

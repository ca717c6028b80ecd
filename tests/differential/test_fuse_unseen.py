"""Fusion of models that branch on their input, or whose modules override their class."""

import pytest
import torch
from torch import nn

import rectilinear as rl


class Asks(nn.Module):
    """Adds the hidden values to the output only where its input is a tensor, and no trace of
    torch.fx.
    """

    def __init__(self, asks, first, second):
        super().__init__()
        self.asks, self.first, self.second = asks, first, second

    def forward(self, x):
        hidden = self.first(x)
        return self.second(hidden) + hidden if self.asks(x) else self.second(hidden)


def has_length(x):
    try:
        return len(x) > 0
    except RuntimeError:
        return False


ASKS = {
    "isinstance": lambda x: isinstance(x, torch.Tensor),
    "is_tensor": torch.is_tensor,
    "type": lambda x: type(x) is torch.Tensor,
    "an attribute": lambda x: getattr(x, "mask", None) is None,
    "hasattr": lambda x: not hasattr(x, "mask"),
    "a length, or an error": has_length,
    "whether it is traced": lambda _: not torch.fx._symbolic_trace.is_fx_tracing(),
}
LAYERS = {
    "rows": (lambda: (nn.Linear(4, 4), nn.Linear(4, 4)), (5, 4)),
    "tokens": (lambda: (nn.Linear(4, 4), nn.Linear(4, 4)), (2, 3, 4)),
    "images": (lambda: (nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 1)), (2, 2, 9, 9)),
    "signals": (lambda: (nn.Conv1d(2, 2, 3), nn.BatchNorm1d(2)), (2, 2, 9)),
}


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("asks", ASKS)
def test_a_model_that_asks_what_it_is_given(asks, layers):
    make, shape = LAYERS[layers]
    torch.manual_seed(0)
    model, x = Asks(ASKS[asks], *make()).double().eval(), torch.randn(shape, dtype=torch.float64)
    for known in (None, x):
        torch.testing.assert_close(rl.fuse(model, known)(x), model(x), rtol=1e-12, atol=1e-12)


def test_a_graph_that_is_right_is_folded_and_not_called_checked():
    found = rl.fuse(Asks(lambda _: False, nn.Linear(4, 4), nn.Linear(4, 4)), report=True)
    assert len(found.folds) == 1
    assert found.error is None


def test_a_forward_that_was_put_into_a_module():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Identity(), nn.Linear(4, 4)).double()
    model[0].forward = lambda x: (x @ model[0].weight.T).relu()
    model[2].forward = torch.tanh
    x = torch.randn(5, 4, dtype=torch.float64)
    for known in (None, x):
        torch.testing.assert_close(rl.fuse(model, known)(x), model(x), rtol=1e-12, atol=1e-12)
    assert "2" in {
        block["name"]
        for block in rl.audit(model, x, progress=False).measures["blocks"].details["blocks"]
    }


def test_a_random_model_is_folded_as_its_graph_says():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return torch.nn.functional.dropout(self.second(self.first(x)), 0.5)

    model, state = Noisy(), torch.random.get_rng_state()
    assert len(rl.fuse(model, report=True).folds) == 1
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_report_says_on_what_a_fold_was_checked():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x, y):
            return self.second(self.first(x)) + y

    one, two, x = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), Two(), torch.randn(5, 4)
    found = [rl.fuse(one, x, report=True), rl.fuse(one, report=True), rl.fuse(two, report=True)]
    assert [f.checked for f in found] == ["x", "random rows", "nothing"]
    assert all(len(f.folds) == 1 for f in found)
    assert str(found[-1]).endswith("the graph is trusted; pass x")
    assert rl.fuse(two, (x, x), report=True).checked == "x"

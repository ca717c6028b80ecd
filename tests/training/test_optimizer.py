import pytest
import torch
from torch import nn

from rectilinear.errors import CheckpointError
from rectilinear.tensor_files import load_tensors
from rectilinear.training import train
from rectilinear.training.optimizer import Descent, orthogonalized


class Deep(nn.Module):
    """Least squares of two layers; the first takes orthogonal steps if asked."""

    def __init__(self, *, orthogonal: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(3, 5, dtype=torch.float64), nn.Linear(5, 2).double()
        self.orthogonal = orthogonal

    def parameter_groups(self):
        if not self.orthogonal:
            return [{"params": [*self.parameters()]}]
        rest = [p for p in self.parameters() if p is not self.first.weight]
        return [
            {"params": rest},
            {"params": [self.first.weight], "orthogonal": True, "lr": 0.02},
        ]

    def forward(self, batch):
        y = self.second(torch.tanh(self.first(batch)))
        return {"loss": (y - batch[:, :2].square()).square().mean()}


ROWS = torch.randn(40, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_a_step_has_equal_singular_values_and_the_rest_is_adamw():
    objective, twin = Deep(orthogonal=True), Deep(orthogonal=False)
    optimizer = Descent(objective.parameter_groups(), lr=0.01, weight_decay=0.0)
    adam = torch.optim.AdamW(twin.parameters(), lr=0.01, weight_decay=0.0)
    before = objective.first.weight.detach().clone()
    for model, steps in ((objective, optimizer), (twin, adam)):
        model(ROWS)["loss"].backward()
        steps.step()
    values = torch.linalg.svdvals(objective.first.weight.detach() - before)
    assert bool(((values / (0.02 * (5 / 3) ** 0.5) - 1).abs() < 0.35).all())
    torch.testing.assert_close(objective.second.weight, twin.second.weight)
    assert not torch.allclose(objective.first.weight, twin.first.weight)


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5)])
def test_directions_stay_and_values_become_one(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    u, _, vh = torch.linalg.svd(x, full_matrices=False)
    inner = u.mT @ orthogonalized(x) @ vh.mT
    assert bool((inner.diagonal() - 1).abs().max() < 0.35)
    assert bool((inner - inner.diagonal().diag()).abs().max() < 1e-10)
    assert not orthogonalized(torch.zeros(shape)).any()


def test_a_resumed_run_ends_with_the_same_weights_and_another_optimiser_is_refused(
    tmp_path, config
):
    settings = config(steps=8, lr=0.01, checkpoint_every_steps=4)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(Deep(orthogonal=True), ROWS, settings, whole, progress=False)
    while (
        train(Deep(orthogonal=True), ROWS, settings, parts, progress=False, stop_after=1e-9).step
        < 8
    ):
        pass
    a, b = (load_tensors(out / "checkpoint.safetensors")[0] for out in (whole, parts))
    assert all(torch.equal(a[name], b[name]) for name in a)
    old = tmp_path / "old"
    train(Deep(orthogonal=False), ROWS, settings, old, progress=False, stop_after=1e-9)
    with pytest.raises(CheckpointError, match="averages"):
        train(Deep(orthogonal=True), ROWS, settings, old, progress=False)

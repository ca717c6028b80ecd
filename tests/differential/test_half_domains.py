"""Networks that are undefined at zero or at ``-x``, and invalid arguments."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from rectilinear import audit
from rectilinear.errors import DtypeError, InputError, ShapeError

pytestmark = pytest.mark.usefixtures("rewound")


class After(nn.Module):
    def __init__(self, before):
        super().__init__()
        self.before, self.last = before, nn.Linear(3, 2)

    def forward(self, x):
        return self.last(self.before(x))


def mlp(outputs=3):
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, outputs))


@pytest.mark.parametrize(
    "before",
    [torch.log, torch.sqrt, torch.rsqrt, lambda x: x**2.5],
    ids=["log", "sqrt", "rsqrt", "power"],
)
def test_positive_inputs_are_judged(before):
    x = (3 * torch.randn(200, 3, dtype=torch.float64)).exp()
    found = audit(After(before).double(), x, progress=False)
    rows = torch.cat([x, torch.ones(200, 1, dtype=torch.float64)], 1)
    y = before(x)
    left = (y - rows @ torch.linalg.lstsq(rows, y).solution).square().sum(0) / (
        y - y.mean(0)
    ).square().sum(0)
    assert left.min() > 0.02
    assert found.verdict.label == "not linear"
    assert (
        found.measures["parity"].note
        == found.measures["odd_linearity"].note
        == "the output is not finite at -x"
    )


def test_no_value_at_zero():
    found = audit(
        After(lambda x: x / x.norm(dim=1, keepdim=True)), torch.randn(60, 3), progress=False
    )
    assert found.verdict.label == "not linear"
    assert found.measures["parity"].applies


def test_an_affine_network_behind_a_logarithm_is_effectively_linear():
    x = torch.rand(60, 3, dtype=torch.float64) * 1e-6 + 1
    assert audit(After(torch.log).double(), x, progress=False).verdict.label == "effectively linear"


@pytest.mark.parametrize(
    ("loss", "labels"),
    [
        (nn.MSELoss(), torch.zeros(20, 3)),
        (nn.MSELoss(reduction="none"), torch.zeros(20, 3)),
        (cross_entropy, torch.zeros(20, dtype=torch.long)),
        (lambda out, y: 0.0, torch.zeros(20, 3)),
    ],
)
def test_a_loss_that_is_no_number_for_each_row_is_refused(loss, labels):
    with pytest.raises(ShapeError, match=r"one number for each row .* reduction='none'"):
        audit(mlp(), torch.randn(20, 4), labels, loss=loss, progress=False)


def test_a_loss_of_columns_is_taken():
    x, y, net = torch.randn(40, 4), torch.randn(40, 1), mlp(1)
    loss = nn.MSELoss(reduction="none")
    found = audit(net, x, y, loss=loss, progress=False).measures["affine_score"]
    assert found.details["loss"] == pytest.approx(
        float((net(x) - y).detach().square().mean()), rel=1e-5
    )


BAD = {
    "rows of two widths": ([torch.randn(5, 4), torch.randn(5, 3)], None, ShapeError, "one shape"),
    "sparse": (torch.eye(4).to_sparse(), None, DtypeError, "to_dense"),
    "a dictionary": (
        DataLoader([{"x": torch.randn(4)}] * 9, 3),
        None,
        ShapeError,
        "unexpected keyword argument 'x'; expected arguments that the model takes",
    ),
    "one-hot": (torch.randn(9, 4), torch.ones(9, 3, dtype=torch.long), ShapeError, "argmax"),
    "no columns": (torch.zeros(9, 0), None, ShapeError, "at least one number"),
    "an object": (object(), None, DtypeError, "x of type object"),
}


@pytest.mark.parametrize(("x", "y", "error", "says"), BAD.values(), ids=BAD)
def test_what_to_do_is_said(x, y, error, says):
    with pytest.raises(error, match=says):
        audit(mlp(), x, y, progress=False)


def test_no_outputs():
    with pytest.raises(ShapeError, match="at least one number"):
        audit(nn.Linear(4, 0), torch.randn(9, 4), progress=False)


def test_recurrent_layers_that_take_the_sequence_first_are_named():
    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(4, 3)

        def forward(self, x):
            return self.rnn(x)[0]

    with pytest.raises(InputError, match="batch_first=True"):
        audit(First(), torch.randn(20, 5, 4), progress=False)

"""Random subspaces through the data: a verdict where there are no more points than dimensions."""

import pytest
import torch
from torch import nn

import rectilinear as rl
from makers_data import rand


class Images(nn.Module):
    """Images through a convolution that bends by ``bent``."""

    def __init__(self, bent, outputs=3):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.head = nn.Conv2d(3, 4, 3, stride=2), nn.Linear(4 * 225, outputs)
        self.bent = bent

    def forward(self, x):
        h = self.layer(x)
        return self.head((h + self.bent * h.tanh()).flatten(1))


@pytest.mark.whole
@pytest.mark.parametrize("measures", ["verdict", None])
def test_nearly_linear_in_many_dimensions(measures):
    """Forty images of three thousand numbers cannot tell; points between them can."""
    found = rl.audit(Images(0.02).double(), rand(40, 3, 32, 32), measures=measures, progress=False)
    assert found.verdict.label == "effectively linear"
    assert "4 random subspaces of 8 dimensions" in found.verdict.reasons[0]
    assert found.measures["subspaces"].interval[0] > 0.99
    assert "cannot tell" in found.verdict.reasons[1]


def test_what_bends_is_not_linear_there():
    model, x = Images(3.0).double(), rand(40, 3, 32, 32)
    found = rl.audit(model, x, measures="subspaces", progress=False).measures["subspaces"]
    assert found.interval[1] < 0.99
    assert found.details["points"] == 4 * 72


def test_the_worst_output_decides():
    class Mixed(Images):
        def forward(self, x):
            h = self.layer(x)
            out = self.head(h.flatten(1))
            return torch.cat([100 * out[:, 1:], out[:, :1].square()], 1)

    found = rl.audit(Mixed(0).double(), rand(40, 3, 32, 32), measures="subspaces", progress=False)
    here = found.measures["subspaces"]
    assert here.value > 0.99
    assert here.details["worst_output"] == 2
    assert here.details["worst_interval"][1] < 0.99
    assert found.verdict.label == "not linear"


def test_points_are_as_far_apart_as_the_data():
    """From the first of the data as far as data are from their mean."""
    from rectilinear.analysis.subspaces import coefficients

    x = rand(2000, 50)
    distances = []
    for space, z in enumerate(coefficients(8, seed=0)):
        base, *ends = x[9 * space : 9 * space + 9]
        distances.append((z @ (torch.stack(ends) - base)).square().sum(1))
    spread = (x - x.mean(0)).square().sum(1).mean()
    assert float(torch.cat(distances).mean() / spread) == pytest.approx(1, abs=0.15)


class Attention(nn.Module):
    """Tokens that are mixed: linearly with ``sharp=0``, by a softmax else."""

    def __init__(self, sharp):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.value = nn.Embedding(30, 8), nn.Linear(8, 8)
        self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])
        self.sharp = sharp

    def forward(self, input_ids, attention_mask):
        h = self.words(input_ids)
        for layer in self.layers:
            scores = self.sharp * h @ h.mT
            scores = scores.masked_fill(attention_mask[:, None] == 0, -1e9)
            h = layer(h + 2 * scores.softmax(-1) @ self.value(h))
        return h


@pytest.mark.parametrize(("sharp", "label"), [(0.0, "effectively linear"), (2.0, "not linear")])
def test_tokens_that_are_mixed(sharp, label):
    """No map of single tokens explains a mean over them, but the network is affine in all."""
    mask = (torch.arange(7) < torch.randint(3, 8, (60, 1))).long()
    data = {"input_ids": torch.randint(0, 30, (60, 7)), "attention_mask": mask}
    found = rl.audit(Attention(sharp).double(), data, measures="verdict", progress=False)
    assert found.measures["affine_r2"].value < 0.99
    assert found.verdict.label == label


@pytest.mark.whole
def test_too_few():
    found = rl.audit(Images(0.0).double(), rand(7, 3, 32, 32), measures="subspaces")
    assert not found.measures["subspaces"].applies


@pytest.mark.whole
def test_each_of_many_outputs_is_looked_at():
    """One of 1,500 outputs bends, and the others outweigh it."""

    class Many(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Linear(6, 1500)

        def forward(self, x):
            out = self.layer(x)
            return torch.cat([out[:, :700], out[:, 700:701].square() / 9, out[:, 701:]], 1)

    found = rl.audit(Many().double(), rand(400, 6), measures="verdict", progress=False)
    assert found.verdict.label == "not linear"
    assert found.measures["segments"].details["worst_output"] == 700
    found = rl.audit(Many().double(), rand(400, 6), measures="affine_r2", progress=False)
    assert found.measures["affine_r2"].value > 0.99
    assert found.measures["affine_r2"].details["worst_output"] == 700


def test_rows_that_repeat_make_no_interval_narrower():
    model, x = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).double(), rand(40, 4)
    widths = []
    for data in (x, x.repeat(30, 1)):
        found = rl.audit(model, data, measures="parity", progress=False).measures["parity"]
        widths.append(found.interval[1] - found.interval[0])
    assert widths[1] == pytest.approx(widths[0], rel=0.01)

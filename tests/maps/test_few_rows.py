"""Fits to fewer rows than directions: said to be undecided, not far below a simple map."""

import pytest
import torch
from sklearn.metrics import r2_score
from torch import nn

import rectilinear as rl
from makers_data import rand
from rectilinear.maps.affine_block import Shapes
from rectilinear.maps.data_split import Portions
from rectilinear.maps.linearize import read_for
from rectilinear.maps.map_forms import MapMoments
from rectilinear.numerics import Moments


class Noise(nn.Module):
    """A residual block of which no linear map explains much."""

    def __init__(self, width):
        super().__init__()
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        return x + self.down(torch.sin(300 * self.up(x)))


def residual(width, depth=3, block=Noise):
    torch.manual_seed(0)
    return nn.Sequential(*[block(width) for _ in range(depth)], nn.Linear(width, 3)).double().eval()


def test_an_exactly_linear_block_of_too_few_rows_is_said_to_be_undecided():
    torch.manual_seed(0)
    inside = nn.Sequential(nn.Linear(80, 80), nn.Linear(80, 80))
    model = nn.Sequential(nn.Linear(80, 80), inside, nn.Linear(80, 3)).double()
    few = rl.linearize(model, rand(60, 80), blocks="1", form="affine", progress=False)
    (block,) = few.blocks
    assert block.few_rows
    assert (block.rows, block.columns) == (45, 80)
    assert block.r2 < 0.9
    assert block.fitted_r2 == pytest.approx(1)
    assert "45 rows of 80 numbers are too few to tell: the best map explains 0." in str(few)
    (block,) = rl.linearize(model, rand(400, 80), blocks="1", form="affine", progress=False).blocks
    assert not block.few_rows
    assert block.r2 == pytest.approx(1)


@pytest.mark.parametrize("fold", [False, True])
def test_a_map_in_place_of_a_residual_block_of_few_rows_is_said_to_be_undecided(fold):
    found = rl.linearize(residual(40), rand(60, 40), blocks="1:2", fold=fold, progress=False)
    assert found.blocks[0].few_rows
    assert found.blocks[0].rows == 36 if fold else 45  # a fold keeps rows to choose among fits
    assert "are too few to tell: the best map explains 0." in str(found)


def test_the_map_of_a_span_in_its_costs_is_not_far_below_deletion():
    costs = rl.span_costs(residual(40), rand(60, 40, seed=1), progress=False)
    assert all(span.value > span.deleted - 0.3 for span in costs.spans)


@pytest.mark.parametrize("tokens", [False, True])
def test_blocks_of_an_audit_of_few_rows_are_about_as_good_as_the_mean(tokens):
    class Wild(nn.Module):
        def forward(self, x):
            return torch.sin(1e3 * x)

    layers = nn.Sequential(nn.Linear(40, 40), Wild(), nn.Linear(40, 3)).double()
    model = nn.Sequential(nn.Embedding(4000, 40).double(), layers) if tokens else layers
    x = torch.arange(120).reshape(60, 2) if tokens else rand(100, 40)
    found = rl.audit(model, x, measures=["blocks"])
    (row,) = found.measures["blocks"].details["blocks"]
    assert -0.2 < row["r2"] < 0.2
    assert row["few_rows"]
    assert found.measures["blocks"].note.endswith(f"; too few rows to tell at {row['name']}")


def test_a_ridge_shrinks_the_identity_plus_a_map_to_the_identity():
    moments = MapMoments(Shapes.between((8,), (8,)))
    moments.add(rand(6, 8), rand(6, 8, seed=1))
    found = moments.fitted("identity + low rank", 3, 1e9)
    assert torch.allclose(found.matrix, torch.eye(8).double(), atol=1e-6)
    x, t, identity = rand(30, 8), rand(30, 8, seed=1), torch.eye(8).double()
    moments, updates = Moments(), Moments()
    moments.add(x, t)
    updates.add(x, t - x)
    for one, other in ((moments.fit().beside(identity), updates.fit()),):
        assert torch.allclose(one.damped(0.1), other.damped(0.1), atol=1e-12)
        assert torch.allclose(one.mean_t, other.mean_t, atol=1e-12)
        assert torch.allclose(one.total, other.total, rtol=1e-12)


@pytest.mark.parametrize(("noise", "chosen"), [(0.0, 0.0), (1.0, 1.0), (1e6, 100.0)])
def test_cross_validation_from_moments_chooses_as_leaving_rows_out_does(noise, chosen):
    x, moments = rand(60, 30), Moments()
    t = x @ rand(30, 5, seed=1) / 30**0.5 + noise * rand(60, 5, seed=2)
    moments.add(x, t)
    ridges = (0.0, 1e-2, 1.0, 100.0)
    left = []
    for ridge in ridges:
        errors = []
        for i in range(60):
            some, rest = Moments(), torch.arange(60) != i
            some.add(x[rest], t[rest])
            fit = some.fit()
            made = (x[i] - fit.mean_x) @ fit.damped(ridge).mT + fit.mean_t
            errors.append(float((made - t[i]).square().sum()))
        left.append(sum(errors))
    assert ridges[left.index(min(left))] == chosen
    assert moments.fit().ridge_by_gcv(ridges) == chosen


def test_r2_of_the_output_is_that_of_scikit_learn_with_each_token_as_a_row():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
    model = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).double().eval()
    x = rand(80, 5, 8) + 2 * torch.arange(5)[:, None]  # means differ between positions
    found = rl.linearize(model, x, blocks="layers.1", progress=False)
    portions = Portions(read_for(model, x, None, None, None, None), 0)
    test = torch.cat([batch.main for batch in portions.of("test")])
    with torch.no_grad():
        old, new = model(test), found.model(test)
    rows = old.flatten(0, 1), new.flatten(0, 1)
    assert found.output_r2 == pytest.approx(r2_score(*rows, multioutput="variance_weighted"))
    assert found.output_r2_each == pytest.approx(r2_score(*rows, multioutput="raw_values"))
    assert "all on 20 samples of 100 tokens that nothing was fitted on" in str(found)
    about_positions = 1 - (old - new).square().sum() / (old - old.mean(0)).square().sum()
    assert float(about_positions) < found.output_r2

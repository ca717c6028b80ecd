"""Symmetry of data, weights and tasks, against the known answers of constructed ones."""

import pytest
import torch
from torch import nn

import rectilinear as rl
from makers_data import rand
from rectilinear.errors import ConfigError, ShapeError
from rectilinear.learning.mirror import clusters, mirrored, sketch
from rectilinear.networks.data import task_for


def measures(x, y=None, **options):
    torch.manual_seed(0)
    return rl.audit(nn.Linear(x.shape[1], 1).double(), x, y, **options).measures


def test_mirrored_data_are_seen_to_be():
    x = rand(300, 8)
    y = x[:, :1] ** 3
    found = measures(torch.cat([x, -x]), torch.cat([y, -y]))
    assert found["pairs"].value == 1
    assert found["pairs"].details["label_odd_energy"] == pytest.approx(float(y.square().mean()))
    assert found["pairs"].details["label_even_energy"] == 0
    assert found["sign_flip"].value == 1
    assert found["mirror_classifier"].value == pytest.approx(0.5, abs=0.1)
    y = x[:, :1] ** 2
    found = measures(torch.cat([x, -x]), torch.cat([y, y]))
    assert found["pairs"].value == 0
    assert found["pairs"].details["share_without_labels"] == 1
    assert found["sign_flip"].value < 0.01


def test_some_mirrors_missing():
    x = rand(100, 4)
    found = measures(torch.cat([x, -x[:25], x[:10]]))
    assert found["pairs"].value == pytest.approx(
        60 / 135
    )  # 25 with their mirrors, 10 of them once more
    assert found["pairs"].details["rows_with_mirror"] == 60


def test_symmetric_in_law_is_not_rejected_and_a_shift_is():
    assert measures(rand(800, 10))["sign_flip"].value > 0.01
    assert measures(rand(800, 10) + 0.3)["sign_flip"].value < 0.01


@pytest.mark.parametrize("dimensions", [2, 300])
def test_the_classifier_sees_skewness(dimensions):
    x = rand(1000, dimensions).exp() - 1.65  # mean zero: only the shape tells
    found = measures(x)["mirror_classifier"]
    assert found.interval[0] > 0.5
    assert measures(rand(1000, dimensions))["mirror_classifier"].interval[0] < 0.5


def test_label_conditions():
    x = rand(200, 4)
    assert measures(x, (x[:, 0] > 0).long())["sign_imbalance"].kind == "not applicable"
    classes = rl.audit(nn.Linear(4, 3).double(), x, torch.arange(200) % 3).measures
    assert "classes" not in classes["pairs"].note
    assert classes["floor"].kind == "not applicable"


def test_points_lines_and_mirrors():
    u = rand(20, 5)
    x = torch.cat([u, -u[:7], u[3:5]])
    found = clusters(mirrored(sketch(x)), 1e-9)
    assert found.tolist() == [*range(20), *range(7), 3, 4]
    assert clusters(sketch(x), 1e-9).tolist() == [*range(20), *range(20, 27), 3, 4]
    assert len(clusters(torch.zeros(4, 2), 1e-9).unique()) == 1


def test_weights_of_a_network_that_has_learned_one_direction():
    torch.manual_seed(0)
    r = nn.functional.normalize(rand(6), dim=0)
    a = rand(40, seed=1)
    model = nn.Sequential(
        nn.Linear(6, 40, bias=False), nn.ReLU(), nn.Linear(40, 1, bias=False)
    ).double()
    with torch.no_grad():
        model[0].weight.copy_(a[:, None] * r)
        model[2].weight.copy_(a[None])
    x = rand(500, 6, seed=2)
    found = rl.audit(model, x, x @ r).measures
    layers, (adjacent,) = found["weights"].details["layers"], found["weights"].details["adjacent"]
    assert [layer["stable_rank"] for layer in layers] == pytest.approx([1, 1])
    assert layers[0]["s2_s1"] < 1e-12
    assert adjacent["alignment"] == pytest.approx(1)
    assert adjacent["imbalance"] < 1e-12
    share = float(a.clamp_min(0).square().sum() / a.square().sum())
    assert layers[1]["positive_share"] == pytest.approx(share)
    assert found["sign_imbalance"].value == pytest.approx(
        2 * share - 1, abs=0.05
    )  # beta is nearly along r
    assert found["sign_imbalance"].details["gaussian_std"] == pytest.approx((3 / 40) ** 0.5)


def test_prediction_of_learning_or_the_reason_why_not():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(5, 40, bias=False), nn.ReLU(), nn.Linear(40, 1, bias=False)
    ).double()
    for p in model.parameters():
        nn.init.normal_(p, std=1e-4)
    x = rand(400, 5)
    y = x @ torch.ones(5).double()
    found = rl.audit(model, torch.cat([x, -x]), torch.cat([y, -y]), lr=0.02, steps=2000).measures[
        "time_course"
    ]
    assert found.kind == "estimated"
    assert 0 < found.value < 2000
    assert len(found.details["loss"]) == len(found.details["steps"])
    refused = rl.audit(model, x + 1, y, lr=0.02, steps=2000).measures["time_course"]
    assert refused.kind == "not applicable"
    assert refused.note


TASKS = [
    (torch.tensor([0, 1, 1]), 1, None, "logistic"),
    (torch.tensor([-1.0, 1.0, 1.0]), 1, None, "square"),
    (torch.tensor([-1.0, 1.0, 1.0]), 1, "hinge", "hinge"),
    (torch.tensor([0, 2, 1]), 3, None, "cross_entropy"),
    (torch.tensor([0.3, 2.0, 1.0]), 1, None, "square"),
    (torch.tensor([0, 5, 9]), 1, None, "square"),
]


@pytest.mark.parametrize(("y", "outputs", "loss", "expected"), TASKS)
def test_tasks(y, outputs, loss, expected):
    task = task_for(y, outputs, loss)
    assert task.loss == expected
    assert task.losses(torch.zeros(3, outputs), y).shape == (3,)


def test_losses_are_what_they_are_called():
    out, y = torch.tensor([[0.5], [-2.0], [0.2]]), torch.tensor([0, 1, 1])
    signs = torch.tensor([-1.0, 1.0, 1.0])
    m = out[:, 0] * signs
    assert torch.allclose(task_for(y, 1, "logistic").losses(out, y), torch.log1p(torch.exp(-m)))
    assert torch.allclose(task_for(y, 1, "hinge").losses(out, y), (1 - m).clamp_min(0))
    assert torch.allclose(task_for(y, 1, "square").losses(out, y), (out[:, 0] - y).square() / 2)
    assert task_for(y, 1, "logistic").hits(out, y).tolist() == [False, False, True]
    assert task_for(y, 1, "square").hits(out, y).tolist() == [True, False, False], (
        "0 and 1 are cut at a half"
    )
    assert task_for(y, 1, lambda o, t: o[:, 0] * 0 + t).losses(out, y).tolist() == [0, 1, 1]


def test_unusable_labels():
    with pytest.raises(ConfigError):
        task_for(torch.ones(3), 1, "other")
    for y, outputs, loss in (
        (torch.ones(3, 2), 1, None),
        (torch.arange(3), 1, "hinge"),
        (torch.ones(3), 2, None),
    ):
        with pytest.raises(ShapeError):
            task_for(y, outputs, loss)


@pytest.mark.parametrize("shape", [(300, 270), (260, 400), (20, 9)])
def test_leading_singular_vectors(shape):
    from rectilinear.analysis.training_outcome import _leading

    w = rand(*shape)
    u, s, v = _leading(w)
    expected = torch.linalg.svdvals(w)
    assert torch.allclose(s, expected, rtol=1e-6)  # the Gram matrix has the squares
    assert torch.allclose(w @ v, s[0] * u, atol=1e-9 * float(s[0]))

import json

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import rectilinear as rl
from makers_data import rand
from makers_zoo import ZOO, paired
from rectilinear import errors
from rectilinear.analysis.page import audit_page
from rectilinear.networks import data as points

MEASURES = {
    *(
        "homogeneity",
        "parity",
        "odd_linearity",
        "affine_r2",
        "segments",
        "subspaces",
        "affine_score",
        "exact_map",
        "gaussian_energy",
    ),
    *(
        "certificate",
        "pairs",
        "sign_flip",
        "mirror_classifier",
        "floor",
        "weights",
        "sign_imbalance",
        "time_course",
    ),
    *("blocks", "local"),
}


def two_layers(d: int = 5, width: int = 20, out: int = 1) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(d, width, bias=False), nn.ReLU(), nn.Linear(width, out, bias=False)
    ).double()


@pytest.mark.parametrize(
    ("label", "make"), [(label, make) for _, label, make in ZOO], ids=[name for name, *_ in ZOO]
)
def test_zoo(label, make):
    model, x = make()
    found = rl.audit(model, x, progress=False)
    assert found.verdict.label in label, str(found)
    assert found.verdict.reasons
    assert set(found.measures) == MEASURES


def test_the_zoo_is_large():
    assert len(ZOO) >= 30
    assert sum(label == ("linear",) for _, label, _ in ZOO) >= 10


def test_a_bias_alone_is_never_the_reason():
    model, x = nn.Sequential(nn.Linear(5, 30), nn.ReLU(), nn.Linear(30, 1)).double(), rand(400, 5)
    found = rl.audit(model, x)
    assert found.verdict.label == "not linear"
    assert not any("bias" in reason for reason in found.verdict.reasons)


def test_every_measure_is_marked():
    x = rand(300, 5)
    found = rl.audit(
        two_layers(), torch.cat([x, -x]), torch.cat([x[:, :1], -x[:, :1]]), lr=0.01, steps=10
    )
    for measure in found.measures.values():
        assert measure.kind in ("exact", "certified", "estimated", "not applicable")
        if measure.kind == "estimated" and measure.name != "time_course":
            low, high = measure.interval
            assert low <= measure.value <= high or measure.name == "local", measure
        if measure.kind == "not applicable":
            assert measure.value is None
            assert measure.note
    exact = {name for name, m in found.measures.items() if m.kind == "exact"}
    assert {
        "homogeneity",
        "odd_linearity",
        "exact_map",
        "gaussian_energy",
        "pairs",
        "weights",
        "floor",
    } <= exact
    assert found.measures["odd_linearity"].details["self_test"] is True
    assert "floor" in " ".join(found.verdict.reasons) or found.measures["floor"].value < 1e-9


def test_at_the_floor_it_says_so():
    x = rand(200, 3)
    x, y = torch.cat([x, -x]), torch.cat([x[:, 0].sign(), -x[:, 0].sign()])
    best = torch.linalg.lstsq(x, y[:, None]).solution.mT
    model = paired(out=1).double()
    with torch.no_grad():
        model = nn.Sequential(
            nn.Linear(3, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False)
        ).double()
        model[0].weight.copy_(torch.cat([best, -best]))
        model[2].weight.copy_(torch.tensor([[1.0, -1.0]]))
    found = rl.audit(model, x, y, loss="square")
    assert found.verdict.label == "linear"
    assert any("at the lower bound" in reason for reason in found.verdict.reasons)
    assert found.measures["floor"].details["achieved"] == pytest.approx(
        found.measures["floor"].value, rel=1e-9
    )


def test_prints_and_writes(tmp_path):
    found = rl.audit(two_layers(), rand(200, 5), rand(200, 1)[:, 0])
    text = str(found)
    assert all(name in text for name in MEASURES if name != "subspaces")  # only where needed
    assert "not applicable" in text
    values = found.to_json(tmp_path / "audit.json")
    assert json.loads((tmp_path / "audit.json").read_text()) == json.loads(
        json.dumps(values, allow_nan=False)
    )
    assert values["verdict"]["label"] == found.verdict.label
    assert values["measures"]["parity"]["value"] == found.measures["parity"].value
    page = audit_page(found, tmp_path / "audit.html")
    assert (tmp_path / "audit.html").read_text(encoding="utf-8") == page
    assert page.startswith("<!doctype html>")
    assert page.count("<svg") >= 2
    assert "http" not in page.replace("http://www.w3.org", "")


def test_to_frame():
    pd = pytest.importorskip("pandas")
    frame = rl.audit(two_layers(), rand(50, 5)).to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert set(frame.index) == MEASURES - {"subspaces"}  # nothing was undecided


def test_to_frame_without_pandas(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(errors.MissingDependencyError, match="pip install pandas"):
        rl.audit(nn.Linear(2, 1), torch.randn(9, 2)).to_frame()


def test_the_same_seed_gives_the_same_numbers():
    model, x = two_layers(), rand(300, 5)
    first, again, other = (rl.audit(model, x, seed=seed).to_json() for seed in (3, 3, 4))
    assert first == again
    assert first["measures"]["sign_flip"] != other["measures"]["sign_flip"]
    state = torch.get_rng_state()
    rl.audit(model, x)
    assert torch.equal(state, torch.get_rng_state())


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(
        nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 2)
    ).double()
    model[3].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fused = torch.backends.mha.get_fastpath_enabled()
    rl.audit(model, rand(100, 5))
    assert [part.training for part in model] == [True, True, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(part._forward_hooks for part in model.modules())
    assert all(p.grad is None for p in model.parameters())
    assert torch.backends.mha.get_fastpath_enabled() == fused


def test_a_loader_gives_what_a_tensor_gives():
    model, x, y = two_layers(), rand(500, 5), rand(500, 1, seed=1)
    loader = DataLoader(TensorDataset(x, y), batch_size=64)
    assert rl.audit(model, loader).to_json() == rl.audit(model, x, y).to_json()


def test_the_order_of_the_rows_does_not_matter():
    x = 3 + rand(400, 5)
    found = rl.audit(two_layers(), torch.cat([x, -x]))  # all images after all points
    assert found.measures["blocks"].value > 0.3, "fitted and judged on both"
    assert found.measures["parity"].details["mirror_distance"] < 1.5


def test_streams_what_does_not_fit(monkeypatch):
    monkeypatch.setattr(points, "MAX_NUMBERS", 100)
    monkeypatch.setattr(points, "SAMPLE_ROWS", 300)
    model, x, y = two_layers(), rand(900, 5), rand(900, 1, seed=1)
    loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
    found, whole = rl.audit(model, loader), rl.audit(model, x, y)
    assert found.rows == 900
    for name in ("affine_r2", "parity", "exact_map", "sign_imbalance"):
        assert found.measures[name].value == pytest.approx(whole.measures[name].value, rel=1e-9), (
            name
        )
    assert found.measures["affine_r2"].details["rows"] == 900
    assert found.measures["floor"].kind == "not applicable"
    assert "batches" in found.measures["pairs"].note
    assert rl.audit(model, loader).to_json() == found.to_json(), "shuffled, and the same again"


@pytest.mark.whole
def test_a_compiled_model_is_looked_into():
    model, x = two_layers(), rand(100, 5)
    compiled = torch.compile(model, backend="eager")
    assert rl.audit(compiled, x).to_json() == rl.audit(model, x).to_json()
    assert torch.equal(rl.split(compiled).matrix, rl.split(model).matrix)
    assert rl.linearize(compiled, x, blocks="1").blocks[0].module == "ReLU"
    assert type(rl.fuse(compiled)) is nn.Sequential


def test_images_many_outputs_and_half_precision():
    torch.manual_seed(0)
    convolutional = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 10))
    found = rl.audit(convolutional, rand(150, 1, 8, 8), torch.arange(150) % 10)
    assert found.out_shape == (10,)
    assert {"loss", "accuracy"} <= set(found.measures["affine_score"].details)
    assert rl.audit(nn.Linear(4, 2).bfloat16(), rand(200, 4)).verdict.label == "linear"


def test_more_outputs_than_are_fitted_one_by_one(monkeypatch):
    monkeypatch.setattr("rectilinear.analysis.surrogate.MAX_OUTPUTS", 1024)
    torch.manual_seed(0)
    found = rl.audit(nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 1500)), rand(300, 6))
    assert "random directions" in found.measures["affine_r2"].note
    assert 0.5 < found.measures["affine_r2"].value < 1


class Broken(nn.Module):
    """A layer, and something wrong with its output."""

    def __init__(self, spoil) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.spoil = spoil

    def forward(self, x):
        return self.spoil(self.layer(x))


MISTAKES = {
    "no module": (lambda: (lambda x: x, rand(9, 3)), errors.DtypeError, "torch.nn.Module"),
    "no parameters": (lambda: (nn.ReLU(), rand(9, 3)), errors.InputError, "without parameters"),
    "a tuple": (
        lambda: (Broken(lambda h: ("a", h.argmax(1))), rand(9, 3)),
        errors.DtypeError,
        "returns a tuple",
    ),
    "integers": (lambda: (Broken(lambda h: h.argmax(1)), rand(9, 3)), errors.DtypeError, "int64"),
    "random": (
        lambda: (Broken(lambda h: h + torch.rand_like(h)), rand(9, 3)),
        errors.InputError,
        "random",
    ),
    "another shape": (
        lambda: (Broken(lambda h: h[:, : len(h) // 4]), rand(9, 3)),
        errors.ShapeError,
        "one shape",
    ),
    "no batch axis": (
        lambda: (Broken(lambda h: h.sum(0)), rand(9, 3)),
        errors.ShapeError,
        "first axis",
    ),
    "rows that mix": (
        lambda: (Broken(lambda h: h - h.mean(0)), rand(9, 3)),
        errors.InputError,
        "act on each other",
    ),
    "NaN": (lambda: (Broken(lambda h: h / 0 * 0), rand(9, 3)), errors.NonFiniteError, "NaN"),
    "wrong input": (lambda: (nn.Linear(4, 2), rand(9, 3)), errors.ShapeError, "the model fails"),
    "integer data": (
        lambda: (nn.Linear(3, 2), torch.ones(9, 3, dtype=torch.int64)),
        errors.DtypeError,
        "floating",
    ),
    "no rows": (lambda: (nn.Linear(3, 2), torch.ones(0, 3)), errors.ShapeError, "at least one"),
    "NaN in the data": (lambda: (nn.Linear(3, 2), rand(9, 3) / 0), errors.NonFiniteError, "in x"),
    "labels too few": (
        lambda: (nn.Linear(3, 2), rand(9, 3), torch.ones(8)),
        errors.ShapeError,
        "8 labels for 9",
    ),
    "labels of other outputs": (
        lambda: (nn.Linear(3, 2), rand(9, 3), rand(9, 3)),
        errors.ShapeError,
        "2 outputs",
    ),
    "classes too many": (
        lambda: (nn.Linear(3, 2), rand(9, 3), torch.arange(9)),
        errors.ShapeError,
        "classes from 0 to 8",
    ),
    "a generator": (
        lambda: (nn.Linear(3, 2), (rand(4, 3) for _ in range(3))),
        errors.DataError,
        "only once",
    ),
    "labels beside batches": (
        lambda: (nn.Linear(3, 2), [rand(4, 3)], torch.ones(4)),
        errors.DataError,
        "apart",
    ),
    "no data": (lambda: (nn.Linear(3, 2), 3), errors.DtypeError, "x of type int"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_one_clear_error(mistake):
    make, error, words = MISTAKES[mistake]
    model, *rest = make()
    model = model.double() if isinstance(model, nn.Module) else model
    with pytest.raises(error, match=words) as found:
        rl.audit(model, *rest)
    assert len(str(found.value)) < 400


def test_settings_are_checked():
    model, x = nn.Linear(3, 1), torch.randn(9, 3)
    for options in ({"threshold": 0.0}, {"lr": 0.1}, {"loss": "square"}):
        with pytest.raises(errors.ConfigError):
            rl.audit(model, x, **options)
    with pytest.raises(errors.ConfigError):
        rl.audit(model, x, torch.ones(9), loss="other")


def test_the_folder_and_its_verb_share_a_name():
    from rectilinear.analysis import Audit

    assert rl.analysis.Audit is Audit
    assert isinstance(rl.audit(nn.Linear(2, 1), torch.randn(9, 2)), Audit)

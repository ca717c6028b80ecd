"""Affine maps between places: against plain numpy and plain loops, on small networks."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score
from torch import nn

import rectilinear as rl
from makers_data import rand
from rectilinear.errors import CheckpointError, ConfigError, ShapeError, StructureError
from rectilinear.maps.mean_jacobian import Route, mean_jacobians
from rectilinear.networks.batches import read_batches
from rectilinear.networks.network import evaluating
from rectilinear.networks.sample_split import SampleSplit
from rectilinear.progress import Progress


class Block(nn.Module):
    """Attention, or a mean over tokens, and a gated part, with a residual connection."""

    def __init__(self, d, mixing=0.3):
        super().__init__()
        self.norm, self.inner, self.outer = (
            nn.LayerNorm(d),
            nn.Linear(d, 2 * d),
            nn.Linear(2 * d, d),
        )
        self.mixing = mixing

    def forward(self, h):
        h = h + self.mixing * h.mean(1, keepdim=True)
        return h + self.outer(nn.functional.gelu(self.inner(self.norm(h))))


class Stack(nn.Module):
    def __init__(self, d=6, depth=3):
        super().__init__()
        self.first = nn.Linear(4, d)
        self.layers = nn.ModuleList(Block(d) for _ in range(depth))

    def forward(self, x):
        h = self.first(x)
        for layer in self.layers:
            h = layer(h)
        return h


def stack(seed=0, **sizes):
    torch.manual_seed(seed)
    return Stack(**sizes).double().eval()


def tokens(n=12, t=5, seed=1):
    return torch.randn(n, t, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def one_by_one(model, x, layer, positions):
    """The mean Jacobian, sample by sample, number by number: the loop that others run."""
    total = 0
    with torch.no_grad():
        h = model.first(x)
        for block in model.layers[: layer + 1]:
            h = block(h)
    for sample in h:
        rest = sample[None].clone().requires_grad_()
        y = rest
        for block in model.layers[layer + 1 :]:
            y = block(y)
        t, d = sample.shape
        J = torch.zeros(d, d, dtype=torch.float64)
        for k in range(d):
            if positions == "all":
                (g,) = torch.autograd.grad(y[0, :, k].sum(), rest, retain_graph=True)
                J[k] = g[0].mean(0)
            else:
                for p in range(t):
                    (g,) = torch.autograd.grad(y[0, p, k], rest, retain_graph=True)
                    J[k] += g[0, p] / t
        total = total + J
    return total / len(h)


def means(model, x, sources, positions="all", batch_size=5, **kwargs):
    span = Route(tuple(sources), f"layers.{len(model.layers) - 1}", None, positions)
    with evaluating(model):
        return mean_jacobians(model, span, read_batches(x, model, batch_size=batch_size), **kwargs)


def test_mean_jacobian_of_all_layers_is_the_loop():
    model, x = stack(), tokens()
    found = means(model, x, ["layers.0", "layers.1"])
    for layer, mean in enumerate(found):
        assert torch.allclose(mean.mean, one_by_one(model, x, layer, "all"), atol=1e-12)


def test_same_positions_are_unbiased_and_exact_without_mixing():
    model, x = stack(), tokens()
    exact = one_by_one(model, x, 0, "same")
    draws = [means(model, x, ["layers.0"], "same", seed=seed)[0].mean for seed in range(20)]
    mean = torch.stack(draws).mean(0)
    spread = torch.stack(draws).std(0) / 20**0.5
    z = (mean - exact) / spread
    assert float(z.square().mean()) < 2
    for block in model.layers:
        block.mixing = 0.0
    apart = means(model, x, ["layers.0"], "same")[0].mean
    assert torch.allclose(apart, one_by_one(model, x, 0, "same"), atol=1e-12)


def test_a_pass_serves_all_layers():
    model, x = stack(depth=4), tokens()
    passes = []
    handle = model.layers[3].outer.register_full_backward_hook(lambda *_: passes.append(1))
    one = means(model, x, ["layers.0"])
    alone = len(passes)
    many = means(model, x, ["layers.0", "layers.1", "layers.2"])
    handle.remove()
    assert len(passes) == 2 * alone == 2 * 3 * 6  # batches times numbers at the target
    assert torch.equal(one[0].mean, many[0].mean)


def test_standard_error_is_that_of_independent_halves():
    model = stack()
    measured, expected = [], []
    for seed in range(25):
        halves = [
            means(model, tokens(40, seed=2 * seed + i), ["layers.0"], batch_size=40)[0]
            for i in (0, 1)
        ]
        measured.append(float((halves[0].mean - halves[1].mean).square().sum()))
        expected.append(sum(half.standard_error**2 for half in halves))
    assert np.mean(measured) == pytest.approx(np.mean(expected), rel=0.35)


def test_least_squares_is_that_of_numpy_on_tokens_with_padding():
    model = stack()

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x, attention_mask):
            return self.model(x * attention_mask[..., None])

    x = tokens(200)
    mask = (torch.arange(5) < torch.randint(2, 6, (200, 1))).long()
    A = rl.linear_map(Masked(), "first", "layers.2", {"x": x, "attention_mask": mask}, seed=3)
    with torch.no_grad():
        h = model.first(x * mask[..., None])
        y = model(x * mask[..., None])
    report = A.report
    assert report.samples + report.held_out == 200
    every = A.predict(h)
    left, whole = (y - every)[mask.bool()], (y - y[mask.bool()].mean(0))[mask.bool()]
    overall = 1 - float(left.square().sum() / whole.square().sum())
    assert report.r2 == pytest.approx(overall, abs=0.1)
    assert report.interval[0] < report.r2 < report.interval[1]
    assert report.mean_r2 == pytest.approx(0, abs=0.05)
    rows, wanted = h[mask.bool()].numpy(), y[mask.bool()].numpy()
    best = np.linalg.lstsq(np.c_[rows, np.ones(len(rows))], wanted, rcond=None)[0]
    ceiling = 1 - ((np.c_[rows, np.ones(len(rows))] @ best - wanted) ** 2).sum() / float(
        whole.square().sum()
    )
    assert overall == pytest.approx(ceiling, abs=5e-3)


def test_r2_is_that_of_scikit_learn_with_each_token_as_a_row():
    model = stack()
    x = tokens(80) + 2 * torch.arange(5)[:, None]  # means differ between positions
    A = rl.linear_map(model, "first", "layers.2", x, seed=3)
    batches = read_batches(x, model)
    held_out = torch.cat([SampleSplit.of(batches, 3)(batch) for batch in batches])
    with torch.no_grad():
        y, made = model(x[held_out]), A.predict(model.first(x[held_out]))
    rows = y.flatten(0, 1), made.flatten(0, 1)
    assert A.r2 == pytest.approx(r2_score(*rows, multioutput="variance_weighted"))
    assert A.report.each_r2 == pytest.approx(r2_score(*rows))
    assert (A.report.held_out_rows, A.report.rows) == (100, 300)
    assert "on 20 held-out samples of 100 rows" in str(A)
    of_positions = 1 - (y - made).square().sum() / (y - y.mean(0)).square().sum()
    assert float(of_positions) < A.r2 - 0.01  # about the mean of each position, which is another


def linear_net(d):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(d, d), nn.Linear(d, 3)).double()


def test_an_exactly_linear_map_of_too_few_rows_is_said_to_be_undecided():
    model, x = linear_net(200), torch.randn(120, 200, dtype=torch.float64)
    A = rl.linear_map(model, "0", "1", x)
    assert A.report.few_rows
    assert A.report.fitted_r2 == pytest.approx(1)
    assert A.r2 < 0.8
    assert "90 rows of 200 numbers are too few to tell: the best map explains 0." in str(A)
    profile = rl.layer_profile(model, x, layers=["0", "0@input"], target="1", samples=4)
    assert profile.few_rows.startswith("? 90 rows of 200 numbers are too few to tell")
    assert profile.few_rows in str(profile)
    assert profile.few_rows in profile._repr_html_()
    assert profile.to_json()["few_rows"] == profile.few_rows
    head, lines = profile.table()
    assert [line[head.index("own rows")] for line in lines] == ["1.000", "1.000"]
    assert profile.maps["0"]["mean_jacobian"].r2 == pytest.approx(1)
    assert not profile.maps["0"]["mean_jacobian"].report.few_rows


def test_an_exactly_linear_map_of_enough_rows_has_no_such_word():
    model, x = linear_net(20), torch.randn(120, 20, dtype=torch.float64)
    A = rl.linear_map(model, "0", "1", x)
    profile = rl.layer_profile(model, x, layers=["0"], target="1", methods=["least_squares"])
    assert A.r2 == pytest.approx(1)
    assert "too few" not in str(A)
    assert profile.few_rows == ""
    assert "own rows" not in profile.table()[0]


def test_a_fit_to_noise_is_about_as_good_as_the_mean():
    class Noise(nn.Module):
        def forward(self, x):
            return torch.sin(1e3 * x)

    x = torch.randn(200, 100, dtype=torch.float64)
    A = rl.linear_map(nn.Sequential(nn.Identity(), Noise()), "0", "1", x)
    assert -0.1 < A.r2 < 0.1
    assert A.report.few_rows
    assert A.report.fitted_r2 > 0.5


def test_the_progress_of_jacobians_advances_within_a_batch(monkeypatch):
    done, update = [], Progress.update

    def recorded(self, value, text=""):
        done.append(value / self._total)
        update(self, value, text)

    monkeypatch.setattr(Progress, "update", recorded)
    rl.layer_profile(stack(), tokens(60), samples=8, progress=False)
    assert done == sorted(done)
    assert done[-1] < 1
    assert max(b - a for a, b in pairwise(done)) < 0.2


@pytest.mark.parametrize("method", ["mean_jacobian", "frozen_jacobian", "least_squares"])
@pytest.mark.parametrize(("source", "target"), [("2", "@output"), ("1", "2@input"), ("0", "1")])
def test_the_map_between_places_of_one_value_is_the_identity(source, target, method):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), nn.Identity(), nn.Linear(3, 3)).double()
    A = rl.linear_map(net, source, target, rand(60, 4), method=method)
    assert torch.allclose(A.weight, torch.eye(3).double(), atol=1e-12)
    assert A.r2 == pytest.approx(1)


def test_what_goes_into_a_flatten_is_a_row():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).double()
    for method in ("least_squares", "mean_jacobian", "frozen_jacobian"):
        A = rl.linear_map(net, "0@input", "@output", rand(200, 3, 4, 4), method=method)
        assert torch.allclose(A.weight, net[1].weight, atol=1e-9)
        assert not A.report.averaged


def test_the_mean_over_the_vectors_of_a_sample_is_said():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.start, self.end = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.end(self.start(x)[:, -1])

    torch.manual_seed(0)
    net = Last().double()
    A = rl.linear_map(net, "start", "@output", tokens(80))
    assert A.report.averaged
    assert "of the mean over the vectors of a sample" in str(A)
    assert A.r2 < 0.8  # the last vector alone counts
    layers = ["start", "end@input"]
    profile = rl.layer_profile(net, tokens(80), layers=layers, methods=["least_squares"])
    assert "from the mean over the vectors of a sample at start." in str(profile)
    alone = rl.layer_profile(net, tokens(80), layers=["end@input"], methods=["least_squares"])
    assert alone.averaged == ""


def test_stein():
    """For Gaussian inputs the least-squares map is the mean Jacobian."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Identity(), nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 2)).double()
    x = torch.randn(40_000, 3, dtype=torch.float64) @ torch.randn(3, 3, dtype=torch.float64)
    settings = {"samples": 20_000, "batch_size": 20_000}
    A = rl.linear_map(model, "0", "3", x, **settings)
    J = rl.linear_map(model, "0", "3", x, method="mean_jacobian", **settings)
    assert torch.allclose(A.weight, J.weight, atol=0.03 * float(A.weight.norm()))
    assert float((A.weight - J.weight).norm() / J.weight.norm()) < 0.05
    assert J.report.error < 0.02
    uneven = rl.linear_map(model, "0", "3", x.sign() * x**2, **settings)
    J = rl.linear_map(model, "0", "3", x.sign() * x**2, method="mean_jacobian", **settings)
    assert float((uneven.weight - J.weight).norm() / J.weight.norm()) > 0.2  # not Gaussian


def test_affine_networks_have_one_map_by_all_methods():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)).double()
    exact = model[2].weight @ model[1].weight
    x = torch.randn(200, 4, dtype=torch.float64)
    for method in ("mean_jacobian", "frozen_jacobian"):
        A = rl.linear_map(model, "0", "2", x, method=method)
        assert torch.allclose(A.weight, exact, atol=1e-12)
        assert (A.r2, A.report.likeness, A.report.scale) == pytest.approx((1, 1, 1))
        assert A.report.error == pytest.approx(0, abs=1e-7)
    full = rl.linear_map(model, "0@input", "2", x)
    assert torch.allclose(full.weight, exact @ model[0].weight, atol=1e-9)
    assert torch.allclose(full.predict(x), model(x), atol=1e-9)


def test_frozen_of_piecewise_linear_networks_is_the_mean_jacobian_and_counts_biases():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3, bias=False)).double()
    x = torch.randn(100, 4, dtype=torch.float64)
    a, b = (
        rl.linear_map(model, "0", "2", x, method=m) for m in ("mean_jacobian", "frozen_jacobian")
    )
    assert torch.allclose(a.weight, b.weight)
    assert b.report.bias_share == pytest.approx(0, abs=1e-12)
    c = rl.linear_map(model, "0@input", "2", x, method="frozen_jacobian")
    assert abs(c.report.bias_share) > 0.01


def test_more_samples_lower_the_error_as_said():
    model = stack()
    x = tokens(600)
    few, many = (
        rl.linear_map(model, "layers.0", "layers.2", x, method="mean_jacobian", samples=n)
        for n in (40, 360)
    )
    assert few.samples_for(many.report.error) == pytest.approx(360, rel=0.35)
    assert many.report.r2_error < few.report.r2_error
    with pytest.raises(ConfigError, match=r"mean Jacobian.*method='mean_jacobian'"):
        rl.linear_map(model, "layers.0", "layers.2", x).samples_for(0.1)


def test_is_an_operator_that_saves_itself(tmp_path):
    model = stack()
    A = rl.linear_map(model, "layers.0", "layers.2", tokens(60), method="mean_jacobian", samples=8)
    assert torch.allclose(rl.to_dense(A.T @ A), A.weight.T @ A.weight)
    assert torch.allclose(rl.svd(A).s, torch.linalg.svdvals(A.weight))
    assert rl.rank(A) == 6
    A.save_pretrained(tmp_path)
    again = rl.from_pretrained(tmp_path)
    assert again.report == A.report
    assert torch.equal(
        again.predict(tokens()[0, :, :1].expand(-1, 6)), A.predict(tokens()[0, :, :1].expand(-1, 6))
    )
    assert "standard error" in str(A)
    assert "<b>" in A._repr_html_()


def test_images_and_pooled_targets():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1),
        nn.Hardswish(inplace=True),
        nn.Conv2d(5, 5, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 2),
    ).double()
    x = torch.randn(80, 3, 6, 6, dtype=torch.float64)
    affine = rl.linear_map(model, "2", "@output", x, method="mean_jacobian")
    assert torch.allclose(affine.weight, model[5].weight, atol=1e-12)
    assert affine.r2 == pytest.approx(1)
    places = rl.linear_map(model, "0", "2", x)
    assert places.weight.shape == (5, 5)
    assert 0.3 < places.r2 < 1
    with pytest.raises(ShapeError, match="36 vectors a sample at 0"):
        rl.linear_map(nn.Sequential(nn.Conv2d(3, 4, 1), nn.AvgPool2d(2)), "0", "1", x.float())


def test_refusals():
    model, x = stack(), tokens(60)
    with pytest.raises(ConfigError, match="no module named"):
        rl.linear_map(model, "layers.9", "layers.2", x)
    with pytest.raises(ConfigError, match="method"):
        rl.linear_map(model, "layers.0", "layers.2", x, method="ols")
    with pytest.raises(StructureError, match=r"does not depend on layers\.2"):
        rl.linear_map(model, "layers.2", "layers.0", x, method="mean_jacobian", samples=8)
    numbers = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1), nn.Flatten(0))
    with pytest.raises(ShapeError, match=r"Return value\[:, None\] from that module"):
        rl.linear_map(numbers, "0", "@output", torch.randn(60, 4))
    with pytest.raises(ShapeError, match="skipped"):
        rl.linear_map(model, "layers.0", "layers.2", x, skip=(4, 1))
    squashed = nn.Sequential(nn.Linear(4, 4), nn.Sigmoid()).double()
    with pytest.raises(StructureError, match="sigmoid"):
        rl.linear_map(squashed, "0", "1", x.reshape(-1, 4), method="frozen_jacobian")


def test_layer_profile(tmp_path):
    model = stack()
    x = tokens(120)
    before = [t.clone() for t in model.state_dict().values()]
    profile = rl.layer_profile(model, x, samples=8)
    assert list(profile.maps) == ["layers.0@input", "layers.0", "layers.1"]
    assert profile.target == "layers.2"
    r2 = [maps["least_squares"].r2 for maps in profile.maps.values()]
    assert r2 == sorted(r2)
    alone = rl.linear_map(model, "layers.1", "layers.2", x)
    assert torch.allclose(profile.maps["layers.1"]["least_squares"].weight, alone.weight)
    head, lines = profile.table()
    assert len(lines) == 3
    assert all(len(line) == len(head) for line in lines)
    assert "layers.0@input" in str(profile)
    rl.plots.save(profile.figure(), tmp_path / "profile.svg")
    assert (tmp_path / "profile.svg").read_text(encoding="utf-8").count("<path") > 5
    assert "<svg" in profile._repr_html_()
    assert profile.to_json()["layers"][1]["maps"]["mean_jacobian"]["samples"] == 8
    assert profile.to_frame().shape[0] == 3
    assert all(torch.equal(a, b) for a, b in zip(before, model.state_dict().values(), strict=True))
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


def test_profile_says_which_method_was_refused():
    class Squared(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            return x + self.linear(x) ** 2

    model = nn.Sequential(Squared(), Squared(), Squared())
    profile = rl.layer_profile(model, torch.randn(80, 4), samples=4)
    assert profile.methods == ("least_squares", "mean_jacobian")
    assert "pow" in profile.refused["frozen_jacobian"]
    assert "pow" in str(profile)


def test_jacobian_lens_file(tmp_path):
    model, x = stack(), tokens(60)
    profile = rl.layer_profile(model, x, methods=["mean_jacobian"], positions="all", samples=9)
    rl.maps.write_jacobian_lens(profile, tmp_path / "lens.pt", dtype=torch.float64)
    held = torch.load(tmp_path / "lens.pt", weights_only=True)
    assert (held["n_prompts"], held["source_layers"], held["d_model"]) == (9, [0, 1], 6)
    lens = rl.maps.read_jacobian_lens(tmp_path / "lens.pt")
    found = profile.maps["layers.1"]["mean_jacobian"].weight
    assert torch.allclose(lens.maps[1].weight, found.float())
    assert lens.metadata["target"] == "layers.2"
    torch.save({"jacobian_sum": {0: 4 * torch.eye(2)}, "n_done": 2}, tmp_path / "sum.pt")
    assert rl.maps.read_jacobian_lens(tmp_path / "sum.pt").maps[0].weight.tolist() == [
        [2, 0],
        [0, 2],
    ]
    torch.save({"J": {0: torch.ones(2, 3)}, "n_prompts": 1}, tmp_path / "bad.pt")
    for wrong in ("bad.pt", "missing.pt"):
        with pytest.raises(CheckpointError):
            rl.maps.read_jacobian_lens(tmp_path / wrong)
    same = rl.layer_profile(model, x, methods=["mean_jacobian"], samples=9)
    with pytest.raises(ConfigError, match="positions='all'"):
        rl.maps.write_jacobian_lens(same, tmp_path / "same.pt")
    fitted = rl.layer_profile(model, x, methods=["least_squares"])
    with pytest.raises(ConfigError, match=r"methods=\['mean_jacobian'\], positions='all'"):
        rl.maps.write_jacobian_lens(fitted, tmp_path / "fitted.pt")
    narrow = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    options = {"layers": ["0"], "methods": ["mean_jacobian"], "positions": "all", "samples": 8}
    rows = torch.randn(60, 4, dtype=torch.float64)
    with pytest.raises(ConfigError, match="layers and target of one width"):
        rl.maps.write_jacobian_lens(
            rl.layer_profile(narrow, rows, target="2", **options), tmp_path / "narrow.pt"
        )
    with pytest.raises(ConfigError, match="Leave layers out"):
        rl.layer_profile(model, x, layers=[])


def test_results_show_in_notebooks():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 2))
    x = torch.randn(80, 4)
    for found in (rl.audit(net, x), rl.linearize(net, x, blocks=["1"])):
        assert found._repr_html_().startswith("<pre>")
        assert "R²" in found._repr_html_()


@pytest.mark.parametrize("method", ["mean_jacobian", "frozen_jacobian", "least_squares"])
def test_half_precision_is_summed_in_single(method):
    model, x = stack(), tokens(300)
    exact = rl.linear_map(model, "layers.1", "layers.2", x, method=method, samples=200)
    half = rl.linear_map(
        stack().bfloat16(), "layers.1", "layers.2", x.bfloat16(), method=method, samples=200
    )
    assert half.weight.dtype == torch.float32
    if method == "mean_jacobian":  # samples are held out by their numbers, which are rounded
        assert float((half.weight - exact.weight).norm() / exact.weight.norm()) < 0.05
    assert half.r2 == pytest.approx(exact.r2, abs=0.05)

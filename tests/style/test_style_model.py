"""Styles as operators: blends, exchanges and removals in the induced spaces."""

import pytest
import torch

import rectilinear as rl
from rectilinear.errors import ConfigError, ShapeError, SingularOperatorError
from rectilinear.style import StyleTransfer, in_tiles, new_model
from rectilinear.style.fit import StyleObjective
from rectilinear.style.measure import path_error

SHAPE = (3, 8, 8)


def bent(seed: int = 0) -> rl.invertible.ImageFlow:
    """A network that is not near the identity."""
    torch.manual_seed(seed)
    g = rl.invertible.ImageFlow(SHAPE, blocks=4, width=8, seed=seed).double()
    for p in g.parameters():
        p.data += 0.15 * torch.randn_like(p)
    return g.requires_grad_(requires_grad=False)


def kernel(seed: int, strength: float = 0.1) -> rl.operators.Convolution:
    """The identity and something small: invertible, with eigenvalues off the negative axis."""
    torch.manual_seed(seed)
    weight = strength * torch.randn(3, 3, 3, 3, dtype=torch.float64)
    weight[:, :, 1, 1] += torch.eye(3, dtype=torch.float64)
    return rl.operators.Convolution(SHAPE, weight)


@pytest.fixture(scope="module", params=["two networks", "one network"])
def model(request) -> StyleTransfer:
    g_out = None if request.param == "one network" else bent(1)
    return StyleTransfer(bent(0), {"a": kernel(2), "b": kernel(3), "c": kernel(4)}, g_out)


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return torch.rand(5, *SHAPE, dtype=torch.float64)


def test_a_style_is_encode_operator_decode(model, x):
    z = model.g_in(x)
    dense = rl.to_dense(model.operator("b"))
    assert torch.allclose(model(x, "b"), model.g_out.inverse(z @ dense.T), atol=1e-10)


def test_a_blend_is_a_straight_line_of_the_induced_space(model, x):
    space = model.out_space
    line = 0.3 * space(model(x, "a")) + 0.7 * space(model(x, "b"))
    assert torch.allclose(model.blend({"a": 0.3, "b": 0.7})(x), line.point, atol=1e-10)
    assert torch.allclose(model.path("a", "b", 0.7)(x), line.point, atol=1e-10)
    assert path_error(model, x) < 1e-12
    assert not torch.allclose(
        line.point, 0.3 * model(x, "a") + 0.7 * model(x, "b"), atol=1e-3
    )  # not one of pixels


def test_paths_end_at_their_styles(model, x):
    for geodesic in (False, True):
        for t, name in ((0.0, "a"), (1.0, "b")):
            assert torch.allclose(
                model.path("a", "b", t, geodesic=geodesic)(x), model(x, name), atol=1e-9
            )


def test_the_geodesic_halves_the_way_twice(model, x):
    step = model.removal("a") @ model.path("a", "b", 0.5, geodesic=True)  # M^(1/2) with M = A^-1 B
    if model.g_in is model.g_out:
        whole = model.removal("a") @ model.style("b")
        assert torch.allclose((step @ step)(x), whole(x), atol=1e-8)
    quarter = model.path("a", "b", 0.25, geodesic=True).operator
    half = rl.to_dense(model.operator("a")) @ torch.linalg.matrix_power(
        torch.linalg.solve(rl.to_dense(model.operator("a")), rl.to_dense(quarter)), 2
    )
    assert torch.allclose(
        half, rl.to_dense(model.path("a", "b", 0.5, geodesic=True).operator), atol=1e-8
    )


def test_styles_turn_into_each_other_and_go_away(model, x):
    assert torch.allclose(model.between("a", "b")(model(x, "a")), model(x, "b"), atol=1e-9)
    assert torch.allclose(model.removal("a")(model(x, "a")), x, atol=1e-9)
    through = model.between("b", "c") @ model.between("a", "b")
    assert torch.allclose(through(model(x, "a")), model(x, "c"), atol=1e-9)
    both = model.style("c") @ model.removal("a")
    assert torch.allclose(both(model(x, "a")), model(x, "c"), atol=1e-9)


def test_what_a_style_removes_does_not_come_back(x):
    grey = torch.full((3, 3, 1, 1), 1 / 3, dtype=torch.float64)
    model = StyleTransfer(bent(0), {"grey": rl.operators.Convolution(SHAPE, grey), "a": kernel(2)})
    once = model.between("grey", "grey")(model(x, "grey"))
    assert torch.allclose(once, model(x, "grey"), atol=1e-9)  # A A^+ A = A
    assert not torch.allclose(model.removal("grey")(model(x, "grey")), x, atol=1e-2)
    with pytest.raises(SingularOperatorError):
        model.path("grey", "a", 0.5, geodesic=True)


def test_damping_limits_what_is_brought_back():
    weights = torch.eye(3, dtype=torch.float64) * torch.tensor(
        [1.0, 0.5, 1e-3], dtype=torch.float64
    )
    faint = rl.operators.Convolution(SHAPE, weights[:, :, None, None])
    model = StyleTransfer(rl.invertible.Flatten(SHAPE), {"faint": faint})
    y = torch.ones(1, *SHAPE, dtype=torch.float64)
    assert model.removal("faint")(y)[0, :, 0, 0].tolist() == pytest.approx([1.0, 2.0, 1e3])
    damped = [s / (s**2 + 1e-2) for s in (1.0, 0.5, 1e-3)]  # |A| = 1
    assert model.removal("faint", damping=1e-2)(y)[0, :, 0, 0].tolist() == pytest.approx(damped)
    assert model.between("faint", "faint", damping=1e-2)(y)[0, 0, 0, 0].item() == pytest.approx(
        damped[0]
    )
    with pytest.raises(ConfigError):
        model.removal("faint", damping=-1.0)


def test_styles_come_and_go_and_the_networks_stay(model, x):
    more = model.added("d", kernel(5))
    assert more.names == ("a", "b", "c", "d")
    assert (more.g_in, more.g_out) == (model.g_in, model.g_out)
    assert torch.equal(more(x, "a"), model(x, "a"))
    less = more.without("a")
    assert less.names == ("b", "c", "d")
    with pytest.raises(ConfigError, match="style 'a'"):
        less.style("a")


def test_shares_count_parameters():
    model = new_model((3, 16, 16), ["soft", "ink"], blocks=4, width=16, kernel=5)
    networks = sum(p.numel() for g in (model.g_in, model.g_out) for p in g.parameters())
    assert model.shares == dict.fromkeys(("soft", "ink"), 3 * 3 * 5 * 5 / networks)


def test_save_and_load(model, x, tmp_path):
    model.save_pretrained(tmp_path)
    again = StyleTransfer.from_pretrained(tmp_path)
    assert again.names == model.names
    assert (again.g_in is again.g_out) == (model.g_in is model.g_out)
    assert torch.equal(again.path("a", "c", 0.4)(x), model.path("a", "c", 0.4)(x))


def test_derived_operators_are_saved(model, tmp_path, x):
    model.added("half", model.path("a", "b", 0.5).operator).save_pretrained(tmp_path)
    assert torch.allclose(
        StyleTransfer.from_pretrained(tmp_path)(x, "half"), model.path("a", "b", 0.5)(x)
    )


@pytest.mark.parametrize(
    ("styles", "error"),
    [
        ({}, ConfigError),
        ({"": kernel(1)}, ConfigError),
        ({"a=b": kernel(1)}, ConfigError),
        ({"a.b": kernel(1)}, ConfigError),
        ({"a": kernel(1), "b": rl.operators.Dense(192, 64)}, ShapeError),
        ({"a": rl.operators.Dense(64, 64)}, ShapeError),
        ({"a": torch.nn.Linear(192, 192)}, ShapeError),
    ],
)
def test_styles_that_do_not_fit_are_refused(styles, error):
    with pytest.raises(error):
        StyleTransfer(rl.invertible.Flatten(SHAPE), styles)


def test_unknown_names_are_refused(model, x):
    for ask in (
        lambda: model(x, "z"),
        lambda: model.blend({"a": 0.5, "z": 0.5}),
        lambda: model.blend({}),
        lambda: model.between("z", "a"),
        lambda: model.removal("z"),
        lambda: model.without("z"),
    ):
        with pytest.raises(ConfigError):
            ask()
    with pytest.raises(ConfigError):
        model.without("a").without("b").without("c")


def test_tiles_meet_without_a_seam():
    blur = torch.zeros(3, 3, 3, 3, dtype=torch.float64)
    for c in range(3):
        blur[c, c] = 1 / 9
    f = rl.Linearizer(
        rl.invertible.Flatten((3, 16, 16)), rl.operators.Convolution((3, 16, 16), blur)
    )
    image = torch.linspace(0, 1, 40, dtype=torch.float64).expand(3, 33, 40)
    styled = in_tiles(f, image)
    assert (styled - image)[
        :, 4:-4, 4:-4
    ].abs().max() < 0.02  # a ramp stays, but for what wraps around in a tile
    assert torch.allclose(in_tiles(f, image[:, :16, :16]), f(image[None, :, :16, :16])[0])
    with pytest.raises(ShapeError):
        in_tiles(f, image[:, :8])


def test_objectives_refuse_weights_that_do_not_fit(model):
    with pytest.raises(ShapeError):
        StyleObjective(model, torch.eye(2))
    with pytest.raises(ConfigError):
        StyleObjective(model, torch.full((2, 3), 0.5))

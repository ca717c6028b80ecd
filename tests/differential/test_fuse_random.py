"""A fused model is the same function: random stacks of layers."""

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import rectilinear as rl
from makers_data import rand
from makers_fuse import NormAct, NormReLU, Untraced, gap, ready


@st.composite
def images(draw):
    """A random stack of what people put into convolutional nets."""
    channels, layers = 3, []
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(
            st.sampled_from(
                ["conv", "point", "norm", "normact", "normrelu", "relu", "drop", "slope", "block"]
            )
        )
        out = draw(st.sampled_from([2, 3, 5]))
        bias = draw(st.booleans())
        if kind == "conv":
            padding = draw(st.sampled_from([0, 1, "same"]))
            layers.append(nn.Conv2d(channels, out, 3, padding=padding, bias=bias, dilation=1))
        elif kind == "point":
            layers.append(
                nn.Conv2d(channels, out, 1, bias=bias, padding=draw(st.sampled_from([0, 0, 1])))
            )
        elif kind == "block":
            layers.append(
                nn.Sequential(
                    nn.Conv2d(channels, out, 1, bias=bias), nn.BatchNorm2d(out), nn.Dropout(0.3)
                )
            )
        else:
            made = {
                "norm": lambda c, bias: nn.BatchNorm2d(c, affine=bias),
                "normact": lambda c, bias: NormAct(c, nn.SiLU if bias else nn.ReLU),
                "normrelu": lambda c, _: NormReLU(c),
                "relu": lambda _, bias: nn.ReLU(inplace=bias),
                "drop": lambda _, bias: nn.Dropout2d(0.5, inplace=bias),
                "slope": lambda *_: nn.LeakyReLU(1.0),
            }
            layers.append(made[kind](channels, bias))
            out = channels
        channels = out
    return nn.Sequential(*layers)


@st.composite
def vectors(draw):
    width, layers = 4, []
    for _ in range(draw(st.integers(1, 7))):
        kind = draw(st.sampled_from(["linear", "linear", "norm", "relu", "drop", "residual"]))
        out = draw(st.sampled_from([2, 4, 6]))
        if kind == "linear":
            layers.append(nn.Linear(width, out, bias=draw(st.booleans())))
            width = out
        elif kind == "residual":
            layers.append(Residual(width))
        else:
            layers.append(
                {"norm": nn.BatchNorm1d(width), "relu": nn.ReLU(True), "drop": nn.Dropout(0.5)}[
                    kind
                ]
            )
    return nn.Sequential(*layers)


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.a, self.n, self.b = (
            nn.Linear(width, width),
            nn.BatchNorm1d(width),
            nn.Linear(width, width),
        )

    def forward(self, x):
        h = self.n(self.a(x))
        return self.b(h) + h + x


@settings(max_examples=12, deadline=None, derandomize=True)
@given(images(), st.sampled_from([lambda m: m, Untraced]), st.booleans())
def test_images(inner, wrap, checked):
    assume(any(True for _ in inner.parameters()))
    model, x = ready(wrap(inner)), rand(3, 3, 14, 14)
    found = rl.fuse(model, x if checked else None, report=True)
    assert gap(model, found.model, x) < 1e-9, str(found)
    before, after = (sum(p.numel() for p in m.parameters()) for m in (model, found.model))
    assert after <= before + 5 * len(found.folds), "a bias at most"


@settings(max_examples=20, deadline=None, derandomize=True)
@given(vectors(), st.sampled_from([lambda m: m, Untraced]), st.booleans())
def test_vectors(inner, wrap, checked):
    assume(any(True for _ in inner.parameters()))
    model, x = ready(wrap(inner)), rand(5, 4)
    found = rl.fuse(model, x if checked else None, report=True)
    assert gap(model, found.model, x) < 1e-9, str(found)
    if checked:
        assert found.error < 1e-9

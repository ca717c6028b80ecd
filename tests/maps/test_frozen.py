"""Networks with their gates held: exact on transformers and convnets, and refusals by name."""

import pytest
import torch
from torch import nn

import rectilinear as rl
from makers_zoo import ZOO
from rectilinear.errors import ConfigError, ShapeError, StructureError
from rectilinear.maps.frozen import TAG, Frozen

EXACT = 1e-10


def uneven(model: nn.Module) -> nn.Module:
    """In float64, with biases that are not zero."""
    for p in model.parameters():
        if p.ndim == 1:
            nn.init.normal_(p, 0.5, 0.2)
    return model.double().eval()


class Embedded(nn.Module):
    """A model of transformers as a map from embeddings, or pixels, to its first output."""

    def __init__(self, model: nn.Module, name: str = "inputs_embeds") -> None:
        super().__init__()
        self.model, self.name, self.mask = model, name, None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kwargs = {} if self.mask is None else {"attention_mask": self.mask.expand(len(x), -1)}
        return self.model(**{self.name: x}, **kwargs)[0]


SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "vocab_size": 20,
}


def transformer(kind: str, attention: str) -> tuple[nn.Module, torch.Tensor]:
    transformers = pytest.importorskip("transformers", reason="needs rectilinear[hf]")
    torch.manual_seed(0)
    tokens = torch.randn(5, 16, dtype=torch.float64)
    common = SMALL | {"attn_implementation": attention}
    if kind == "bert":
        model = transformers.BertModel(transformers.BertConfig(**common))
    elif kind == "gpt2":
        sizes = {"n_embd": 16, "n_layer": 2, "n_head": 4, "vocab_size": 20, "bos_token_id": 0}
        config = transformers.GPT2Config(
            **sizes, eos_token_id=0, attn_implementation=attention, n_positions=8
        )
        model = transformers.GPT2LMHeadModel(config)
    elif kind == "llama":  # RMSNorm, SwiGLU, rotary positions, grouped heads
        config = transformers.LlamaConfig(**common, num_key_value_heads=2)
        model = transformers.LlamaForCausalLM(config)
    elif kind == "t5":
        config = transformers.T5Config(
            d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4, vocab_size=20
        )
        config.feed_forward_proj, config.dense_act_fn = "gated-gelu", "gelu_new"
        config.is_gated_act = True
        model = transformers.T5EncoderModel(config)
    else:
        config = transformers.ViTConfig(**common, image_size=8, patch_size=4)
        model = transformers.ViTModel(config, add_pooling_layer=False)
        return uneven(Embedded(model, "pixel_values")), torch.randn(3, 8, 8).double()
    return uneven(Embedded(model)), tokens


def assert_exact(model: nn.Module, x: torch.Tensor, values: float = EXACT) -> rl.maps.LocalMap:
    """``f = J x + sum J_b b``, number by number, with the values of the model.

    ``values`` is what these are off by, of models that compute their norms in float32.
    """
    A, eps = rl.local_map(model, x, freeze=True), EXACT
    f = model(x[None])[0].detach().flatten()
    scale = float(f.abs().max())
    assert torch.allclose(A.value, f, rtol=0, atol=values * scale)
    f = A.value
    eye = torch.eye(len(f), dtype=f.dtype)[:4]
    for u, number in zip(eye, f, strict=False):
        shares = A.shares(u)
        total = float(shares.input.sum()) + shares.bias
        assert total == pytest.approx(1, abs=eps * scale / abs(float(number)))
    assert A.error < EXACT
    J_x = A(x.flatten())
    shares = A.shares()
    assert float(shares.input.sum()) == pytest.approx(float(J_x @ f / (f @ f)), abs=10 * eps)
    assert shares.bias == pytest.approx(float(A.constant @ f / (f @ f)), abs=10 * eps)
    u, v = torch.randn_like(f), torch.randn_like(x.flatten())
    assert float(u @ A(v)) == pytest.approx(float(A.T(u) @ v), rel=100 * eps)
    return A


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "vit"])
def test_transformers(kind, attention):
    model, x = transformer(kind, attention)
    A = assert_exact(model, x, 1e-6 if kind == "llama" else EXACT)  # its RMSNorm is in float32
    biases = A.shares().biases
    if kind == "llama":
        assert not biases  # it has none
    else:
        assert any(abs(share) > 1e-3 for share in biases.values())
    if kind == "vit":
        assert "model.embeddings.cls_token" in biases
        assert A.shares().input.shape == (3, 8, 8)


class GatedBlock(nn.Module):
    """RMSNorm and SwiGLU with a residual connection, all in one dtype."""

    def __init__(self):
        super().__init__()
        self.norm, self.gate = nn.RMSNorm(6), nn.Linear(6, 9, bias=False)
        self.up, self.down = nn.Linear(6, 9, bias=False), nn.Linear(9, 6, bias=False)

    def forward(self, x):
        h = self.norm(x)
        return x + self.down(nn.functional.silu(self.gate(h)) * self.up(h))


def test_rms_norm_and_gated_mlp_have_no_constant():
    torch.manual_seed(0)
    A = assert_exact(uneven(nn.Sequential(GatedBlock(), GatedBlock())), torch.randn(3, 6).double())
    assert float(A.constant.abs().max()) < EXACT


def test_gated_mlp_by_a_hand_written_activation():
    assert_exact(*transformer("t5", "eager"), 1e-6)


def test_padding_is_masked():
    model, x = transformer("bert", "sdpa")
    model.mask = torch.tensor([[1, 1, 1, 0, 0]])
    A = rl.local_map(model, x, freeze=True)
    first = torch.zeros_like(A.value).reshape(5, -1)
    first[0] = A.value.reshape(5, -1)[0]
    by_token = A.shares(first.flatten()).input.sum(-1)
    assert bool((by_token[:3] != 0).all())
    assert not by_token[3:].any()


@pytest.mark.parametrize("norm_first", [False, True])
def test_torch_encoder(norm_first):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=norm_first)
    assert_exact(
        uneven(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)),
        torch.randn(4, 8).double(),
    )


def test_convolutional_network():
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU6(inplace=True)),
        *(nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, groups=8, bias=False), nn.GroupNorm(2, 8)),
        *(nn.Hardswish(inplace=True), nn.Conv2d(8, 4, 1), nn.LeakyReLU(0.1, inplace=True)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(4, 3)),
    )
    nn.init.normal_(model[1].running_mean)
    A = assert_exact(uneven(model), torch.randn(3, 10, 10).double())
    assert set(A.shares().biases) == {"0.bias", "1.bias", "5.bias", "7.bias", "12.bias"}


class Excited(nn.Module):
    """Squeeze and excitation, an RMS norm written out, a class token, a gate written out."""

    def __init__(self):
        super().__init__()
        self.conv, self.inner, self.outer = nn.Conv2d(3, 8, 3), nn.Linear(8, 4), nn.Linear(4, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 8))

    def forward(self, x):
        x = self.conv(x)
        gate = torch.sigmoid(self.outer(torch.relu(self.inner(x.mean((2, 3))))))
        x = (x * gate[..., None, None]).flatten(2).mT
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        return x * torch.sigmoid(1.7 * x) * (1 + x) / 2 + 0.5


def test_forms_written_out():
    torch.manual_seed(0)
    A = assert_exact(Excited().double(), torch.randn(3, 6, 6).double())
    assert {"conv.bias", "token", "constant"} <= set(A.shares().biases)


PIECEWISE = ("affine", "two-layers", "deep-odd", "absolute-value", "difference-of-relus")


@pytest.mark.parametrize("name", PIECEWISE)
def test_is_the_jacobian_of_piecewise_linear_networks(name):
    model, x = {n: make for n, _, make in ZOO}[name]()
    frozen, own = (rl.to_dense(rl.local_map(model, x[0], freeze=f)) for f in (True, False))
    assert torch.allclose(frozen, own, atol=1e-12)


class Around(nn.Module):
    """A function between two layers."""

    def __init__(self, function):
        super().__init__()
        self.first, self.last, self.function = nn.Linear(4, 4), nn.Linear(4, 4), function

    def forward(self, x):
        return self.last(self.function(self.first(x)))


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, slope):
        return slope * 2


def written_into(x):
    out = torch.ones_like(x)
    out[:, 1] = x[:, 0]
    return out


REFUSED = {
    "fft_fft": lambda x: torch.fft.fft(x).real,
    "linalg_matrix_exp": lambda x: torch.linalg.matrix_exp(x[:, None] * torch.ones(4, 1))[:, 0],
    "sigmoid": torch.sigmoid,
    "softmax": lambda x: x.softmax(-1),
    "pow": lambda x: x + x**2,
    "mul of two activations": lambda x: x * x.flip(-1),
    "detach": lambda x: x + x.detach(),
    "clamp": lambda x: x.clamp(min=0.3),
    "mul": Doubled.apply,
    "setitem": written_into,
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_by_name(name):
    with pytest.raises(StructureError, match=name):
        rl.local_map(Around(REFUSED[name]), torch.randn(4), freeze=True)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("item", Around(lambda x: x + float(x.sum()))),
        ("item", Around(lambda x: x * float(x.detach().sum()))),
    ],
)
def test_refuses_inside_the_mode(name, model):
    x = torch.randn(1, 3, 4, requires_grad=True)
    with Frozen(model) as frozen, pytest.raises(StructureError, match=f"'{name}'"):
        model(frozen.leaf(x))


def test_nothing_is_changed():
    torch.manual_seed(0)
    model = uneven(nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.GELU(), nn.Linear(5, 2)))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x = torch.randn(3).double()
    rl.local_map(model, x, freeze=True).shares()
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    for tensor in (*model.parameters(), *model.buffers(), x):
        assert not hasattr(tensor, TAG)
        assert tensor.grad is None
    assert all(p.requires_grad for p in model.parameters())


def test_shares_of_a_direction():
    model = nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 2)).double()
    A = rl.local_map(model, torch.ones(3).double(), freeze=True)
    u = torch.tensor([1.0, 0.0]).double()
    shares = A.shares(u)
    assert float(shares.input.sum()) * float(A.value[0]) == pytest.approx(
        float(A(torch.ones(3).double())[0])
    )
    assert "biases" in str(shares)
    with pytest.raises(ShapeError):
        A.shares(torch.ones(3))
    with pytest.raises(ConfigError, match="freeze=True"):
        rl.local_map(model, torch.ones(3).double()).shares()


@pytest.mark.parametrize("freeze", [False, True])
def test_ids_and_places_of_a_transformer(freeze):
    pytest.importorskip("transformers", reason="needs rectilinear[hf]")
    from makers_hf import bert, token_batch

    model = bert(attention="sdpa")
    sample = {name: value[:1] for name, value in token_batch().items()}
    A = rl.local_map(model, sample, freeze=freeze)
    real = model(**sample)[0][0].detach().flatten()
    assert torch.allclose(A.value, real, atol=1e-12)
    assert A.in_dim == A.out_dim == len(real)
    inside = rl.local_map(
        model, sample, freeze=freeze, source="encoder.layer.0", target="encoder.layer.1"
    )
    with torch.no_grad():
        whole = model(**sample, output_hidden_states=True).hidden_states
    assert torch.allclose(inside.value, whole[2][0].flatten(), atol=1e-12)
    v = torch.randn_like(inside.point.flatten())
    u = torch.randn_like(inside.value)
    assert float(u @ inside(v)) == pytest.approx(float(inside.T(u) @ v), rel=1e-9)
    if freeze:
        assert inside.error < EXACT
        shares = inside.shares()
        assert float(shares.input.sum()) + shares.bias == pytest.approx(1)
        assert all(name.startswith("encoder.layer.1") for name in shares.biases)
    with pytest.raises(ShapeError, match="24 samples"):
        rl.local_map(model, token_batch(), freeze=freeze)

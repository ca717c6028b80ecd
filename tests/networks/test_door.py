"""Data in every form, models of every kind, and the values inside them."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import rectilinear as rl
from rectilinear.errors import (
    ConfigError,
    DataError,
    DtypeError,
    NonFiniteError,
    ShapeError,
    StructureError,
)
from rectilinear.networks.batches import Batch, read_batches
from rectilinear.networks.forward_pass import call, constant_parameters, forward, pick
from rectilinear.networks.network import evaluating
from rectilinear.networks.places import block_names, find, inner
from rectilinear.networks.sample_split import SampleSplit, sample_keys, sums_by_sample
from rectilinear.networks.token_vectors import layout_of, on_vectors, vectors

X = torch.randn(10, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.arange(10) % 3
IDS = torch.arange(1, 41).reshape(10, 4)
MASK = (torch.arange(4) < torch.tensor([4, 2, 3, 4, 4, 1, 4, 4, 4, 2])[:, None]).long()


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 3)).double()


class Two(nn.Module):
    """Takes two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 2).double()

    def forward(self, a: Tensor, b: Tensor, scale: float = 1.0) -> Tensor:
        return scale * self.layer(torch.cat([a, b], 1))


@dataclass
class Found:
    """What a model may return."""

    loss: Tensor
    logits: Tensor


def numbers(data: object, model: nn.Module, **more: object) -> Tensor:
    return torch.cat([batch.main for batch in read_batches(data, model, **more)])


@pytest.mark.parametrize(
    "data",
    [
        X,
        X.numpy(),
        X.numpy().astype(">f8"),
        {"x": X},
        (X,),
        (X, Y),
        [X[:7], X[7:]],
        [(X[:7].numpy(), Y[:7]), (X[7:].numpy(), Y[7:])],
        [{"x": X}],
        DataLoader(TensorDataset(X, Y), batch_size=4),
        DataLoader([{"x": row, "labels": y} for row, y in zip(X, Y, strict=True)], batch_size=3),
    ],
    ids=lambda data: type(data).__name__,
)
def test_every_form_of_data_gives_the_same_samples_twice(data: object) -> None:
    found = read_batches(data, net(), batch_size=3)
    for _ in range(2):
        assert torch.equal(torch.cat([b.main for b in found]), X)
    assert found.size == 10


def test_labels_come_from_a_tuple_a_mapping_or_beside() -> None:
    for data, labels in (
        ((X, Y), None),
        ({"x": X, "labels": Y}, None),
        (X, Y),
        (({"x": X}, Y), None),
    ):
        batches = read_batches(data, net(), labels, batch_size=4)
        assert torch.equal(torch.cat([b.labels for b in batches]), Y)
        assert all("labels" not in b.kwargs for b in batches)


def test_a_tuple_fills_the_arguments_that_the_model_requires() -> None:
    batch = read_batches((X, 2 * X, Y), Two()).head(10)
    assert len(batch.args) == 2
    assert torch.equal(batch.labels, Y)
    model = Two()
    assert torch.equal(call(model, batch), model(X, 2 * X))
    with pytest.raises(DataError, match="3 parts"):
        read_batches((X, X, X), net())


def test_texts_are_cut_padded_on_the_right_and_masked() -> None:
    def tokenizer(texts: list[str], truncation: bool = False, max_length: int = 99) -> dict:
        ids = [[len(word) for word in text.split()][:max_length] for text in texts]
        return {"input_ids": ids, "token_type_ids": [[1] * len(i) for i in ids]}

    model = nn.Embedding(9, 2)
    model.config = SimpleNamespace(max_position_embeddings=3)
    (batch,) = read_batches(["a bb", "ccc d e f"], model, tokenizer=tokenizer)
    assert batch.kwargs["input_ids"].tolist() == [[1, 2, 0], [3, 1, 1]]
    assert batch.mask.tolist() == [[True, True, False], [True] * 3]
    assert batch.kwargs["token_type_ids"].tolist() == [[1, 1, 0], [1, 1, 1]]


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (["a text"], DataError, "tokenizer"),
        ("a text", DtypeError, "list of texts"),
        ((x for x in [X]), DataError, "only once"),
        ([], DataError, "no data"),
        (3, DtypeError, "int"),
        ({"x": "a"}, DataError, "no|at least one"),
        ({"x": [[1], [1, 2]]}, DataError, "unequal"),
        (X.log(), NonFiniteError, "NaN"),
        (np.array(["a"]), DtypeError, "array of"),
        ({"input_ids": IDS, "attention_mask": 0 * MASK}, DataError, "padding"),
        ((X, Y[:4]), ShapeError, "one label"),
    ],
)
def test_what_is_no_data_is_refused(data: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        list(read_batches(data, net()))


def test_batches_have_the_dtype_of_the_model_and_whole_numbers_stay() -> None:
    half = read_batches({"x": X, "ids": IDS}, net().half()).head(3)
    assert (half.kwargs["x"].dtype, half.kwargs["ids"].dtype) == (torch.float16, torch.int64)


def test_masks_are_read_in_both_conventions() -> None:
    real = read_batches({"ids": IDS, "attention_mask": MASK}, net()).head(10).mask
    padded = {"ids": IDS, "src_key_padding_mask": MASK == 0}
    assert torch.equal(real, MASK.bool())
    assert torch.equal(read_batches(padded, net()).head(10).mask, MASK.bool())


def test_the_output_is_the_first_tensor_or_what_is_asked_for() -> None:
    a, b = torch.ones(2), torch.zeros(2)
    found = Found(torch.tensor(0.5), a)
    for out in (a, (a, b), [a, b], {"loss": torch.tensor(1.0), "logits": a}, found, ((a, b), b)):
        assert pick(out) is a
    assert pick(found, "loss") is found.loss
    assert pick((a, b), 1) is b
    assert pick({"x": {"y": b}}, lambda out: out["x"]["y"]) is b
    with pytest.raises(ConfigError, match="'logits'"):
        pick(found, "hidden")
    with pytest.raises(DtypeError, match="int64"):
        pick(torch.ones(2, dtype=torch.int64))
    with pytest.raises(DtypeError, match="pad_packed_sequence"):
        pick(nn.utils.rnn.pack_sequence([a, b]))


@pytest.mark.parametrize(
    "wrap", [lambda m: m, nn.DataParallel, lambda m: torch.compile(m, backend="eager")]
)
def test_names_are_those_of_the_inner_model(wrap: object) -> None:
    model = net()
    wrapped = wrap(model)
    assert inner(wrapped) is model
    assert find(wrapped, "2").module is model[2]
    assert block_names(wrapped) == ["0", "1", "2"]


def test_a_name_may_leave_out_what_wraps_the_network() -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.DataParallel(nn.ModuleDict({"body": net()}))

        def forward(self, x: Tensor) -> Tensor:
            return self.model.module["body"](x)

    model = Wrapper()
    assert find(model, "body.1").name == "model.body.1"
    assert block_names(model) == ["model.body.0", "model.body.1", "model.body.2"]
    with pytest.raises(ConfigError, match=r"model\.body"):
        find(model, "head")
    with pytest.raises(ConfigError, match="@input"):
        find(model, "body.1@middle")
    twice = nn.ModuleDict({"a": net(), "b": net()})
    with pytest.raises(ConfigError, match=r"2 modules.*a.1, b.1"):
        find(twice, "1")


def test_an_input_is_read_before_the_module_works_in_place() -> None:
    model, batch = net(), Batch((X,))
    seen = forward(model, batch, ["1@input", "1", "0", "@output"])
    assert torch.equal(seen.at["1@input"], model[0](X))
    assert torch.equal(seen.at["0"], seen.at["1@input"])  # read before the next module changed it
    assert torch.equal(seen.at["1"], model[0](X).relu())
    assert torch.equal(seen.out, model(X))
    assert torch.equal(seen.at["@output"], seen.out)


class Keywords(nn.Module):
    """Its block is called by keyword and returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Twofold()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden, weights = self.block(attention_bias=x[:, :1], hidden_states=x)
        return {"hidden": hidden + 1, "weights": weights}


class Twofold(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, hidden_states: Tensor, attention_bias: Tensor) -> tuple[Tensor, Tensor]:
        return self.weight * hidden_states, attention_bias


def test_a_block_called_by_keyword_that_returns_a_tuple_is_read_and_replaced() -> None:
    model, batch = Keywords(), Batch((X,))
    seen = forward(model, batch, ["block@input", "block"])
    assert torch.equal(seen.at["block@input"], X)
    assert torch.equal(seen.at["block"], 2 * X)
    moved = forward(model, batch, ["block"], {"block@input": lambda h: h + 1}, output="hidden")
    assert torch.equal(moved.out, 2 * (X + 1) + 1)
    kept = forward(model, batch, (), {"block": torch.zeros_like}, output="weights")
    assert torch.equal(kept.out, X[:, :1])
    with pytest.raises(ShapeError, match="substitute"):
        forward(model, batch, (), {"block": lambda h: h[:1]})


def test_no_hook_stays_and_nothing_changes_also_after_an_error() -> None:
    model, before = net(), {k: v.clone() for k, v in net().state_dict().items()}
    x = X.clone()

    def fails(_: Tensor) -> Tensor:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        forward(model, Batch((x,)), ["0"], {"1": fails})
    with pytest.raises(ShapeError, match="the model fails: RuntimeError"):
        forward(model, Batch((x[:, :2],)), ["0"])
    with evaluating(model), constant_parameters(model):
        forward(model, Batch((x,)), ["0", "2@input"], live=True)
    hooks = [
        h for part in model.modules() for h in (*part._forward_hooks, *part._forward_pre_hooks)
    ]
    assert not hooks
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert torch.equal(x, X)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_live_values_give_the_gradients_of_all_places_in_one_pass() -> None:
    model, batch = net(), Batch((X,))
    with constant_parameters(model):
        seen = forward(model, batch, ["@input", "0", "1"], live=True)
    u = torch.randn_like(seen.out)
    slopes = torch.autograd.grad(seen.out, [seen.at[n] for n in ("@input", "0", "1")], u)
    hidden = model[0](X)
    after = u @ model[2].weight
    assert torch.allclose(slopes[2], after)
    assert torch.allclose(slopes[1], after * (hidden > 0))
    assert torch.allclose(slopes[0], (after * (hidden > 0)) @ model[0].weight)


def test_a_module_called_twice_needs_the_number_of_the_call() -> None:
    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4).double()
            self.unused = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.layer(x))

    model = Again()
    with pytest.raises(StructureError, match=r"'layer#0' to 'layer#1'"):
        forward(model, Batch((X,)), ["layer"])
    with pytest.raises(StructureError, match="called 0 times"):
        forward(model, Batch((X,)), ["unused"])
    seen = forward(model, Batch((X,)), ["layer#0", "layer#1@input"], {"layer#0": lambda h: 2 * h})
    assert torch.equal(seen.at["layer#0"], 2 * model.layer(X))
    assert torch.equal(seen.at["layer#1@input"], seen.at["layer#0"])
    assert torch.equal(seen.out, model.layer(2 * model.layer(X)))


def test_compiled_parts_run_as_written_while_they_are_watched() -> None:
    model = net()
    model[1] = torch.compile(model[1], backend="eager")
    x = X.clone()
    wanted = model(x)
    model(x)
    seen = forward(model, Batch((x,)), ["1"], {"1": torch.zeros_like})
    assert torch.equal(seen.out, model[2](torch.zeros(10, 5, dtype=torch.float64)))
    assert torch.equal(model(x), wanted)


def test_vectors_leave_padding_out_and_know_their_sample() -> None:
    h = torch.randn(3, 4, 2)
    mask = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]]).bool()
    found = vectors(h, mask)
    assert torch.equal(found.rows, torch.cat([h[0, :2], h[1, :1], h[2]]))
    assert found.samples.tolist() == [0, 0, 1, 2, 2, 2, 2]
    image = torch.randn(2, 3, 4, 5)
    assert torch.equal(vectors(image).rows[5], image[0, :, 1, 0])
    assert len(vectors(image).rows) == 40
    assert vectors(h, mask, "rows").rows.shape == (3, 8)
    with pytest.raises(ShapeError, match="mask"):
        vectors(h[:, :3], mask)


def test_a_function_of_vectors_keeps_the_other_axes() -> None:
    image, text = torch.randn(2, 3, 4, 5), torch.randn(2, 7, 3)
    weight = torch.randn(6, 3)
    assert torch.allclose(
        on_vectors(lambda v: v @ weight.T, image),
        torch.einsum("oc,bchw->bohw", weight, image),
        atol=1e-6,
    )
    assert torch.allclose(on_vectors(lambda v: v @ weight.T, text), text @ weight.T, atol=1e-6)
    assert layout_of(torch.zeros(2, 3, 8), nn.Conv1d(3, 3, 1)) == "channels"


def test_samples_are_held_out_whatever_their_batch_and_padding() -> None:
    data = {"ids": IDS * MASK, "attention_mask": MASK}
    short = {"ids": (IDS * MASK)[1:2, :2], "attention_mask": MASK[1:2, :2]}
    whole = sample_keys(read_batches(data, net()).head(10))
    assert len(whole.unique()) == 10
    assert int(sample_keys(read_batches(short, net()).head(1))) == int(whole[1])
    split = SampleSplit.of(read_batches(data, net(), batch_size=3), seed=1, share=0.3)
    held = torch.cat([split(b) for b in read_batches(data, net(), batch_size=4)])
    assert int(held.sum()) == 3
    twice = {"ids": (IDS * MASK).flip(0), "attention_mask": MASK.flip(0)}
    assert torch.equal(split(read_batches(twice, net()).head(10)).flip(0), held)


def test_sums_by_sample() -> None:
    found = vectors(torch.ones(3, 4, 2), MASK[:3].bool())
    assert sums_by_sample(found.rows, found.samples, 3)[:, 0].tolist() == [4.0, 2.0, 3.0]


class Estimator:
    """A network that torch does not know, such as one of scikit-learn."""

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x


@pytest.mark.parametrize(
    "verb", ["audit", "linear_map", "layer_profile", "local_map", "linearize", "span_costs", "fuse"]
)
def test_models_of_other_packages_are_one_clear_error(verb: str) -> None:
    more = {"linear_map": ("0", "1", X), "local_map": (X[0],), "fuse": ()}.get(verb, (X,))
    options = {"blocks": "0"} if verb == "linearize" else {}
    with pytest.raises(DtypeError, match="scikit-learn"):
        getattr(rl, verb)(Estimator(), *more, **options)


def test_a_point_may_be_an_array() -> None:
    found = rl.local_map(net(), X[0].numpy())
    assert torch.equal(found.value, rl.local_map(net(), X[0]).value)


class Counter(nn.Module):
    """Counts its calls in one buffer in place, and in another by a new tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("again", torch.zeros(()))
        self.same = nn.Module()
        self.same.register_buffer("calls", self.calls)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.again = self.again + 1
        return self.b(torch.relu(self.a(x)))


@pytest.mark.parametrize(
    "use",
    [
        lambda m, x: rl.audit(m, x, measures="verdict"),
        lambda m, x: rl.linear_map(m, "a", "b", x),
        lambda m, x: rl.linear_map(m, "a", "b", x, method="mean_jacobian"),
        lambda m, x: rl.local_map(m, x[0], freeze=True),
        lambda m, x: rl.layer_profile(m, x, layers=["a"], target="b", samples=4),
        lambda m, x: rl.linearize(m, x, blocks="a"),
        lambda m, x: rl.fuse(m, x),
    ],
)
def test_buffers_that_a_model_writes_are_as_before(use) -> None:
    model, x = Counter(), torch.randn(60, 3)
    model(x)
    held = model.calls
    use(model, x)
    assert model.calls is held
    assert model.same.calls is held
    assert (float(model.calls), float(model.again)) == (1.0, 1.0)

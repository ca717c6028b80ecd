"""State of a Linearizer: every module once, old files load, PyTorch's methods work."""

from __future__ import annotations

import copy
import io
import pickle
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import rectilinear as rl
from rectilinear import operators as op
from rectilinear.flow import objectives
from rectilinear.modules import second_paths
from rectilinear.tensor_files import load_tensors
from rectilinear.training import TrainConfig, load_state, train

if TYPE_CHECKING:
    from collections.abc import Callable

OLD = Path(__file__).parents[1] / "data" / "first_version"
VALUES, _ = load_tensors(OLD / "values.safetensors")
KINDS = ["linearizer", "two_spaces", "flow", "product", "sum", "kronecker"]
DEEP = [
    "gram",
    "deep_sum",
    "deep_kronecker",
    "deep_chain",
    "deep_linearizer",
    "deep_flow",
]  # shared at two depths


def network(seed: int = 0, dim: int = 2) -> rl.invertible.Invertible:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        g = rl.invertible.VectorFlow(dim, blocks=2, width=3)
        with torch.no_grad():
            for p in g.parameters():
                p += 0.3 * torch.randn_like(p)
    return g


def build(kind: str) -> rl.Configured:
    g, A, B = network(), op.Dense(2), op.Orthogonal(2)
    S = op.Sum(B, op.Diagonal(torch.tensor([0.5, -1.5])))
    made: dict[str, Callable[[], rl.Configured]] = {
        "linearizer": lambda: rl.Linearizer(g, A),
        "two_spaces": lambda: rl.Linearizer(g, A, network(1)),
        "flow": lambda: rl.flow.LinearFlow(g, None, rl.flow.ScalarPlusLowRankVelocity(2, 1, 2)),
        "product": lambda: op.Product(B, B, A, B),
        "sum": lambda: op.Sum(B, A, B),
        "kronecker": lambda: op.Kronecker(A, A),
        "gram": lambda: op.Adjoint(S) @ S,
        "deep_sum": lambda: op.Sum(S, op.Product(op.Adjoint(S), op.Scaled(B, 2.0))),
        "deep_kronecker": lambda: op.Kronecker(B, op.Adjoint(B)),
        "deep_chain": lambda: rl.invertible.Chain(
            g, rl.invertible.Chain(rl.invertible.Rotation(2, 2), g)
        ),
        "deep_linearizer": lambda: rl.Linearizer(
            g, A, rl.invertible.Chain(rl.invertible.Inverse(g), g)
        ),
        "deep_flow": lambda: rl.flow.LinearFlow(
            g,
            rl.invertible.Chain(rl.invertible.Rotation(2), g),
            rl.flow.ScalarPlusLowRankVelocity(2, 1, 2),
        ),
    }
    return made[kind]()


def value(kind: str, model: nn.Module) -> Tensor:
    with torch.no_grad():
        if kind.endswith("flow"):
            return model.velocity.velocity(0.3)(model.g_noise(VALUES["x"])) + model.g_data(
                VALUES["x"]
            )
        return model(VALUES["x4" if kind.endswith("kronecker") else "x"])


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)  # another processor rounds differently


@pytest.mark.parametrize("kind", KINDS)
def test_folders_of_the_first_version_load(kind: str, tmp_path: Path) -> None:
    loaded = rl.from_pretrained(OLD / kind)
    close(value(kind, loaded), VALUES[f"value.{kind}"])
    loaded.save_pretrained(tmp_path)
    old, new = (
        safetensors.torch.load_file(folder / "model.safetensors")
        for folder in (OLD / kind, tmp_path)
    )
    assert list(old) == list(new)
    assert all(torch.equal(old[name], new[name]) for name in old), "every weight, bit for bit"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("load", ["module", "library"])
def test_state_dicts_of_the_first_version_load(kind: str, load: str) -> None:
    model, (state, _) = build(kind), load_tensors(OLD / f"{kind}.safetensors")
    if load == "module":
        model.load_state_dict(state)
    else:
        load_state(model, state, OLD)
    assert all(torch.equal(x, state[name]) for name, x in model.state_dict().items())
    close(value(kind, model), VALUES[f"value.{kind}"])


def test_a_state_with_two_spaces_does_not_fit_one_with_one() -> None:
    state = load_tensors(OLD / "two_spaces.safetensors")[0]
    with pytest.raises(RuntimeError, match="g_out"):
        build("linearizer").load_state_dict(state)
    with pytest.raises(rl.errors.CheckpointError, match="g_out"):
        load_state(build("linearizer"), state, OLD)


def test_a_run_of_the_first_version_is_resumed(tmp_path: Path) -> None:
    shutil.copytree(OLD / "run", tmp_path / "run")
    config = TrainConfig(
        steps=8,
        batch_size=10,
        lr=0.01,
        device="cpu",
        ema=0.9,
        checkpoint_every_steps=4,
        log_every=4,
        evaluate_every=100,
    )
    objective = objectives.likelihood(rl.Linearizer(network(), op.Dense(2)))
    assert train(objective, VALUES["data"], config, tmp_path / "run", progress=False).step == 8
    trained = dict(objective.named_parameters())
    assert {f"trained.{name}" for name in trained} == {
        name for name in VALUES if name.startswith("trained.")
    }
    for name, weight in trained.items():
        close(weight.detach(), VALUES[f"trained.{name}"])


@pytest.mark.parametrize("kind", KINDS + DEEP)
def test_every_module_has_one_name(kind: str) -> None:
    model = build(kind)
    assert len(dict(model.named_parameters(remove_duplicate=False))) == len(
        dict(model.named_parameters())
    )
    assert [name for name, _ in model.named_parameters()] == [
        name for name in model.state_dict() if name in dict(model.named_parameters())
    ]


@pytest.mark.parametrize(
    "kind", ["linearizer", "two_spaces", "product", "sum", "kronecker", *DEEP[:-1]]
)
@pytest.mark.parametrize("state", ["parameters", "state_dict"])
def test_a_functional_call_changes_nothing(kind: str, state: str) -> None:
    model = build(kind)
    before, names = (
        value(kind, model),
        [name for name, p in model.named_parameters() if p.requires_grad],
    )
    own = dict(model.named_parameters()) if state == "parameters" else model.state_dict()
    others = {name: 2 * x.detach() if x.is_floating_point() else x for name, x in own.items()}
    twin = copy.deepcopy(model)
    twin.load_state_dict({**twin.state_dict(), **others})
    x = VALUES["x4" if kind.endswith("kronecker") else "x"]
    called = torch.func.functional_call(model, others, (x,))  # rounds otherwise on some processors
    assert torch.allclose(called, twin(x), rtol=1e-6, atol=1e-6), "the weights it was called with"
    assert torch.equal(value(kind, model), before)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == names


@pytest.mark.parametrize("kind", DEEP)
def test_states_with_two_names_at_two_depths_load(kind: str) -> None:
    model, fresh = build(kind), build(kind)
    state = model.state_dict()
    twice = dict(state)
    for second, first in second_paths(model):
        twice |= {
            name.replace(first, second, 1): x
            for name, x in state.items()
            if name.startswith(f"{first}.")
        }
    assert len(twice) > len(state)
    doubled = {name: 2 * x if x.is_floating_point() else x for name, x in twice.items()}
    fresh.load_state_dict(doubled)
    assert all(torch.equal(x, doubled[name]) for name, x in fresh.state_dict().items())
    load_state(fresh, twice, OLD)
    assert torch.equal(value(kind, fresh), value(kind, model))
    del state[next(iter(state))]
    with pytest.raises(RuntimeError, match="Missing"):
        fresh.load_state_dict(state)


def test_a_functional_call_on_a_module_around_it_changes_nothing() -> None:
    gram = build("gram")
    net = nn.Sequential(nn.Linear(2, 2), gram)
    before, x = net(VALUES["x"]), VALUES["x"]
    torch.func.functional_call(
        net, {name: p.detach() + 1 for name, p in net.named_parameters()}, (x,)
    )
    assert torch.equal(net(x), before)
    assert [*net.state_dict()][2:] == [f"1.{name}" for name in gram.state_dict()]
    again = nn.Sequential(nn.Linear(2, 2), build("gram"))
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(x), before)


@pytest.mark.parametrize("kind", KINDS + DEEP)
def test_copies_and_files(kind: str, tmp_path: Path) -> None:
    model = build(kind)
    safetensors.torch.save_file(
        {k: x.contiguous() for k, x in model.state_dict().items()}, tmp_path / "state.safetensors"
    )
    fresh = build(kind)
    fresh.load_state_dict(safetensors.torch.load_file(tmp_path / "state.safetensors"))
    stream = io.BytesIO()
    torch.save(model, stream)
    stream.seek(0)
    copies = [
        fresh,
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(stream, weights_only=False),
    ]
    for twin in copies:
        assert torch.equal(value(kind, twin), value(kind, model))
        if hasattr(model, "g_out"):
            assert (twin.g_in is twin.g_out) == (model.g_in is model.g_out)
        assert len(list(twin.parameters())) == len(list(model.parameters()))


@pytest.mark.parametrize("kind", ["linearizer", "two_spaces", "product", "deep_chain"])
def test_ensembles(kind: str) -> None:
    models = [build(kind) for _ in range(3)]
    parameters, buffers = torch.func.stack_module_state(models)
    base = copy.deepcopy(models[0]).to("meta")
    x = VALUES["x"]
    outputs = torch.func.vmap(lambda p, b: torch.func.functional_call(base, (p, b), (x,)))(
        parameters, buffers
    )
    close(outputs, torch.stack([model(x) for model in models]))


@pytest.mark.parametrize("kind", ["linearizer", "two_spaces", "gram"])
def test_export(kind: str) -> None:
    model = build(kind).eval()
    program = torch.export.export(model, (VALUES["x"],))
    close(program.module()(VALUES["x"]), model(VALUES["x"]))
    assert set(program.state_dict) == set(model.state_dict())


def test_compiled_afterwards() -> None:
    model = build("linearizer")
    close(torch.compile(model, backend="eager", fullgraph=True)(VALUES["x"]), model(VALUES["x"]))


def test_a_network_given_later_is_registered() -> None:
    f, g = build("linearizer"), network(5)
    f.g_out = g
    assert f.g_out is g
    assert f.g_in is not g
    assert any(name.startswith("g_out") for name in f.state_dict())
    assert "one space" not in repr(f)
    f.load_state_dict(f.state_dict())


def test_sums_and_powers_of_python() -> None:
    f, g, x = build("linearizer"), build("linearizer"), VALUES["x"]
    double = rl.Linearizer(f.g_in, op.Dense(weight=torch.tensor([[2.0, 0.5], [0.0, 1.0]])))
    assert torch.equal(sum([double, double])(x), (double + double)(x))
    A = double.operator
    assert torch.equal(sum([A, A, A])(x), (A + A + A)(x))
    half = double**0.5
    for exponent in (
        torch.tensor(0.5),
        torch.tensor([0.5]).squeeze(),
        np.float32(0.5),
        np.array(0.5),
    ):
        assert torch.equal((double**exponent)(x), half(x))
        assert torch.equal((A**exponent)(x), (A**0.5)(x))
        assert torch.equal((exponent * A)(x), (A * 0.5)(x))
        assert torch.equal((double * exponent)(x), (double * 0.5)(x))
    for wrong in (torch.tensor([0.5, 2.0]), torch.tensor(1j), "a", None):
        with pytest.raises((TypeError, rl.errors.InputError)):
            double**wrong
        with pytest.raises((TypeError, rl.errors.InputError)):
            A**wrong
    for wrong in (1, 0.5, "a"):
        with pytest.raises(TypeError):
            f + wrong
        with pytest.raises(TypeError):
            wrong + A
    assert g is not f


def test_building_on_the_meta_device() -> None:
    with torch.device("meta"):
        f = rl.Linearizer(rl.invertible.VectorFlow(4, 2, 8), op.Dense(4))
        made = [f @ f, 2 * f, f + f, f.T, f / 3, -f]
    assert all(t.is_meta for t in f.state_dict().values())
    for g in made:
        assert g(torch.empty(3, 4, device="meta")).shape == (3, 4)
    real = rl.Linearizer(rl.invertible.VectorFlow(4, 2, 8), op.Dense(4))
    f.load_state_dict(real.state_dict(), assign=True)
    x = torch.randn(3, 4)
    assert torch.equal(f(x), real(x))


@pytest.mark.parametrize("state", ["meta", "float64"])
def test_operators_are_combined_on_their_own_device_and_dtype(state: str) -> None:
    """The default device and dtype of the caller are not those of the operands."""
    A, B, z = op.Dense(weight=torch.eye(4) * 2), op.Diagonal(torch.ones(4)), torch.ones(3, 4)
    C, S = (
        op.Convolution((1, 4), torch.tensor([[0.1, 1.0, 0.2]])),
        op.ScalarPlusLowRank(*map(torch.ones, [(), (4, 1), (4, 1)])),
    )
    O, I = op.Orthogonal(4), op.Identity(4, like=z)  # noqa: E741

    def results() -> list[Tensor]:
        made = [
            2 * A,
            A / 3,
            -B,
            A + B,
            B + I,
            I + S,
            C + I,
            0.5 * O,
            O + B,
            2 * I,
            rl.expm(B),
            A**-2,
            rl.pinv(S),
            C @ C,
        ]
        made += [
            rl.power(S, 0.5),
            rl.logm(B),
            rl.expm(I),
            rl.svd(S).u,
            rl.svd(C).v,
            rl.project_null(B),
            I**3,
            2 * I**-1,
        ]
        made += [
            rl.truncate(S, 2),
            rl.svd(B).u,
            rl.eig(B).vectors,
            rl.eig(S).vectors,
            rl.expm(C),
            op.Kronecker(B, B).T,
        ]
        vectors = [
            z.to(M.like) if M.in_dim == 4 else torch.ones(16, device="cpu", dtype=torch.float32)
            for M in made
        ]
        out = [M(v) for M, v in zip(made, vectors, strict=True)]
        return [
            *out,
            rl.solve(A, z),
            rl.solve(S, z, damping=0.1),
            rl.solve(B, z, damping=0.1),
            rl.logdet(S),
            rl.norm(A),
        ]

    expected = results()
    try:
        if state == "meta":
            torch.set_default_device("meta")
        else:
            torch.set_default_dtype(torch.float64)
        got = results()
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    for a, b in zip(got, expected, strict=True):
        assert (a.dtype, a.device) == (b.dtype, b.device)
        assert torch.equal(a, b)

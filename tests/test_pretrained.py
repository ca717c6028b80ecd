"""Saving, sharing and loading; files that were changed do not load."""

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune as prune

import rectilinear as rl
from makers_data import every
from makers_invertible import ADAPTERS, BLOCKS, IMAGE_NETWORKS, VECTOR_NETWORKS
from makers_operators import BATCHED, OPERATORS, RECTANGULAR, TIME_VARYING
from rectilinear.errors import CheckpointError, DiskError, MissingDependencyError


class Layer(rl.Configured):
    def __init__(
        self,
        in_dim: int,
        out_dim: int = 2,
        *,
        weight: Tensor | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.weight = nn.Parameter(
            torch.randn(out_dim, in_dim, dtype=dtype) if weight is None else weight
        )
        self.register_buffer("steps", torch.tensor(0))


class Stack(rl.Configured):
    def __init__(
        self, *parts: nn.Module, names: dict[str, int] | None = None, shape: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        self.parts, self.names, self.shape = nn.ModuleList(parts), names, shape


class Matrix(rl.Configured):
    """Keeps a function of its argument, under another name."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.twice = nn.Parameter(2 * matrix)
        self.given = matrix


class Hidden(rl.Configured):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self._kept = inner


class Wrapper(rl.Configured):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner


@pytest.fixture
def stack() -> Stack:
    shared = Layer(3)
    return Stack(shared, Layer(2, 4, dtype=torch.float64), shared, names={"a": 1}, shape=(2, 3))


def same(a: nn.Module, b: nn.Module) -> bool:
    x, y = a.state_dict(), b.state_dict()
    return list(x) == list(y) and all(
        x[k].dtype == y[k].dtype and torch.equal(x[k], y[k]) for k in x
    )


def test_round_trip(stack: Stack, tmp_path: Path) -> None:
    stack.parts[0].steps.fill_(7)
    stack.parts[1].weight.requires_grad_(False)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    stack.save_pretrained(tmp_path)
    loaded = Stack.from_pretrained(tmp_path)
    assert same(stack, loaded)
    assert loaded.parts[0] is loaded.parts[2], "a shared part is one object again"
    assert loaded.parts[0] is not loaded.parts[1]
    assert (loaded.names, loaded.shape) == ({"a": 1}, (2, 3))
    assert [p.requires_grad for p in loaded.parameters()] == [True, False]
    assert not loaded.training
    assert torch.equal(before, torch.get_rng_state()), "loading draws no random numbers"


def test_shared_parts_are_written_once(stack: Stack, tmp_path: Path) -> None:
    stack.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert [call["class"].split(".")[-1] for call in config["modules"]] == [
        "Layer",
        "Layer",
        "Stack",
    ]
    assert (tmp_path / "model.safetensors").stat().st_size < 1000


def test_constructor_tensors(tmp_path: Path) -> None:
    given = torch.randn(2, 2)
    for module in (
        Layer(2, weight=given.clone()),
        Matrix(given),
        Wrapper(Layer(2, weight=given.clone())),
    ):
        with torch.no_grad():
            next(module.parameters()).add_(1.0)  # training
        module.save_pretrained(tmp_path)
        assert same(rl.from_pretrained(tmp_path), module)
    assert torch.equal(Matrix(given).given, given)


def test_shared_parameters_stay_shared(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.randn(2, 2))

    class Tied(rl.Configured):
        def __init__(self, weight: Tensor) -> None:
            super().__init__()
            self.weight = weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight)

    Stack(Tied(weight), Tied(weight)).save_pretrained(tmp_path)
    loaded = rl.from_pretrained(tmp_path)
    assert loaded.parts[0].weight is loaded.parts[1].weight


def test_a_part_exchanged_under_its_name_is_saved(stack: Stack, tmp_path: Path) -> None:
    module = Wrapper(Layer(2))
    module.inner = Layer(5)
    stack.parts[0] = Layer(6)
    for changed in (module, stack):
        changed.save_pretrained(tmp_path)
        assert same(rl.from_pretrained(tmp_path), changed)


def test_a_copy_describes_itself(stack: Stack, tmp_path: Path) -> None:
    twin = copy.deepcopy(stack)
    with torch.no_grad():
        twin.parts[0].weight.add_(1.0)
    twin.save_pretrained(tmp_path)
    assert same(rl.from_pretrained(tmp_path), twin)
    assert not same(rl.from_pretrained(tmp_path), stack)


def test_what_cannot_be_described(tmp_path: Path) -> None:
    hidden = Hidden(Layer(3))
    hidden._kept = Layer(3)
    for module, message in (
        (hidden, "replaced since it was built"),
        (Wrapper(nn.Linear(2, 2)), "a Linear as inner of Wrapper"),
        (Stack(shape=print), "shape of Stack"),
        (Stack(shape=float("nan")), "shape of Stack"),
        (Layer(2, weight=torch.zeros(2, 2, dtype=torch.complex128)), "complex128"),
    ):
        with pytest.raises(CheckpointError, match=message):
            module.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists(), "nothing half-written"


def test_wrong_class(stack: Stack, tmp_path: Path) -> None:
    stack.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="a Stack in"):
        Layer.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("fault", ["missing", "empty", "truncated", "flipped"])
def test_faulty_files(stack: Stack, tmp_path: Path, name: str, fault: str) -> None:
    stack.save_pretrained(tmp_path)
    path = tmp_path / name
    data = bytearray(path.read_bytes())
    if fault == "missing":
        path.unlink()
    elif fault == "flipped":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    else:
        path.write_bytes(data[: 0 if fault == "empty" else len(data) // 2])
    with pytest.raises(CheckpointError):
        rl.from_pretrained(tmp_path)


def resign(folder: Path, **changes: object) -> None:
    """Change the configuration as someone would who also corrects its checksum."""
    from rectilinear.tensor_files import config_digest

    config = json.loads((folder / "config.json").read_text())
    del config["config_sha256"]
    config |= changes
    (folder / "config.json").write_text(
        json.dumps(config | {"config_sha256": config_digest(config)})
    )


@pytest.mark.parametrize(
    "modules",
    [
        [{"class": "os.system", "arguments": {"command": "true"}}],
        [{"class": "builtins.eval", "arguments": {}}],
        [{"class": "rectilinear.__main__.Demo", "arguments": {}}],
        [{"class": "rectilinear.operators.Nothing", "arguments": {}}],
        [{"class": "", "arguments": {}}],
        [{"class": 3, "arguments": {}}],
        [{"class": "test_pretrained.Layer"}],
        [{"class": "{Layer}", "arguments": {"in_dim": 3, "depth": 2}}],
        [{"class": "{Layer}", "arguments": {}}],
        [{"class": "{Layer}", "arguments": {"in_dim": "three"}}],
        [{"class": "{Layer}", "arguments": {"in_dim": {"module": 0}}}],
        [{"class": "{Layer}", "arguments": {"in_dim": {"tensor": "nowhere"}}}],
        [{"class": "{Layer}", "arguments": {"in_dim": 3, "dtype": {"dtype": "load"}}}],
        [{"class": "{Layer}", "arguments": {"in_dim": {"code": "1 + 1"}}}],
        [{"class": "{Layer}", "arguments": {"in_dim": 5}}],
        [{"class": "{Stack}", "arguments": {"parts": []}}],
        [{"class": "{Stack}", "arguments": {"parts": [{"module": -1}]}}],
        [],
        {},
        None,
    ],
)
def test_tampered_configuration(tmp_path: Path, modules: object) -> None:
    Layer(3).save_pretrained(tmp_path)
    prefix = json.loads((tmp_path / "config.json").read_text())["modules"][0]["class"].removesuffix(
        "Layer"
    )
    text = (
        json.dumps(modules)
        .replace("{Layer}", f"{prefix}Layer")
        .replace("{Stack}", f"{prefix}Stack")
    )
    resign(tmp_path, modules=json.loads(text))
    with pytest.raises(CheckpointError):
        rl.from_pretrained(tmp_path)


def test_another_format(tmp_path: Path) -> None:
    Layer(3).save_pretrained(tmp_path)
    resign(tmp_path, format=99)
    with pytest.raises(CheckpointError, match="format 99"):
        rl.from_pretrained(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DiskError):
        Layer(3).save_pretrained(tmp_path / "file")


def test_hub(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a hub that is a folder."""

    class HfApi:
        def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
            (tmp_path / repo_id).mkdir(parents=True, exist_ok=exist_ok)

        def upload_folder(self, *, repo_id: str, folder_path: str) -> str:
            for file in Path(folder_path).iterdir():
                (tmp_path / repo_id / file.name).write_bytes(file.read_bytes())
            return f"https://hub/{repo_id}"

    def snapshot_download(repo_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        if not (tmp_path / repo_id).is_dir():
            raise OSError("404 not found")
        assert sorted(allow_patterns) == ["config.json", "model.safetensors"]
        return str(tmp_path / repo_id)

    monkeypatch.setitem(
        sys.modules,
        "huggingface_hub",
        SimpleNamespace(HfApi=HfApi, snapshot_download=snapshot_download),
    )
    assert stack.push_to_hub("someone/stack") == "https://hub/someone/stack"
    assert same(rl.from_pretrained("someone/stack"), stack)
    with pytest.raises(CheckpointError, match="404"):
        rl.from_pretrained("someone/else")
    with pytest.raises(CheckpointError, match=r"no folder .\./not-here"):
        rl.from_pretrained("./not-here")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDependencyError, match=r"rectilinear\[hub\]"):
        rl.from_pretrained("someone/stack")


SAVEABLE = OPERATORS + RECTANGULAR + BATCHED + VECTOR_NETWORKS + IMAGE_NETWORKS + BLOCKS


@every(SAVEABLE)
def test_every_operator_and_network(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    module = make()
    module.save_pretrained(tmp_path)
    loaded = type(module).from_pretrained(tmp_path)
    shape = module.shape if isinstance(module, rl.invertible.Invertible) else (module.in_dim,)
    x = torch.randn(3, *shape, dtype=torch.float64)
    assert same(loaded, module)
    torch.testing.assert_close(
        loaded(x), module(x), rtol=1e-12, atol=1e-12
    )  # another memory layout rounds differently


@every(TIME_VARYING)
def test_every_time_varying_operator(
    make: Callable[[], rl.flow.TimeVarying], tmp_path: Path
) -> None:
    module = make()
    module.save_pretrained(tmp_path)
    loaded = type(module).from_pretrained(tmp_path)
    expected = rl.to_dense(module.velocity(0.3))
    torch.testing.assert_close(rl.to_dense(loaded.velocity(0.3)), expected, rtol=1e-12, atol=1e-12)


def test_networks_of_other_libraries_are_not_saved(tmp_path: Path) -> None:
    for _, make in ADAPTERS:
        with pytest.raises(
            CheckpointError, match="expected parts that a configuration can describe"
        ):
            make().save_pretrained(tmp_path)


def orthogonal(module: nn.Module) -> None:
    nn.utils.parametrizations.orthogonal(module, "weight")


def weight_norm(module: nn.Module) -> None:
    nn.utils.parametrizations.weight_norm(module, "weight")


def pruned(module: nn.Module) -> None:
    nn.utils.prune.l1_unstructured(module, "weight", 0.5)


def grown(module: nn.Module) -> None:
    module.weight = nn.Parameter(torch.randn(3, 7))


def adorned(module: nn.Module) -> None:
    module.register_buffer("extra", torch.zeros(2))


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm`")
@pytest.mark.parametrize(
    "change", [orthogonal, weight_norm, pruned, nn.utils.weight_norm, grown, adorned]
)
def test_what_would_not_load_is_refused_when_saved(
    change: Callable[[nn.Module], None], tmp_path: Path
) -> None:
    g = rl.invertible.VectorFlow(4, 2, 8)
    f = rl.Linearizer(g, rl.operators.Dense(4))
    f.save_pretrained(tmp_path)
    kept = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    change(next(m for m in g.modules() if isinstance(m, nn.Linear)))
    with pytest.raises(CheckpointError, match="remove_parametrizations"):
        f.save_pretrained(tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == kept

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from rectilinear.errors import CheckpointError, DiskError
from rectilinear.tensor_files import load_tensors, save_tensors
from rectilinear.training import load_state

DTYPES = [
    torch.float64,
    torch.float32,
    torch.bfloat16,
    torch.complex64,
    torch.complex128,
    torch.int64,
    torch.bool,
]
EXAMPLE = {
    "a": torch.arange(6.0).reshape(2, 3),
    "b": torch.ones((), dtype=torch.int64),
    "c.d": torch.eye(3),
}


def same(left, right):
    assert left.keys() == right.keys()
    for name, x in left.items():
        assert x.dtype == right[name].dtype
        assert torch.equal(x, right[name])
    return True


@settings(deadline=None, max_examples=25)
@given(
    dtype=st.sampled_from(DTYPES),
    shape=st.lists(st.integers(0, 4), max_size=3),
    meta=st.dictionaries(st.text(), st.text()),
)
def test_every_dtype_and_shape_comes_back(tmp_path_factory, dtype, shape, meta):
    path = tmp_path_factory.mktemp("c") / "x.safetensors"
    tensors = {"x": torch.randn(shape).to(dtype), "y": torch.randn(3, 4).to(dtype).T[1:, ::2]}
    save_tensors(path, tensors, meta)
    loaded, read = load_tensors(path)
    assert same(loaded, tensors)
    assert read == meta


def test_conjugate_views_come_back_as_their_values(tmp_path):
    z = torch.randn(3, dtype=torch.complex128)
    save_tensors(tmp_path / "z", {"z": z, "conj": z.conj(), "empty": torch.zeros(0)})
    loaded, _ = load_tensors(tmp_path / "z")
    assert torch.equal(loaded["conj"], z.conj().resolve_conj())
    assert torch.equal(loaded["z"], z)


def test_shared_tensors_stay_shared_and_overlapping_views_do_not_mix(tmp_path):
    w = torch.randn(4, 4)
    save_tensors(tmp_path / "w", {"first": w, "second": w, "row": w[0], "turned": w.T})
    loaded, _ = load_tensors(tmp_path / "w")
    assert loaded["first"] is loaded["second"]
    assert same(loaded, {"first": w, "second": w, "row": w[0], "turned": w.T})


def test_other_tools_can_read_the_file(tmp_path):
    save_tensors(tmp_path / "x.safetensors", EXAMPLE)
    assert same(load_file(tmp_path / "x.safetensors"), EXAMPLE)


def test_no_tensors_are_tensors_too(tmp_path):
    save_tensors(tmp_path / "x", {}, {"a": [1]})
    assert load_tensors(tmp_path / "x") == ({}, {"a": [1]})


@settings(deadline=None, max_examples=25)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_changed_bit_is_noticed(tmp_path_factory, where, bit):
    path = tmp_path_factory.mktemp("c") / "x.safetensors"
    save_tensors(path, EXAMPLE, {"step": 12})
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="x"):
        load_tensors(path)


@pytest.mark.parametrize("length", [0, 4, 8, 100, -1])
def test_a_truncated_file_is_refused(tmp_path, length):
    path = tmp_path / "x.safetensors"
    save_tensors(path, EXAMPLE)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_tensors(path)


def test_missing_foreign_and_pickled_files_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no file"):
        load_tensors(tmp_path / "none")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_tensors(tmp_path)
    save_file(EXAMPLE, tmp_path / "foreign")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_tensors(tmp_path / "foreign")
    (tmp_path / "pickled").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_tensors(tmp_path / "pickled")


def test_a_disk_that_fills_while_writing_leaves_the_old_file_alone(tmp_path, small_disk):
    path = tmp_path / "x.safetensors"
    save_tensors(path, EXAMPLE)
    with small_disk(4096), pytest.raises(DiskError, match="File too large"):
        save_tensors(path, {"big": torch.zeros(100_000)})
    assert same(load_tensors(path)[0], EXAMPLE)
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_is_full_at_the_last_moment_leaves_the_old_file_alone(tmp_path, full_disk):
    path = tmp_path / "x.safetensors"
    save_tensors(path, EXAMPLE)
    full_disk()
    with pytest.raises(DiskError, match="No space left"):
        save_tensors(path, {"a": torch.zeros(3)})
    assert same(load_tensors(path)[0], EXAMPLE)
    assert list(tmp_path.iterdir()) == [path]


def test_the_state_of_another_module_is_refused_and_named():
    module = nn.Linear(2, 3)
    before = {name: x.clone() for name, x in module.state_dict().items()}
    with pytest.raises(CheckpointError, match="no bias"):
        load_state(module, {"weight": torch.zeros(3, 2)}, "file")
    with pytest.raises(CheckpointError, match="extra without a place"):
        load_state(module, before | {"extra": torch.zeros(1)}, "file")
    with pytest.raises(CheckpointError, match=r"weight of shape \(2, 3\) instead of \(3, 2\)"):
        load_state(module, before | {"weight": torch.zeros(2, 3)}, "file")
    assert same(module.state_dict(), before)
    load_state(module, before | {"bias": torch.ones(3)}, "file")
    assert torch.equal(module.bias, torch.ones(3))

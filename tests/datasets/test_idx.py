import gzip
import hashlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rectilinear.datasets import mnist
from rectilinear.datasets.mnist import checksum, read_idx
from rectilinear.errors import DataError


def encode(array: torch.Tensor) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + bytes(array.flatten().tolist())


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.booleans(), st.integers(0, 999))
def test_reads_what_was_written(tmp_path_factory, shape, compressed, seed):
    array = torch.randint(
        256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    path = tmp_path_factory.mktemp("idx") / ("file.gz" if compressed else "file")
    path.write_bytes(gzip.compress(encode(array), mtime=0) if compressed else encode(array))
    assert torch.equal(read_idx(path, md5=hashlib.md5(encode(array)).hexdigest()), array)


ARRAY = torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty", b"", "which starts with ''"),
        ("short.gz", gzip.compress(encode(ARRAY), mtime=0)[:-9], "cannot be read"),
        ("not.gz", b"a page that says no", "which starts with"),
        ("float", bytes([0, 0, 13, 1]) + bytes(8), "which starts with '00000d01'"),
        ("header", encode(ARRAY)[:9], "which starts with"),
        ("truncated", encode(ARRAY)[:-5], "19 bytes of data; expected 24"),
        ("long", encode(ARRAY) + b"x", "25 bytes of data; expected 24"),
        ("tampered", encode(ARRAY)[:-1] + b"x", "another file or damaged"),
    ],
)
def test_damage_is_one_named_error(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_idx(path, md5=checksum(encode(ARRAY)))
    assert str(path) in str(error.value)


def test_a_tampered_set_is_refused(tmp_path):
    for file in mnist.FILES["test"]:
        (tmp_path / file).write_bytes(encode(ARRAY))
    with pytest.raises(DataError, match="expected 2646ac647ad5339dbf082846283269ea"):
        mnist.mnist("mnist", "test", tmp_path)


def test_every_file_has_its_checksum():
    for family in mnist.FAMILIES.values():
        assert set(family.md5) == {file for pair in mnist.FILES.values() for file in pair}
        assert len(set(family.md5.values())) == 4
    assert not set(mnist.FAMILIES["mnist"].md5.values()) & set(
        mnist.FAMILIES["fashion_mnist"].md5.values()
    )

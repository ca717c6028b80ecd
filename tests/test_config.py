import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectilinear.config import from_json, to_json, write_json
from rectilinear.errors import ConfigError, DiskError, NonFiniteError
from rectilinear.files import atomic_write, remove_leftovers


@dataclass(frozen=True)
class Net:
    width: int
    kind: Literal["conv", "vit"] = "conv"
    shape: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Vit:
    heads: int


@dataclass(frozen=True)
class Run:
    net: Net
    lr: float = 1e-3
    limit: float | None = None
    flag: bool = False
    pair: tuple[int, str] = (1, "a")
    out: Path = Path("runs")
    other: Net | Vit | None = None
    names: list[str] = field(default_factory=list)
    table: dict[str, float] = field(default_factory=dict)


@settings(deadline=None, max_examples=10)
@given(
    st.builds(
        Run,
        net=st.builds(
            Net, width=st.integers(), shape=st.lists(st.integers(), max_size=3).map(tuple)
        ),
        lr=st.floats(allow_nan=False, allow_infinity=False),
        limit=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        flag=st.booleans(),
        pair=st.tuples(st.integers(), st.text()),
        out=st.just(Path("a/b")),
        other=st.none() | st.builds(Vit, heads=st.integers()) | st.builds(Net, width=st.integers()),
        names=st.lists(st.text()),
        table=st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False)),
    )
)
def test_a_config_survives_the_way_through_json_text(config):
    assert from_json(Run, json.loads(json.dumps(to_json(config)))) == config


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({}, "net"),
        ({"net": {}}, "net.width"),
        ({"net": {"width": 3, "widht": 4}}, "net.widht"),
        ({"net": {"width": 3.0}}, "net.width"),
        ({"net": {"width": True}}, "net.width"),
        ({"net": {"width": "3"}}, "net.width"),
        ({"net": {"width": 3, "kind": "mlp"}}, "'conv', 'vit'"),
        ({"net": {"width": 3, "shape": [1, "2"]}}, r"net.shape\[1\]"),
        ({"net": {"width": 3}, "lr": "fast"}, "lr"),
        ({"net": {"width": 3}, "lr": True}, "lr"),
        ({"net": {"width": 3}, "limit": "none"}, "a number or null"),
        (
            {"net": {"width": 3}, "pair": [1]},
            r"pair = \[1\]; expected a list of an integer, a string",
        ),
        (
            {"net": {"width": 3, "shape": 7}},
            r"a list, each entry an integer. Write a list: \[7\]\.",
        ),
        ({"net": {"width": 3}, "flag": 1}, "flag"),
        ({"net": {"width": 3}, "table": {"a": "b"}}, "table.a"),
        ({"net": {"width": 3}, "other": {"hats": 3}}, "other"),
        ({"net": [3]}, r'net = \[3\].*Write an object, {"width": \.\.\.}'),
    ],
)
def test_a_wrong_key_or_type_is_named_by_its_path(data: dict[str, Any], named):
    with pytest.raises(ConfigError, match=named):
        from_json(Run, data)


def test_only_dataclasses_and_json_values_are_written(tmp_path):
    with pytest.raises(ConfigError, match="dict"):
        to_json({"a": 1})
    with pytest.raises(ConfigError, match="object"):
        write_json(tmp_path / "a.json", {"a": object()})
    with pytest.raises(ConfigError, match=r"ndarray.*Write .* as value\.tolist\(\)"):
        write_json(tmp_path / "a.json", {"a": np.ones(2)})
    with pytest.raises(NonFiniteError):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_write_json_makes_folders_and_reads_back(tmp_path):
    write_json(tmp_path / "new" / "run.json", Run(Net(3)))
    assert from_json(Run, json.loads((tmp_path / "new" / "run.json").read_text())) == Run(Net(3))
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["run.json"]


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyError, match="stop"), atomic_write(path) as tmp:  # noqa: PT012 - the failing block is under test
        tmp.write_text("new")
        raise KeyError("stop")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_full_disk_is_a_disk_error_and_the_old_file_stays(tmp_path, monkeypatch, call):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    monkeypatch.setattr(os, call, full)
    with pytest.raises(DiskError, match=r"No space left.*a\.json"):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file_is_a_disk_error(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(DiskError):
        write_json(tmp_path / "a" / "b.json", {})


def test_killed_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    code = (
        "import os, signal, sys; from rectilinear.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as tmp:\n"
        "    tmp.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode
        == -signal.SIGKILL
    )
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [path]

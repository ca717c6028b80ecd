"""Saved files: a whole model after a kill at any point, many writers, file permissions."""

import json
import os
import random
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

import rectilinear as rl
from rectilinear.config import nan_to_null, write_json
from rectilinear.errors import CheckpointError
from rectilinear.files import atomic_write
from rectilinear.tensor_files import load_tensors, save_tensors

SCRIPT = Path(__file__).with_name("kills.py")
MODEL_FILES = ["config.json", "model.safetensors"]


class Weights(rl.Configured):
    def __init__(self, size: int, power: int = 1) -> None:
        super().__init__()
        self.power, self.weight = power, nn.Parameter(torch.zeros(size, dtype=torch.float64))


def weights(number: int) -> Weights:
    made = Weights(3 + number % 2, power=number)
    made.weight.data.fill_(number)
    return made


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    command = [sys.executable, SCRIPT, tmp_path_factory.mktemp("kills") / "saved"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.whole
@pytest.mark.parametrize(
    "shapes", ["same shapes", pytest.param("other shapes", marks=pytest.mark.slow)]
)
def test_a_save_over_a_model_killed_at_any_point_leaves_the_old_or_the_new(killed, shapes):
    found = [number for number, _ in killed[shapes]]
    assert len(found) > 10
    assert found == sorted(found), "the old model until one instant, the new one from there"
    assert (found[0], found[-1]) == (0, 1)
    assert all(names == MODEL_FILES for _, names in killed[shapes]), (
        "leftovers are found and removed"
    )


@pytest.mark.whole
def test_a_checkpoint_killed_at_any_point_is_the_old_or_the_new(killed):
    found = killed["checkpoint"]
    assert sorted(map(tuple, found)) == [tuple(pair) for pair in found]
    assert (found[0], found[-1]) == ([0, 0], [1, 1])


@pytest.mark.parametrize("name", MODEL_FILES)
def test_random_damages_of_a_model_are_refused(tmp_path, name):
    """Over an older model too, so that the copy of the configuration inside the weights is what is
    read.
    """
    weights(0).save_pretrained(tmp_path)
    old = (tmp_path / "config.json").read_bytes()
    weights(1).save_pretrained(tmp_path)
    if name == "model.safetensors":
        (tmp_path / "config.json").write_bytes(old)
        assert Weights.from_pretrained(tmp_path).power == 1
    path, draw = tmp_path / name, random.Random(0)
    whole = path.read_bytes()
    for _ in range(int(os.environ.get("RECTILINEAR_DAMAGES", "60"))):
        data = bytearray(whole)
        where = draw.randrange(len(data))
        kind = draw.choice(["flip", "cut", "zero", "insert"])
        if kind == "flip":
            data[where] ^= 1 << draw.randrange(8)
        elif kind == "cut":
            del data[where:]
        elif kind == "zero":
            data[where : where + 8] = bytes(len(data[where : where + 8]))
        else:
            data[where:where] = bytes([draw.randrange(256)])
        if data == whole:
            continue
        path.write_bytes(data)
        try:
            loaded = Weights.from_pretrained(tmp_path)
        except CheckpointError:
            continue
        assert name == "config.json", (
            kind,
            where,
        )  # white space of JSON may change, what it says may not
        assert json.loads(data) == json.loads(whole)
        assert torch.equal(loaded.weight, weights(1).weight)


def test_a_model_of_the_first_version_loads(tmp_path):
    """Without a configuration inside its weights: written here as the first version did."""
    from rectilinear.tensor_files import config_digest, file_sha256

    weights(1).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["config_sha256"]
    from safetensors.torch import load_file, save_file

    save_file(
        load_file(tmp_path / "model.safetensors"),
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    config["weights_sha256"] = file_sha256(tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        json.dumps(config | {"config_sha256": config_digest(config)})
    )
    assert torch.equal(Weights.from_pretrained(tmp_path).weight, weights(1).weight)
    config["weights_sha256"] = "0" * 64
    (tmp_path / "config.json").write_text(
        json.dumps(config | {"config_sha256": config_digest(config)})
    )
    with pytest.raises(CheckpointError, match="another checksum"):
        Weights.from_pretrained(tmp_path)


def test_many_threads_save_to_one_path_and_read_it(tmp_path):
    weights(0).save_pretrained(tmp_path / "model")
    errors = []

    def work(number):
        try:
            for i in range(6):
                save_tensors(
                    tmp_path / "x.safetensors", {"x": torch.full((50,), number)}, {"number": number}
                )
                write_json(tmp_path / "x.json", [number] * 50)
                weights(number).save_pretrained(tmp_path / "model")
                loaded = Weights.from_pretrained(tmp_path / "model")
                assert torch.equal(loaded.weight, weights(loaded.power).weight), (
                    "parts of two models"
                )
                tensors, meta = load_tensors(tmp_path / "x.safetensors")
                assert (tensors["x"] == meta["number"]).all(), i
        except Exception as error:  # noqa: BLE001 - shown by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(set(json.loads((tmp_path / "x.json").read_text()))) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "x.json", "x.safetensors"]
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == MODEL_FILES


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077, 0o027])
def test_files_have_the_permissions_of_new_files(tmp_path, umask):
    before = os.umask(umask)
    try:
        weights(0).save_pretrained(tmp_path)
        save_tensors(tmp_path / "x.safetensors", {"x": torch.ones(2)})
        write_json(tmp_path / "x.json", {})
    finally:
        os.umask(before)
    modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in tmp_path.iterdir()}
    assert set(modes.values()) == {oct(0o666 & ~umask)}, modes


@pytest.mark.parametrize(
    "name",
    [
        "ä ö.json",
        "数据.json",
        "e\u0301.txt",
        "n" * 250 + ".json",
        "a." + "s" * 250,
        "..x",
        ".hidden",
        "no",
    ],
)
def test_any_name_that_the_disk_takes(tmp_path, name):
    write_json(tmp_path / name, {"name": name})
    assert json.loads((tmp_path / name).read_text(encoding="utf-8")) == {"name": name}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_path_that_is_no_utf8_is_written_as_json_reads_it(tmp_path):
    name = os.fsdecode(b"\xff\xfe")
    write_json(tmp_path / "x.json", {"path": name})
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"path": name}


def test_nothing_takes_the_place_of_a_file_that_a_writer_did_not_write(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="No such file"), atomic_write(path):
        pass
    assert path.read_text() == "old"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_is_null_at_any_depth(value):
    assert nan_to_null({"a": [(value, 1.0)], 2: {"b": value}}) == {
        "a": [[None, 1.0]],
        "2": {"b": None},
    }

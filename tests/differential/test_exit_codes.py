"""Exit codes of every command: one line, no traceback, no files left."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from rectilinear import cli
from rectilinear.cli import ending
from rectilinear.cli._options import load_array
from rectilinear.config import to_json
from rectilinear.errors import DiskError

MODEL = "from torch import nn\nnet = lambda: nn.Linear(3, 1)\n"
MODELS = {
    "exits when loaded": "import sys\nsys.exit(0)\n",
    "exits when made": "import sys\nnet = lambda: sys.exit(0)\n",
    "exits when called": MODEL
    + "import sys\nclass N(nn.Linear):\n    def forward(self, x): sys.exit(0)\n"
    "net = lambda: N(3, 1)\n",
    "fails when called": MODEL
    + "class N(nn.Linear):\n    def forward(self, x): return 1 / 0\nnet = lambda: N(3, 1)\n",
    "fails when loaded": "1 / 0\n",
    "raises what is no Exception": "raise GeneratorExit\n",
    "recurses": "net = lambda: net()\n",
    "is no Python": "net = = 1\n",
    "is binary": "\0\1\2",
    "wants memory": "net = lambda: bytearray(1 << 62)\n",
    "has no such name": "x = 1\n",
    "has no model": "net = lambda: 3\n",
    "is empty": "",
}
DATA = ("--data", "x.npy")
COMMAND = "import sys; from rectilinear.cli import main; sys.exit(main())"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).normal(size=(50, 3))
    np.save("x.npy", rows)
    np.save("y.npy", rows[:, :1])
    Path("m.py").write_text(MODEL)
    Path("file").write_text("a file, no folder")
    return tmp_path


@pytest.fixture
def ends(capsys) -> Callable[..., str]:
    """Runs a command; checks its exit code, the one line, and gives the line."""

    def run(*words: str, code: int = 2) -> str:
        capsys.readouterr()
        assert cli.main(list(map(str, words))) == code
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        assert said.err.startswith("rectilinear: "), said.err
        assert said.err.count("\n") == 1, said.err
        assert len(said.err) < 1500
        if "--json" in words:
            assert json.loads(said.out)["error"]["message"] in said.err
        else:
            assert said.out == ""
        return said.err

    return run


def names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def words_of(command: str) -> list[str]:
    """Words that fit the command, of files that may not be there."""
    given = {
        "demo": [],
        "train": ["digits"],
        "data": ["digits"],
        "reproduce": ["berman2025_linearizer", "one_step"],
        "study": ["paper"],
        "addstyle": ["no-such-run", "--name", "n", "--photos", "p", "--paintings", "q"],
        "audit": ["m.py:net", *DATA],
        "predict": ["m.py:net", *DATA, "--labels", "y.npy", "--lr", "0.1", "--steps", "3"],
    }
    return [command, *given.get(command, ["no-such-run"])]


def bad_options() -> list[tuple[str, ...]]:
    """An invalid value of each option of each command; unknown options and words for each."""
    cases = []
    for command in cli.COMMANDS:
        start = words_of(command)
        cases += [
            (*start, "--no-such-option"),
            (*start, "--seed", "-1"),
            (*start, "--seed"),
            (*start, "one", "too-many"),
        ]
        arguments = cli.command(command)[0]
        for field in fields(arguments):
            kind = str(field.type)
            if re.fullmatch(r"(int|float)( \| None)?|<class '(int|float)'>", kind):
                cases.append((*start, f"--{field.name.replace('_', '-')}", "[much]"))
    return cases


@pytest.mark.parametrize("words", bad_options(), ids=" ".join)
def test_words_that_are_no_value(folder, ends, words):
    ends(*words)
    assert sorted(path.name for path in folder.iterdir()) == ["file", "m.py", "x.npy", "y.npy"]


OUTS = {
    "a file": "file",
    "below a file": "file/deep/er",
    "too long": "n" * 300,
    "no folder at all": "/proc/rectilinear/x",
}


@pytest.mark.parametrize("out", OUTS)
@pytest.mark.parametrize("command", [name for name in cli.COMMANDS if name != "data"])
def test_an_out_that_cannot_be_written_is_found_before_the_computation(
    folder, ends, monkeypatch, command, out
):
    if (command, out) == ("explore", "a file"):
        pytest.skip("its --out is a file, which is replaced")
    options, _ = cli.command(command)

    def computed(_):
        raise AssertionError("it computes")

    monkeypatch.setattr(cli, "command", lambda _: (options, computed))
    assert OUTS[out].split("/")[0] in ends(*words_of(command), "--out", OUTS[out]).replace(
        "/proc", ""
    )
    assert sorted(path.name for path in folder.iterdir()) == ["file", "m.py", "x.npy", "y.npy"]


def test_a_page_of_the_audit_is_tried_too(folder, ends):
    ends("audit", "m.py:net", *DATA, "--out", "new/deep", "--html", "file/page.html")
    assert not (folder / "new").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_that_may_not_be_written(folder, ends):
    folder.chmod(0o500)
    assert "ermission" in ends("audit", "m.py:net", *DATA, "--out", "new")
    folder.chmod(0o700)


@pytest.mark.parametrize("as_json", [False, True], ids=["plain", "json"])
@pytest.mark.parametrize("command", ["audit", "predict"])
@pytest.mark.parametrize("kind", MODELS)
def test_a_model_file_of_the_user_never_makes_a_success(folder, ends, kind, command, as_json):
    Path("m.py").write_text(MODELS[kind])
    ends(*words_of(command), *["--json"] * as_json)
    assert not [name for name in names(".") if name.startswith(("audit", "prediction"))]


def rectilinear(*words: object, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", COMMAND, *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, **options
    )


@pytest.mark.slow
def test_a_model_file_that_forks_prints_and_moves_changes_no_answer(folder, capsys):
    Path("odd.py").write_text(
        "import os, sys\nprint('from Python')\nos.system('echo from another program')\n"
        "if not os.fork(): print('from a child')\nos.chdir('/')\n"
        "import torch\nfrom torch import nn\n"
        "def net():\n    torch.manual_seed(0)\n    return nn.Linear(3, 1)\n"
    )
    Path("m.py").write_text(
        "import torch\nfrom torch import nn\ndef net():\n    torch.manual_seed(0)\n    return "
        "nn.Linear(3, 1)\n"
    )
    assert cli.main(["audit", "m.py:net", *DATA, "--json", "--out", "one"]) == 0
    plain = capsys.readouterr().out
    odd = rectilinear("audit", "odd.py:net", *DATA, "--json", "--out", "two")
    assert odd.returncode == 0, odd.stderr
    first, second = json.loads(plain), json.loads(odd.stdout)
    for answer in (first, second):
        del answer["page"], answer["numbers"]
    assert first == second
    assert names("two") == ["audit.html", "audit.json"]


def test_every_exception_has_an_exit_code(folder):
    for error in (
        ZeroDivisionError("a"),
        TypeError(),
        KeyError("x"),
        AssertionError(),
        RecursionError("deep"),
    ):
        code, message = ending(error)
        assert code == 3
        assert type(error).__name__ in message
    for error in (
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB"),
        OSError(28, "No space left on device"),
        SystemExit(0),
        DiskError("a", "b"),
    ):
        assert ending(error)[0] == 2
    for ask in (
        lambda: torch.empty(1 << 60),
        lambda: np.empty(1 << 60),
        lambda: torch.empty(1 << 62, 8),
    ):
        with pytest.raises((RuntimeError, MemoryError, ValueError)) as caught:
            ask()
        code, message = ending(caught.value)
        assert code == 2
        assert message.startswith("not enough memory")
    assert ending(KeyboardInterrupt())[0] == 130
    assert len(ending(ValueError("x" * 10**6))[1]) < 1200


def test_a_fault_is_3_and_debug_shows_it(folder, monkeypatch, capsys, ends):
    def run(_):
        raise IndexError("of ours")

    options, _ = cli.command("demo")
    monkeypatch.setattr(cli, "command", lambda _: (options, run))
    assert "fault of rectilinear: IndexError: of ours" in ends("demo", code=3)
    ends("demo", "--json", code=3)
    assert cli.main(["demo", "--debug"]) == 3
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.splitlines()[-1].startswith("rectilinear: ")


@pytest.mark.parametrize(
    ("dtype", "same"),
    [
        (f"{order}{kind}", True)
        for order in "<>"
        for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4")
    ]
    + [("longdouble", True), ("?", True), (">u8", True)],
)
def test_arrays_of_any_byte_order_hold_the_same_numbers(tmp_path, dtype, same):
    values = np.array([[0, 1, 2], [3, 100, 1]]).astype(dtype)
    for array in (values, np.asfortranarray(values), values[:, ::-1]):
        np.save(tmp_path / "x.npy", array)
        found = load_array(tmp_path / "x.npy", "data")
        assert np.array_equal(found.numpy(), array) is same
        assert found.is_contiguous()


def test_large_unsigned_numbers_do_not_turn_negative(tmp_path):
    np.save(tmp_path / "x.npy", np.array([2**64 - 1, 1], dtype="u8"))
    assert load_array(tmp_path / "x.npy", "data").tolist() == [2.0**64, 1.0]


ARRAYS = {
    "empty": b"",
    "text": b"1,2,3\n",
    "cut": "cut",
    "pickled": np.array([{}], dtype=object),
    "complex": np.ones((4, 3), complex),
    "strings": np.array(["a"]),
    "dates": np.array(["2020-01-01"], dtype="M8[D]"),
    "records": np.zeros(3, dtype=[("a", "f8")]),
    "no rows": np.zeros((0, 3)),
    "no axis": np.array(1.0),
    "NaN": np.full((50, 3), np.nan),
    "other width": np.ones((50, 7)),
}


@pytest.mark.parametrize("command", ["audit", "predict"])
@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_that_are_no_data(folder, ends, kind, command):
    content = ARRAYS[kind]
    if isinstance(content, bytes):
        Path("x.npy").write_bytes(content)
    elif isinstance(content, str):
        Path("x.npy").write_bytes(Path("x.npy").read_bytes()[:200])
    else:
        np.save("x.npy", content, allow_pickle=True)
    ends(*words_of(command))


@pytest.mark.parametrize(
    "value", ["[" * 100_000, '{"a":' * 20_000, "1" * 5000, "\ud800", "'", "=", "NaN", "1e999"]
)
def test_any_value_of_a_field(folder, ends, value):
    ends("train", "digits", "--set", f"training.steps={value}")
    assert not (folder / "runs").exists()


def test_a_table_with_a_field_without_end(folder, ends):
    Path("t.csv").write_text("a,b\n" + "1" * 200_000 + ",2\n")
    ends("study", "t.csv", "--target", "a")
    ends("train", "koopman", "--set", "system=t.csv")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "",
        "{",
        "[]",
        '{"name": [], "recipe": {}}',
        '{"name": "digits", "recipe": 3}',
        "\0",
    ],
)
@pytest.mark.parametrize(
    "command", [name for name in cli.COMMANDS if words_of(name)[1:] == ["no-such-run"]]
)
def test_a_folder_that_is_no_run(folder, ends, command, text):
    Path("run").mkdir()
    Path("run/config.json").write_text(text)
    ends(command, "run", *(["--input", "x.npy"] if command == "stylize" else []))
    assert names("run") == ["config.json"]


@pytest.mark.whole
def test_a_reader_that_goes_is_no_traceback(folder):
    for words, codes in ((["audit", "m.py:net", *DATA], (0,)), (["--help"], (0,))):
        command = [sys.executable, "-c", COMMAND, *words]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait() in codes, said
        assert said == ""


def test_a_disk_without_room_is_found_at_the_start(folder):
    def little():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    # What Python compiles would be cut at that size, too, and left behind for every later process.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = rectilinear(
        "audit", "m.py:net", *DATA, "--out", "new", preexec_fn=little, env=environment
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert not Path("new").exists()


@pytest.mark.slow
def test_a_path_that_is_no_utf8_and_an_output_that_is_ascii(folder):
    out = os.fsdecode(b"out-\xff-\xc3\xa4")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = rectilinear("audit", "m.py:net", *DATA, "--out", out, env=environment)
    assert done.returncode == 0, done.stderr
    assert names(out) == ["audit.html", "audit.json"]


@pytest.mark.whole
def test_ctrl_c_is_one_line(folder):
    Path("m.py").write_text("import time\nopen('started', 'w').close()\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "audit", "m.py:net", *DATA],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # else a job ignores it
    )
    while not Path("started").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.stderr.read()
    assert process.wait() == 130
    assert said.count("\n") == 1, said


def test_a_json_answer_has_no_nan(folder, monkeypatch, capsys):
    options, _ = cli.command("demo")
    monkeypatch.setattr(cli, "command", lambda _: (options, lambda _: {"a": float("nan")}))
    assert cli.main(["demo", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"a": None}
    assert to_json(options())["seed"] == 0

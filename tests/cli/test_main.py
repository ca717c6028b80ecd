"""Contract of every command: help, JSON, and one line for an error."""

import json
import subprocess
import sys
import warnings
from dataclasses import dataclass, fields
from typing import Any

import pytest

from rectilinear import __version__, cli
from rectilinear.cli._options import Common, documented
from rectilinear.errors import ConfigError


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replace the command ``data`` by ``run(arguments)``."""

    @dataclass(frozen=True, kw_only=True)
    class Arguments(Common):
        """Stand in for a command."""

        count: int = 1

    def replace(run: Any) -> None:
        monkeypatch.setattr(cli, "command", lambda name: (Arguments, run))

    return replace


def test_help_imports_no_torch() -> None:
    code = (
        "import sys; from rectilinear.cli import COMMANDS, main\n"
        "for words in ([], ['--help'], ['--version'], *([name, '--help'] for name in COMMANDS)):\n"
        "    assert main(words) == 0\n"
        "heavy = {'torch', 'numpy', 'scipy', 'sklearn', 'matplotlib', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in cli.COMMANDS:
        assert f"usage: rectilinear {name} " in done.stdout
    assert __version__ in done.stdout


def test_the_package_runs_as_a_module() -> None:
    for words, code in (["--version"], 0), (["sing"], cli.MISTAKE):
        command = [sys.executable, "-m", "rectilinear", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, __version__ in done.stdout) == (code, not code)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_help_says_what_happens_without_an_option(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options, _ = cli.command(name)
    texts = documented(options)
    for option in fields(options):
        text, nothing = texts[option.name], option.default in (None, ())
        assert ("default" in text or "required" in text.lower()) == nothing, (option.name, text)
    assert cli.main([name, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "default: None" not in shown
    assert "{None}" not in shown


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_the_common_options(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([name, "--help"]) == 0
    said = capsys.readouterr().out
    for option in ("--json", "--seed", "--out", "--debug"):
        assert option in said


def test_json_is_one_object_and_nothing_else(
    command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(arguments: Any) -> dict[str, Any]:
        print("chatter of a library")
        return {"count": arguments.count, "seed": arguments.seed}

    command(run)
    assert cli.main(["data", "--json", "--seed", "7", "--count", "3"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"count": 3, "seed": 7}
    assert said.out.count("\n") == 1
    assert "chatter" in said.err


def test_without_json_the_same_values_are_shown(
    command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    command(
        lambda arguments: {"path": "runs/[a]", "rows": [{"name": "x", "ok": True}], "value": 0.25}
    )
    assert cli.main(["data"]) == 0
    said = capsys.readouterr().out
    for part in ("runs/[a]", "x", "yes", "0.25"):
        assert part in said


MISTAKES = {
    "no such command": ["sing"],
    "no such option": ["train", "digits", "--sed", "1"],
    "no such value": ["reproduce", "a", "b", "--preset", "huge"],
    "not a number": ["demo", "--seed", "one"],
    "missing argument": ["train"],
    "no such recipe": ["train", "nothing"],
    "no such field": ["train", "digits", "--set", "training.stepz=3"],
    "wrong type": ["train", "digits", "--set", "training.steps=many"],
    "out of range": ["train", "digits", "--set", "training.steps=0"],
    "field of a number": ["train", "digits", "--set", "training.steps.more=1"],
    "not an assignment": ["train", "digits", "--set", "steps"],
    "no such figure": ["reproduce", "berman2025_linearizer", "nothing"],
    "no such paper": ["reproduce", "nothing", "one_step"],
    "no such data": ["data", "no-such-folder"],
    "no such run": ["report", "no-such-run"],
    "negative seed": ["demo", "--seed", "-1"],
    "no samples": ["sample", "run", "--count", "0"],
    "rank 0": ["sample", "run", "--rank", "0"],
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("as_json", [False, True], ids=["plain", "json"])
def test_a_mistake_is_one_line_and_exit_code_2(
    mistake: str,
    as_json: bool,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(MISTAKES[mistake] + ["--json"] * as_json) == 2
    said = capsys.readouterr()
    assert said.err.startswith("rectilinear: ")
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err
    if as_json:
        error = json.loads(said.out)["error"]
        assert set(error) == {"type", "message"}
        assert error["message"] in said.err
    else:
        assert not said.out
    assert not list(tmp_path.iterdir()), "nothing half-written"


def test_a_warning_is_one_line(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    usual = warnings.formatwarning

    def run(arguments: Any) -> dict[str, Any]:
        text = UserWarning("mode 1\n  grows")
        print(warnings.formatwarning(text, UserWarning, __file__, 1), end="", file=sys.stderr)
        return {}

    command(run)
    assert cli.main(["data"]) == 0
    assert capsys.readouterr().err == "rectilinear: warning: mode 1 grows\n"
    assert warnings.formatwarning is usual


def test_debug_shows_the_error(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def run(arguments: Any) -> dict[str, Any]:
        raise ConfigError("a", "b")

    command(run)
    assert cli.main(["data", "--debug"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert said.endswith("\nrectilinear: Got a; expected b.\n")


def test_a_fault_of_ours_has_an_exit_code_of_its_own(
    command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(arguments: Any) -> dict[str, Any]:
        raise ZeroDivisionError

    command(run)
    assert cli.main(["data"]) == 3
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "ZeroDivisionError" in said
    assert cli.main(["data", "--debug"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_a_claim_that_fails_is_exit_code_1(
    command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    command(
        lambda arguments: {
            "claims": [{"name": "a", "ok": True}, {"name": "b", "ok": arguments.count > 1}]
        }
    )
    assert cli.main(["data", "--json"]) == 1
    assert cli.main(["data", "--json", "--count", "2"]) == 0


def test_interrupted(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def run(arguments: Any) -> dict[str, Any]:
        raise KeyboardInterrupt

    command(run)
    assert cli.main(["data"]) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_data_describes_digits(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "digits", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["train"], answer["test"], answer["shape"]) == (1500, 297, [1, 8, 8])

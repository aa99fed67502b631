"""The command line as a user meets it: output, messages, exit codes."""

import json
import os
import pkgutil
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lima.errors
from lima import __version__
from lima.errors import EndpointError, LimaError, SpecError, StorageError
from lima.recipes.registry import RECIPES, load_study
from lima.spec.yamltext import load_yaml
from lima_k8s import commands
from lima_k8s.main import COMMANDS, cli, command_named, run
from lima_k8s.terminal.output import write_table, write_yaml

PROGRAM = [sys.executable, "-c", "from lima_k8s.main import main; main()"]
HEAVY = {"pyarrow", "torch", "transformers", "ray", "numpy", "rich", "yaml", "matplotlib", "scipy"}


@pytest.fixture(autouse=True)
def _no_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMA_DEBUG", "0")


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run([*arguments, "--format", "json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out and text in out for name, text in COMMANDS.items())
    assert "Exit codes" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_in_the_table_with_its_own_first_line(name: str) -> None:
    command = command_named(name)
    assert command.name == name
    assert (command.help or "").split("\n", 1)[0] == COMMANDS[name]


def test_no_command_is_left_out_of_the_table() -> None:
    walked = pkgutil.walk_packages(commands.__path__, f"{commands.__name__}.")
    modules = [import_module(m.name) for m in walked]
    found = {m.command.name for m in modules if isinstance(vars(m).get("command"), click.Command)}
    assert found == {*COMMANDS, "pick"}, "`pick` is a command of `curate`"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"lima-k8s {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["recipes"], ["show", "lima_65b"], ["show", "--help"]]
)
def test_nothing_heavy_is_imported(arguments: list[str]) -> None:
    assert not HEAVY & imported_by(arguments)


def test_lint_does_not_need_what_jobs_need() -> None:
    heavy = {"torch", "transformers", "ray", "deepspeed", "pyarrow", "numpy"}
    assert not heavy & imported_by(["lint", "tiny"])


def imported_by(arguments: list[str]) -> set[str]:
    code = (
        "import sys; from lima_k8s.main import run; code = run(sys.argv[1:]); "
        "print(*sys.modules, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return set(done.stderr.split())


def test_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    rows = shown(capsys, "recipes")["recipes"]
    assert [row["name"] for row in rows] == list(RECIPES)
    stages = {row["name"]: row["stages"] for row in rows}
    assert stages["tiny"] == ["base", "train", "generate"]
    assert run(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(RECIPES)
    assert lines[0].startswith("RECIPE")


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_show_writes_can_be_read_back(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for output_format in ("json", "yaml"):
        assert run(["show", recipe, "--format", output_format]) == 0
        file = tmp_path / f"study.{output_format}"
        file.write_text(capsys.readouterr().out)
        assert load_study(str(file)) == RECIPES[recipe]()


def test_show_names_the_run_of_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    document = shown(capsys, "show", "tiny", "--arm", "howto-32")
    assert [entry["seed"] for entry in document["run_ids"]] == [0, 1]
    first, second = (entry["stages"] for entry in document["run_ids"])
    assert list(first) == ["base", "train", "generate"]
    assert first["base"] == second["base"]
    assert first["train"] != second["train"]
    assert document["run_ids"][0]["run"] == first["generate"]


def test_show_applies_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    document = shown(capsys, "show", "tiny", "--set", "train.epochs=3", "--seed", "1")
    assert {run_["train"]["epochs"] for run_ in document["runs"]} == {3}
    assert {run_["seed"] for run_ in document["runs"]} == {1}


def test_lint_judges(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lint", "tiny"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"{len(RECIPES['tiny']())} runs: 0 errors, 2 warnings, ")
    gone = ["--set", "train.data.path=gone.jsonl"]
    assert run(["lint", "tiny", "--arm", "howto-32", *gone]) == 2
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.startswith(
        "error    train.data.path: gone.jsonl is not on this machine\n"
        "         fix: put the file there, or name yours: --set train.data.path=FILE\n"
    )
    assert run(["lint", "tiny", "--arm", "howto-32", *gone, "--format", "json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["counts"]["error"] == 1
    assert document["findings"][0]["path"] == "train.data.path"
    assert document["findings"][0]["runs"] == ["howto-32/0", "howto-32/1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shw"], "No such command 'shw'. Did you mean 'show'?"),
        (["show"], "Missing argument 'RECIPE-or-RUN'"),
        (["show", "tiny", "--sett", "x"], "No such option '--sett'. (Did you mean"),
        (["show", "tiny", "--format", "xml"], "'xml' is not one of 'yaml', 'json'"),
        (["show", "tiny", "--seed", "x"], "'x' is not a valid integer"),
        (["show", "tny"], "error: tny: neither a recipe nor a file; did you mean 'tiny'?"),
        (["show", "tiny", "--set", "train.epochs=0"], "error: train.epochs: expected integer >= 1"),
        (["lint", "tiny", "--arm", "x"], "error: no run has arm 'x'; arms: diverse-32, "),
    ],
)
def test_bad_usage_is_explained(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("error", "code"),
    [(LimaError("x"), 1), (EndpointError("x"), 1), (SpecError("x"), 2), (StorageError("x"), 3)],
)
def test_an_error_decides_the_exit_code(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("lima_k8s.commands.study.show.chosen_study", fail)
    assert run(["show", "tiny"]) == code
    assert capsys.readouterr().err == "error: x\n"
    assert run(["--debug", "show", "tiny"]) == code
    assert "Traceback" in capsys.readouterr().err


def test_the_tree_of_errors_is_drawn() -> None:
    drawn = lima.errors.__doc__ or ""
    classes = [c for c in vars(lima.errors).values() if isinstance(c, type)]
    assert all(c.__name__ in drawn for c in classes)


def test_a_bug_is_told_without_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lima_k8s.commands.study.show.chosen_study", lambda *_: 1 / 0)
    assert run(["show", "tiny"]) == 1
    err = capsys.readouterr().err
    assert (
        err
        == "internal error: ZeroDivisionError: division by zero\nlima-k8s --debug … shows where\n"
    )


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (
            FileNotFoundError(2, "No such file or directory", "/no/file"),
            2,
            "No such file or directory: /no/file; name another path, or make this one usable",
        ),
        (OSError(28, "No space left on device", "/full"), 1, "No space left on device: /full"),
    ],
)
def test_a_file_system_error_is_told_in_one_line(
    error: OSError,
    code: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def read(*_: object) -> None:
        raise error

    monkeypatch.setattr("lima_k8s.commands.study.show.chosen_study", read)
    assert run(["show", "tiny"]) == code
    assert capsys.readouterr().err == f"error: {told}\n"


def test_a_reader_that_leaves_early_hears_no_complaint() -> None:
    process = subprocess.Popen(
        [*PROGRAM, "show", "ablations_7b"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 1


def test_an_interrupt_is_quiet(tmp_path: Path) -> None:
    fifo = tmp_path / "study"
    os.mkfifo(fifo)
    process = subprocess.Popen(
        [*PROGRAM, "show", str(fifo)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with fifo.open("wb"):  # opens when the other side reads
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out, err.strip()) == (1, b"", b"")


def test_the_plugin_calls_itself_kubectl_lima(tmp_path: Path) -> None:
    plugin = tmp_path / "kubectl-lima"
    plugin.write_text(f"#!{sys.executable}\nfrom lima_k8s.main import main\nmain()\n")
    plugin.chmod(0o755)
    done = subprocess.run([plugin, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: kubectl lima [OPTIONS]")


def test_columns_line_up(capsys: pytest.CaptureFixture[str]) -> None:
    write_table(("NAME", "N", "TEXT"), [("a", 1, "x"), ("long name", 100, "y"), ("b", None, None)])
    assert capsys.readouterr().out.splitlines() == [
        "NAME         N  TEXT",
        "a            1  x",
        "long name  100  y",
        "b",
    ]
    write_table(("NAME", "N"), [])
    assert capsys.readouterr().out == "NAME  N\n"


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False)
)
KEYS = st.from_regex(r"[a-z][a-z_0-9]{0,9}x", fullmatch=True)


@given(
    st.dictionaries(
        KEYS,
        st.recursive(
            SCALARS,
            lambda item: (
                st.dictionaries(KEYS, item, max_size=3)
                | st.lists(
                    SCALARS | st.dictionaries(KEYS, item, min_size=1, max_size=3), max_size=3
                )
            ),
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_yaml_is_read_back_as_it_was(capsys: pytest.CaptureFixture[str], document: Any) -> None:
    write_yaml(document)
    assert load_yaml(capsys.readouterr().out) == document


def test_the_root_command_is_documented() -> None:
    assert cli.help
    assert all(help_.endswith(".") for help_ in COMMANDS.values())

"""`import lima`: light, with three names that are kept; and what goes wrong is an error of ours."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

import lima
import lima.errors
from lima.errors import DataError, InputError, ModelError, SpecError
from lima.recipes.registry import load_study
from lima.spec.codec import run_id
from lima.store.storage import Storage
from tests.helpers.models import make_base
from tests.helpers.synthetic import Study, write_study


def test_importing_it_is_light() -> None:
    code = "import lima, sys; print(lima.__version__, 'msgspec' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{lima.__version__} False\n"
    assert set(lima.__all__) == {"Results", "Study", "__version__", "load_study"}
    with pytest.raises(AttributeError):
        lima.nothing  # noqa: B018


def test_a_study_is_loaded_as_the_command_line_loads_it() -> None:
    study = lima.load_study(
        "tiny", set={"train.epochs": 3, "train": {"batch_size": 4}}, arms=["howto-32"], seeds=[1]
    )
    same = load_study("tiny", ["train.epochs=3", "train.batch_size=4"], ["howto-32"], [1])
    assert study.cells == same
    assert study.run_ids == {("howto-32", 1): run_id(same[0])}
    assert all(finding.level != "error" for finding in study.lint())
    with pytest.raises(SpecError, match=r"set: train\.epoks: no such path"):
        lima.load_study("tiny", set={"train.epoks": 3})


def test_tables_are_arrow_and_pandas(tmp_path: Path) -> None:
    write_study(Storage(str(tmp_path)), Study(seeds=1))
    results = lima.Results(str(tmp_path))
    found = results.table("generations", ["arm", "response"])
    assert found.column_names == ["arm", "response"]
    assert set(found.to_pandas().arm) == {"diverse", "narrow"}
    assert "trimmed_share" in results.table("runs").column_names
    means = results.means(by=["arm"]).to_pandas()
    assert list(means.arm) == ["diverse", "narrow"]
    assert results.table("steps", experiment="another").num_rows == 0


def test_what_is_wrong_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = lima.Results(str(tmp_path))
    with pytest.raises(InputError, match=r"no table 'generation'; did you mean 'generations'\?"):
        results.table("generation")
    with pytest.raises(InputError, match=r"no column 'arms'; did you mean 'arm'\?"):
        results.table("generations", ["arms"])
    with pytest.raises(DataError, match="no runs there"):
        results.means()
    gone = lima.load_study("tiny", set={"train.data.path": "gone.jsonl"})
    with pytest.raises(InputError, match=r"train\.data\.path: gone\.jsonl is not on this machine"):
        gone.run(str(tmp_path))


def test_a_job_that_fails_says_why(tmp_path: Path) -> None:
    """The real job, which ends before it starts Ray: no hub may be asked here."""
    settings = {"base": None, "train.model.path": "some/model"}
    study = lima.load_study("tiny", set=settings, arms=["howto-32"], seeds=[0])
    with pytest.raises(lima.errors.LimaError, match="HF_HUB_OFFLINE keeps the hub") as caught:
        study.run(str(tmp_path / "st"))
    assert caught.value.exit_code == ModelError.exit_code


def test_init_writes_what_can_be_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lima_k8s.main import run

    base, file = make_base(tmp_path / "base"), str(tmp_path / "my study.yaml")
    data = ("--data", "authored:howto")
    arms = ("--arm", "few:train.data.count=8", "--arm", "few:train.epochs=9", "--arm", "all")
    arguments = ["init", file, "--model", str(base), *data, *arms, "--seed", "0", "--seed", "4"]
    assert run(arguments) == 0
    cells = load_study(file)
    assert [(c.experiment, c.arm, c.seed) for c in cells] == [
        ("my study", arm, seed) for arm in ("few", "all") for seed in (0, 4)
    ]
    few = cells[0].train
    assert few
    assert (few.data.count, few.epochs, few.max_length) == (8, 9, 256)
    assert cells[0].base is None
    assert run(arguments) == 2
    assert "there already" in capsys.readouterr().err
    assert run(["init", str(tmp_path / "x.yaml"), "--data", "d"]) == 2
    assert "nobody is there to answer; say it with --model" in capsys.readouterr().err
    assert run([*arguments, "--force", "--arm", ":train.epochs=3"]) == 2
    assert "write NAME, or NAME:PATH=VALUE" in capsys.readouterr().err
    names = ["a", "on", "7", "two words", "\u00fcber", "it's", "#1"]
    named = [word for name in names for word in ("--arm", f"{name}:train.epochs=3")]
    assert run([*arguments[:6], *named, "--force"]) == 0
    assert [cell.arm for cell in load_study(file)] == names
    assert run([*arguments, "--force", "--extends", "curate_small"]) == 2
    assert "trains nothing" in capsys.readouterr().err
    assert run([*arguments[:6], "--force", "--extends", f"{tmp_path}/./my study.yaml"]) == 2
    assert "extends itself" in capsys.readouterr().err
    no_study = ["--arm", "n" * 101]
    assert run([*arguments, *no_study, "--force"]) == 2
    assert [cell.arm for cell in load_study(file)] == names, "what was there is as it was"
    assert run(["init", str(tmp_path / "none.yaml"), *arguments[2:], *no_study]) == 2
    assert not (tmp_path / "none.yaml").exists()


def test_init_asks_for_what_no_option_says(tmp_path: Path) -> None:
    typed, terminal = pty.openpty()
    os.write(typed, b"org/model\nmy.jsonl\n")
    program = Path(sys.executable).parent / "lima-k8s"
    try:
        done = subprocess.run(
            [program, "init", "mine.yaml"],
            cwd=tmp_path,
            stdin=terminal,
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        os.close(typed)
        os.close(terminal)
    assert "Model, a folder or a hub name: " in done.stderr
    (cell,) = load_study(str(tmp_path / "mine.yaml"))
    assert cell.train
    assert (cell.train.model.path, cell.train.data.path) == ("org/model", "my.jsonl")
    assert (cell.experiment, cell.arm, cell.train.max_length) == ("mine", "all", 2048)

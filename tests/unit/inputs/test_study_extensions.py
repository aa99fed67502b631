"""A study's own Python file: what it may add, whose run it is part of, and where it may run."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import lima
from lima.errors import ChangedInputError, InputError, NoAnswerError, SpecError
from lima.evaluation.cells.measures import _scale
from lima.inputs.content import Contents
from lima.inputs.extensions import handed_on, meet
from lima.inputs.fingerprint import of_bytes
from lima.judging.rubrics import RUBRICS
from lima.preparing.prepare import prepare
from lima.recipes.registry import load_study
from lima.runs.done import mark_done
from lima.runs.job_end import read_job_end
from lima.runs.lineage import Chain
from lima.spec import CellSpec, ExtensionSpec, JudgeSpec, cell_stages, names, reading_cell
from lima.spec.codec import decode, encode, run_id
from lima.spec.curate import ArmSpec, CurateSpec, PartSpec, SourceSpec
from lima.store.storage import Storage
from lima_jobs.ownray import own_ray
from lima_k8s.main import run
from lima_k8s.study.delivery import Delivery, deliver

TENS = """
from lima.judging.rubric import Rubric
from lima.judging.rubrics import RUBRICS

with open({mark!r}, "a") as ran:
    ran.write("ran\\n")
RUBRICS.add("{package}.tens", Rubric("{package}.tens", "{digits}", None, None, "a number"))
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    yield
    for known in (names.ENGINES, names.RUBRICS, names.SOURCES, names.BATCH_BUILDERS):
        known.forget("mine")
    sys.modules.pop("mine", None)


def write(name: str = "mine.py", package: str = "mine", digits: str = "a" * 64) -> Path:
    """Write a file with a rubric, which notes in `mark` that it ran."""
    file = Path(name)
    mark = str(Path("mark").absolute())
    file.write_text(TENS.format(mark=mark, package=package, digits=digits), "utf-8")
    return file


def times_run() -> int:
    return len(Path("mark").read_text().splitlines()) if Path("mark").exists() else 0


def study(*extensions: str) -> CellSpec:
    judged = ["judge.rubric=mine.tens", "judge.base_url=http://127.0.0.1:9/v1", "judge.model=m"]
    return load_study("tiny", judged, ["howto-32"], [0], extensions)[0]


def ids(cell: CellSpec) -> dict[str, str]:
    (named,) = prepare([cell], Contents()).cells
    return {stage: run_id(named, stage) for stage in cell_stages(named)}


def test_a_file_is_part_of_the_stages_that_use_it() -> None:
    write()
    write("engines.py", "engines")
    meet([study("mine.py")])
    before = ids(study("mine.py"))
    both = study("engines.py", "mine.py")
    assert ids(both) == before
    assert run_id(both) == run_id(study("mine.py"))
    plain = ids(replace(study("mine.py"), judge=None, extensions=()))
    assert {stage: run for stage, run in before.items() if stage != "judge"} == plain

    Path("elsewhere").mkdir()
    moved = write("elsewhere/mine.py")
    moved.write_bytes(Path("mine.py").read_bytes())
    assert ids(study("elsewhere/mine.py")) == before  # named by its content
    Path("mine.py").write_text(Path("mine.py").read_text() + "# more\n")
    after = ids(study("mine.py"))
    assert {stage for stage, run in after.items() if run != before[stage]} == {"judge"}


def test_stages_that_are_shared_keep_the_files_that_they_use() -> None:
    source = SourceSpec("mine.notes", ("notes",))
    curate = CurateSpec((source,), (ArmSpec("a", (PartSpec("mine.notes"),)),))
    files = (ExtensionSpec("mine.py", of_bytes(b"one")), ExtensionSpec("other.py"))
    one = CellSpec("e", "a", curate=curate, judge=JudgeSpec(), extensions=files)
    two = replace(one, extensions=(ExtensionSpec("mine.py", of_bytes(b"two")), *files[1:]))
    assert reading_cell(one).extensions == files[:1]
    assert run_id(one, "curate") != run_id(two, "curate")
    engine = CellSpec("e", "a", judge=JudgeSpec(rubric="other.x"), extensions=files[::-1])
    assert run_id(engine) == run_id(replace(engine, extensions=files[1:]))


def test_the_same_content_runs_once_and_another_one_again() -> None:
    write()
    for _ in range(2):
        meet([study("mine.py")])
    assert times_run() == 1
    write(digits="b" * 64)
    meet([study("mine.py")])
    assert times_run() == 2
    assert RUBRICS["mine.tens"].hash == "b" * 64
    Path("mine.py").write_text("# nothing is added any more\n")
    with pytest.raises(SpecError, match=r"judge.rubric: no 'mine.tens' among the rubrics"):
        meet([study("mine.py")])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('RUBRICS.add("other.x", None)', r"mine.py: adds 'other.x' to the rubrics: mine.py may"),
        ('RUBRICS.add("minex.x", None)', "adds 'minex.x'"),
        ('RUBRICS.add("likert-6", None)', "adds 'likert-6'"),
        ('RUBRICS.add("bare", None)', "adds 'bare'"),
        ("import there_is_none", r"mine.py: line 3: ModuleNotFoundError: .* must be installed"),
        ("1 / 0", r"mine.py: line 3: ZeroDivisionError: division by zero; mend it"),
        ("raise SystemExit(0)", "mine.py: line 3: SystemExit"),
        ("def", "SyntaxError"),
    ],
)
def test_what_a_file_may_not_do(text: str, said: str) -> None:
    likert = RUBRICS["likert-6"]
    Path("mine.py").write_text(f"from lima.judging.rubrics import RUBRICS\n\n{text}\n")
    with pytest.raises(SpecError, match=said):
        meet([study("mine.py")])
    assert RUBRICS["likert-6"] is likert
    assert "mine" not in sys.modules


def test_a_file_that_asks_for_names_is_not_begun_again() -> None:
    """In a job, where what is not known is looked for in the files that were handed on."""
    file = write()
    asking = 'if "mine.tens" not in RUBRICS.names:\n    RUBRICS.add'
    file.write_text(file.read_text("utf-8").replace("RUBRICS.add", asking), "utf-8")
    with handed_on([study("mine.py")]):
        assert times_run() == 1
        assert "mine.tens" in names.RUBRICS


def test_a_file_that_takes_its_module_away_and_fails_is_told() -> None:
    Path("mine.py").write_text("import sys\ndel sys.modules['mine']\n1 / 0\n", "utf-8")
    with pytest.raises(SpecError, match=r"mine.py: line 3: ZeroDivisionError"):
        meet([study("mine.py")])


def test_nothing_is_known_of_a_file_that_failed() -> None:
    file = write()
    file.write_text(file.read_text("utf-8") + "1 / 0\n", "utf-8")
    with pytest.raises(SpecError, match="ZeroDivisionError"):
        meet([study("mine.py")])
    assert "mine.tens" not in names.RUBRICS


def test_a_file_may_import_a_package_that_adds_names_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "site/installedtoy-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: installedtoy\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[lima.extensions]\ntoy = installedtoy\n")
    write("site/installedtoy.py", "installedtoy")
    monkeypatch.syspath_prepend(str(info.parent))
    file = write()
    file.write_text(f"import installedtoy\n{file.read_text('utf-8')}", "utf-8")
    try:
        meet([study("mine.py")])
        assert {"mine.tens", "installedtoy.tens"} <= set(names.RUBRICS)
    finally:
        names.RUBRICS.forget("installedtoy")
        sys.modules.pop("installedtoy", None)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my-file.py", "an extension is a file PACKAGE.py"),
        ("mine.txt", "an extension is a file PACKAGE.py"),
        ("json.py", "a module 'json' is installed"),
        ("pyarrow.py", "a module 'pyarrow' is installed"),
        ("lima_k8s.py", "a module 'lima_k8s' is installed"),
    ],
)
def test_what_a_file_may_not_be_called(name: str, said: str) -> None:
    write(name)
    package = name.removesuffix(".py")
    cell = replace(study(name, "mine.py"), judge=JudgeSpec(rubric=f"{package}.tens"))
    with pytest.raises(SpecError, match=said):
        meet([cell])
    assert times_run() == 0


def test_a_file_where_python_looks_for_modules_is_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(write().absolute().parent))
    meet([study("mine.py")])
    assert times_run() == 1


def test_nothing_runs_of_what_was_not_promised() -> None:
    data = write().read_bytes()
    write("also.py", "also")
    promised = ExtensionSpec("mine.py", of_bytes(data))
    also = ExtensionSpec("also.py", of_bytes(Path("also.py").read_bytes()))
    cell = replace(study("mine.py"), extensions=(also, promised))
    cell = replace(cell, generate=None)
    Path("mine.py").write_bytes(data + b"#")
    with pytest.raises(ChangedInputError, match="has changed since this run was submitted"):
        meet([cell])
    assert times_run() == 0
    Path("twice").mkdir()
    write("twice/mine.py", digits="b" * 64)
    with pytest.raises(SpecError, match="are of one name and of two contents"):
        meet([study("mine.py"), study("twice/mine.py")])
    with pytest.raises(InputError, match=r"gone/mine.py: .* cannot be read \(No such file"):
        meet([study("gone/mine.py")])


def test_a_spec_is_read_where_its_file_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    cell = study("gone/mine.py")
    assert decode(CellSpec, encode(cell)) == cell
    # A fingerprint that nobody looks at: what a judge reads is not known, and not needed.
    assert prepare([cell], Contents()).cells == prepare([cell], Contents()).cells
    with pytest.raises(SpecError, match=r"if mine.py of yours adds it: --extension mine.py"):
        study()
    assert run(["show", "tiny", "--set", "judge.rubric=mine.tens"]) == 2
    assert "--extension mine.py" in capsys.readouterr().err


def test_a_study_file_names_its_files(capsys: pytest.CaptureFixture[str]) -> None:
    write()
    judge = "{rubric: mine.tens, base_url: 'http://127.0.0.1:9/v1', model: m}"
    text = f"extends: tiny\nextensions: [mine.py]\nset: {{judge: {judge}}}\n"
    Path("study.yaml").write_text(text)
    arguments = ["study.yaml", "--format", "json", "--extension", "mine.py"]
    assert run(["lint", *arguments]) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    (told,) = [f["message"] for f in findings if f["path"] == "extensions.mine"]
    assert told.startswith(f"mine.py, {Path('mine.py').stat().st_size} bytes, sha256:")
    assert run(["plan", *arguments, "--gpu", "H100", "--nodes", "1"]) in (0, 2)
    inputs = json.loads(capsys.readouterr().out)["inputs"]
    assert "extensions.mine" in [entry["role"] for entry in inputs]
    Path("study.yaml").write_text(text.replace("[mine.py]", "mine.py"))
    assert run(["lint", *arguments]) == 2
    assert "extensions: expected a list of files, as [mine.py]" in capsys.readouterr().err
    assert run(["lint", "tiny", "--extension", "mine.py"]) == 0
    assert "mine.py is not used: no run of this study has a name mine.…" in capsys.readouterr().err
    # What the command names takes the place of another one of its name.
    assert study("a/mine.py").extensions == (ExtensionSpec("a/mine.py"),)


@pytest.mark.parametrize(
    "listed",
    [
        "",
        "extensions: [elsewhere/mine.py]\n",
        "arms: {a: {extensions: [{path: old/mine.py}]}, b: {}}\n",
    ],
)
def test_a_study_file_need_not_name_what_the_command_names(listed: str) -> None:
    write()
    judge = "judge: {rubric: mine.tens, base_url: 'http://127.0.0.1:9/v1', model: m}"
    Path("first.yaml").write_text(f"extends: tiny\n{listed}set: {{{judge}}}\n")
    Path("second.yaml").write_text("extends: first.yaml\nset: {judge.concurrency: 3}\n")
    cells = load_study("second.yaml", extensions=["mine.py"])
    assert {cell.extensions for cell in cells} == {(ExtensionSpec("mine.py"),)}
    plain = [encode(cell) | {"extensions": []} for cell in cells]
    Path("runs.json").write_text(json.dumps({"runs": plain}))
    assert load_study("runs.json", extensions=["mine.py"]) == cells
    elsewhere = "{extensions: [{path: other.py}], judge.rubric: mine.tens}"
    Path("third.yaml").write_text(f"extends: runs.json\nset: {elsewhere}\n")
    (first, *_) = load_study("third.yaml", ["judge.rubric=mine.tens"], extensions=["mine.py"])
    assert [extension.path for extension in first.extensions] == ["other.py", "mine.py"]
    with pytest.raises(SpecError, match=r"mine.py of yours adds it: --extension mine\.py"):
        load_study("runs.json", extensions=["other.py"])


def test_a_job_without_files_looks_at_its_names_too() -> None:
    cell = replace(study("mine.py"), judge=JudgeSpec(rubric="nobody.tens"))
    with (
        pytest.raises(SpecError, match=r"judge.rubric: no 'nobody.tens' among the rubrics"),
        handed_on([cell]),
    ):
        pass


def test_a_file_in_a_storage_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(NoAnswerError, match=r"s3://bucket/mine.py: nobody answers at 127.0.0.1:9"):
        meet([study("s3://bucket/mine.py")])


def test_a_file_is_brought_to_the_storage(s3_storage: str) -> None:
    data = write().read_bytes()
    cell = study("mine.py")
    meet([cell])
    (sent,) = deliver([cell], Delivery(s3_storage))
    (extension,) = sent.extensions
    assert extension.path.startswith(f"{s3_storage}/inputs/")
    assert extension.package == "mine"
    Path("mine.py").unlink()
    with handed_on([sent]) as (file,):
        assert file.read_bytes() == data
        assert file.parent.parent.stat().st_mode & 0o077 == 0
        assert os.environ["LIMA_EXTENSIONS"] == str(file)
    assert not file.exists()
    assert "LIMA_EXTENSIONS" not in os.environ


def test_submit_refuses_before_anything_is_brought(
    s3_storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write()
    Path("study.json").write_text(json.dumps({"runs": [encode(study("mine.py"))]}))
    submit = ["submit", "ablation", "--recipe", "study.json", "--storage", s3_storage]
    submit += ["--extension", "mine.py"]
    assert run([*submit, "--context", "there-is-none"]) == 2
    said = capsys.readouterr().err
    assert "cluster.extensions: this cluster runs no Python files of a study's own" in said
    assert "ask the platform team for cluster.extensions: true" in said
    assert Storage(s3_storage).entries("") == []


@pytest.mark.parametrize("allowed", ["0", None])
def test_a_job_of_a_cluster_that_does_not_allow_it_runs_nothing(
    allowed: str | None, tmp_path: Path
) -> None:
    """Nobody listens at this Ray's address: it is not asked."""
    data = write().read_bytes()
    extension = ExtensionSpec(str(tmp_path / "mine.py"), of_bytes(data))
    cell = replace(study("mine.py"), extensions=(extension,))
    Path("specs.json").write_text(json.dumps({"runs": [encode(cell)]}))
    environment = {**os.environ, "RAY_ADDRESS": "127.0.0.1:1", "OPENAI_API_KEY": "x"}
    environment |= {"LIMA_ALLOW_EXTENSIONS": allowed} if allowed else {}
    command = [sys.executable, "-m", "lima_jobs.run", "specs.json", "--storage"]
    command.append(str(tmp_path / "out"))
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    end = read_job_end(done.stderr)
    assert end is not None, done.stderr
    assert end.exit_code == 2
    assert "this cluster runs no Python files of a study's own; ask the platform" in end.message
    assert times_run() == 0


def test_a_job_needs_no_file_of_a_run_that_is_done(tmp_path: Path) -> None:
    cell, storage = study("gone/mine.py"), tmp_path / "out"
    mark_done(Storage(str(storage)), cell)
    Path("specs.json").write_text(json.dumps({"runs": [encode(cell)]}))
    command = [sys.executable, "-m", "lima_jobs.run", "specs.json", "--only", "judge"]
    command += ["--storage", str(storage)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


WORKER = """
import os, sys
from pathlib import Path
import ray
from lima_jobs.rayinit import started_ray

def seen():
    from lima.judging.rubrics import RUBRICS
    from lima.spec import names
    assert "mine.tens" in names.RUBRICS
    return os.environ["LIMA_EXTENSIONS"], sys.modules["mine"].__file__, RUBRICS["mine.tens"].name

with started_ray(1, [Path(sys.argv[1])]):
    Path(sys.argv[1]).rename(sys.argv[1] + ".away")  # as on another machine
    print(*ray.get(ray.remote(seen).remote()))
"""


@pytest.mark.slow
def test_workers_of_a_cluster_get_the_file_by_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    write()
    with handed_on([study("mine.py")]) as (file,), own_ray(1) as options:
        context = ray.init(**options, logging_level="ERROR")
        try:
            monkeypatch.setenv("RAY_ADDRESS", context.address_info["gcs_address"])
            command = [sys.executable, "-c", WORKER, str(file)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        finally:
            ray.shutdown()
    assert done.returncode == 0, done.stderr
    variable, where, name = done.stdout.split()
    assert variable == f"{file.parent.name}/mine.py"
    assert where.endswith(variable)
    assert not where.startswith(str(file.parent.parent))
    assert name == "mine.tens"


def test_the_example_of_the_docs(capsys: pytest.CaptureFixture[str]) -> None:
    docs = Path(__file__).parents[3] / "docs/extending.md"
    (example,) = re.findall(r"```python\n(.+?)```", docs.read_text("utf-8"), re.DOTALL)
    Path("mine.py").write_text(example, "utf-8")
    judge = ["--set", "judge.rubric=mine.tens", "--set", "judge.base_url=http://127.0.0.1:9/v1"]
    assert run(["lint", "tiny", "--extension", "mine.py", *judge]) == 0, capsys.readouterr()
    tens = RUBRICS["mine.tens"]
    assert "'Why?'" in tens.ask(["Why?"], ["So."])
    assert tens.read("7") is not None
    assert tens.read("seven") is None


@pytest.mark.parametrize(
    "command", [["show"], ["lint"], ["plan", "--gpu", "H100", "--nodes", "1"]], ids=" ".join
)
def test_what_a_study_lists_runs_only_if_it_is_named(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """To look at a study of somebody else runs nothing of theirs."""
    write()
    judge = "{rubric: mine.tens, base_url: 'http://127.0.0.1:9/v1', model: m}"
    Path("base.yaml").write_text("extends: tiny\nextensions: [mine.py]\n")
    Path("study.yaml").write_text(f"extends: ./base.yaml\nset: {{judge: {judge}}}\n")
    assert run([*command, "study.yaml"]) == 2
    assert "which would run with your rights: mine.py" in capsys.readouterr().err
    with pytest.raises(SpecError, match="with your rights"):
        lima.load_study("study.yaml")
    assert times_run() == 0
    assert run(["show", "study.yaml", "--extension", "mine.py"]) == 0
    assert times_run() == 1


def test_a_study_of_python_brings_its_files() -> None:
    write()
    settings = {"judge.rubric": "mine.tens", "judge.base_url": "http://127.0.0.1:9/v1"}
    loaded = lima.load_study("tiny", set=settings, extensions=["mine.py"])
    assert {cell.extensions for cell in loaded.cells} == {(ExtensionSpec("mine.py"),)}
    assert times_run() == 1
    with pytest.raises(SpecError, match=r"got .other.tens."):
        lima.load_study("tiny", set=settings | {"judge.rubric": "other.tens"})


@pytest.mark.parametrize(
    ("told", "scale"),
    [
        ({"lowest": 0.0, "highest": 10.0}, (0.0, 10.0)),
        ({"lowest": None, "highest": None}, None),
        ({}, None),
    ],
)
def test_a_score_of_a_rubric_that_is_not_here_has_the_scale_that_its_run_tells(
    told: dict[str, float | None], scale: tuple[float, float] | None
) -> None:
    spec = {"judge": {"rubric": "away.tens", **told}}
    chain = Chain("e", "a", 0, "r", {}, spec, None, {})
    assert _scale([chain]) == scale


def test_the_scale_that_a_run_tells_counts_before_that_of_a_rubric_here() -> None:
    RUBRICS.add("mine.tens", replace(RUBRICS["likert-6"], name="mine.tens", scale=(0.0, 5.0)))
    spec: dict[str, Any] = {"judge": {"rubric": "mine.tens"}}
    chain = Chain("e", "a", 0, "r", {}, spec, None, {})
    assert _scale([chain]) == (0.0, 5.0)
    spec["judge"] |= {"lowest": 0.0, "highest": 10.0}
    assert _scale([chain]) == (0.0, 10.0)

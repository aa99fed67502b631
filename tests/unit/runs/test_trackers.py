"""Curves for trackers: the numbers of the tables, for which no run waits or fails."""

import logging
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

import lima.runs.trackers.curves
from lima.errors import Interrupted
from lima.inputs.places import PATHS
from lima.recipes.demo import tiny
from lima.runs.trackers.curves import Curves
from lima.runs.trackers.tracker import Tracked
from lima.spec import DataSpec, ModelSpec, stage_cell
from lima.spec.codec import run_id
from lima.spec.curate import AssemblySpec, CurateSpec, SourceSpec
from lima.store.storage import Storage
from tests.helpers.models import make_base, small_cell
from tests.helpers.training import step_rows, train

GENERATE = stage_cell(replace(tiny()[0], experiment=".odd/name"), "generate")


def board(storage: Storage) -> dict[tuple[str, int], float]:
    """Return all values by tag and step, as TensorBoard's format has them."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[tuple[str, int], float] = {}
    for entry in sorted(storage.entries("tensorboard"), key=lambda e: e.path):
        data = storage.read(entry.path)
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            for value in event.summary.value:
                key = (value.tag, event.step)
                assert key not in found, "no step is told twice"
                found[key] = value.simple_value
    return found


def test_a_file_holds_what_was_noted_since_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(str(tmp_path))
    curves = Curves(storage, GENERATE)
    curves.add(16, {"tokens_per_second": 50.0, "missing": None})
    assert not storage.entries("tensorboard")
    monkeypatch.setattr(lima.runs.trackers.curves, "EVERY_S", 0.0)
    curves.flush()
    curves.add(20, {"tokens_per_second": 60.0})
    curves.close(complete=True)
    assert board(storage) == {
        ("generate/tokens_per_second", 16): 50.0,
        ("generate/tokens_per_second", 20): 60.0,
    }
    names = [entry.path for entry in storage.entries("tensorboard")]
    folder = f"tensorboard/%2Eodd%2Fname/diverse-32/0/generate-{run_id(GENERATE)[:8]}"
    assert sorted(names) == [
        f"{folder}/events.out.tfevents.{step:010d}-{step:010d}.{n}"
        for n, step in enumerate((16, 20), 1)
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
def test_curves_are_those_of_the_table_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lima.runs.trackers.curves, "EVERY_S", 0.0)
    cell, storage = small_cell(make_base(tmp_path / "base")), Storage(str(tmp_path / "study"))
    with pytest.raises(Interrupted):
        train(cell, storage, stop_after=4)
    # As after a kill: steps were told that no state has.
    lost = Curves(storage, cell)
    lost.add(5, {"loss": 99.0})
    lost.add(6, {"loss": 99.0})
    lost.close(complete=False)
    train(cell, storage)
    rows: list[dict[str, Any]] = step_rows(storage, cell)
    found = board(storage)
    assert {s for tag, s in found if tag == "train/loss"} == {row["step"] for row in rows}
    for row in rows:
        assert found["train/loss", row["step"]] == pytest.approx(row["loss"])
        assert found["train/learning_rate", row["step"]] == pytest.approx(row["learning_rate"])
    assert [s for tag, s in sorted(found) if tag == "train/heldout_perplexity"] == [3, 5, 8]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the end of a stage wait for what a busy machine takes long for."""
    monkeypatch.setattr(lima.runs.trackers.curves, "GRACE_S", 1e6)


@pytest.fixture
def mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Keep MLflow's runs in a file of SQLite; return a client of it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    from mlflow.tracking import MlflowClient

    return MlflowClient()


@pytest.mark.slow
@pytest.mark.usefixtures("process_group", "patient")
def test_mlflow_has_the_numbers_of_the_table(tmp_path: Path, mlflow: Any) -> None:
    cell, storage = small_cell(make_base(tmp_path / "base")), Storage(str(tmp_path / "study"))
    with pytest.raises(Interrupted):
        train(cell, storage, stop_after=4)
    experiment = mlflow.get_experiment_by_name(cell.experiment).experiment_id
    (stopped,) = mlflow.search_runs([experiment])
    assert stopped.info.status == "KILLED"
    train(cell, storage)
    (run,) = mlflow.search_runs([experiment])
    assert run.info.run_id == stopped.info.run_id
    assert run.info.status == "FINISHED"
    assert run.info.run_name == f"{cell.arm}/{cell.seed} train"
    assert run.data.tags["lima.run_id"] == run_id(cell)
    assert run.data.params["train.epochs"] == str(cell.train.epochs if cell.train else None)
    assert run.data.params["train.model.path"] == "base", "no folder of this machine"
    rows = step_rows(storage, cell)
    for curve in ("loss", "learning_rate"):
        history = mlflow.get_metric_history(run.info.run_id, f"train/{curve}")
        told = {metric.step: metric.value for metric in history}
        assert told == pytest.approx({row["step"]: row[curve] for row in rows})


@pytest.mark.usefixtures("patient")
def test_a_study_of_any_size_and_name_gets_into_mlflow(tmp_path: Path, mlflow: Any) -> None:
    with Curves(Storage(str(tmp_path / "study")), GENERATE) as curves:
        for step in range(1200):
            curves.add(step, {"tokens_per_second": float(step)})
    experiment = mlflow.get_experiment_by_name(".odd/name").experiment_id
    (run,) = mlflow.search_runs([experiment])
    history = mlflow.get_metric_history(run.info.run_id, "generate/tokens_per_second")
    assert sorted(metric.value for metric in history) == list(range(1200))


@pytest.mark.usefixtures("patient")
def test_settings_that_a_killed_process_did_not_tell_are_told_by_the_next(
    tmp_path: Path, mlflow: Any
) -> None:
    experiment = mlflow.create_experiment(GENERATE.experiment)
    # As after a kill: the run is there and has some of its settings, one of them of then.
    begun = mlflow.create_run(experiment, tags={"lima.run_id": run_id(GENERATE)}).info.run_id
    mlflow.log_param(begun, "generate.batch_size", "1")
    with Curves(Storage(str(tmp_path / "study")), GENERATE) as curves:
        curves.add(1, {"tokens_per_second": 1.0})
    (run,) = mlflow.search_runs([experiment])
    assert (run.info.run_id, run.info.status) == (begun, "FINISHED")
    assert run.data.params["generate.batch_size"] == "1"
    assert run.data.params["seed"] == str(GENERATE.seed)
    assert run.data.params.keys() == Tracked(Storage(str(tmp_path)), GENERATE).settings.keys()


def test_trackers_are_told_no_folder_of_this_machine() -> None:
    home = "/home/alice/secret"
    source = SourceSpec(
        "authored", (f"{home}/a.md", f"{home}/b"), picks=f"{home}/picks", patches=f"{home}/edits"
    )
    curate = CurateSpec(
        (source,),
        (),
        root=f"{home}/root",
        assembly=AssemblySpec(tokenizer=f"{home}/tokens"),
        sites=f"{home}/sites.yaml",
    )
    cell = replace(small_cell(Path(f"{home}/model")), curate=curate)
    settings = Tracked(Storage("unused"), cell).settings
    assert home not in str(settings)
    assert settings["curate.sources"][0]["paths"] == ["a.md", "b"]
    assert settings["curate.sites"] == "sites.yaml"
    assert settings["train.model.path"] == "model"


def test_all_fields_that_name_an_input_are_known() -> None:
    """A fingerprint says in the place of which fields it stands."""
    specs = [DataSpec, ModelSpec, SourceSpec, AssemblySpec, CurateSpec]
    named = {
        name for spec in specs for f in fields(spec) for name in f.metadata.get("stands_for", ())
    }
    assert named - {"revision"} | {"root"} == PATHS


def wandb_records(folder: Path) -> Iterator[Any]:
    """Yield what a client that is offline has kept to be sent later."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    data, at, whole = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        # The format of LevelDB's log: blocks of 32 KiB, records in one part or more.
        if 2**15 - at % 2**15 < 7:
            at += 2**15 - at % 2**15
            continue
        _, length, part = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if part in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


@pytest.mark.usefixtures("patient")
def test_wandb_keeps_what_it_will_send(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    with Curves(Storage(str(tmp_path / "study")), GENERATE) as curves:
        curves.add(16, {"tokens_per_second": 50.0})
        curves.add(20, {"tokens_per_second": 60.0})
    records = list(wandb_records(tmp_path))
    (run,) = [r.run for r in records if r.WhichOneof("record_type") == "run"]
    assert (run.run_id, run.project) == (run_id(GENERATE), ".odd-name")
    rows = [
        {(item.key or "/".join(item.nested_key)): item.value_json for item in r.history.item}
        for r in records
        if r.WhichOneof("record_type") == "history"
    ]
    told = [(row["generate/step"], row["generate/tokens_per_second"]) for row in rows]
    assert [(int(step), float(value)) for step, value in told] == [(16, 50), (20, 60)]
    (end,) = [r.exit for r in records if r.WhichOneof("record_type") == "exit"]
    assert end.exit_code == 0


def test_a_client_that_is_not_installed_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker.example.com")
    monkeypatch.setenv("WANDB_API_KEY", "hush-4711")
    for module in ("mlflow", "wandb"):
        monkeypatch.setitem(sys.modules, module, None)
    storage = Storage(str(tmp_path))
    with Curves(storage, GENERATE) as curves:
        curves.add(16, {"tokens_per_second": 50.0})
    assert board(storage)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert "pip install 'lima-k8s[mlflow]'" in lines[0]
    assert "pip install 'lima-k8s[wandb]'" in lines[1]
    assert "hush" not in caplog.text


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
def test_training_neither_waits_for_a_server_nor_fails_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cell, storage = small_cell(make_base(tmp_path / "base")), Storage(str(tmp_path / "study"))
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never answers
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        monkeypatch.setattr(lima.runs.trackers.curves, "GRACE_S", 0.0)
        train(cell, storage)
        assert "MLflow does not answer" in caplog.text
    for thread in threading.enumerate():
        if thread.name in ("TensorBoard", "MLflow"):
            thread.join()
    assert {step for _, step in board(storage)} == {r["step"] for r in step_rows(storage, cell)}


@contextmanager
def told(text: str) -> Iterator[None]:
    """Wait in the end until a log says something."""
    heard = threading.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if text in record.getMessage():
                heard.set()

    listener = Listener()
    logging.getLogger("lima").addHandler(listener)
    try:
        yield
        heard.wait()
    finally:
        logging.getLogger("lima").removeHandler(listener)


@pytest.mark.usefixtures("patient")
def test_what_a_tracker_refused_is_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/later/mlflow.db")
    (tmp_path / "later").touch()  # a file in the place of its folder
    curves = Curves(Storage(str(tmp_path / "study")), GENERATE)
    curves.add(1, {"tokens_per_second": 1.0})
    with told("curves are not written to MLflow"):
        curves.flush()
    (tmp_path / "later").unlink()
    curves.add(2, {"tokens_per_second": 2.0})
    curves.close(complete=True)
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name(".odd/name").experiment_id])
    history = client.get_metric_history(run.info.run_id, "generate/tokens_per_second")
    assert [metric.step for metric in history] == [1, 2]


def test_an_address_with_a_password_gets_into_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lima.runs.trackers.curves, "GRACE_S", 1e6)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hush-4711@127.0.0.1:1")
    with Curves(Storage(str(tmp_path)), GENERATE) as curves:
        curves.add(16, {"tokens_per_second": 50.0})
    assert "MLFLOW_TRACKING_URI: an address with a name or a password" in caplog.text
    assert "hush" not in caplog.text

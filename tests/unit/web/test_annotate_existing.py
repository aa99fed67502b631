"""Rounds that exist: found by as little as is said, looked at without a trace, and grown."""

from pathlib import Path
from typing import Any

import pytest

from lima.evaluation.labels.label_shares import HUMAN, read_labelled
from lima.rating.items import EvaluationSpec, drawn_prompts, evaluation_identity
from lima.rating.labels import read_labels
from lima.rating.responses import read_responses
from lima.store.scan import Tables
from lima.store.storage import Storage
from lima_k8s.main import run
from lima_k8s.web.annotate.database import Answer, Store
from lima_k8s.web.annotate.existing import find_round
from lima_k8s.web.annotate.invitations import annotators, invite
from lima_k8s.web.annotate.rounds import export, open_round, store_path
from tests.helpers.web.labelling import OURS, PAIR, act, serving, study, write_responses

__all__ = ["study"]


def files_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return everything in a folder: names, times and contents."""
    return {
        str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()
    }


def spec_of(storage: Storage, count: int | None, **changes: Any) -> EvaluationSpec:
    (generated,) = {p.parent.name for p in Path(storage.uri).glob("generations/*/*/*.parquet")}
    return EvaluationSpec(
        "study", OURS, "absolute", generated, count=count, **{"shared": 0, **changes}
    )


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    opened = Storage(str(tmp_path / "study"))
    write_responses(opened, OURS, 20)
    return opened


def label_next(store: Store, name: str, times: int) -> None:
    for _ in range(times):
        task = store.task(name)
        assert task
        answer = Answer(f"{name}/{task.turn}", task.turn, "labelled", {"label": "pass"})
        store.add(name, answer)


def opened_again(storage: Storage, spec: EvaluationSpec) -> Store:
    found = find_round(storage, spec)
    return open_round(spec, storage, found.path if found else store_path(spec, storage))


def test_a_larger_count_keeps_the_labels_of_the_smaller(storage: Storage) -> None:
    small = spec_of(storage, 5)
    store = opened_again(storage, small)
    invite(store, "anna")
    label_next(store, "anna", 3)
    secret = annotators(store)[0].secret
    before = [e.row["item_id"] for e in store.entries()]
    store.close()
    store = opened_again(storage, spec_of(storage, 12))
    entries = store.entries()
    assert [e.row["item_id"] for e in entries][:5] == before
    assert len({e.row["item_id"] for e in entries}) == len(entries) == 12
    assert {e.row["prompt_key"] for e in entries} == drawn(storage, spec_of(storage, 12))
    assert annotators(store)[0].secret == secret
    assert (store.standing("anna").done, store.standing("anna").left) == (3, 9)
    label_next(store, "anna", 9)
    assert store.task("anna") is None
    assert export(store, storage) == {"anna": 12}
    tables = Tables(storage)
    assert {label.run_id for label in read_labels(tables)} == {evaluation_identity(small)["run_id"]}
    counts = read_labelled(tables, read_labels(tables)).of("absolute", OURS, HUMAN)
    assert (counts.total, counts.missing) == (12, 0)
    store.close()
    assert len(list((Path(storage.uri) / "annotate").glob("*.sqlite"))) == 1


def drawn(storage: Storage, spec: EvaluationSpec) -> set[str]:
    return set(drawn_prompts(spec, read_responses(storage, spec.run).values()))


def test_a_smaller_count_takes_nothing_away(storage: Storage) -> None:
    opened_again(storage, spec_of(storage, 12)).close()
    store = opened_again(storage, spec_of(storage, 5))
    assert len(store.entries()) == 12
    store.close()


def test_a_larger_overlap_makes_more_items_everybodys(storage: Storage) -> None:
    store = opened_again(storage, spec_of(storage, 10, shared=2))
    for name in ("anna", "ben"):
        invite(store, name)
    label_next(store, "anna", 10)
    assert store.standing("ben").left == 2
    store.close()
    store = opened_again(storage, spec_of(storage, 10, shared=6))
    assert store.standing("ben").left == 6
    assert sum(e.shared for e in store.entries()) == 6
    store.close()


def test_a_grown_round_shows_second_times_no_more_often(storage: Storage) -> None:
    store = opened_again(storage, spec_of(storage, 5, repeats=3))
    again = {(e.row["item_id"], e.row["presentation"]) for e in store.entries()}
    store.close()
    store = opened_again(storage, spec_of(storage, 8, repeats=3))
    shown = [(e.row["item_id"], e.row["presentation"]) for e in store.entries()]
    assert len(set(shown)) == len(shown) == 8 + 3
    assert again <= set(shown)
    store.close()


def test_other_settings_are_another_round(storage: Storage) -> None:
    opened_again(storage, spec_of(storage, 5)).close()
    assert find_round(storage, spec_of(storage, 9)) is not None
    assert find_round(storage, spec_of(storage, 5, seed=1)) is None
    assert find_round(storage, spec_of(storage, 5, repeats=1)) is None


def test_looking_writes_nothing(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for what in ("--status", "--export", "--withdraw=anna", "--choose=5"):
        before = files_of(study)
        assert run(["annotate", str(study), *PAIR, what, "--no-browser"]) == 2
        assert "no such round of labelling; rounds there: none" in capsys.readouterr().err
        assert files_of(study) == before
    with serving(study, *PAIR, "--invite", "anna", "--count", "4") as server:
        link = server.links["anna"]
        server.ask(link, "open")
        server.ask(link, "act", act(1))
        server.stop()
    before = files_of(study)
    for arguments in (PAIR, (), (*PAIR, "--count", "99", "--overlap", "1"), ("--seed", "0")):
        assert run(["annotate", str(study), *arguments, "--status", "--format", "json"]) == 0
        assert '"done": 1' in capsys.readouterr().out
    assert files_of(study) == before
    assert run(["annotate", str(study), "--seed", "7", "--status"]) == 2
    assert "preference of" in capsys.readouterr().err
    assert run(["annotate", str(study), "--withdraw", "anna", "--export"]) == 0
    assert run(["annotate", str(study), "--status", "--format", "json"]) == 0
    assert '"withdrawn": true' in capsys.readouterr().out


def test_what_is_not_said_stays_as_it_is(study: Path, tmp_path: Path) -> None:
    """Neither the number of prompts nor the overlap grows because an option is left out."""
    database = tmp_path / "mine.sqlite"
    for named in ((), ("--database", str(database))):
        small = (*PAIR, *named, "--count", "4", "--overlap", "2")
        for arguments, left in ((small, 4), ((*PAIR, *named), 4), ((*small[:-3], "6"), 6)):
            with serving(study, *arguments) as server:
                opened = server.ask(server.links["me"], "open").value
                assert opened["left"] == left
                server.stop()
        for path in (database,) if named else (study / "annotate").glob("*.sqlite"):
            store = Store(path, reading=True)
            assert [sum(e.shared for e in store.entries()), len(store.entries())] == [2, 6]
            store.close()


def test_looking_while_the_server_runs(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(study, *PAIR, "--invite", "anna") as server:
        link = server.links["anna"]
        server.ask(link, "open")
        server.ask(link, "act", act(1))
        assert run(["annotate", str(study), "--status", "--format", "json"]) == 0
        assert '"done": 1' in capsys.readouterr().out
        server.kill()
    assert run(["annotate", str(study), "--status", "--format", "json"]) == 0
    assert '"done": 1' in capsys.readouterr().out


def test_several_rounds_are_named(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in ("1", "2"):
        with serving(study, *PAIR, "--seed", seed) as server:
            server.ask(server.links["me"], "open")
            server.stop()
    assert run(["annotate", str(study), "--status"]) == 2
    error = capsys.readouterr().err
    assert error.count(".sqlite: preference of ") == 2
    assert "--database" in error
    assert run(["annotate", str(study), "--seed", "1", "--status"]) == 0
    with serving(study, *PAIR) as server:  # now there is one with the default seed
        server.ask(server.links["me"], "open")
        server.stop()
    assert run(["annotate", str(study), "--status"]) == 0

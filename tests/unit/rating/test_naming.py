"""Imported labels meet those of judges and annotators: they name the same items."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lima.evaluation.agreement.tie_discounted import all_agreements
from lima.generation.chat import ChatSpec, Reply
from lima.rating.conversations import Conversations
from lima.rating.items import EvaluationSpec, Item, generation_runs, plan_items
from lima.rating.labels import read_labels
from lima.runs.ledger import record_run
from lima.spec import CellSpec, DataSpec, DecodingSpec, GenerateSpec, ModelSpec
from lima.spec.codec import sha256_key
from lima.store.columns import IDENTITY
from lima.store.scan import Tables
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import GENERATIONS
from lima_k8s.main import run
from lima_k8s.web.annotate.database import Answer
from lima_k8s.web.annotate.invitations import invite
from lima_k8s.web.annotate.rounds import export, open_round
from tests.helpers.web.labelling import OTHER, OURS, annotations, write_pair, write_responses

PROMPTS = 4
PAIR = {
    "kind": "preference",
    "rater": "anna",
    "rater_group": "crowd",
    "label": "A",
    "arm_1": OURS,
    "arm_2": OTHER,
}
ALONE = {
    "kind": "absolute",
    "rater": "anna",
    "rater_group": "crowd",
    "label": "pass",
    "arm_1": OURS,
}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_pair(tmp_path / "study", PROMPTS)


def brought(study: Path, rows: Sequence[dict[str, Any]], *options: str) -> int:
    text = "\n".join(map(json.dumps, rows))
    path = study.parent / f"{sha256_key([text])[:8]}.jsonl"
    path.write_text(text)
    return run(["import-labels", str(study), str(path), "--experiment", "study", *options])


def planned(study: Path, kind: Any, *others: str, run_of: str = OURS) -> list[Item]:
    storage = Storage(str(study))
    ours, *rest = generation_runs(storage, "study", (run_of, *others))
    return plan_items(EvaluationSpec("study", OURS, kind, ours, tuple(rest)), storage)


def prompt_of(item: Item) -> str:
    return item.first.prompt[0]


def items_of(study: Path) -> set[str]:
    return {row["item_id"] for row in annotations(study)}


def test_a_pair_is_the_one_that_a_judge_compares(study: Path) -> None:
    items = planned(study, "preference", OTHER)
    assert brought(study, [PAIR | {"prompt": prompt_of(item)} for item in items]) == 0
    assert items_of(study) == {item.item_id for item in items}
    for row in annotations(study):
        item = next(i for i in items if i.item_id == row["item_id"])
        assert item.second
        assert (row["prompt_key"], row["response_1"], row["response_2"]) == (
            item.first.prompt_key,
            item.first.key,
            item.second.key,
        )
    # The other way round it is the same item too, and two raters agree about it.
    turned = PAIR | {"arm_1": OTHER, "arm_2": OURS, "label": "B", "rater": "ben"}
    assert brought(study, [turned | {"prompt": prompt_of(item)} for item in items]) == 0
    assert items_of(study) == {item.item_id for item in items}
    [found] = all_agreements(read_labels(Tables(Storage(str(study)))), "preference")
    assert (found.items, found.with_ties.value) == (PROMPTS, 1.0)


def test_labels_that_travel_again_count_once(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files that grow, as those of each day do; in another order they hold the same."""
    rows = [PAIR | {"prompt": prompt_of(i)} for i in planned(study, "preference", OTHER)]
    assert brought(study, rows[:2]) == 0
    assert brought(study, rows) == 0
    assert f"{PROMPTS} labels, 2 of which were there already" in capsys.readouterr().err
    assert brought(study, rows[::-1]) == 0
    assert f"{PROMPTS} labels, which were there already" in capsys.readouterr().err
    assert len(annotations(study)) == PROMPTS
    # What is there twice in one file was said twice.
    assert brought(study, [rows[0] | {"rater": "ben"}] * 2) == 0
    assert sorted(r["presentation"] for r in annotations(study) if r["rater"] == "ben") == [0, 1]


def test_a_grade_is_of_the_response(study: Path) -> None:
    items = planned(study, "absolute")
    assert brought(study, [ALONE | {"prompt": prompt_of(item)} for item in items]) == 0
    assert items_of(study) == {item.item_id for item in items}


def test_of_several_seeds_one_is_told(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_responses(Storage(str(study)), OURS, PROMPTS, seed=1)
    row = PAIR | {"prompt": prompt_of(planned(study, "preference", run_of=OTHER)[0])}
    assert brought(study, [row]) == 2
    error = capsys.readouterr().err
    assert f"2 responses of '{OURS}' fit; name a run in run_1: " in error
    assert f"{other} of seed 1 in study" in error
    assert brought(study, [row | {"run_1": other}]) == 0
    [item] = [
        i
        for i in planned(study, "preference", OTHER, run_of=other)
        if prompt_of(i) == row["prompt"]
    ]
    assert items_of(study) == {item.item_id}
    assert brought(study, [row | {"run_1": "0" * 16}]) == 2
    assert "run_1 and sample name no response" in capsys.readouterr().err


def test_a_sample_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Judges of pairs and annotators see the first."""
    study = write_pair(tmp_path / "study", 1)
    storage, prompt = Storage(str(study)), prompt_of(planned(study, "absolute")[0])
    cell = CellSpec("study", "sampled", generate=GenerateSpec(DataSpec("none")))
    record_run(storage, cell, "generate")
    known = {column.name for column in IDENTITY}
    columns = [c.name for c in GENERATIONS.columns if c.name not in known]
    [row] = Tables(storage).read(GENERATIONS, columns).slice(0, 1).to_pylist()
    rows = [row | {"sample": n, "generation_key": f"key{n}"} for n in range(3)]
    RunTable(storage, GENERATIONS, cell).write("samples", rows)
    label = ALONE | {"arm_1": "sampled", "prompt": prompt}
    for told in ({}, {"sample": 2}, {"response_1": "key1"}):
        assert brought(study, [label | told]) == 0
    assert {row["response_1"] for row in annotations(study)} == {"key0", "key1", "key2"}
    assert brought(study, [label | {"sample": 7}]) == 2
    assert "run_1 and sample name no response of 'sampled'" in capsys.readouterr().err
    pair = PAIR | {"arm_1": "sampled", "arm_2": OURS, "prompt": prompt, "response_2": "key1"}
    assert brought(study, [pair]) == 2
    assert f"response_2 is of arm 'sampled', not of '{OURS}'" in capsys.readouterr().err


class Echo:
    def reply(self, prompt: Sequence[str]) -> Reply:
        return Reply(prompt[-1], "eot", [])


def talk(study: Path, arm: str, openings: Sequence[str]) -> Conversations:
    spec = ChatSpec("study", arm, ModelSpec("x"), DecodingSpec())
    talked = Conversations(Storage(str(study)), spec, Echo(), "me")
    for opening in openings:
        conversation = talked.new()
        for said in (opening, "Go on.", "And then?"):
            talked.say(conversation, said)
    return talked


def test_a_turn_is_the_one_that_was_labelled_in_the_chat(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    talked = talk(study, "chatty", ["Begin."])
    [conversation] = talked.all.values()
    talked.label(conversation, 2, "pass")
    label = ALONE | {"kind": "dialogue", "arm_1": "chatty", "prompt": "Begin."}
    assert brought(study, [label | {"turn": 2}]) == 0
    assert len(items_of(study)) == 1
    assert {row["conversation_id"] for row in annotations(study)} == {conversation.id}
    assert brought(study, [label]) == 2
    assert "tell the turn: 1, 2, 3" in capsys.readouterr().err


def test_whole_dialogues_are_those_that_annotators_compare(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = (talk(study, arm, ["Begin."]).run for arm in ("before", "after"))
    spec = EvaluationSpec("study", "before", "dialogue", before, (after,))
    [item] = plan_items(spec, Storage(str(study)))
    label = PAIR | {"kind": "dialogue", "arm_1": "before", "arm_2": "after", "prompt": "Begin."}
    assert brought(study, [label]) == 0
    assert items_of(study) == {item.item_id}
    again = talk(study, "after", ["Another.", "Begin."])
    assert brought(study, [label | {"rater": "ben"}]) == 2
    assert "tell the conversation_id" in capsys.readouterr().err
    told = next(c.id for c in again.all.values() if c.utterances[0] == "Another.")
    other = label | {"rater": "ben", "prompt": "Another.", "conversation_id": told}
    assert brought(study, [other]) == 0


def answered(study: Path, arm: str, *prompt: str, experiment: str = "study") -> str:
    """Write a run of generation with a response to a prompt; return the prompt's key."""
    cell = CellSpec(experiment, arm, generate=GenerateSpec(DataSpec("none")))
    record_run(Storage(str(study)), cell, "generate")
    known = {column.name for column in IDENTITY}
    columns = [c.name for c in GENERATIONS.columns if c.name not in known]
    [row] = Tables(Storage(str(study))).read(GENERATIONS, columns).slice(0, 1).to_pylist()
    key, response = sha256_key(list(prompt)), sha256_key([experiment, arm])
    told = {"prompt": list(prompt), "prompt_key": key, "generation_key": response, "source": "x"}
    RunTable(Storage(str(study)), GENERATIONS, cell).write("own", [row | told])
    return key


def test_responses_to_different_prompts_are_no_pair(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One answers a text, the other a conversation that began with it."""
    alone = answered(study, "one", "Hi")
    answered(study, "two", "Hi", "Hello.", "Go on.")
    label = PAIR | {"arm_1": "one", "arm_2": "two"}
    assert brought(study, [label | {"prompt": "Hi"}]) == 2
    said = capsys.readouterr().err
    assert "not to one prompt (turn 1 by 'one' and turn 2 by 'two' of what begins so)" in said
    assert brought(study, [label | {"prompt_key": alone}]) == 0
    assert "1 of them are of responses that" in capsys.readouterr().err
    answered(study, "three", "Hi", "Yes?", "Go on.")
    turns = PAIR | {"arm_1": "three", "arm_2": "two", "prompt": "Hi", "turn": 2}
    assert brought(study, [turns]) == 0
    assert "of responses that" not in capsys.readouterr().err


def test_arms_of_the_experiment_come_first_whatever_they_answered(study: Path) -> None:
    talk(study, "both", ["Hi"])
    answered(study, "both", "Hi", experiment="elsewhere")
    assert brought(study, [ALONE | {"arm_1": "both", "prompt": "Hi"}]) == 0
    [row] = annotations(study)
    columns = ["generation_key", "experiment"]
    rows = Tables(Storage(str(study))).read(GENERATIONS, columns).to_pylist()
    assert {r["generation_key"]: r["experiment"] for r in rows}[row["response_1"]] == "study"


def labelled(study: Path, times: int = 3) -> list[Path]:
    """Have somebody label pairs, and export; return the files."""
    storage = Storage(str(study))
    ours, other = generation_runs(storage, "study", (OURS, OTHER))
    spec = EvaluationSpec("study", OURS, "preference", ours, (other,), both_orders=True)
    store = open_round(spec, storage, study / "round.sqlite")
    invite(store, "anna")
    for number in range(times):
        task = store.task("anna")
        assert task
        label = {"label": "AB"[number % 2]}
        store.add("anna", Answer(f"anna/{number}", task.turn, "labelled", label))
    store.add("anna", Answer("undo", times, "undone", {}))
    assert export(store, storage) == {"anna": times + 1}
    store.close()
    return sorted(study.glob("annotations/**/*.parquet"))


def test_what_annotate_exports_names_the_same_items_when_it_is_brought(
    study: Path, tmp_path: Path
) -> None:
    [file] = labelled(study)
    copy = write_pair(tmp_path / "copy", PROMPTS)
    assert run(["import-labels", str(copy), str(file), "--experiment", "study"]) == 0
    one, other = (read_labels(Tables(Storage(str(folder)))) for folder in (study, copy))
    said = [
        [(x.item_id, x.rater, x.group, x.value, x.shown_first, x.responses) for x in labels]
        for labels in (one, other)
    ]
    assert said[0] == said[1]
    assert len(one) == 2
    # And where they come from, they are there already.
    assert run(["import-labels", str(study), str(file), "--experiment", "study"]) == 0
    assert len(read_labels(Tables(Storage(str(study))))) == len(one)
    # Lines with these columns say the same.
    told = (
        "kind",
        "rater",
        "rater_group",
        "label",
        "shown",
        "prompt_key",
        "response_1",
        "response_2",
        "arm_1",
        "arm_2",
    )
    rows = [{name: row[name] for name in told} for row in annotations(copy)]
    third = write_pair(tmp_path / "third", PROMPTS)
    assert brought(third, rows) == 0
    assert items_of(third) == items_of(copy)


def test_another_table_is_refused(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = next(study.glob("generations/**/*.parquet"))
    assert run(["import-labels", str(study), str(file), "--experiment", "study"]) == 2
    assert "not a file of the table annotations" in capsys.readouterr().err


def test_damaged_files_are_refused_by_name(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [file] = labelled(study)
    whole, table = file.read_bytes(), pq.read_table(file)
    said_in = table.schema.get_field_index("comment")
    times = pa.array([2**62] * len(table), pa.int64()).view(pa.timestamp("us"))
    odd = tmp_path / "odd"
    pq.write_table(table.set_column(said_in, "comment", times), odd)
    nulls = tmp_path / "nulls"
    column = table.schema.get_field_index("presentation")
    blank = pa.nulls(len(table), pa.int64())
    pq.write_table(table.set_column(column, "presentation", blank), nulls)
    damaged = {
        "cut": (whole[: len(whole) // 2], "damaged Parquet"),
        "spoilt": (whole[:4] + bytes(200) + whole[204:], "damaged Parquet"),
        "odd": (odd.read_bytes(), "comment: a value of this column cannot be read"),
        "nulls": (nulls.read_bytes(), "not a file of the table annotations"),
    }
    for name, (data, said) in damaged.items():
        (tmp_path / name).write_bytes(data)
        arguments = ["import-labels", str(study), str(tmp_path / name), "--experiment", "study"]
        assert run(arguments) == 2, name
        assert f"{tmp_path / name}: {said}" in capsys.readouterr().err


def test_responses_that_come_later_give_labels_their_names(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt = prompt_of(planned(study, "absolute")[0])
    row = PAIR | {"prompt": prompt, "arm_2": "late"}
    assert brought(study, [row], "--new", "arms") == 0
    assert "1 of them are of responses that" in capsys.readouterr().err
    write_responses(Storage(str(study)), "late", PROMPTS)
    assert brought(study, [row]) == 0
    assert "now with the keys of responses that came since" in capsys.readouterr().err
    [item] = [i for i in planned(study, "preference", "late") if prompt_of(i) == prompt]
    assert items_of(study) == {item.item_id}
    assert brought(study, [row]) == 0
    assert "came since" not in capsys.readouterr().err

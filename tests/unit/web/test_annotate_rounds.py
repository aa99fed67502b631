"""Rounds of labelling: dialogues by turn and as a whole, and the choice of a checkpoint."""

import json
from pathlib import Path
from typing import Any

import pytest

from lima.errors import DataError, InputError
from lima.generation.chat import ChatSpec, Reply
from lima.rating.conversations import Conversations
from lima.rating.dialogues import read_dialogues
from lima.rating.instructions import INSTRUCTIONS, WHOLE_DIALOGUES, instructions
from lima.rating.items import EvaluationSpec, plan_items
from lima.rating.labels import read_labels
from lima.rating.selection import choice_path, read_choice
from lima.recipes.overrides import apply_overrides
from lima.recipes.registry import load_study
from lima.spec import DecodingSpec, ModelSpec
from lima.spec.codec import run_id
from lima.store.scan import Tables
from lima.store.storage import Storage
from lima.store.tables import ANNOTATIONS
from lima_k8s.main import run
from lima_k8s.web.annotate.database import Answer, Store
from lima_k8s.web.annotate.invitations import invite
from lima_k8s.web.annotate.questions import questions
from lima_k8s.web.annotate.rounds import export, open_round
from tests.helpers.web.labelling import OURS, write_responses

OPENINGS = ("Plan a week of dinners.", "Explain tides.", "Write a toast.")


class Parrot:
    """Answers with what was said, so that a test knows every answer."""

    def __init__(self, name: str) -> None:
        self.name = name

    def reply(self, prompt: Any) -> Reply:
        return Reply(f"{self.name} heard {len(prompt)}: {prompt[-1]}", "eot", [])


def _chat(storage: Storage, arm: str, turns: int = 2) -> Conversations:
    spec = ChatSpec("study", arm, ModelSpec("x"), DecodingSpec())
    made = Conversations(storage, spec, Parrot(arm), "me", OPENINGS)
    for opening in OPENINGS:
        conversation = made.new()
        for said in (opening, "Go on.", "And then?")[:turns]:
            made.say(conversation, said)
    return made


def _label_all(store: Store, labels: list[str]) -> list[dict[str, Any]]:
    invite(store, "anna")
    shown: list[dict[str, Any]] = []
    while task := store.task("anna"):
        label = labels[len(shown) % len(labels)]
        shown.append(task.shown)
        store.add(
            "anna", Answer(f"{store.path}/{task.turn}", task.turn, "labelled", {"label": label})
        )
    return shown


def _annotations(storage: Storage) -> list[dict[str, Any]]:
    return Tables(storage).read(ANNOTATIONS, [c.name for c in ANNOTATIONS.columns]).to_pylist()


def test_whole_dialogues_are_compared_where_they_began_alike(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    ours, other = _chat(storage, "zero"), _chat(storage, "tuned", turns=3)
    other.say(other.new(), "Something that the first model was never asked.")
    spec = EvaluationSpec("study", "zero", "dialogue", ours.run, (other.run,))
    store = open_round(spec, storage, tmp_path / "d.sqlite")
    shown = _label_all(store, ["A"])
    assert len(shown) == len(OPENINGS)
    for task in shown:
        assert [u["who"] for u in task["prompt"]] == ["user"]
        assert task["prompt"][0]["text"] in OPENINGS
        short, long = sorted(task["responses"], key=len)
        assert [u["who"] for u in short] == ["assistant", "user", "assistant"]
        assert [u["text"] for u in long][1::2] == ["Go on.", "And then?"]
        assert long[0]["text"] == f"tuned heard 1: {task['prompt'][0]['text']}"
    assert export(store, storage) == {"anna": 3}
    rows = [r for r in _annotations(storage) if r["rater"] == "anna"]
    ends = {r.key for r in read_dialogues(storage, other.run).values()}
    for row, task in zip(rows, shown, strict=True):
        assert (row["turn"], row["instruction_hash"]) == (None, WHOLE_DIALOGUES.hash)
        assert row["response_2"] in ends
        ours_first = len(task["responses"][0]) == 3
        assert row["shown"] == ("12" if ours_first else "21")
    wins = {label.for_arm("zero") for label in read_labels(Tables(storage)) if label.arm_2}
    assert wins <= {"win", "lose"}


def test_the_turns_of_conversations_are_graded_one_by_one(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    talked = _chat(storage, "zero")
    spec = EvaluationSpec("study", "zero", "dialogue", talked.run, shared=2)
    store = open_round(spec, storage, tmp_path / "d.sqlite")
    shown = _label_all(store, ["fail", "pass", "excellent"])
    assert sorted(len(task["prompt"]) for task in shown) == [1, 1, 1, 3, 3, 3]
    export(store, storage)
    rows = _annotations(storage)
    assert sorted((r["conversation_id"], r["turn"]) for r in rows) == sorted(
        (c, t) for c in talked.all for t in (1, 2)
    )
    assert {r["instruction_hash"] for r in rows} == {INSTRUCTIONS["dialogue"].hash}


def test_what_is_asked_of_a_dialogue_depends_on_how_many_there_are() -> None:
    (one,), (two,) = questions("dialogue", pair=False), questions("dialogue", pair=True)
    assert [c.label for c in one.choices] == ["fail", "pass", "excellent"]
    assert [c.label for c in two.choices] == ["A", "B", "neither"]
    assert instructions("preference", pair=True) is INSTRUCTIONS["preference"]
    hashes = [i.hash for i in (*INSTRUCTIONS.values(), WHOLE_DIALOGUES)]
    assert len(set(hashes)) == len(hashes) - 1  # checkpoints are asked about as any pair


def test_a_round_is_of_one_spec_and_one_text(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    found = write_responses(storage, OURS, 3)
    spec = EvaluationSpec("study", OURS, "absolute", found)
    path = tmp_path / "a.sqlite"
    open_round(spec, storage, path).close()
    other = EvaluationSpec("study", OURS, "safety", found)
    with pytest.raises(InputError, match="holds another round"):
        open_round(other, storage, path)
    Store(path).set(instruction_hash="of another text")
    with pytest.raises(InputError, match="other instructions"):
        open_round(spec, storage, path)


def test_what_came_later_does_not_change_a_round(tmp_path: Path) -> None:
    """Items are taken once: a run that goes on meanwhile adds nothing and moves nothing."""
    storage = Storage(str(tmp_path))
    spec = EvaluationSpec("study", OURS, "absolute", write_responses(storage, OURS, 3))
    before = open_round(spec, storage, tmp_path / "a.sqlite").entries()
    assert len(before) == 3
    for shard in tmp_path.glob("generations/*/*/*.parquet"):
        shard.unlink()
    assert open_round(spec, storage, tmp_path / "a.sqlite").entries() == before


EPOCHS = (5, 6, 7)


@pytest.fixture
def epochs(tmp_path: Path) -> Storage:
    storage = Storage(str(tmp_path))
    for epoch in EPOCHS:
        write_responses(storage, "tuned", 4, epoch=epoch)
    write_responses(storage, "tuned", 4)  # the last epoch, by no number: not one of them
    return storage


def _prefer_epoch(storage: Storage, best: int, capsys: pytest.CaptureFixture[str]) -> Path:
    """Label every pair for the better epoch: the one closest to `best`."""
    arguments = ["annotate", storage.uri, "--kind", "checkpoint", "--invite", "anna"]
    assert run([*arguments, "--status", "--format", "json"]) == 0
    path = Path(json.loads(capsys.readouterr().out)["database"])
    store = Store(path)
    of_text: dict[str, int] = {}
    for number in EPOCHS:
        cell_run = write_responses(storage, "tuned", 4, epoch=number)
        of_text |= dict.fromkeys(_texts(storage, cell_run), number)
    while task := store.task("anna"):
        a, b = (of_text[r[0]["text"]] for r in task.shown["responses"])
        closer = abs(b - best) - abs(a - best)
        label = "A" if closer > 0 else "B" if closer < 0 else "neither"
        store.add("anna", Answer(f"e{task.turn}", task.turn, "labelled", {"label": label}))
    store.close()
    return path


def _texts(storage: Storage, of_run: str) -> list[str]:
    from lima.rating.responses import read_responses

    return [response.text for response in read_responses(storage, of_run).values()]


def test_an_epoch_is_chosen_and_the_next_stage_uses_it(
    epochs: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["annotate", epochs.uri, "--kind", "checkpoint"]
    assert run([*arguments, "--chosen"]) == 2
    assert "no epoch of run" in capsys.readouterr().err
    assert run([*arguments, "--choose", "6"]) == 2
    assert "no such round of labelling" in capsys.readouterr().err
    assert list(Path(epochs.uri).glob("choices/*")) == []
    _prefer_epoch(epochs, 6, capsys)
    assert run([*arguments, "--choose", "9"]) == 2
    assert "epochs: 5, 6, 7" in capsys.readouterr().err
    assert run([*arguments, "--choose", "6"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["epoch", "won", "tied", "lost", "points"],
        ["5", "0", "4", "4", "0.25"],
        ["6", "8", "0", "0", "1.0", "chosen"],
        ["7", "0", "4", "4", "0.25"],
    ]
    assert run([*arguments, "--chosen"]) == 0
    chosen = capsys.readouterr().out.strip()
    assert chosen == "6"
    cells = load_study("lima_65b", [f"generate.model.epoch={chosen}"])
    generate = cells[0].generate
    assert generate is not None
    assert generate.model.epoch == 6
    assert run_id(cells[0]) != run_id(apply_overrides(cells, ["generate.model.epoch=null"])[0])


def test_a_damaged_choice_is_told(epochs: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    _prefer_epoch(epochs, 5, capsys)
    assert run(["annotate", epochs.uri, "--kind", "checkpoint", "--choose", "5"]) == 0
    file = next(Path(epochs.uri).glob("choices/*.json"))
    trained = file.stem.removeprefix("run_id=")
    assert read_choice(epochs, trained)["compared"][0]["points"] == 1.0
    epochs.write(choice_path(trained), b"{}", replace=True)
    with pytest.raises(DataError, match="choose the epoch again"):
        read_choice(epochs, trained)


def test_checkpoints_are_compared_all_with_all(epochs: Storage) -> None:
    runs = tuple(write_responses(epochs, "tuned", 4, epoch=number) for number in EPOCHS)
    spec = EvaluationSpec("study", "tuned", "checkpoint", runs[0], runs[1:])
    assert len(plan_items(spec, epochs)) == 3 * 4

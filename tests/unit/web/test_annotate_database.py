"""The store of labels: once, in one chain, whoever writes and whenever they are killed."""

import json
import random
import sqlite3
import stat
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from lima.errors import InputError
from lima_k8s.web.annotate.database import Answer, Conflict, Entry, Event, Store
from lima_k8s.web.annotate.invitations import (
    access_token,
    annotators,
    holder,
    invite,
    is_access,
    withdraw,
)


def _entries(count: int, shared: int) -> list[Entry]:
    return [Entry(n, n < shared, {"prompt": f"p{n}"}, {"item_id": f"i{n}"}) for n in range(count)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "labels.sqlite")
    assert made.fill(_entries(6, 2), kind="absolute")
    for name in ("anna", "ben:author"):
        invite(made, name)
    return made


def _answer(turn: int, event: Event = "labelled", label: str = "pass") -> Answer:
    return Answer(str(uuid4()), turn, event, {"label": label} if event == "labelled" else {})


def _label_all(store: Store, name: str) -> list[str]:
    seen = []
    while task := store.task(name):
        seen.append(task.shown["prompt"])
        store.add(name, _answer(task.turn))
    return seen


def test_shared_entries_go_to_all_and_the_others_to_one(store: Store) -> None:
    first = store.task("anna")
    assert first == store.task("anna")  # a page that is loaded again gets the same
    assert _label_all(store, "anna") == ["p0", "p1", "p2", "p3", "p4", "p5"]
    assert _label_all(store, "ben") == ["p0", "p1"]
    assert (store.standing("ben").done, store.standing("ben").left) == (2, 0)


def test_two_who_take_turns_share_what_is_not_shared(store: Store) -> None:
    seen: dict[str, list[str]] = {"anna": [], "ben": []}
    while tasks := [(name, task) for name in seen if (task := store.task(name))]:
        for name, task in tasks:
            seen[name].append(task.shown["prompt"])
            store.add(name, _answer(task.turn))
    assert seen == {"anna": ["p0", "p1", "p2", "p4"], "ben": ["p0", "p1", "p3", "p5"]}


def test_an_event_that_comes_again_is_kept_once(store: Store) -> None:
    store.task("anna")
    answer = _answer(1)
    for _ in range(3):
        store.add("anna", answer)
    assert len(store.events()) == 1
    for other in (
        Answer(answer.event_id, 1, "labelled", {"label": "fail"}),
        Answer(answer.event_id, 1, "skipped", {}),
    ):
        with pytest.raises(Conflict, match="id was used"):
            store.add("anna", other)
    store.task("ben")
    with pytest.raises(Conflict, match="id was used"):
        store.add("ben", answer)
    assert [e["rater"] for e in store.events()] == ["anna"]


def test_only_what_is_open_is_labelled_and_only_the_last_undone(store: Store) -> None:
    store.task("anna")
    for turn in (2, 7, -1):
        with pytest.raises(Conflict, match="none of your tasks"):
            store.add("anna", _answer(turn))
    with pytest.raises(Conflict, match="another window"):
        store.add("anna", _answer(1, "undone"))
    store.add("anna", _answer(1))
    with pytest.raises(Conflict, match="another window"):
        store.add("anna", _answer(1, label="fail"))
    store.task("anna")
    store.add("anna", _answer(2, "skipped"))
    with pytest.raises(Conflict, match="only your last"):
        store.add("anna", _answer(1, "undone"))
    assert store.standing("anna").undo == 2


def test_undo_goes_back_step_by_step_and_the_chain_tells_it(store: Store) -> None:
    for turn in (1, 2):
        store.task("anna")
        store.add("anna", _answer(turn))
    for turn in (2, 1):
        undo = store.standing("anna").undo
        assert undo == turn
        store.add("anna", _answer(turn, "undone"))
    assert store.standing("anna").undo is None
    assert (store.standing("anna").done, store.standing("anna").left) == (0, 6)
    task = store.task("anna")
    assert task is not None
    assert task.turn == 1
    store.add("anna", _answer(1, label="excellent"))
    events = store.events()
    mine = [e for e in events if e["item_id"] == "i0"]
    assert [e["event"] for e in mine] == ["labelled", "undone", "labelled"]
    assert [e["supersedes"] for e in mine] == [None, *[e["annotation_id"] for e in mine[:2]]]
    assert mine[-1]["answers"] == {"label": "excellent"}
    assert mine[-1]["rater_group"] == "crowd"


def test_what_a_withdrawn_annotator_left_open_is_given_to_others(store: Store) -> None:
    for _ in range(3):
        task = store.task("anna")
        assert task
        store.add("anna", _answer(task.turn))
    store.task("anna")  # claims p3 and never answers
    secret = next(a.secret for a in annotators(store) if a.name == "anna")
    assert holder(store, secret)
    withdraw(store, "anna")
    assert holder(store, secret) is None
    assert _label_all(store, "ben") == ["p0", "p1", "p3", "p4", "p5"]
    assert Counter(e["item_id"] for e in store.events())["i2"] == 1
    with pytest.raises(InputError, match="was withdrawn"):
        invite(store, "anna")
    with pytest.raises(InputError, match="invited are anna, ben"):
        withdraw(store, "carl")


def test_invitations(store: Store) -> None:
    anna, ben = annotators(store)
    assert (anna.role, ben.role) == ("crowd", "author")
    assert len(anna.secret) >= 32
    assert invite(store, "ben") == ben
    assert invite(store, "ben:author") == ben
    for text in ("ben:crowd", "ben:boss", "", "a b", "../x", "x" * 41, ":author"):
        with pytest.raises(InputError, match="--invite"):
            invite(store, text)
    assert holder(store, ben.secret) == ben
    assert holder(store, "") is None
    assert holder(store, ben.secret[:-1]) is None
    token = access_token(store)
    assert access_token(store) == token
    assert is_access(store, token)
    assert not is_access(store, "")


def test_the_file_is_for_its_owner_alone_and_no_other_file_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "new" / "labels.sqlite"
    Store(path).fill(_entries(1, 0))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but long enough to be taken for one" * 20)
    with pytest.raises(InputError, match=r"notes\.txt.*--database"):
        Store(text)
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(InputError, match="format 99"):
        Store(other)


def test_a_round_begins_once(store: Store) -> None:
    assert not store.fill(_entries(9, 9), kind="safety")
    assert len(store.entries()) == 6
    assert store.settings()["kind"] == "absolute"


def test_many_threads_lose_and_double_nothing(tmp_path: Path) -> None:
    """Windows of three annotators, each answer sent twice, over two openings of the file."""
    path = tmp_path / "labels.sqlite"
    stores = [Store(path), Store(path)]
    stores[0].fill(_entries(60, 10))
    names = ["anna", "ben", "carl"]
    for name in names:
        invite(stores[0], name)

    def work(store: Store, name: str) -> None:
        while task := store.task(name):
            answer = _answer(task.turn)
            for _ in range(2):
                try:
                    store.add(name, answer)
                except Conflict:
                    break  # the other window was first

    threads = [threading.Thread(target=work, args=(s, name)) for s in stores for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = Counter((e["rater"], e["item_id"]) for e in stores[1].events())
    assert set(found.values()) == {1}
    per_item = Counter(item for _, item in found)
    assert per_item == {f"i{n}": 3 if n < 10 else 1 for n in range(60)}


WRITER = """
import sys
from pathlib import Path
from lima_k8s.web.annotate.database import Answer, Store
store = Store(Path(sys.argv[1]))
while task := store.task("anna"):
    answer = Answer(f"event {task.turn}", task.turn, "labelled", {"label": "pass"})
    store.add("anna", answer)
    print(task.turn, flush=True)
"""


def test_what_was_answered_survives_sigkill_at_any_moment(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    store = Store(path)
    store.fill(_entries(400, 0))
    invite(store, "anna")
    random.seed(7)
    answered, kills = 0, 0
    while answered < 400:
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        more = random.randint(1, 60)
        for line in process.stdout:
            answered = int(line)
            more -= 1
            if not more:
                process.kill()  # wherever it is: in the next claim, in a commit, between them
                kills += 1
        process.wait()
        kept = [e["annotation_id"] for e in store.events()]
        assert kept == [f"event {n}" for n in range(1, len(kept) + 1)]
        assert len(kept) >= answered
    assert kills > 5
    assert len(store.events()) == 400


def test_times_and_texts_come_back_as_they_were(store: Store) -> None:
    store.task("anna")
    said = 'a "quoted" line\n<b>& \N{SNOWMAN} \'; DROP TABLE events; --'
    answer = Answer(str(uuid4()), 1, "labelled", {"label": said}, comment=said)
    store.add("anna", answer)
    event: dict[str, Any] = store.events()[0]
    assert event["answers"] == {"label": said}
    assert event["comment"] == said
    assert event["started_at"] is None
    assert event["ended_at"].tzinfo is not None
    assert json.dumps(store.settings())

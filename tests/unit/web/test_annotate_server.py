"""The labelling server as a real process: who may ask what, what it says, and what is kept."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lima.rating.instructions import INSTRUCTIONS
from lima.store.scan import Tables
from lima.store.storage import Storage
from lima.store.tables import ITEMS
from lima_k8s.main import run
from tests.helpers.web.labelling import (
    ATTACK,
    OTHER,
    OURS,
    PAIR,
    Server,
    act,
    annotations,
    serving,
    study,
)

__all__ = ["study"]


@pytest.fixture
def server(study: Path) -> Iterator[Server]:
    with serving(study, *PAIR, "--overlap", "4", "--invite", "anna", "--invite", "ben") as started:
        yield started


def test_a_label_is_kept_once_and_exported_with_what_was_shown(server: Server, study: Path) -> None:
    anna = server.links["anna"]
    opened = server.ask(anna, "open").value
    assert opened["instructions"] == INSTRUCTIONS["preference"].text
    assert [c["label"] for c in opened["questions"][0]["choices"]] == ["A", "B", "neither"]
    assert (opened["done"], opened["left"], opened["undo"]) == (0, 12, None)
    shown = opened["task"]
    sent = act(1, answers={"label": "B"}, comment=" why <b> ", seconds=2.5)
    first = server.ask(anna, "act", sent).value
    assert server.ask(anna, "act", sent).value == first  # the same again changes nothing
    assert (first["task"]["turn"], first["done"], first["left"], first["undo"]) == (2, 1, 11, 1)
    assert server.ask(anna, "act", act(2, "skipped")).status == 200
    assert server.ask(anna, "act", act(2, "undone")).value["task"]["turn"] == 2
    said = server.stop()
    assert "3 of anna" in said
    rows = annotations(study)
    assert [r["event"] for r in rows] == ["labelled", "skipped", "undone"]
    row = rows[0]
    assert (row["annotation_id"], row["label"]) == (sent["event_id"], "B")
    assert (row["comment"], row["rater"], row["rater_group"]) == ("why <b>", "anna", "crowd")
    assert row["instruction_hash"] == INSTRUCTIONS["preference"].hash
    seconds = (row["ended_at"] - row["started_at"]).total_seconds()
    assert seconds == pytest.approx(2.5, abs=1)
    ledger = Tables(Storage(str(study))).read(ITEMS, [c.name for c in ITEMS.columns]).to_pylist()
    item = next(i for i in ledger if i["item_id"] == row["item_id"])
    assert {k: row[k] for k in item if k in row} == {k: v for k, v in item.items() if k in row}
    assert (row["arm_1"], row["arm_2"]) == (OURS, OTHER)
    texts = [utterances[0]["text"] for utterances in shown["responses"]]
    assert texts == _texts(study, row)


def _texts(folder: Path, row: dict[str, Any]) -> list[str]:
    """Return the responses as they were shown, by the table `generations`."""
    from lima.store.tables import GENERATIONS

    table = Tables(Storage(str(folder))).read(GENERATIONS, ["generation_key", "response"])
    of_key = {r["generation_key"]: r["response"] for r in table.to_pylist()}
    texts = [of_key[row["response_1"]], of_key[row["response_2"]]]
    return texts if row["shown"] == "12" else texts[::-1]


def test_nothing_tells_of_models_runs_or_other_people(server: Server, study: Path) -> None:
    seen = []
    for name in ("anna", "ben"):
        link = server.links[name]
        page = server.ask(link, "", method="GET")
        opened = server.ask(link, "open")
        texts = [page.value, str(page.headers), str(opened.headers), json.dumps(opened.value)]
        other = "ben" if name == "anna" else "anna"
        assert not any(f'"{other}"' in text for text in texts)
        state = opened.value
        while state["task"]:
            state = server.ask(link, "act", act(state["task"]["turn"])).value
            texts.append(json.dumps(state))
        seen += texts
    everything = "\n".join(seen)
    ledger = Tables(Storage(str(study))).read(ITEMS, [c.name for c in ITEMS.columns]).to_pylist()
    hidden = {OURS, OTHER, "study", str(study), "generation", *(r["run_id"] for r in ledger)}
    hidden |= {r[k] for r in ledger for k in ("item_id", "response_1", "response_2", "prompt_key")}
    assert [word for word in hidden if word in everything] == []
    assert "Answer " in everything


def test_a_second_person_neither_sees_nor_writes_the_labels_of_the_first(
    server: Server, study: Path
) -> None:
    anna, ben = server.links["anna"], server.links["ben"]
    sent = act(1, answers={"label": "A"}, comment="between us")
    assert server.ask(anna, "act", sent).status == 409  # nothing is hers before she opened it
    server.ask(anna, "open")
    assert server.ask(anna, "act", sent).status == 200
    server.ask(anna, "act", act(2))
    mine = server.ask(ben, "open").value
    assert (mine["done"], mine["undo"], mine["task"]["turn"]) == (0, None, 1)
    assert server.ask(ben, "act", act(1, "undone")).status == 409
    assert server.ask(ben, "act", act(3)).status == 409  # hers, at most
    stolen = server.ask(ben, "act", {**sent, "answers": {"label": "B"}})
    assert stolen.status == 409
    assert "between us" not in json.dumps([mine, stolen.value])
    assert server.ask(ben, "act", act(1, answers={"label": "B"})).value["done"] == 1
    server.stop()
    rows = annotations(study)
    assert [(r["rater"], r["label"]) for r in rows] == [("anna", "A"), ("anna", "A"), ("ben", "B")]
    assert rows[0]["item_id"] == rows[2]["item_id"]  # shared
    assert rows[0]["shown"] == rows[2]["shown"]


MISFITS: list[tuple[Any, str]] = [
    (act(1, answers={"label": "C"}), "no answer to 'label'"),
    (act(1, answers={}), "no answer to label"),
    (act(1, answers={"label": "A", "malicious": "yes"}), "'malicious'"),
    (act(1, answers=["A"]), "Expected `object`"),
    (act(0), ">= 1"),
    (act(1, "deleted"), "Invalid enum value"),
    (act(1, "skipped", answers={"label": "A"}), "no answers"),
    (act(1, rater="ben"), "unknown field `rater`"),
    (act(1) | {"event_id": "x"}, "regex"),
    (act(1, comment="x" * 5000), "length <= 4000"),
    (act(1, seconds=-1), ">= 0"),
    ([1], "Expected `object`"),
]


def test_what_does_not_fit_is_refused(server: Server) -> None:
    link = server.links["anna"]
    server.ask(link, "open")
    for body, why in MISFITS:
        answer = server.ask(link, "act", body)
        assert answer.status == 400, body
        assert why in answer.value["error"]
    assert server.ask(link, "open").value["done"] == 0


def test_only_the_page_itself_may_ask(server: Server) -> None:
    link = server.links["anna"]
    server.ask(link, "open")
    origin = link.split("/a/")[0]
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": origin.replace("127.0.0.1", "localhost")},
        {"Content_Type": "text/plain"},
        {"Content_Type": "application/x-www-form-urlencoded"},
        {"Content_Type": "multipart/form-data"},
        {"Host": f"evil.example:{origin.rpartition(':')[2]}"},
        {"Host": ""},
    ):
        assert server.ask(link, "act", act(1), **headers).status == 404, headers
    for method in ("PUT", "DELETE", "OPTIONS", "PATCH"):
        assert server.ask(link, "act", act(1), method=method).status == 404
    assert server.ask(link, "act", method="GET").status in (404, 405)
    for path in ("/", "/a/", "/a/wrong/", "/docs", "/openapi.json", "/redoc", "/a/%2e%2e/"):
        assert server.ask(origin + path, "", method="GET").status == 404
    assert server.ask(origin + "/a/wrong/", "open").status == 404
    assert server.ask(link, "act", act(1, comment="x" * (1 << 17))).status == 413
    assert server.ask(link, "open").value["done"] == 0
    assert server.ask(link, "act", act(1), Origin=origin).status == 200


def test_the_answers_let_nothing_in_from_elsewhere(server: Server) -> None:
    link = server.links["anna"]
    page, data = server.ask(link, "", method="GET"), server.ask(link, "open")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    nonce = policy.split("'nonce-")[1].split("'")[0]
    assert page.value.count(f'nonce="{nonce}"') == 2
    assert "{{" not in page.value
    assert "http" not in page.value.replace("http-equiv", "")
    again = server.ask(link, "", method="GET").headers["Content-Security-Policy"]
    assert again != policy
    for answer in (page, data, server.ask(link, "nothing")):
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "'none'" in answer.headers["Content-Security-Policy"]
        assert not {"Server", "Access-Control-Allow-Origin"} & set(answer.headers)


def test_it_is_bound_to_this_machine_unless_told_otherwise(server: Server, study: Path) -> None:
    port = int(server.links["anna"].split(":")[2].split("/")[0])
    own = socket.gethostbyname(socket.gethostname())
    if own.startswith("127."):
        pytest.skip("this machine has no other address")
    with socket.socket() as probe:
        probe.settimeout(5)
        assert probe.connect_ex((own, port)) != 0


def test_other_machines_need_the_access_token_too(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["annotate", str(study), *PAIR, "--host", "0.0.0.0"]) == 2
    assert "--url" in capsys.readouterr().err
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with serving(study, *PAIR, "--host", "0.0.0.0", "--url", url, "--port", str(port)) as server:
        link = server.links["me"]
        page = server.ask(link, "", method="GET")
        assert 'id="token"' in page.value
        assert "questions" not in page.value
        assert server.ask(link, "open").status == 403
        assert server.ask(link, "act", act(1)).status == 403
        assert server.ask(link, "enter", {"token": "wrong"}).status == 403
        assert server.ask(f"{url}/a/wrong/", "enter", {"token": server.token}).status == 404
        entered = server.ask(link, "enter", {"token": server.token})
        cookie = entered.headers["Set-Cookie"]
        assert {"HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
        assert server.token not in cookie
        inside = cookie.split(";")[0]
        assert server.ask(link, "open", Cookie=inside).value["left"] == 12
        assert 'id="questions"' in server.ask(link, "", method="GET", Cookie=inside).value
        assert server.ask(link, "open", Cookie="lima_access=").status == 403
        token = server.token
    with serving(study, *PAIR, "--url", "https://labels.example.org") as behind:
        assert behind.links["me"].startswith("https://labels.example.org/a/")
        assert behind.token == token
        local = f"http://127.0.0.1:{port}/a/{behind.links['me'].split('/a/')[1]}"
        host = "labels.example.org"
        assert behind.ask(local, "open").status == 404
        assert behind.ask(local, "open", Host=host).status == 403
        entered = behind.ask(local, "enter", {"token": token}, Host=host)
        assert "Secure" in entered.headers["Set-Cookie"]


def test_status_and_export_beside_a_running_server(
    server: Server, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = server.links["anna"]
    server.ask(link, "open")
    server.ask(link, "act", act(1))
    arguments = ["annotate", str(study), *PAIR, "--overlap", "4"]
    assert run([*arguments, "--status", "--format", "json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["items"] == 12
    anna, ben = status["annotators"]
    assert (anna["done"], anna["left"], ben["done"], ben["left"]) == (1, 11, 0, 12)
    assert anna["link"] == link
    assert run([*arguments, "--export"]) == 0
    assert [r["rater"] for r in annotations(study)] == ["anna"]
    server.ask(link, "act", act(2))
    assert run([*arguments, "--export"]) == 0
    assert [r["rater"] for r in annotations(study)] == ["anna", "anna"]


def test_a_response_is_sent_as_it_is(server: Server) -> None:
    link = server.links["anna"]
    state = server.ask(link, "open").value
    texts = []
    while state["task"]:
        texts += [u["text"] for r in state["task"]["responses"] for u in r]
        state = server.ask(link, "act", act(state["task"]["turn"])).value
    assert sum(text.startswith(ATTACK) for text in texts) == 4  # prompts 0 and 7, both sides

"""Picking by hand: the page's server, and the command as a person starts it."""

import http.client
import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from lima.curation.candidates.candidate import Candidate
from lima.curation.candidates.table import CandidateStore
from lima.curation.reading.damage import Damage
from lima.errors import DataError, InputError, StorageError
from lima.spec import CellSpec
from lima.spec.curate import ArmSpec, CurateSpec, PartSpec, SourceSpec
from lima.store.storage import Storage
from lima_k8s.web.local_page import LocalPage
from lima_k8s.web.pick import PickFile, PickSession, best_first, read_shortlist
from tests.helpers.web.picking import candidates, decisions, file, page

__all__ = ["file", "page"]


def _ask(
    page: LocalPage, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, Any, http.client.HTTPMessage]:
    address = urlsplit(page.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port)
    sent = {
        "Content-Type": "application/json",
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    data = None if body is None else json.dumps(body)
    connection.request(method, path, data, sent)
    answer = connection.getresponse()
    content = answer.read().decode()
    connection.close()
    is_json = answer.headers["Content-Type"].startswith("application/json")
    return answer.status, json.loads(content) if is_json else content, answer.headers


def _call(page: LocalPage, action: str, **body: Any) -> tuple[int, Any]:
    return _ask(page, "POST", f"/{page.token}/{action}", body)[:2]


def test_decisions_are_on_disk_before_they_are_answered(page: LocalPage, file: PickFile) -> None:
    state = _call(page, "state")[1]
    assert (state["target"], state["source"], len(state["items"])) == (3, "writingprompts", 10)
    assert [item["decision"] for item in state["items"]] == [None] * 10
    for index, decision in ((0, "keep"), (1, "drop"), (2, "keep"), (2, None)):
        assert _call(page, "decide", index=index, decision=decision)[0] == 200
    assert decisions(file) == {"p1/c0": "keep", "p1/c1": "drop"}
    assert _call(page, "undo")[1] == {"index": 2, "decision": "keep", "history": 3}
    assert decisions(file)["p2/c0"] == "keep"
    assert _call(page, "undo")[1]["index"] == 2
    assert decisions(file) == {"p1/c0": "keep", "p1/c1": "drop"}


def test_another_session_goes_on_where_the_last_one_ended(page: LocalPage, file: PickFile) -> None:
    _call(page, "decide", index=4, decision="keep")
    again = PickSession(best_first(candidates()), file, 3)
    assert again.state({})["items"][4]["decision"] == "keep"
    assert (again.count("keep"), again.count("drop")) == (1, 0)


def test_sessions_side_by_side_keep_the_decisions_of_all(file: PickFile) -> None:
    sessions = [PickSession(candidates(), PickFile(file.path), 3) for _ in range(4)]

    def decide(number: int) -> None:
        for index in range(number, 10, 4):
            sessions[number].decide({"index": index, "decision": "keep"})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(decide, range(4)))
    assert len(decisions(file)) == 10
    sessions[0].undo({})
    assert len(decisions(file)) == 9


def test_a_second_session_on_object_storage_is_refused(s3_storage: str) -> None:
    path = f"{s3_storage}/picks/writingprompts.jsonl"
    code = (
        "import sys; from lima_k8s.web.pick import PickFile\n"
        f"with PickFile({path!r}).alone(): print('held', flush=True); sys.stdin.read()"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    with pytest.raises(InputError, match=f"by process {first.pid}"), PickFile(path).alone():
        pass
    first.communicate()
    assert first.returncode == 0
    with PickFile(path).alone():
        pass


def test_what_cannot_be_saved_is_not_decided(page: LocalPage, file: PickFile) -> None:
    _call(page, "decide", index=0, decision="keep")
    path = Path(file.path)
    path.rename(path.with_suffix(".kept"))
    path.mkdir()  # nothing can be written there, whoever runs this
    status, answer = _call(page, "decide", index=1, decision="keep")
    assert status == 409
    assert "picks.jsonl" in answer["error"]
    path.rmdir()
    path.with_suffix(".kept").rename(path)
    state = _call(page, "state")[1]
    assert [i["decision"] for i in state["items"][:2]] == ["keep", None]
    assert state["history"] == 1


@pytest.mark.parametrize(
    ("action", "body", "status"),
    [
        ("decide", {"index": 99, "decision": "keep"}, 400),
        ("decide", {"index": True, "decision": "keep"}, 400),
        ("decide", {"index": 0, "decision": "maybe"}, 400),
        ("decide", {"index": 0}, 400),
        ("undo", {}, 400),
        ("item", {}, 400),
        ("nothing", {}, 404),
        ("state", {"x": "y" * 100_000}, 413),
    ],
)
def test_bad_requests(page: LocalPage, action: str, body: Any, status: int) -> None:
    assert _call(page, action, **body)[0] == status


def test_only_the_page_may_ask(page: LocalPage, file: PickFile) -> None:
    path = f"/{page.token}/decide"
    body = {"index": 0, "decision": "keep"}
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Content_Type": "text/plain"},
        {"Content_Type": "application/x-www-form-urlencoded"},
        {"Host": f"evil.example:{urlsplit(page.url).port}"},
    ):
        assert _ask(page, "POST", path, body, **headers)[0] == 404
    assert _ask(page, "POST", "/wrong/decide", body)[0] == 404
    assert _ask(page, "POST", "//decide", body)[0] == 404
    assert _ask(page, "GET", path)[0] == 404
    assert _ask(page, "GET", "/")[0] == 404
    assert decisions(file) == {}
    assert _ask(page, "POST", path, body, Origin=page.origin)[0] == 200


def test_the_page_allows_nothing_from_elsewhere(page: LocalPage) -> None:
    status, html, headers = _ask(page, "GET", f"/{page.token}/")
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    nonce = policy.split("'nonce-")[1].split("'")[0]
    assert html.count(f'nonce="{nonce}"') == 2
    assert "{{" not in html
    assert (headers["Referrer-Policy"], headers["Cache-Control"]) == ("no-referrer", "no-store")
    assert len(page.token) >= 32


def _curated(storage: Storage, arm: str, *candidates: Candidate) -> str:
    """Write a curation run's table as the stage does; return the run's id."""
    part = PartSpec(arm)
    spec = CurateSpec((SourceSpec("writingprompts", ("x",)),), (ArmSpec(arm, (part,)),))
    store = CandidateStore(storage, CellSpec("study", arm, curate=spec))
    for number in range(2):
        rows = [("writingprompts", c) for c in candidates[number::2]]
        store.write(f"{number}", rows, Damage())
    return str(store.table.identity["run_id"])


def test_the_shortlist_is_what_filters_keep_best_first(tmp_path: Path) -> None:
    first, second, *_ = candidates()
    dropped = replace(first, source_id="x", reasons=("over_18",))
    storage = Storage(str(tmp_path))
    with pytest.raises(DataError, match="curate first"):
        read_shortlist(storage, "writingprompts")
    run = _curated(storage, "a", second, dropped, first)
    found = read_shortlist(storage, "writingprompts")
    assert [c.source_id for c in found] == ["p1/c0", "p1/c1"]
    assert found[0] == first
    with pytest.raises(DataError, match=r"'askreddit'.*pools here: writingprompts"):
        read_shortlist(storage, "askreddit")
    _curated(storage, "b", first)
    with pytest.raises(DataError, match=f"{run}.*--run"):
        read_shortlist(storage, "writingprompts")
    assert read_shortlist(storage, "writingprompts", run) == found


def test_the_command_serves_saves_and_says_the_end(tmp_path: Path) -> None:
    """The command as a person starts it, ended with Ctrl-C."""
    _curated(Storage(str(tmp_path)), "a", *candidates())
    options = [str(tmp_path), "--source", "writingprompts", "-n", "3", "--no-browser"]
    code = f"from lima_k8s.commands.people.pick import command; command({options!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        assert process.stderr.readline() == "10 candidates of writingprompts; pick 3 at\n"
        address = urlsplit(process.stderr.readline().strip())
        connection = http.client.HTTPConnection(str(address.hostname), address.port)
        body = json.dumps({"index": 0, "decision": "keep"})
        connection.request(
            "POST", f"{address.path}decide", body, {"Content-Type": "application/json"}
        )
        assert connection.getresponse().status == 200
        connection.close()
    finally:
        process.send_signal(signal.SIGINT)
    path = tmp_path / "picks" / "writingprompts.jsonl"
    assert process.stderr.read().strip() == f"1 kept, 0 dropped: {path}"
    assert process.wait() == 0
    assert decisions(PickFile(str(path))) == {"p1/c0": "keep"}


def test_a_damaged_file_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "picks.jsonl"
    path.write_text("not a pick\n")
    with pytest.raises(DataError, match=r"picks\.jsonl:1"):
        PickSession(candidates(), PickFile(str(path)), 3)
    assert path.read_text() == "not a pick\n"


def test_picks_on_object_storage(s3_storage: str) -> None:
    file = PickFile(f"{s3_storage}/picks/writingprompts.jsonl")
    session = PickSession(candidates(), file, 3)
    session.decide({"index": 0, "decision": "keep"})
    assert decisions(PickFile(file.path)) == {"p1/c0": "keep"}
    with pytest.raises(StorageError):
        PickFile("s3://no-such-bucket-here/picks.jsonl").write(file.read())

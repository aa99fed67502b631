"""`lima-k8s annotate` as a user meets it: each kind, going on with a round, what is refused."""

import json
import signal
from pathlib import Path

import pytest

from lima.store.scan import Tables
from lima.store.storage import Storage
from lima.store.tables import ANNOTATIONS
from lima_k8s.main import run
from tests.helpers.web.labelling import (
    OTHER,
    OURS,
    PAIR,
    Server,
    act,
    annotations,
    serving,
    study,
    write_responses,
)

__all__ = ["study"]


def test_the_same_command_goes_on_with_the_same_links(study: Path) -> None:
    invited = ("--invite", "anna")
    with serving(study, *PAIR, *invited) as first:
        link = first.links["anna"]
        sent = act(1)
        first.ask(link, "open")
        first.ask(link, "act", sent)
        first.kill()
    with serving(study, *PAIR) as second:
        assert second.links == {"anna": link}
        assert second.ask(link, "act", sent).value["done"] == 1  # sent again: kept once
        assert "1 of anna" in second.stop()
    with serving(study, *PAIR, "--seed", "1") as other:  # another draw is another round
        assert set(other.links) == {"me"}
        assert other.ask(other.links["me"], "open").value["done"] == 0
        assert run(["annotate", str(study), *PAIR, "--seed", "0", "--withdraw", "anna"]) == 0
    with serving(study, *PAIR, "--invite", "ben") as third:
        assert set(third.links) == {"ben"}
        assert third.ask(link, "open").status == 404


def test_a_link_is_closed_without_a_server(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(study, *PAIR, "--invite", "anna", "--invite", "ben") as server:
        links = server.links
        server.ask(links["anna"], "open")
        server.ask(links["anna"], "act", act(1))
        assert run(["annotate", str(study), "--withdraw", "anna"]) == 0  # beside the server
        assert "the link of anna is closed; labels that stay: 1" in capsys.readouterr().err
        assert [server.ask(links[name], "open").status for name in ("anna", "ben")] == [404, 200]
    assert run(["annotate", str(study), "--withdraw", "ben"]) == 0
    captured = capsys.readouterr()
    assert "the link of ben is closed; labels that stay: 0" in captured.err
    assert "end with Ctrl-C" not in captured.err


def test_ctrl_c_at_once_ends_it_well(study: Path) -> None:
    """Before the libraries of the server are there: links are said first."""
    server = Server([str(study), *PAIR], study / "server.log")
    server.start()
    assert "events written to annotations" in server.stop()


def test_a_second_command_on_the_same_round_is_refused(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(study, *PAIR) as server:
        link = server.links["me"]
        assert run(["annotate", str(study), *PAIR, "--no-browser"]) == 2
        assert link.partition("/a/")[0] in capsys.readouterr().err
        assert server.ask(link, "open").status == 200
        shown = ["annotate", str(study), *PAIR, "--invite", "bob", "--status", "--format", "json"]
        assert run(shown) == 0
        links = [a["link"] for a in json.loads(capsys.readouterr().out)["annotators"]]
        assert [server.ask(link, "open").status for link in links] == [200, 200]


def test_absolute_and_safety_labels_with_their_flags(study: Path) -> None:
    with serving(study, "--kind", "absolute", "--run", OURS) as server:
        link = server.links["me"]
        opened = server.ask(link, "open").value
        assert [len(opened["task"]["responses"]), opened["questions"][0]["required"]] == [1, False]
        for turn, answers in enumerate(
            ({"label": "fail"}, {"label": "pass", "out_of_distribution": "yes"}), start=1
        ):
            assert server.ask(link, "act", act(turn, answers=answers)).status == 200
        server.stop()
    with serving(study, "--kind", "safety", "--run", OURS, "--source", "te*") as server:
        link = server.links["me"]
        assert server.ask(link, "open").value["left"] == 6
        assert server.ask(link, "act", act(1, answers={"label": "safe"})).status == 400
        both = {"label": "unsafe", "malicious": "no"}
        assert server.ask(link, "act", act(1, answers=both)).status == 200
        server.stop(signal.SIGTERM)
    found = [
        (r["kind"], r["label"], r["out_of_distribution"], r["malicious"], r["rater_group"])
        for r in annotations(study)
    ]
    assert sorted(found, key=str) == [
        ("absolute", "fail", None, None, "author"),
        ("absolute", "pass", True, None, "author"),
        ("safety", "unsafe", None, False, "author"),
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("--run", OURS), 2, "--against"),
        (("--run", OURS, "--against", "nobody"), 2, "'nobody' is not a run with responses"),
        (("--kind", "absolute"), 2, "more than one is a run with responses; name one with --run"),
        (("--kind", "absolute", "--run", OURS, "--against", OTHER), 2, "takes no --against"),
        (("--kind", "checkpoint"), 2, "generate.model.epoch=5"),
        (("--kind", "absolute", "--run", OURS, "--source", "x"), 2, "nothing to"),
        (("--kind", "absolute", "--run", OURS, "--experiment", "x"), 2, "no responses of x"),
        (("--kind", "absolute", "--run", OURS, "--invite", "a b"), 2, "--invite a b"),
    ],
)
def test_bad_input_is_explained(
    study: Path,
    arguments: tuple[str, ...],
    code: int,
    why: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["annotate", str(study), *arguments, "--no-browser"]) == code
    error = capsys.readouterr().err
    assert why in error
    assert "Traceback" not in error


def test_an_object_store_holds_the_table_and_this_machine_the_file(
    s3_storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_responses(Storage(s3_storage), OURS, 3)
    monkeypatch.chdir(tmp_path)
    server = Server([s3_storage, "--kind", "absolute"], tmp_path / "log")
    server.start()
    try:
        link = server.links["me"]
        server.ask(link, "open")
        server.ask(link, "act", act(1, answers={"label": "pass"}))
        server.stop()
    finally:
        server.process.kill()
    rows = Tables(Storage(s3_storage)).read(ANNOTATIONS, ["rater", "label"]).to_pylist()
    assert rows == [{"rater": "me", "label": "pass"}]
    assert len(list((tmp_path / "lima-annotate").glob("*.sqlite"))) == 1

"""The report in a real browser: it fetches nothing, complains of nothing and runs nothing."""

import re
import subprocess
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lima.evaluation.report.page import write_report
from lima.store.storage import Storage
from lima.store.tables import GENERATIONS
from tests.helpers.synthetic import Arm, Study, write_study
from tests.helpers.web.chromium import chromium_program
from tests.helpers.web.serving import serving

ATTACK = (
    "</div></svg><script>document.title = 'taken'; fetch('/stolen'); console.error(1)</script>"
    "<img src='/pixel' onerror=\"document.title = 'taken'\"><style>@import '/style';</style>"
    "<svg><image href='/vector'/></svg><a href='javascript:void 0'>x</a>"
)


class Server(ThreadingHTTPServer):
    """Serves a folder on this machine and keeps what was asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.asked: list[str] = []


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        if isinstance(self.server, Server) and format.startswith('"%s"'):
            self.server.asked.append(self.path)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(Server(tmp_path)) as running:
        yield running


def browse(server: Server, name: str, profile: Path) -> tuple[str, list[str]]:
    """Open a page; return the document as it became, and the messages of its console."""
    done = subprocess.run(
        [
            chromium_program(),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--dump-dom",
            "--enable-logging=stderr",
            f"--user-data-dir={profile}",
            "--disable-background-networking",
            "--disable-component-update",
            # Whatever asks another machine fails, and the console says so.
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"http://127.0.0.1:{server.server_port}/{name}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, re.findall(r"CONSOLE.*", done.stderr)


def attacked_study(folder: Path) -> Storage:
    """Write a study whose names, prompts and responses are attacks."""
    storage = Storage(str(folder))
    arms = (Arm(ATTACK[:90], data=ATTACK), Arm("plain", 500))
    write_study(storage, Study(arms=arms, seeds=2, experiment=ATTACK[:100]))
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in folder.glob("generations/*/*/*.parquet"):
        table = pq.ParquetFile(file).read()
        for name, value in (("response", ATTACK), ("prompt", [ATTACK])):
            column = pa.array([value] * len(table), GENERATIONS.schema.field(name).type)
            index = table.column_names.index(name)
            table = table.set_column(index, GENERATIONS.schema.field(name), column)
        pq.write_table(table, file)
    return storage


def test_nothing_is_fetched_said_or_run(server: Server, tmp_path: Path) -> None:
    storage = attacked_study(tmp_path / "study")
    write_report(storage, tmp_path / "report.html", note=pytest.fail)
    document, console = browse(server, "report.html", tmp_path / "profile")
    assert server.asked == ["/report.html"]
    assert console == []
    assert "<title>taken" not in document
    assert document.count("&lt;script&gt;document.title = 'taken'; fetch('/stolen')") > 4
    assert document.count("<svg") == 9  # all figures but the one by checkpoint


def test_the_same_attack_works_on_a_careless_page(server: Server, tmp_path: Path) -> None:
    """The other test can fail: this browser does run, fetch and complain."""
    page = f"<!doctype html><title>mine</title><link rel=icon href=data:,><div>{ATTACK}</div>"
    (tmp_path / "careless.html").write_text(page)
    document, console = browse(server, "careless.html", tmp_path / "profile")
    assert "<title>taken" in document
    assert {"/stolen", "/pixel"} <= set(server.asked)
    assert console


@pytest.mark.parametrize("width", [400, 1280])
def test_it_is_no_wider_than_the_window(server: Server, tmp_path: Path, width: int) -> None:
    """A page that scrolls sideways cannot be read on a phone; its tables scroll by themselves."""
    storage = Storage(str(tmp_path / "study"))
    arms = (Arm("an-arm-with-a-long-name-" * 3), Arm("b", data="x" * 90))
    write_study(storage, Study(arms=arms, seeds=2))
    write_report(storage, tmp_path / "report.html", note=pytest.fail)
    frame = (
        "<!doctype html><link rel=icon href=data:,><body style='margin:0'>"
        f"<iframe src=report.html style='border:0;width:{width}px;height:900px' onload=\""
        "const e = this.contentDocument.documentElement;"
        "document.title = e.scrollWidth + ' in ' + e.clientWidth\"></iframe>"
    )
    (tmp_path / "frame.html").write_text(frame)
    document, _ = browse(server, "frame.html", tmp_path / "profile")
    assert f"<title>{width} in {width}" in document

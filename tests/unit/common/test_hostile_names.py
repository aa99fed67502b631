"""Texts of models and users as terminals and spreadsheets get them: nothing in them is obeyed."""

import csv
import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lima.generation.chat import ChatSpec, Reply
from lima.rating.conversations import Conversations
from lima.spec import DecodingSpec, ModelSpec
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import ANNOTATIONS
from lima_k8s.main import run
from lima_k8s.terminal.output import visible, write_table
from lima_k8s.web.chat import talk
from tests.helpers.paper_shares import IDENTITY, event
from tests.helpers.synthetic import Arm, Study, write_study

ESCAPES = {
    "\x1b[31mred\x1b[0m": "red",
    "\x1b]0;title\x07shown": "shown",
    "\x1b]52;c;cm0gLXJm\x1b\\shown": "shown",
    "\x9b2Jgone": "gone",
    "\x1bcreset": "reset",
    "\x1bPq#0\x1b\\sixel": "sixel",
    "a\rb": "a\ufffdb",
    "a\x08b": "a\ufffdb",
    "\u202etxet": "\ufffdtxet",
    "one\r\ntwo\tthree": "one\ntwo\tthree",
    "Grüße, 世界 🙂": "Grüße, 世界 🙂",
}
FORBIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
EVIL = "\x1b]0;taken\x07=HYPERLINK(1)\x1b[2J"


@pytest.mark.parametrize(("text", "shown"), ESCAPES.items())
def test_escape_sequences_are_taken_away(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text(alphabet=st.characters(max_codepoint=0x2070)))
def test_no_text_commands_a_terminal(text: str) -> None:
    assert not FORBIDDEN.search(visible(text))


def test_a_table_keeps_its_rows(capsys: pytest.CaptureFixture[str]) -> None:
    write_table(("arm",), [("one\nforged row\x1b[1A",)])
    assert capsys.readouterr().out == "arm\none forged row\n"


def test_answers_in_a_chat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Hostile:
        def reply(self, prompt: object) -> Reply:
            return Reply(f"hello{EVIL}", "eot", [])

    spec = ChatSpec("e", "arm", ModelSpec("x"), DecodingSpec())
    lines = iter(["hi", ""])

    def read(_: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    talk(Conversations(Storage(str(tmp_path)), spec, Hostile(), "me"), read)
    out = capsys.readouterr().out
    assert "hello=HYPERLINK(1)" in out
    assert not FORBIDDEN.search(out)


@pytest.fixture
def hostile(tmp_path: Path) -> str:
    storage = Storage(str(tmp_path))
    write_study(storage, Study((Arm(EVIL), Arm("=1+1"), Arm("plain")), seeds=1))
    rows = [
        event(
            i,
            kind="preference",
            label="A",
            arm_1="@SUM(A1)",
            arm_2=EVIL,
            response_2="y",
            item_id=str(i),
        )
        for i in range(3)
    ]
    RunTable.of(storage, ANNOTATIONS, {**IDENTITY, "experiment": "synthetic"}).write("l", rows)
    return str(tmp_path)


@pytest.mark.parametrize("command", ["aggregate", "agreement", "compare-paper"])
def test_names_of_arms_on_a_terminal(
    hostile: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([command, hostile]) == 0
    captured = capsys.readouterr()
    assert not FORBIDDEN.search(captured.out + captured.err)


@pytest.mark.parametrize("by", [("arm",), ("arm", "against")])
def test_no_cell_of_csv_is_a_formula(
    hostile: str, by: tuple[str, ...], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    options = [text for name in by for text in ("--by", name)]
    assert run(["aggregate", hostile, *options, "--format", "csv"]) == 0
    rows = list(csv.reader(io.StringIO(capfdbinary.readouterr().out.decode(), newline="")))
    assert len(rows) > 1
    for cell in (cell for row in rows for cell in row):
        is_number = re.fullmatch(r"-?[\d.]+(e-?\d+)?", cell)
        assert is_number or not cell.startswith(("=", "+", "-", "@", "\t", "\r")), cell
    arms = {row[rows[0].index("arm")] for row in rows[1:]}
    assert arms & {"'=1+1", "'@SUM(A1)"}

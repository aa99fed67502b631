"""The store of a round of labelling: an SQLite file that survives being killed at any moment.

What a person did is an event; events are only ever added, and the last one about an item
decides. An event's id comes from the page, so that one that is sent again is kept once. It is
on disk (write-ahead log, every commit synced) before it is answered.
"""

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from lima.common.clock import now
from lima.errors import InputError, LimaError
from lima_k8s.web.annotate import schema

Event = Literal["labelled", "skipped", "undone"]
BUSY_MS = 30_000
"""How long a writer waits for another one; a write takes milliseconds."""


class Conflict(LimaError):  # noqa: N818 - the word of HTTP: what was asked no longer fits
    """Another window or another person was first."""


@dataclass(frozen=True)
class Entry:
    """Something to label.

    `shown` is what its page gets to see, and nothing else of it leaves the store; `row` are the
    columns of `annotations` that tell what was labelled.
    """

    position: int
    shared: bool
    shown: dict[str, Any]
    row: dict[str, Any]


@dataclass(frozen=True)
class Task:
    """What one annotator is to label next; `turn` is its number among that one's tasks."""

    turn: int
    shown: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What the page says of a task: the answers by question, and when it was shown."""

    event_id: str
    turn: int
    event: Event
    answers: dict[str, str]
    comment: str = ""
    started_at: datetime | None = None


@dataclass(frozen=True)
class Standing:
    """How far an annotator is: tasks done, at most left, and the turn that undo would open."""

    done: int
    left: int
    undo: int | None


class Store:
    """One round of labelling; several threads and processes may use the same file."""

    def __init__(self, path: Path, *, reading: bool = False) -> None:
        """Open a file, or make it; it is readable by its owner alone.

        Args:
            path: The file.
            reading: Only read it: it must be there, and nothing is changed or made.

        Raises:
            InputError: the file is something else, or of another version.

        """
        self.path, self._lock = path, threading.Lock()
        try:
            if reading:
                self._db = _connect_reading(path)
                self._refuse_other_format(self._db)
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            self._prepare()
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"{path}: not a store of labels ({error}); name another file with --database"
            ) from error

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()

    def settings(self) -> dict[str, Any]:
        """Return what was set for the round."""
        with self.reading() as db:
            return {r["name"]: json.loads(r["value"]) for r in db.execute("SELECT * FROM settings")}

    def set(self, **values: Any) -> None:
        """Set values of the round."""
        with self.writing() as db:
            db.executemany(
                "INSERT INTO settings VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                [(name, json.dumps(value)) for name, value in values.items()],
            )

    def fill(self, entries: Sequence[Entry], **settings: Any) -> bool:
        """Begin a round with its entries and settings, all or nothing; False: it has begun."""
        rows = [(e.position, e.shared, json.dumps(e.shown), json.dumps(e.row)) for e in entries]
        with self.writing() as db:
            if db.execute("SELECT 1 FROM entries LIMIT 1").fetchone():
                return False
            db.executemany("INSERT INTO entries VALUES (?, ?, ?, ?)", rows)
            db.executemany(
                "INSERT OR REPLACE INTO settings VALUES (?, ?)",
                [(name, json.dumps(value)) for name, value in settings.items()],
            )
        return True

    def extend(self, entries: Sequence[Entry], shared: Sequence[int], **settings: Any) -> None:
        """Add entries to a round, all or nothing; `shared` are positions that become so."""
        rows = [(e.position, e.shared, json.dumps(e.shown), json.dumps(e.row)) for e in entries]
        with self.writing() as db:
            db.executemany("INSERT OR IGNORE INTO entries VALUES (?, ?, ?, ?)", rows)
            db.executemany(
                "UPDATE entries SET shared = 1 WHERE position = ?", [(place,) for place in shared]
            )
            db.executemany(
                "INSERT OR REPLACE INTO settings VALUES (?, ?)",
                [(name, json.dumps(value)) for name, value in settings.items()],
            )

    def entries(self) -> list[Entry]:
        """Return everything there is to label, in order."""
        with self.reading() as db:
            return [
                Entry(
                    r["position"], bool(r["shared"]), json.loads(r["shown"]), json.loads(r["row"])
                )
                for r in db.execute("SELECT * FROM entries ORDER BY position")
            ]

    def task(self, annotator: str) -> Task | None:
        """Return what an annotator labels next, claiming it; None: nothing is left for them.

        Shared entries come first, then those that nobody else has claimed.
        """
        with self.writing() as db:
            found = db.execute(schema.OPEN, (annotator,)).fetchone()
            if found is None:
                free = db.execute(schema.FREE, {"annotator": annotator}).fetchone()
                if free is None:
                    return None
                db.execute(schema.CLAIM, {"annotator": annotator, "position": free["position"]})
                found = db.execute(schema.OPEN, (annotator,)).fetchone()
            return Task(found["turn"], json.loads(found["shown"]))

    def standing(self, annotator: str) -> Standing:
        """Return how far an annotator is."""
        with self.reading() as db:
            return Standing(
                _count(db, schema.DONE, annotator),
                _count(db, schema.LEFT, annotator),
                _undoable(db, annotator),
            )

    def add(self, annotator: str, answer: Answer) -> None:
        """Keep an event, once.

        Raises:
            Conflict: the task is not this annotator's, or has another answer already.

        """
        with self.writing() as db:
            if self._is_known(db, annotator, answer):
                return
            latest = db.execute(schema.LATEST, (annotator, answer.turn)).fetchone()
            if latest is None:
                raise Conflict("this is none of your tasks; load the page again")
            if bool(latest["decided"]) == (answer.event != "undone"):
                raise Conflict("another window was first; the page shows where you are")
            if answer.event == "undone" and _undoable(db, annotator) != answer.turn:
                raise Conflict("only your last answer can be undone; the page shows where you are")
            added = db.execute(
                schema.ADD,
                (
                    *(answer.event_id, annotator, answer.turn, answer.event),
                    *(latest["event_id"], json.dumps(answer.answers), answer.comment),
                    *(_text(answer.started_at), _text(now())),
                ),
            )
            decides = answer.event != "undone"
            db.execute(schema.STAND, (added.lastrowid, decides, annotator, answer.turn))

    def events(self) -> list[dict[str, Any]]:
        """Return every event with its entry's columns and its annotator's group, in order."""
        with self.reading() as db:
            return [
                {
                    **json.loads(r["row"]),
                    "annotation_id": r["event_id"],
                    "event": r["event"],
                    "supersedes": r["supersedes"],
                    "rater": r["annotator"],
                    "rater_group": r["role"],
                    "answers": json.loads(r["answers"]),
                    "comment": r["comment"] or None,
                    "started_at": _time(r["started_at"]),
                    "ended_at": _time(r["ended_at"]),
                }
                for r in db.execute(schema.EVENTS)
            ]

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give the connection to a reader."""
        with self._lock:
            yield self._db

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Give the connection to a writer, in one transaction that no other writer shares."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk may have ended it already
                    self._db.execute("ROLLBACK")
                raise

    def _prepare(self) -> None:
        for pragma in (
            *("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"),
            f"busy_timeout = {BUSY_MS}",
        ):
            self._db.execute(f"PRAGMA {pragma}")
        with self.writing() as db:
            self._refuse_other_format(db)
            for statement in schema.SCHEMA:
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {schema.FORMAT}")

    def _refuse_other_format(self, db: sqlite3.Connection) -> None:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, schema.FORMAT):
            raise InputError(
                f"{self.path}: written by another version of lima-k8s (format {version}, "
                f"this one writes {schema.FORMAT}); name another file with --database"
            )

    @staticmethod
    def _is_known(db: sqlite3.Connection, annotator: str, answer: Answer) -> bool:
        """Say whether the event was kept before; the same id for something else is refused."""
        known = db.execute("SELECT * FROM events WHERE event_id = ?", (answer.event_id,)).fetchone()
        if known is None:
            return False
        kept = (known["annotator"], known["turn"], known["event"], json.loads(known["answers"]))
        if kept != (annotator, answer.turn, answer.event, answer.answers):
            raise Conflict("this answer's id was used for another answer; load the page again")
        return True


@contextlib.contextmanager
def read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a file to look into it; nothing is changed or made beside it."""
    db = _connect_reading(path)
    try:
        yield db
    finally:
        db.close()


def _connect_reading(path: Path) -> sqlite3.Connection:
    # With a log beside it somebody writes, or was killed; without one SQLite would make one.
    mode = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "immutable=1"
    uri = f"{path.absolute().as_uri()}?{mode}"
    db = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None)
    db.row_factory = sqlite3.Row
    return db


def _count(db: sqlite3.Connection, query: str, annotator: str) -> int:
    return int(db.execute(query, {"annotator": annotator}).fetchone()[0])


def _undoable(db: sqlite3.Connection, annotator: str) -> int | None:
    last = db.execute(schema.LAST, {"annotator": annotator}).fetchone()
    return int(last["turn"]) if last else None


def _text(time: datetime | None) -> str | None:
    return time.isoformat() if time else None


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None

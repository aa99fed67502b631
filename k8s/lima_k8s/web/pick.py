"""Picking: a person reads a ranked shortlist and keeps or drops (section 2.1)."""

import contextlib
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from lima.common.filelock import held
from lima.curation.arms.picks import Picks, dump_picks, parse_picks
from lima.curation.candidates.candidate import Candidate
from lima.curation.candidates.table import from_row
from lima.errors import DataError
from lima.runs.lease import lease
from lima.store.shards import read_parquet, run_of
from lima.store.storage import Storage
from lima.store.tables import CANDIDATES
from lima_k8s.web.local_page import LocalPage
from lima_k8s.web.page import read_page

CURATE_FIRST = "curate first: lima-k8s submit curate --local --recipe RECIPE"
DECISIONS = ("keep", "drop", None)
TITLE = 160
FACTS = {"response_score": "response score", "comments": "comments"}
"""Measures that a reader sees, and what they are called."""


class PickFile:
    """A file of picks, local or on a storage, written whole after every decision.

    On this machine several sessions may use one; of an object store one at a time, see `alone`.
    """

    def __init__(self, path: str) -> None:
        """Name a file, which need not exist."""
        folder, _, self.name = path.rpartition("/")
        self.path, self.storage = path, Storage(folder or ".")

    def read(self) -> Picks:
        """Return what was decided so far.

        Raises:
            DataError: the file is damaged.
            StorageError: it cannot be read.

        """
        if not self.storage.exists(self.name):
            return Picks()
        return parse_picks(self.storage.read(self.name), self.path)

    @contextlib.contextmanager
    def changing(self) -> Iterator[Picks]:
        """Give the decisions as they are now, others' too, and write what becomes of them.

        Raises:
            DataError: the file is damaged.
            StorageError: it cannot be read or written.

        """
        lock = self.storage.local_path(f".{self.name}.lock")
        with held(lock) if lock else contextlib.nullcontext():
            picks = self.read()
            yield picks
            self.write(picks)

    def alone(self) -> AbstractContextManager[None]:
        """Keep others from a file that lies where nothing can be locked, and ends if one takes it.

        Raises:
            InputError: a living process of this machine has it.

        """
        if self.storage.is_local:
            return contextlib.nullcontext()
        return lease(
            self.storage, self.name, lambda: False, lambda: signal.raise_signal(signal.SIGINT)
        )

    def write(self, picks: Picks) -> None:
        """Replace the file; it is there whole, as it was or as it is."""
        self.storage.write(self.name, dump_picks(picks.decisions.values()), replace=True)


class PickSession:
    """The decisions about one shortlist; every one is on disk before it is answered."""

    def __init__(self, shortlist: Sequence[Candidate], file: PickFile, target: int) -> None:
        """Go on from what `file` holds.

        Args:
            shortlist: Candidates in the order in which they are read.
            file: Where decisions are kept.
            target: How many are wanted.

        """
        self.shortlist, self.file, self.target = list(shortlist), file, target
        self.picks = file.read()
        self._history: list[tuple[int, Any]] = []
        self._lock = threading.Lock()

    def actions(self) -> dict[str, Any]:
        """Return what the page may call."""
        return {"state": self.state, "item": self.item, "decide": self.decide, "undo": self.undo}

    def count(self, decision: str) -> int:
        """Return how many of the shortlist have a decision."""
        return sum(self._decision(c) == decision for c in self.shortlist)

    def state(self, _: dict[str, Any]) -> dict[str, Any]:
        """Return the list without its texts."""
        items = [
            {
                "index": index,
                "title": candidate.conversation[0][:TITLE],
                "score": candidate.score,
                "group": candidate.source_id.split("/", maxsplit=1)[0],
                "decision": self._decision(candidate),
            }
            for index, candidate in enumerate(self.shortlist)
        ]
        return {
            "items": items,
            "target": self.target,
            "history": len(self._history),
            "source": self.shortlist[0].source,
            "picks": self.file.path,
        }

    def item(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the text of one candidate and what is known of it."""
        index, candidate = self._named(request)
        origin = candidate.provenance
        facts = {
            "place": f"{index + 1} of {len(self.shortlist)}",
            "score": candidate.score,
            **{name: candidate.measures.get(key) for key, name in FACTS.items()},
            "length": f"{sum(map(len, candidate.conversation[1::2]))} characters",
            "by": ", ".join(origin.authors),
            "on": origin.created.date().isoformat() if origin.created else None,
            "licence": origin.licence,
        }
        return {
            "utterances": candidate.conversation,
            "url": origin.url if origin.url.startswith(("https://", "http://")) else "",
            "facts": {name: _plain(value) for name, value in facts.items() if value},
        }

    def decide(self, request: dict[str, Any]) -> dict[str, Any]:
        """Keep, drop or leave open one candidate, and write the file."""
        index, candidate = self._named(request)
        if request["decision"] not in DECISIONS:
            raise ValueError("a decision is keep, drop or null")
        with self._lock:
            before = self._decision(candidate)
            self._write(candidate, request["decision"])
            self._history.append((index, before))
            return {"history": len(self._history)}

    def undo(self, _: dict[str, Any]) -> dict[str, Any]:
        """Take back the last decision of this session."""
        with self._lock:
            if not self._history:
                raise ValueError("nothing to undo")
            index, before = self._history[-1]
            self._write(self.shortlist[index], before)
            self._history.pop()
            return {"index": index, "decision": before, "history": len(self._history)}

    def _write(self, candidate: Candidate, decision: Any) -> None:
        with self.file.changing() as picks:
            picks.set(candidate, decision)
        self.picks = picks  # what is not on disk is not decided

    def _decision(self, candidate: Candidate) -> Any:
        pick = self.picks.of(candidate)
        return pick.decision if pick else None

    def _named(self, request: dict[str, Any]) -> tuple[int, Candidate]:
        index = request["index"]
        if type(index) is not int or not 0 <= index < len(self.shortlist):
            raise ValueError("there is no such candidate")
        return index, self.shortlist[index]


def read_shortlist(storage: Storage, pool: str, run: str | None = None) -> list[Candidate]:
    """Return the candidates of a pool that filters keep, best first.

    Args:
        storage: Where a curation run wrote its table `candidates`.
        pool: Name of the pool, as `writingprompts`.
        run: Id of the run; needed if the storage holds several.

    Raises:
        DataError: there is no such run, or it keeps nothing of that pool.

    """
    shards = [e.path for e in storage.entries(CANDIDATES.name) if e.path.endswith(".parquet")]
    runs = sorted({name for name in map(run_of, shards) if name})
    if run is None and len(runs) == 1:
        run = runs[0]
    if run not in runs:
        hint = f"runs here: {', '.join(runs)}; choose one with --run" if runs else CURATE_FIRST
        raise DataError(f"{storage.uri}: no curation run {run or 'is named'}; {hint}")
    return best_first(_kept(storage, [p for p in shards if run_of(p) == run], pool))


def best_first(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return candidates in the order in which a person reads them."""
    return sorted(candidates, key=_worth)


def _kept(storage: Storage, shards: Sequence[str], pool: str) -> list[Candidate]:
    """Read the candidates of a pool that filters keep."""
    found, pools = [], Counter[str]()
    for path in shards:
        short = read_parquet(storage, path, ["pool", "keep"]).to_pylist()
        pools.update(row["pool"] for row in short)
        mine = [n for n, row in enumerate(short) if row["pool"] == pool and row["keep"]]
        if mine:
            found += [from_row(row) for row in read_parquet(storage, path).take(mine).to_pylist()]
    if not found:
        known = ", ".join(sorted(pools))
        raise DataError(
            f"no candidate of {pool!r} passes its filters ({pools[pool]} were read); "
            f"pools here: {known}"
        )
    return found


def serve(session: PickSession, port: int = 0) -> LocalPage:
    """Return the page of a session, bound but not yet serving."""
    return LocalPage(read_page("pick"), session.actions(), port)


def _worth(candidate: Candidate) -> tuple[float, float, float, str]:
    measures = candidate.measures
    return (
        measures.get("rank", float("inf")),
        -float(candidate.score or 0),
        -measures.get("response_score", 0.0),
        candidate.source_id,
    )


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

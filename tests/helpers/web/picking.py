"""Candidates to pick from, and the server of the picking page."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lima.curation.candidates.candidate import Candidate, Provenance
from lima_k8s.web.local_page import LocalPage
from lima_k8s.web.pick import PickFile, PickSession, best_first, serve

ATTACK = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


def candidates() -> list[Candidate]:
    """Return two responses to each of five prompts, the first an attack."""
    found = [
        Candidate(
            "writingprompts",
            f"p{post}/c{reply}",
            (f"Prompt {post}: a cat & a hat", f"Story {post}.{reply}\n\n  The end."),
            score=100 - post,
            provenance=Provenance(
                f"https://www.reddit.com/p{post}", ("asker", "writer"), "Reddit user content"
            ),
            measures={"rank": float(post), "response_score": 50.0 - reply},
        )
        for post in range(1, 6)
        for reply in range(2)
    ]
    found[0] = replace(found[0], conversation=(ATTACK, ATTACK + "\nStory"))
    found[1] = replace(found[1], provenance=Provenance("javascript:alert(1)"))
    return found


@contextlib.contextmanager
def picking(file: PickFile) -> Iterator[LocalPage]:
    """Serve the page of a shortlist until the end of the block."""
    server = serve(PickSession(best_first(candidates()), file, 3))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()


@pytest.fixture
def file(tmp_path: Path) -> PickFile:
    """Return a file of decisions, still empty."""
    return PickFile(str(tmp_path / "picks.jsonl"))


@pytest.fixture
def page(file: PickFile) -> Iterator[LocalPage]:
    """Yield the page that writes to it."""
    with picking(file) as server:
        yield server


def decisions(file: PickFile) -> dict[str, str]:
    """Return what was decided of which candidate."""
    return {p.source_id: p.decision for p in file.read().decisions.values()}

"""Edits by hand, kept as a file and applied again to the same text.

The authors "slightly edit" instruction examples and edit comment chains "to fit the assistant's
style" (sections 2.2 and 6). A patch is a line of JSONL:

    {"source": "natural_instructions", "source_id": "task062…:caf42106d1ea", "utterance": 2,
     "find": "carbon pricing is an", "replace": "Carbon pricing is an"}

`utterance` counts from 1, the user's first; `find` occurs there exactly once. Patches of one
example are applied in the order of the file.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from lima.curation.candidates.candidate import Candidate
from lima.errors import DataError

FAILED = "patch_failed"
"""Reason of a candidate whose text is not what its patches were written for."""
EDITED = "edited by hand"


@dataclass(frozen=True)
class Patch:
    """One edit."""

    source: str
    source_id: str
    utterance: int
    find: str
    replace: str


class Patches:
    """The edits of a file, and which of them found their example."""

    def __init__(self, patches: list[Patch]) -> None:
        """Hold edits in their order."""
        self._by_example: dict[tuple[str, str], list[Patch]] = defaultdict(list)
        for patch in patches:
            self._by_example[patch.source, patch.source_id].append(patch)
        self._unused = set(self._by_example)

    def apply(self, candidate: Candidate) -> Candidate:
        """Return the candidate with its edits; with the reason `patch_failed` if one misses."""
        name = (candidate.source, candidate.source_id)
        if name not in self._by_example:
            return candidate
        self._unused.discard(name)
        turns = list(candidate.conversation)
        for patch in self._by_example[name]:
            index = patch.utterance - 1
            if index >= len(turns) or turns[index].count(patch.find) != 1:
                return replace(candidate, reasons=(*candidate.reasons, FAILED))
            turns[index] = turns[index].replace(patch.find, patch.replace)
        changes = "; ".join(filter(None, (candidate.provenance.changes, EDITED)))
        return replace(
            candidate,
            conversation=tuple(turns),
            provenance=replace(candidate.provenance, changes=changes),
        )

    def unused(self) -> list[tuple[str, str]]:
        """Return source and id of the examples that were edited but have not come by."""
        return sorted(self._unused)


def parse_patches(data: bytes, where: str) -> Patches:
    """Return the patches of a JSONL file.

    Raises:
        DataError: a line is no patch, or changes nothing.

    """
    return Patches(list(_patches(data, where)))


def _patches(data: bytes, where: str) -> Iterator[Patch]:
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            patch = msgspec.json.decode(line, type=Patch)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}:{number}: not a patch ({_plain(error)})") from None
        if patch.utterance < 1 or not patch.find or patch.find == patch.replace:
            raise DataError(
                f"{where}:{number}: a patch needs an utterance (1 is the first), a text to find, "
                "and another one in its place"
            )
        yield patch


def _plain(error: Any) -> str:
    return str(error).replace("`", "'")

"""The state to resume from: every worker's slices of the weights and of AdamW's moments.

STORAGE/checkpoints/run_id=R/state/step=00000031/rank-00003.index.json        what lies where
STORAGE/checkpoints/run_id=R/state/step=00000031/rank-00003-00001.safetensors its slices
STORAGE/checkpoints/run_id=R/state/step=00000031.json                         commits them

They are copied aside at once and written while training goes on. Slices laid end to end are the
weight, so that any count of workers goes on from a state. What a manifest names may have been
planted by whoever can write to storage: safetensors hold numbers, no code.

Randomness needs no saving: every draw is addressed (see `dropout`), whatever came before.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import msgspec

from lima.common.typed_json import DamagedJsonError, decoded
from lima.errors import InputError
from lima.model.checkpoint_manifest import checkpoints_path
from lima.store.storage import Storage
from lima.training.aside import KINDS, Aside
from lima.training.statefiles import StateReader
from lima.training.tensorfiles import pieces
from lima.training.world import World

log = logging.getLogger(__name__)
FILE_BYTES = 256 << 20
"""Of a file of slices: the next one begins when it is full."""
LAYOUT = "slices"

Files = dict[str, tuple[int, str]]
"""Size in bytes and sha256, by name."""
_Count = Annotated[int, msgspec.Meta(ge=1, le=10**9)]
_Size = Annotated[int, msgspec.Meta(ge=0)]
_Name = Annotated[str, msgspec.Meta(pattern="^[^/]+$")]
"""Of a file: it is named, not placed."""


class _Manifest(msgspec.Struct):
    step: _Count
    workers: _Count
    files: dict[_Name, tuple[_Size, str]]
    layout: str = ""


@dataclass(frozen=True)
class SavedState:
    """A committed state: its step, the workers it was saved by, and its files."""

    step: int
    workers: int
    files: Files


class StateStore:
    """Saves and restores the state of one training run; every worker takes part."""

    def __init__(self, storage: Storage, run: str, world: World, keep: int) -> None:
        """Keep the last `keep` states of `run` while it trains."""
        self.storage, self.world, self.keep = storage, world, keep
        self.folder = f"{checkpoints_path(run)}/state"

    def save(self, aside: Aside, step: int, go_on: Callable[[], None] = lambda: None) -> int:
        """Write what was copied after `step`; it counts once its manifest is written.

        Takes part in no collective: it may run beside training.

        Args:
            aside: This worker's slices.
            step: Steps that are done.
            go_on: Called between files; what it raises ends the saving.

        Returns:
            On worker 0 the bytes of the whole state; elsewhere 0.

        """
        path = self._path(step)
        parts = self.world.collect(lambda: self._write(aside, path, go_on), go_on)
        if not self.world.leads:
            return 0
        files = {name: value for part in parts for name, value in part.items()}
        manifest = {"step": step, "workers": self.world.size, "layout": LAYOUT, "files": files}
        text = json.dumps(manifest, indent=1)
        self.storage.write(f"{path}.json", text.encode(), replace=True)
        self.keep_last(self.keep)
        return sum(size for size, _ in files.values())

    def _write(self, aside: Aside, path: str, go_on: Callable[[], None]) -> Files:
        """Write this worker's files; return size and sha256 of each."""
        rank, files, places = f"rank-{self.world.rank:05d}", Files(), dict[str, str]()
        for number, keys in enumerate(_grouped(aside)):
            go_on()
            name = f"{rank}-{number:05d}.safetensors"
            tensors = {f"{weight}/{kind}": aside.tensors[weight, kind] for weight, kind in keys}
            files[name] = self._write_pieces(f"{path}/{name}", pieces(tensors))
            places |= dict.fromkeys(tensors, name)
        index = json.dumps({"weight_map": places}).encode()
        name = f"{rank}.index.json"
        files[name] = self._write_pieces(f"{path}/{name}", iter([index]))
        return files

    def _write_pieces(self, path: str, content: Iterator[bytes | memoryview]) -> tuple[int, str]:
        digest, size = hashlib.sha256(), 0

        def counted() -> Iterator[bytes | memoryview]:
            nonlocal size
            for piece in content:
                digest.update(piece)
                size += len(piece)
                yield piece

        self.storage.write_pieces(path, counted())
        return size, digest.hexdigest()

    def restore(self, aside: Callable[[], Aside], use: Callable[[int], None]) -> int:
        """Read the last state that is whole; return its step, 0 if there is none.

        Args:
            aside: Returns where this worker's slices are read to.
            use: Told its step, once every worker has read it.

        Raises:
            InputError: an earlier version saved it, in files that this one does not read.
            StorageError: a state cannot be fetched. That does not mean that it is damaged.

        """
        restored = 0
        for state in reversed(self.states()):
            reader = StateReader(self.storage, self._path(state.step), state.workers, state.files)
            whole = self.world.each(lambda reader=reader: reader.read(aside()))  # type: ignore[misc]
            if not self.world.any(not whole)[0]:
                use(state.step)
                restored = state.step
                break
            if self.world.leads:
                log.warning(
                    "state of step %d is damaged (%s); the one before it is used",
                    state.step,
                    f"{self.storage.uri}/{self._path(state.step)}",
                )
        self.world.led(lambda: self._delete_after(restored))
        return restored

    def states(self) -> list[SavedState]:
        """Return the committed states, oldest first.

        Raises:
            InputError: an earlier version saved one of them.

        """
        names = [e.path.removeprefix(f"{self.folder}/") for e in self.storage.entries(self.folder)]
        found = (self._manifest(n) for n in names if "/" not in n and n.endswith(".json"))
        return sorted((s for s in found if s is not None), key=lambda s: s.step)

    def _manifest(self, name: str) -> SavedState | None:
        where = f"{self.storage.uri}/{self.folder}/{name}"
        try:
            found = decoded(self.storage.read(f"{self.folder}/{name}"), _Manifest)
        except DamagedJsonError as error:
            log.warning("%s is not a manifest (%s); passed over", where, error)
            return None
        if found.layout != LAYOUT:
            raise InputError(
                f"{where}: this state was saved by another version of lima-k8s, and this one "
                "cannot read it; let that version finish the run, or delete this file and the "
                "folder beside it: training then begins anew"
            )
        if f"{self.folder}/{name}" != f"{self._path(found.step)}.json":
            log.warning("%s is not the manifest of step %d; passed over", where, found.step)
            return None
        return SavedState(found.step, found.workers, found.files)

    def keep_last(self, count: int) -> None:
        """Delete all states but the last `count`; with none, also what never came to be one."""
        states = self.states()
        for state in states[: max(len(states) - count, 0)]:
            self._delete(self._path(state.step))
        if not count:
            self.storage.delete_tree(self.folder)

    def _delete_after(self, step: int) -> None:
        """Delete states that were passed over, and what killed attempts left unfinished.

        The rows after `step` go too (see `Records.rewind`), so a later state must not come back.
        """
        committed = {self._path(state.step) for state in self.states() if state.step <= step}
        found = {
            f"{self.folder}/{entry.path.removeprefix(f'{self.folder}/').split('/')[0]}"
            for entry in self.storage.entries(self.folder)
        }
        for path in sorted({path.removesuffix(".json") for path in found} - committed):
            self._delete(path)

    def _delete(self, path: str) -> None:
        # The manifest first: a state without its manifest does not count.
        self.storage.delete(f"{path}.json")
        self.storage.delete_tree(path)

    def _path(self, step: int) -> str:
        return f"{self.folder}/step={step:08d}"


def _grouped(aside: Aside) -> Iterator[list[tuple[str, str]]]:
    """Yield the tensors of one file after another; an empty slice is in none."""
    group: list[tuple[str, str]] = []
    size = 0
    for name, part in aside.slices.items():
        count = len(KINDS) * 4 * (part.stop - part.start)
        if group and size + count > FILE_BYTES:
            yield group
            group, size = [], 0
        if count:
            group += [(name, kind) for kind in KINDS]
            size += count
    if group:
        yield group

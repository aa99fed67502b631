"""The state to resume from: ZeRO shards of every worker and the position in the data.

STORAGE/checkpoints/run_id=R/state/step=00000031/…       one set of files a worker
STORAGE/checkpoints/run_id=R/state/step=00000031.json    the manifest that commits them

What a manifest names may still have been planted by whoever can write to storage: files are read
as tensors and plain values, never as code (see `statefiles`).

Randomness needs no saving: every draw is addressed (see `dropout`), whatever came before.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

from lima.common.temporary import temporary_folder
from lima.errors import DataError, InputError
from lima.model.checkpoint_manifest import checkpoints_path, local_files
from lima.store.storage import CHUNK, Storage
from lima.training.statefiles import foreign_types
from lima.training.world import World

log = logging.getLogger(__name__)
TAG = "state"


@dataclass(frozen=True)
class SavedState:
    """A committed state: its step, the workers it was saved by, and size and sha256 a file."""

    step: int
    workers: int
    files: dict[str, tuple[int, str]]


class StateStore:
    """Saves and restores the state of one training run; every worker takes part."""

    def __init__(self, storage: Storage, run: str, world: World, keep: int) -> None:
        """Keep the last `keep` states of `run` while it trains."""
        self.storage, self.world, self.keep = storage, world, keep
        self.folder = f"{checkpoints_path(run)}/state"

    def save(self, engine: Any, step: int) -> None:
        """Save the state after `step`; it counts once its manifest is written."""
        path = self._path(step)
        with temporary_folder("lima-state-") as local:
            (local / TAG).mkdir()  # DeepSpeed makes it only where worker 0 runs
            with local_files(local):
                engine.save_checkpoint(str(local), tag=TAG)
            mine = sorted(p for p in (local / TAG).iterdir() if p.is_file())
            sums = self.world.each(lambda: self._upload(mine, path))
        gathered: list[dict[str, tuple[int, str]]] = [{} for _ in range(self.world.size)]
        dist.all_gather_object(gathered, sums)
        files = {name: value for part in gathered for name, value in part.items()}
        self.world.led(lambda: self._commit(step, files))

    def _upload(self, files: Sequence[Path], path: str) -> dict[str, tuple[int, str]]:
        """Copy files to storage; return size and sha256 of each."""
        sums = {file.name: (file.stat().st_size, _sha256(file)) for file in files}
        for file in files:
            self.storage.upload(file, f"{path}/{file.name}")
        return sums

    def _commit(self, step: int, files: dict[str, tuple[int, str]]) -> None:
        manifest = {"step": step, "workers": self.world.size, "files": files}
        text = json.dumps(manifest, indent=1)
        self.storage.write(f"{self._path(step)}.json", text.encode(), replace=True)
        self.keep_last(self.keep)

    def restore(self, engine: Any) -> int:
        """Load the last state that is whole; return its step, 0 if there is none.

        Raises:
            StorageError: a state cannot be fetched. That does not mean that it is damaged.

        """
        restored = 0
        for state in reversed(self.states()):
            if self._load(engine, state):
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
        """Return the committed states, oldest first."""
        names = [e.path.removeprefix(f"{self.folder}/") for e in self.storage.entries(self.folder)]
        found = (self._manifest(n) for n in names if "/" not in n and n.endswith(".json"))
        return sorted((s for s in found if s is not None), key=lambda s: s.step)

    def _manifest(self, name: str) -> SavedState | None:
        try:
            record = json.loads(self.storage.read(f"{self.folder}/{name}"))
            files = {k: (int(size), str(sum_)) for k, (size, sum_) in record["files"].items()}
            if any("/" in name for name in files):
                raise ValueError("files are named, not placed")
            return SavedState(record["step"], record["workers"], files)
        except (ValueError, KeyError, TypeError):
            log.warning(
                "%s/%s/%s is not a manifest; passed over", self.storage.uri, self.folder, name
            )
            return None

    def _load(self, engine: Any, state: SavedState) -> bool:
        """Load a state on every worker, or on none."""
        if state.workers != self.world.size:
            raise InputError(
                f"the state of step {state.step} was saved by {state.workers} workers, this run "
                f"has {self.world.size}; start it with {state.workers}"
            )
        with temporary_folder("lima-state-") as local:
            whole = self.world.each(lambda: self._fetch(state, local / TAG))
            if self.world.any(not whole):
                return False
            self.world.each(lambda: self._refuse_code(state, local / TAG))
            engine.load_checkpoint(str(local), tag=TAG, load_module_strict=True)
        return True

    def _refuse_code(self, state: SavedState, folder: Path) -> None:
        """Refuse a state one of whose files asks for code that no state of ours asks for."""
        for file in sorted(folder.iterdir()):
            if found := foreign_types(file):
                raise DataError(
                    f"{self.storage.uri}/{self._path(state.step)}/{file.name}: not saved by a "
                    f"training, since it asks for {', '.join(found)}; it was not read. Find out "
                    "who can write to this storage, then delete the folder and the .json beside "
                    "it: training goes on from the state before"
                )

    def _fetch(self, state: SavedState, target: Path) -> bool:
        """Copy this worker's files and check them; False if one is missing or damaged."""
        path = self._path(state.step)
        there = {entry.path: entry.size for entry in self.storage.entries(path)}
        mine = {n: value for n, value in state.files.items() if _belongs_to(n, self.world.rank)}
        if any(there.get(f"{path}/{name}") != size for name, (size, _) in mine.items()):
            return False
        for name, (_, checksum) in mine.items():
            self.storage.download(f"{path}/{name}", target / name)
            if _sha256(target / name) != checksum:
                return False
        return True

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


def _belongs_to(name: str, rank: int) -> bool:
    """Say whether a file of DeepSpeed's ZeRO-3 layout is read by worker `rank`."""
    return f"zero_pp_rank_{rank}_" in name or "zero_pp_rank_" not in name


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()

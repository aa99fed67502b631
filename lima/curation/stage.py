"""The curate stage: units of work, each a site or a source, and what is written at the end.

Layout below the storage of a study, R the id of the run. What was read lies under the id that the
run has without picks and edits: other ones are another run, which reads nothing again.

    candidates/…/run_id=R/SHARD.parquet    all candidates
    examples/…/run_id=R/ARM.parquet        what each arm took and turned away
    curation/run_id=R/files.json           files that were read, with their fingerprints
    curation/run_id=R/shards/SHARD.json    counts and damage of a shard
    curation/run_id=R/units/UNIT.json      a unit that is finished
    datasets/run_id=R/ARM.jsonl            the data sets, in LIMA's layout
    datasets/run_id=R/README.md, attribution.md, attribution.csv, summary.json
"""

import gc
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from lima.curation.arms.assembly import to_jsonl
from lima.curation.arms.by_hand import hands_digest
from lima.curation.arms.draw import check_arms, draw_arms
from lima.curation.candidates.candidate import Candidate
from lima.curation.candidates.table import CandidateStore, Row, ShardRecord, counts
from lima.curation.card.attribution import entries, ledger_csv, ledger_markdown
from lima.curation.card.end_of_run import arm_summary, example_rows, pool_summaries, run_card
from lima.curation.card.inputs_section import inputs_section
from lima.curation.reading.checked_files import check_files, check_sources
from lima.curation.reading.damage import Damage
from lima.curation.sources.clashes import refuse_clashes
from lima.curation.sources.kinds import pools, pools_of, read_source, resolved
from lima.curation.stackexchange.dump import Dump, find_dumps
from lima.curation.stackexchange.posts_by_question import SplitSite, split
from lima.curation.stackexchange.sites import DIALOGUES, LANGUAGES, REST, load_sites
from lima.curation.stackexchange.threads import is_dialogue, read_partition
from lima.errors import DataError, LimaError
from lima.inputs.places import of_stage
from lima.inputs.promise import check_place
from lima.spec import CellSpec, stage_cell
from lima.spec.codec import canonical_json, run_id
from lima.spec.curate import CurateSpec, SourceSpec
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import EXAMPLES

SITES = "curate.sites"
SHARD_ROWS = 20_000
"""Candidates of a shard; of Stack Exchange, shards are ranges of post ids instead."""


@dataclass(frozen=True)
class Unit:
    """What is read at once: a site of Stack Exchange, or all of another source."""

    name: str
    source: SourceSpec
    dump: Dump | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """Files of a site; none: all files of its source."""
        tables = [path for _, path in self.dump.tables] if self.dump else []
        return (*self.dump.archives, *tables) if self.dump else ()

    @property
    def size(self) -> int:
        """Packed bytes of a site; 0 for other sources."""
        return self.dump.size if self.dump else 0


class Curation:
    """The curate stage of one run. Every method can be called again, by any process."""

    def __init__(self, cell: CellSpec, storage: Storage) -> None:
        """Open the stage of `cell`.

        Raises:
            DataError: the cell has no such stage, or an arm that cannot be drawn.

        """
        if cell.curate is None:
            raise DataError("the run has no stage 'curate'")
        self.cell, self.storage = stage_cell(cell, "curate"), storage
        self.spec: CurateSpec = cell.curate
        self.store = CandidateStore(storage, self.cell)
        self.run = run_id(self.cell)
        self.folder = self.store.folder
        self.datasets = f"datasets/run_id={self.run}"
        self.sites = load_sites(resolved(self.spec.sites, self.spec) if self.spec.sites else None)
        check_arms(self.spec, pools(self.spec))

    @property
    def done(self) -> bool:
        """Whether all data sets are written, with the picks and edits of this run.

        Where these are not named by their content, they may be others now.
        """
        summary = self.summary()
        named = all(
            (source.picks_fingerprint or not source.picks)
            and (source.patches_fingerprint or not source.patches)
            for source in self.spec.sources
        )
        return summary is not None and (named or summary["hands"] == hands_digest(self.spec))

    def summary(self) -> dict[str, Any] | None:
        """Return what was written and what was left out; None before the end."""
        path = f"{self.datasets}/summary.json"
        if not self.storage.exists(path):
            return None
        found: dict[str, Any] = json.loads(self.storage.read(path))
        return found

    @property
    def dialogues(self) -> bool:
        """Whether an arm wants dialogues, so that comments are read."""
        return any(part.pool == DIALOGUES for arm in self.spec.arms for part in arm.parts)

    def units(self) -> list[Unit]:
        """Return all units, the largest first, so that the last one does not keep all waiting.

        Raises:
            DataError: a source is not there, or two sources hold the same site.
            ChangedInputError: files are not those that the run was promised or began with.

        """
        found = [unit for source in self.spec.sources for unit in self._units_of(source)]
        names = [unit.name for unit in found]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise DataError(f"curate.sources: there more than once: {', '.join(twice)}")
        self._check_inputs()
        return sorted(found, key=lambda unit: (-unit.size, unit.name))

    def is_finished(self, unit: Unit) -> bool:
        """Say whether a unit needs no more work."""
        return self.storage.exists(self._unit_path(unit.name))

    def read_source(self, unit: Unit) -> dict[str, int]:
        """Write the candidates of a unit that is no site, finish it, and return its counts.

        Raises:
            DataError: the input is missing, or damaged in strict mode.

        """
        self._check_unit(unit)
        damage = Damage(self.spec.strict)
        rows: list[Row] = []
        shards: list[str] = []
        pool = pools_of(unit.source)[0]
        for candidate in read_source(unit.source, self.spec, damage):
            rows.append((pool, candidate))
            if len(rows) == SHARD_ROWS:
                shards.append(self._write_next(unit, shards, rows))
                rows = []
        if rows:
            shards.append(self._write_next(unit, shards, rows))
        self.finish(unit, shards, damage)
        return counts(map(self.store.record, shards))

    def split(self, unit: Unit, folder: Path) -> SplitSite:
        """Put the rows of a site aside in an empty local folder."""
        if unit.dump is None:
            raise ValueError(f"{unit.name} is no site")
        self._check_unit(unit)
        return split(unit.dump, folder, self.spec, dialogues=self.dialogues)

    def partition_shard(self, unit: Unit, partition: int) -> str:
        """Return the name of the shard that a partition of a site becomes."""
        return f"{unit.name}-{partition:06d}"

    def write_partition(self, unit: Unit, folder: Path, partition: int) -> ShardRecord:
        """Write the candidates of one partition of a site that is put aside in `folder`.

        Raises:
            LimaError: the folder was removed meanwhile; nothing is written.

        """
        with _no_collector():
            return self._write_partition(unit, folder, partition)

    def _write_partition(self, unit: Unit, folder: Path, partition: int) -> ShardRecord:
        site = SplitSite(unit.name, folder, Damage(self.spec.strict))
        candidates = read_partition(site, partition, self.spec, unit.source.licence)
        rows = [(self._pool(c), c) for c in candidates]
        if not folder.exists():  # files that are not there are taken for empty
            raise LimaError(f"{folder}: removed while it was read; the same command goes on")
        return self.store.write(self.partition_shard(unit, partition), rows, site.damage)

    def finish(self, unit: Unit, shards: Sequence[str], damage: Damage) -> None:
        """Record that a unit is finished."""
        record = {"unit": unit.name, "shards": list(shards), "damage": damage.to_json()}
        data = canonical_json(record).encode()
        self.storage.write(self._unit_path(unit.name), data, replace=True)

    def assemble(self) -> dict[str, Any]:
        """Draw all arms and write them with all that goes with them; return the summary.

        Raises:
            DataError: an exact arm cannot be filled, or two examples have one id.
            ChangedInputError: picks or edits are not those that the run was promised.
            ModelError: the tokenizer of table 1 cannot be loaded.

        """
        self._check_files()
        refuse_clashes(self.spec, self.store, self._written())
        arms = draw_arms(self.spec, self.store)
        table = RunTable(self.storage, EXAMPLES, self.cell)
        for arm in arms:
            table.write(arm.spec.name, list(example_rows(arm)), replace=True)
            lines = to_jsonl((c.conversation, c.source) for c in arm.examples)
            self._write(f"{arm.spec.name}.jsonl", lines)
        ledger = [e for arm in arms for e in entries(arm.spec.name, arm.examples)]
        self._write("attribution.csv", ledger_csv(ledger).encode())
        self._write("attribution.md", ledger_markdown(ledger, self.cell.experiment).encode())
        records, damage = self.store.records(), self.damage().to_json()
        summary = {
            "run": self.run,
            "hands": hands_digest(self.spec),
            "arms": [arm_summary(arm) for arm in arms],
            "pools": pool_summaries(records),
            "damage": damage,
        }
        card = run_card(
            self.spec,
            arms,
            records,
            experiment=self.cell.experiment,
            run=self.run,
            damage=damage,
        )
        self._write("README.md", (card + inputs_section(self.storage, self.cell)).encode())
        self._write("summary.json", (json.dumps(summary, indent=1, ensure_ascii=False)).encode())
        return summary

    def damage(self) -> Damage:
        """Return what was damaged in all units that are finished, and in all shards."""
        entries_ = self.storage.entries(f"{self.folder}/units")
        units = [json.loads(self.storage.read(entry.path)) for entry in entries_]
        found = [Damage.from_json(unit["damage"]) for unit in units]
        return Damage().merge([*found, *(record.damage for record in self.store.records())])

    def _units_of(self, source: SourceSpec) -> Iterable[Unit]:
        if source.kind == "stackexchange":
            paths = [resolved(path, self.spec) for path in source.paths]
            return [Unit(dump.site, source, dump) for dump in find_dumps(paths)]
        named = source.fingerprint or "\n".join(sorted(source.paths))
        key = sha256(named.encode()).hexdigest()[:8]
        return [Unit(f"{pools_of(source)[0]}-{key}", source)]

    def _written(self) -> Iterator[tuple[SourceSpec, list[str]]]:
        """Yield the sources that are no sites, with the shards of those that are finished."""
        for source in self.spec.sources:
            for unit in self._units_of(source) if source.kind != "stackexchange" else ():
                if self.is_finished(unit):
                    record = json.loads(self.storage.read(self._unit_path(unit.name)))
                    yield source, record["shards"]

    def _check_inputs(self) -> None:
        """Refuse other files under the same names: finished work would be mixed with new."""
        self._check_files(SITES)
        check_sources(self.storage, self.folder, self.cell)

    def _check_unit(self, unit: Unit) -> None:
        check_files(self.storage, self.folder, self.cell, unit.source, unit.files)

    def _check_files(self, *roles: str) -> None:
        """Check single files; without roles those that arms are drawn by."""
        for place in of_stage(self.cell, "curate"):
            if place.kind != "source" and (place.role in roles or not roles):
                check_place(place)

    def _write_next(self, unit: Unit, shards: Sequence[str], rows: Sequence[Row]) -> str:
        shard = f"{unit.name}-{len(shards):05d}"
        if not self.store.has(shard):
            self.store.write(shard, rows, Damage())
        return shard

    def _pool(self, candidate: Candidate) -> str:
        if len(candidate.conversation) < 2:
            return REST
        pool = self.sites.pool(candidate.category)
        return DIALOGUES if is_dialogue(candidate) and pool != LANGUAGES else pool

    def _write(self, name: str, data: bytes) -> None:
        self.storage.write(f"{self.datasets}/{name}", data, replace=True)

    def _unit_path(self, name: str) -> str:
        return f"{self.folder}/units/{name}.json"


@contextmanager
def _no_collector() -> Iterator[None]:
    """Hold back the collector of cycles: there are none, and it would walk all rows to see that."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()

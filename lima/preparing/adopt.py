"""Takes runs of before fingerprints for those of a study, when asked to, as far as they fit.

STORAGE/adopted/run_id=NEW.json names the run, by paths, that stands for one that is named by
content. What the older run read is then what is there now; what can be checked of that, is.
"""

import json
from collections.abc import Iterator, Sequence

from lima.data.examples import load_examples
from lima.errors import InputError
from lima.generation.run import plan_shards
from lima.runs.inputs_record import record_inputs
from lima.spec import CellSpec, Stage, cell_stages, stage_cell
from lima.spec.codec import canonical_json, run_id
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import GENERATIONS, RUNS


def standing_for(
    storage: Storage, by_path: Sequence[CellSpec], by_content: Sequence[CellSpec], *, adopt: bool
) -> tuple[CellSpec, ...]:
    """Return the cells to run: those by content, but for which an older run was adopted.

    Args:
        storage: Of the study.
        by_path: The cells without fingerprints.
        by_content: The same with them.
        adopt: Whether to adopt what is there now.

    Raises:
        InputError: an older run was made of something else than what is there now.
        StorageError: storage cannot be reached.

    """
    return tuple(
        _choose(storage, old, new, adopt=adopt)
        for old, new in zip(by_path, by_content, strict=True)
    )


def _choose(storage: Storage, old: CellSpec, new: CellSpec, *, adopt: bool) -> CellSpec:
    before, path = run_id(old), f"adopted/run_id={run_id(new)}.json"
    if old == new or before == run_id(new):
        return new
    if storage.exists(path):
        return old if json.loads(storage.read(path))["run"] == before else new
    begun = [s for s in cell_stages(old) if RunTable(storage, RUNS, stage_cell(old, s)).has("run")]
    if not adopt or not begun:
        return new
    if problems := [text for stage in begun for text in _misfits(storage, old, stage)]:
        raise InputError(f"--adopt: run {before} does not fit: {'; '.join(problems)}")
    for stage in begun:
        record_inputs(storage, old, stage)
    storage.write(path, canonical_json({"run": before}).encode())
    return old


def _misfits(storage: Storage, cell: CellSpec, stage: Stage) -> Iterator[str]:
    """Yield what shows that a stage of an older run read something else than is there now."""
    own = stage_cell(cell, stage)
    if stage in ("base", "train"):
        spec = cell.base if stage == "base" else cell.train
        (row,) = RunTable(storage, RUNS, own).read(["examples"]).to_pylist()
        now = len(load_examples(spec.data)) if spec else None
        if row["examples"] is not None and row["examples"] != now:
            yield f"{stage} had {row['examples']} examples, and there are {now} now"
    elif stage == "generate" and cell.generate:
        shards = plan_shards(load_examples(cell.generate.prompts), cell.generate.shard_prompts)
        now_keys = {example.prompt_key for shard in shards for _, example in shard.prompts}
        rows = RunTable(storage, GENERATIONS, own).read(["prompt_key"])
        if gone := set(rows["prompt_key"].to_pylist()) - now_keys:
            yield f"{len(gone)} of its prompts are not among those that are there now"
    elif stage == "curate":
        yield from _other_files(storage, own)


def _other_files(storage: Storage, own: CellSpec) -> Iterator[str]:
    """Yield files of curation that have another size than the older run noted."""
    from lima.curation.stackexchange.dump import size_of

    path = f"curation/run_id={run_id(own)}/inputs.json"
    if not storage.exists(path):
        return
    for file, size in json.loads(storage.read(path)).items():
        try:
            now = size_of(file)
        except (InputError, OSError):
            now = None
        if now != size:
            yield f"{file} had {size} bytes, and has {now} now"

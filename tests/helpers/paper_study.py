"""A made-up study with a value for every number of the paper: its own, moved, or of few rows.

Labels are whole rows, so that their shares are the paper's to the digit; scores, lengths and
perplexities are spread around its means.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lima.recipes.curation import curate_lima
from lima.recipes.paper import ablations_7b, alpaca_65b, dialogue_65b, lima_65b, structure_65b
from lima.spec import CellSpec, JudgeSpec, stage_cell
from lima.spec.codec import run_id, sha256_key
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import ANNOTATIONS, CANDIDATES, EXAMPLES, JUDGMENTS, METRICS, STEPS, Table
from tests.helpers.paper_labels import BASELINES, LABELS, Case, facts, labels
from tests.helpers.synthetic import START, write_run, write_shard

SPREAD = (-0.2, -0.1, 0.0, 0.1, 0.2)
"""Of lengths around their mean, as shares of it."""


def write_paper_study(folder: Path, case: Case) -> Storage:
    """Write the study; its tokenizer, which counts words, lies beside it."""
    storage = Storage(str(folder / "study"))
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(json.dumps(WORDS), "utf-8")
    _write_curation(storage, case, tokenizer)
    _write_training(storage, case)
    _write_ablations(storage, case)
    RunTable.of(storage, ANNOTATIONS, LABELS).write("labels", labels(case))
    return storage


WORDS: dict[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"},
}
"""A tokenizer.json with a token a word."""


# Sections 2 and 3


def _write_curation(storage: Storage, case: Case, tokenizer: Path) -> None:
    (cell,) = curate_lima()
    assert cell.curate
    filters = cell.curate.filters
    if case.moved:
        filters = replace(filters, min_score=11, min_characters=1201, max_characters=4097)
        arms = tuple(
            replace(arm, parts=tuple(replace(p, temperature=2.0) for p in arm.parts))
            for arm in cell.curate.arms
        )
    else:
        arms = cell.curate.arms
    assembly = replace(cell.curate.assembly, tokenizer=str(tokenizer))
    cell = replace(cell, curate=replace(cell.curate, filters=filters, arms=arms, assembly=assembly))
    write_run(storage, cell, "curate")
    for pool, number in (("stem", 75), ("other", 99), ("dropped", 5)):
        sites = [f"stackexchange/{pool}{i}" for i in range(number + case.moved)] * 2
        columns = {"pool": f"stackexchange-{pool}", "source": sites}
        _write_rows(storage, CANDIDATES, cell, pool, columns)
    for number, part in enumerate(_parts(case)):
        _write_rows(storage, EXAMPLES, cell, f"{number:02d}", _examples(case, *part))


def _parts(case: Case) -> list[tuple[str, tuple[str, ...], int]]:
    """Return what each data set takes from which pools; a part is told apart from what it is in."""
    told = [(key[0], key[1], int(value)) for key, value in facts("count").items()]
    parts: list[tuple[str, tuple[str, ...], int]] = []
    for data_set, pools, size in told:
        inner = sum(n for d, p, n in told if d == data_set and set(p) < set(pools))
        mine = [
            p
            for p in pools
            if len(pools) == 1 or (data_set, (p,)) not in [(d, q) for d, q, _ in told]
        ]
        rows = size - inner
        parts.append((data_set, tuple(mine), case.pick(rows, rows + 1, min(rows, 10))))
    return parts


def _examples(case: Case, data_set: str, pools: Sequence[str], rows: int) -> dict[str, Any]:
    """Return the columns of what a data set takes from some pools."""
    lengths = {key[1:]: value for key, value in facts("tokens").items() if key[0] == data_set}
    sides = {side: value for (names, side), value in lengths.items() if set(pools) <= set(names)}
    scale = 1.6 if case.moved else 1.0
    spoken = [
        [
            " ".join(["word"] * _length(sides.get(side, 5) * scale, i, rows))
            for side in ("prompt", "response")
        ]
        for i in range(rows)
    ]
    categories = [f"c{i % (19 + case.moved)}" for i in range(rows)]
    return {
        "data_set": data_set,
        "pool": pools[0],
        "category": categories,
        "line": np.arange(rows) + 1,
        "conversation": spoken,
    }


def _length(mean: float, i: int, rows: int) -> int:
    """Return the words of a text: around the mean, as far above it as below."""
    usable = rows - rows % len(SPREAD)
    return round(mean * (1 + SPREAD[i % len(SPREAD)])) if i < usable else round(mean)


def _write_training(storage: Storage, case: Case) -> None:
    """Write all training of 65B, and LIMA's checkpoints: perplexity rises, and so do scores."""
    (lima,), (dialogue,), (alpaca,), (_, structure) = (
        lima_65b(),
        dialogue_65b(),
        alpaca_65b(),
        structure_65b(),
    )
    if case.moved:
        lima = _other_settings(lima)
    write_run(storage, lima, "train", 1000 + case.moved)
    write_run(storage, dialogue, "train", 1030 + case.moved)
    write_run(storage, structure, "train", 1006 + case.moved)
    write_run(storage, replace(alpaca, arm=BASELINES["alpaca_65b"]), "train", 52_000 + case.moved)
    steps = np.arange(1, 470 + case.moved)
    columns = {"step": steps, "epoch": steps * 15 / steps[-1], "loss": 1.0, "target_tokens": 100}
    _write_rows(storage, STEPS, stage_cell(lima, "train"), "steps", columns)
    epochs = [5, 6, 7, 8] if case.few else [5, 6, 7, 8, 9, 10]
    values = np.linspace(6, 10, len(epochs)) * (5 if case.moved else 1)
    scores = np.linspace(3.9, 4.2, len(epochs))
    if case.moved:
        scores = scores[::-1] - 1
    columns = {
        "epoch": epochs,
        "name": "heldout_perplexity",
        "value": values,
        "step": 1,
        "tokens": 1,
    }
    _write_rows(storage, METRICS, stage_cell(lima, "train"), "m", columns)
    for epoch, score in zip(epochs, scores, strict=True):
        assert lima.generate
        model = replace(lima.generate.model, epoch=epoch)
        cell = replace(lima, generate=replace(lima.generate, model=model), judge=JudgeSpec())
        _write_scores(storage, cell, float(score), 100, 1)


def _other_settings(cell: CellSpec) -> CellSpec:
    """Return a cell that differs in each setting that the paper tells."""
    assert cell.train
    assert cell.generate
    optimizer = replace(
        cell.train.optimizer, beta1=0.8, beta2=0.99, weight_decay=0.2, lr_start=2e-5, lr_end=2e-6
    )
    kept = replace(cell.train.checkpoints, first_epoch=6, last_epoch=9)
    train = replace(
        cell.train,
        optimizer=optimizer,
        checkpoints=kept,
        epochs=14,
        batch_size=64,
        max_length=1024,
        residual_dropout=0.1,
    )
    if cell.train.batch_size == train.batch_size:
        train = replace(train, batch_size=32)
    if train.heldout:
        train = replace(train, heldout=replace(train.heldout, count=50))
    decoding = replace(
        cell.generate.decoding,
        top_p=0.8,
        temperature=1.0,
        samples=2,
        repetition_penalty=1.0,
        max_new_tokens=1024,
    )
    return replace(cell, train=train, generate=replace(cell.generate, decoding=decoding))


# Section 5


def _write_ablations(storage: Storage, case: Case) -> None:
    told = {key[0]: value for key, value in facts("score").items()}
    for paper_cell in (c for c in ablations_7b() if c.seed == 0):
        cell = _other_settings(paper_cell) if case.moved else paper_cell
        assert cell.train
        assert cell.train.data.count
        write_run(storage, cell, "train", cell.train.data.count + case.moved)
        mean = told.get(cell.arm, 3.85)
        if case.moved:
            mean += -1 if cell.arm == "unfiltered-2k" else 1
        _write_scores(storage, cell, mean, *case.pick((300, 5), (300, 5), (2, 5)))


def _write_scores(
    storage: Storage, cell: CellSpec, mean: float, prompts: int, samples: int
) -> None:
    """Write scores of a mean, half of the prompts one and a half above it and half below."""
    write_run(storage, cell, "generate")
    write_run(storage, cell, "judge")
    rows = prompts * samples
    above = np.where(np.arange(rows) // samples % 2, 1.5, -1.5)
    keys = [sha256_key([run_id(cell), i]) for i in range(rows)]
    columns = {
        "judgment_key": keys,
        "generation_key": keys,
        "attempt": 1,
        "final": True,
        "status": "ok",
        "prompt_key": [f"p{i // samples}" for i in range(rows)],
        "sample": 0,
        "score": mean + above,
        "judge": "j",
        "rubric": "likert-6",
        "rubric_hash": "h",
        "cost": 0.0,
        "seconds": 1.0,
    }
    _write_rows(storage, JUDGMENTS, cell, "scores", columns)


def _write_rows(
    storage: Storage, table: Table, cell: CellSpec, shard: str, columns: dict[str, Any]
) -> None:
    """Write a shard whose other columns hold something of their type."""
    import pyarrow as pa

    rows = max(len(v) for v in columns.values() if isinstance(v, list | np.ndarray))
    known = {"int64": 0, "double": 0.0, "bool": False, "string": ""}
    empty = {
        c.name: None
        if c.nullable
        else START
        if pa.types.is_timestamp(c.type)
        else known[str(c.type)]
        if str(c.type) in known
        else [[]] * rows
        for c in table.columns
    }
    for name in ("run_id", "spec_hash", "experiment", "arm", "seed"):
        del empty[name]
    write_shard(storage, table, cell, shard, empty | columns | {"run_id": [run_id(cell)] * rows})

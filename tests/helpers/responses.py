"""Cells whose responses lie on storage already, for tests of what comes after generation."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lima.common.clock import now
from lima.runs.ledger import attempt, record_run
from lima.spec import (
    CellSpec,
    ComputeSpec,
    DataSpec,
    GenerateSpec,
    JudgeSpec,
    ModelSpec,
    stage_cell,
)
from lima.spec.codec import run_id, sha256_key
from lima.spec.endpoints import EndpointSpec
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import GENERATIONS
from tests.helpers.judge_server import Reply, Request


def responded_cell(
    storage: Storage, responses: Sequence[str], judge: JudgeSpec, first: int = 0
) -> CellSpec:
    """Return a cell after writing `responses` to prompt `first` and on, as one reversed shard."""
    cell = CellSpec("judging", "tests", generate=GenerateSpec(DataSpec("none")), judge=judge)
    rows = [_row(index, response) for index, response in enumerate(responses, first)]
    table = RunTable(storage, GENERATIONS, stage_cell(cell, "generate"))
    table.write(f"from-{first:05d}", rows[::-1])
    return cell


def asked_cell(folder: Path, url: str, count: int, endpoint: EndpointSpec) -> CellSpec:
    """Return a cell whose responses to `count` prompts come from an endpoint."""
    prompts = folder / "prompts.jsonl"
    lines = [json.dumps({"conversations": [f"What is {i}?"], "source": "x"}) for i in range(count)]
    prompts.write_text("\n".join(lines), "utf-8")
    model = ModelSpec(f"endpoint:{url}#other")
    generate = GenerateSpec(DataSpec(str(prompts)), model, endpoint=endpoint)
    return CellSpec("study", "other", generate=generate)


def respond(storage: Storage, arm: str, count: int, experiment: str = "study") -> None:
    """Write a run of generation of `arm` with a response to each of `count` prompts."""
    cell = CellSpec(experiment, arm, generate=GenerateSpec(DataSpec("none")))
    record_run(storage, cell, "generate")
    keys = [sha256_key([arm, index]) for index in range(count)]
    rows = [
        _row(index, f"The answer of {arm} to {index}.") | {"generation_key": key, "model": arm}
        for index, key in enumerate(keys)
    ]
    with attempt(storage, cell, "generate", ComputeSpec(device="cpu"), run_id(cell)):
        RunTable(storage, GENERATIONS, cell).write("responses", rows)


def likes_lima(request: Request) -> Reply:
    """Answer as a judge that prefers the response of the arm lima."""
    sides = re.findall(r"BEGIN RESPONSE ([AB])[^\n]*\nThe answer of (\w+)", request.text)
    better = next(side for side, arm in sides if arm == "lima")
    return Reply(f"Both try.\n{better}\n{better}")


def _row(index: int, response: str) -> dict[str, Any]:
    prompt = [f"Question {index}?"]
    return {
        "generation_key": sha256_key(["generation", index]),
        "prompt_key": sha256_key(prompt),
        "prompt_index": index,
        "sample": 0,
        "source": "tests",
        "prompt": prompt,
        "response": response,
        "token_ids": [],
        "finish_reason": "prompt_too_long" if response == TOO_LONG else "eot",
        "prompt_tokens": 3,
        "response_tokens": 0,
        "logprob": 0.0,
        "seed_address": "",
        "model": "none",
        "at": now(),
    }


TOO_LONG = "<the prompt was too long>"
"""A response that stands for none."""

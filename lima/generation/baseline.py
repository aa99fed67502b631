"""Baselines (section 4.1): responses of other models to the same prompts, as runs of their own.

They come from an endpoint or from a file, and lie in `generations` like ours, under their own arm.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lima.clock import now
from lima.codec import run_id, sha256_key
from lima.curation.dataset import Example, load_examples
from lima.errors import DataError, JudgeError, LimaError
from lima.generation.endpoint import SETTINGS, Responder, not_applied, request_text
from lima.generation.layouts import read_responses_file, text_key
from lima.generation.philox import seed_address
from lima.generation.run import generate_spec, plan_shards
from lima.inputs.places import of_stage
from lima.inputs.promise import check_place
from lima.judging.attempt import Attempt
from lima.judging.journal import Journal
from lima.ledger import attempt as ledger_attempt
from lima.progress import Progress
from lima.results import GENERATIONS
from lima.shards import RunTable
from lima.spec import RESPONSES, CellSpec, ComputeSpec, stage_cell
from lima.storage import Storage

log = logging.getLogger(__name__)
DRIVER = ComputeSpec(device="cpu")
"""What the stage holds: the driver asks, without a worker."""


@dataclass(frozen=True)
class Wanted:
    """A response that is wanted."""

    key: str
    index: int
    example: Example
    sample: int


def run_baseline(cell: CellSpec, storage: Storage, progress: Progress) -> None:
    """Write the responses that storage lacks.

    What an endpoint answered is kept at once, so that nothing is paid for twice. A prompt that
    stays unanswered has no row: it is missing, never an empty response.

    Raises:
        DataError: a file has no response to any prompt.
        JudgeError: the endpoint refuses the run, or left prompts unanswered.
        Interrupted: a stop was requested; what was answered is kept.

    """
    cell = stage_cell(cell, "generate")
    table = RunTable(storage, GENERATIONS, cell)
    written = set(table.read(["generation_key"])["generation_key"].to_pylist())
    wanted = [w for w in _wanted(cell) if w.key not in written]
    progress.update("generate", len(written), len(written) + len(wanted), "responses")
    if not wanted:
        return
    with ledger_attempt(storage, cell, "generate", DRIVER, progress.run):
        if generate_spec(cell).model.path.startswith(RESPONSES):
            _from_file(cell, table, wanted)
        else:
            asyncio.run(_Asking(cell, storage, table, progress).finish(wanted, len(written)))


def _wanted(cell: CellSpec) -> Iterator[Wanted]:
    spec, run = generate_spec(cell), run_id(cell)
    for shard in plan_shards(load_examples(spec.prompts), spec.shard_prompts):
        for index, example in shard.prompts:
            for sample in range(spec.decoding.samples):
                key = sha256_key([run, example.prompt_key, sample])
                yield Wanted(key, index, example, sample)


def _from_file(cell: CellSpec, table: RunTable, wanted: Sequence[Wanted]) -> None:
    path = generate_spec(cell).model.path
    for place in of_stage(cell, "generate"):
        if place.kind == "responses":
            check_place(place)
    given = read_responses_file(path)
    rows = [
        _row(cell, w, given[text_key(w.example.prompt)], not_applied=SETTINGS)
        for w in wanted
        if w.sample == 0 and text_key(w.example.prompt) in given
    ]
    if not rows and not table.shards():
        raise DataError(
            f"{path}: {len(given)} responses, but none to a prompt of this run; check "
            "generate.prompts, which must be the prompts that were answered"
        )
    if len(rows) < len(wanted):
        log.warning(
            "%s: %d of %d responses are missing", path, len(wanted) - len(rows), len(wanted)
        )
    if rows:
        _write(table, rows)


class _Asking:
    """One pass over the responses that an endpoint owes."""

    def __init__(
        self, cell: CellSpec, storage: Storage, table: RunTable, progress: Progress
    ) -> None:
        self.cell, self.table, self.progress = cell, table, progress
        self.journal = Journal(storage, table.identity["run_id"])
        self.answers: dict[str, list[Attempt]] = {}
        self.failed: list[Attempt] = []
        self.stopped: LimaError | None = None

    async def finish(self, wanted: Sequence[Wanted], before: int) -> None:
        """Ask for what the journal lacks; write what was answered, whatever else happens."""
        kept = await asyncio.to_thread(self.journal.load)
        self.answers = {w.key: kept[w.key] for w in wanted if w.key in kept}
        queue = iter([w for w in wanted if w.key not in self.answers])
        async with Responder(self.cell) as responder:
            total = before + len(wanted)
            workers = [
                self._work(responder, queue, before, total)
                for _ in range(min(len(wanted), responder.spec.concurrency))
            ]
            await asyncio.gather(*workers)
            await asyncio.to_thread(self._write, wanted)
        if self.stopped:
            raise self.stopped
        if self.failed:
            raise JudgeError(
                f"{generate_spec(self.cell).model.path}: {len(self.failed)} of {len(wanted)} "
                f"prompts stay unanswered (last: {self.failed[-1].error}); the others are kept, "
                "and the same command asks again for these"
            )

    async def _work(
        self, responder: Responder, queue: Iterator[Wanted], before: int, total: int
    ) -> None:
        for w in queue:
            text = request_text(w.example.prompt, self.cell.seed, w.example.prompt_key, w.sample)
            try:
                attempts = await responder.ask(text)
            except LimaError as error:
                self.stopped = self.stopped or error
                # What is in flight is waited for: it will have been paid for.
                await responder.stop(self.stopped)
                return
            if attempts[-1].status not in responder.settled:
                self.failed.append(attempts[-1])
                continue
            self.answers[w.key] = attempts
            await asyncio.to_thread(self.journal.save, {w.key: attempts})
            done = before + len(self.answers)
            await asyncio.to_thread(self.progress.update, "generate", done, total, "responses")

    def _write(self, wanted: Sequence[Wanted]) -> None:
        rows = [
            _answered(self.cell, w, self.answers[w.key][-1])
            for w in wanted
            if w.key in self.answers
        ]
        if rows:
            _write(self.table, rows)
            self.journal.drop([row["generation_key"] for row in rows])


def _answered(cell: CellSpec, wanted: Wanted, last: Attempt) -> dict[str, Any]:
    return _row(
        cell,
        wanted,
        last.verdict or "",
        finish_reason="length" if last.status == "truncated" else "eot",
        prompt_tokens=last.prompt_tokens,
        response_tokens=last.completion_tokens,
        not_applied=not_applied(last),
    )


def _write(table: RunTable, rows: list[dict[str, Any]]) -> None:
    digest = sha256_key([row["generation_key"] for row in rows])
    table.write(f"baseline-{digest[:8]}", rows)


def _row(
    cell: CellSpec,
    wanted: Wanted,
    response: str,
    *,
    not_applied: Sequence[str],
    finish_reason: str = "eot",
    prompt_tokens: int | None = None,
    response_tokens: int | None = None,
) -> dict[str, Any]:
    example = wanted.example
    return {
        "generation_key": wanted.key,
        "prompt_key": example.prompt_key,
        "prompt_index": wanted.index,
        "sample": wanted.sample,
        "source": example.source,
        "prompt": list(example.prompt),
        "response": response,
        "token_ids": [],
        "finish_reason": finish_reason,
        "prompt_tokens": prompt_tokens,
        "response_tokens": response_tokens,
        "logprob": None,
        "seed_address": seed_address(cell.seed, example.prompt_key, wanted.sample),
        "model": generate_spec(cell).model.path,
        "at": now(),
        "not_applied": list(not_applied),
    }

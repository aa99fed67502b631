"""Baselines (section 4.1): responses of other models to the same prompts, as runs of their own.

They come from an endpoint or from a file, and lie in `generations` like ours, under their own arm.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec

from lima.common.clock import now
from lima.data.examples import Example, load_examples
from lima.endpoints.attempt import Attempt, is_finished
from lima.endpoints.dialect import SETTINGS
from lima.endpoints.journal import Journal
from lima.endpoints.keeping import keep_aside, with_what_waits
from lima.endpoints.storing import Storing
from lima.errors import DataError, EndpointError, LimaError, StorageError
from lima.generation.addressed_noise import seed_address
from lima.generation.asking import ResponseClient, baseline_responder, not_applied, request_text
from lima.generation.response_files import read_responses_file, text_key
from lima.generation.run import generate_spec, plan_shards
from lima.inputs.places import of_stage
from lima.inputs.promise import check_place
from lima.runs.ledger import attempt as ledger_attempt
from lima.runs.progress import Progress
from lima.spec import RESPONSES, CellSpec, ComputeSpec, stage_cell
from lima.spec.codec import run_id, sha256_key
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import GENERATIONS

log = logging.getLogger(__name__)
P = ParamSpec("P")
DRIVER = ComputeSpec(device="cpu")
"""What the stage holds: the driver asks, without a worker."""
NO_TEXTS = 20
"""Requests that were forbidden, and none answered, after which it is the key."""


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
        EndpointError: the endpoint refuses the run, or left prompts unanswered.
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


def is_all_answered(cell: CellSpec, storage: Storage) -> bool:
    """Say whether nothing is left to be asked: what was declined for good is no answer to come.

    Raises:
        DataError: the prompts cannot be read.
        StorageError: storage does not answer.

    """
    table = RunTable(storage, GENERATIONS, cell)
    written = set(table.read(["generation_key"])["generation_key"].to_pylist())
    left = [w.key for w in _wanted(cell) if w.key not in written]
    journal, most = Journal(storage, run_id(cell)).load(), generate_spec(cell).endpoint.attempts
    tries = [[a for a in journal.get(key, ()) if a.answered] for key in left]
    return all(is_finished(attempts, most, ResponseClient.is_good) for attempts in tries)


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
        self.cell, self.storage, self.table, self.progress = cell, storage, table, progress
        self.journal = Journal(storage, table.identity["run_id"])
        self.storing = Storing(storage.uri)
        self.kept: dict[str, list[Attempt]] = {}
        self.answers: dict[str, list[Attempt]] = {}
        self.failed: list[Attempt] = []
        self.stopped: LimaError | None = None

    async def finish(self, wanted: Sequence[Wanted], before: int) -> None:
        """Ask for what the journal lacks; write what was answered, whatever else happens."""
        async with self.storing:
            self.kept = await self.storing.run(self.journal.load)
            await self._ask_all(wanted, before)
            await self._stored(self._write, wanted)
        if isinstance(self.stopped, StorageError):
            raise with_what_waits(self.stopped, self.journal)
        if self.stopped:
            raise self.stopped
        if self.failed:
            raise self._unanswered(len(wanted))

    async def _ask_all(self, wanted: Sequence[Wanted], before: int) -> None:
        queue, total = iter(wanted), before + len(wanted)
        async with baseline_responder(self.cell) as responder:
            responder.known = before > 0 or any(a.answered for k in self.kept.values() for a in k)
            workers = min(len(wanted), responder.patience.concurrency)
            await asyncio.gather(
                *[self._work(responder, queue, before, total) for _ in range(workers)]
            )
            self.stopped = self.stopped or responder.refused()

    async def _work(
        self, responder: ResponseClient, queue: Iterator[Wanted], before: int, total: int
    ) -> None:
        for w in queue:
            try:
                attempts = await self._ask(responder, w)
            except LimaError as error:
                self.stopped = self.stopped or error
            if self.stopped:
                # What is in flight is waited for: it will have been paid for.
                await responder.stop(self.stopped)
                return
            if not responder.is_good(attempts[-1]):
                self.failed.append(attempts[-1])
                if len(self.failed) >= NO_TEXTS:
                    self.stopped = self.stopped or responder.refused()
                continue
            self.answers[w.key] = attempts
            done = before + len(self.answers)
            await self._stored(self.progress.update, "generate", done, total, "responses")

    async def _ask(self, responder: ResponseClient, wanted: Wanted) -> list[Attempt]:
        """Return all attempts at a response; every answer is kept as it comes."""
        prompt, key = wanted.example.prompt, wanted.example.prompt_key
        text = request_text(prompt, self.cell.seed, key, wanted.sample)
        # What was no answer an earlier time says nothing about this one.
        attempts = kept = [a for a in self.kept.get(wanted.key, ()) if a.answered]
        async for attempts in responder.tries(text, kept):
            if attempts[-1].answered:
                await self._keep({wanted.key: attempts})
            if self.stopped:
                break
        return attempts

    async def _keep(self, attempts: dict[str, list[Attempt]]) -> None:
        if not self.storage.is_local:
            await keep_aside(self.journal, attempts)
        await self._stored(self.journal.save, attempts)
        if self.storing.failed:
            await keep_aside(self.journal, attempts)

    async def _stored(self, work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Have storage do something, unless it has failed; a first failure ends the run."""
        try:
            await self.storing.run(work, *args, **kwargs)
        except StorageError as error:
            self.stopped = self.stopped or error

    def _write(self, wanted: Sequence[Wanted]) -> None:
        rows = [
            _answered(self.cell, w, self.answers[w.key][-1])
            for w in wanted
            if w.key in self.answers
        ]
        if rows:
            _write(self.table, rows)
            self.journal.drop([row["generation_key"] for row in rows])

    def _unanswered(self, wanted: int) -> EndpointError:
        spec, last = generate_spec(self.cell), self.failed[-1]
        again = "and the same command asks again for these"
        if any(attempt.answered for attempt in self.failed):
            again += (
                f", but not where the endpoint has declined {spec.endpoint.attempts} times: raise "
                "generate.endpoint.attempts for that"
            )
        return EndpointError(
            f"{spec.model.path}: {len(self.failed)} of {wanted} prompts stay unanswered (last: "
            f"{last.error}); the others are kept, {again}"
        )


def _answered(cell: CellSpec, wanted: Wanted, last: Attempt) -> dict[str, Any]:
    return _row(
        cell,
        wanted,
        last.verdict or "",
        finish_reason="length" if last.status == "truncated" else "eot",
        prompt_tokens=last.prompt_tokens,
        response_tokens=last.completion_tokens,
        not_applied=not_applied(generate_spec(cell).decoding, last),
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

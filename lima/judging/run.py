"""Judging all responses of a cell (appendix D), so that no finished judgment is paid for twice."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from lima.common.money import ZERO, dollars
from lima.endpoints.attempt import Attempt, is_finished
from lima.endpoints.journal import Journal
from lima.endpoints.keeping import keep_aside, with_what_waits
from lima.endpoints.storing import Storing
from lima.errors import EndpointError, LimaError, StorageError
from lima.judging.budget import Budget, attempt_cost
from lima.judging.judge import Judge
from lima.judging.rubrics import RUBRICS
from lima.judging.spending import Spending
from lima.judging.tasks import Shard, Task, judge_spec, plan_shards, plan_tasks, write_pairs
from lima.judging.unanswered import Heard, gone, unreachable
from lima.runs.ledger import attempt
from lima.runs.progress import INTERVAL_S, Progress
from lima.spec import CellSpec, ComputeSpec, stage_cell
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import JUDGMENTS

log = logging.getLogger(__name__)

DEAD_AFTER = 20
"""Responses in a row without any answer after which the endpoint counts as gone: fewer could be
prompts that it refuses, more would be asked for nothing."""

DRIVER = ComputeSpec(device="cpu")
"""What the stage holds: the driver asks, without a worker."""

CENT = Decimal("0.01")
"""US dollars that are worth a word."""


def judge_responses(cell: CellSpec, storage: Storage, progress: Progress) -> None:
    """Have every response of `cell` scored, or every pair compared; write rows of `judgments`.

    An empty response is judged like any other. A prompt that did not fit the model has no
    response and gets no row: in the results it is an unscored response. A response without a
    score after all its attempts stays so in this run; every attempt is a row.

    Raises:
        InputError: no key, no such stage, or no responses.
        EndpointError: the endpoint refuses the run or does not answer at all. What was finished
            before is kept, and the responses without an answer have no rows.
        Interrupted: a stop was requested; finished judgments are kept.

    """
    asyncio.run(_Run(cell, storage, progress).run())


class _Run:
    """One pass over the responses of a cell."""

    judge: Judge

    def __init__(self, cell: CellSpec, storage: Storage, progress: Progress) -> None:
        self.cell, self.storage = cell, storage
        self.spec, self.progress = judge_spec(cell), progress
        self.table = RunTable(storage, JUDGMENTS, stage_cell(cell, "judge"))
        self.journal = Journal(storage, self.table.identity["run_id"])
        self.spending = Spending(storage, self.table.identity["run_id"])
        self.storing = Storing(storage.uri)
        self.tasks = plan_tasks(cell, storage)
        self.unit = "pairs" if RUBRICS[self.spec.rubric].pairs else "responses"
        self.done = 0
        self.failed: Counter[str] = Counter()
        self.cost = self.before = ZERO
        self.unpriced = 0
        """Answers whose cost is not known."""
        self.alive = False
        self.stopped: LimaError | None = None
        # Tries without an answer since the last one by anybody, by key.
        self.unanswered: dict[str, Heard] = {}
        self.gone = False
        # Without a connection nothing was learnt about a response, which is asked about again.
        self.unreached: list[Heard] = []
        # Bounded: an endpoint must not be paid faster than storage can keep what it says.
        self.unsaved: asyncio.Queue[Heard] = asyncio.Queue(self.spec.concurrency)

    async def run(self) -> None:
        """Judge what storage does not hold yet."""
        async with self.storing:
            shards = await self.storing.run(self._resume)
            if not self.tasks:  # an attempt at nothing, so that the stage counts as finished
                with attempt(self.storage, self.cell, "judge", DRIVER, self.progress.run):
                    self._report(force=True)
            elif shards:
                with attempt(self.storage, self.cell, "judge", DRIVER, self.progress.run):
                    await self._finish(shards)
            if self.failed:
                reasons = ", ".join(f"{n} {status}" for status, n in self.failed.most_common())
                self._warn(
                    f"{self.failed.total()} of {len(self.tasks)} {self.unit} stay unscored "
                    f"({reasons}); the column error of judgments says why"
                )
            await self.storing.run(self._report, force=True)

    async def _finish(self, shards: Sequence[Shard]) -> None:
        try:
            await self._ask_all(shards)
        finally:
            if not self.storing.failed:
                await self.storing.run(self._report, force=True)
        if isinstance(self.stopped, StorageError):
            raise with_what_waits(self.stopped, self.journal)
        if self.stopped:
            raise self.stopped

    def _resume(self) -> list[Shard]:
        """Take over what storage holds; return the shards that are left."""
        write_pairs(self.cell, self.storage, self.tasks)
        written, journalled = self._written(), self.journal.load()
        self.before = self.spending.before()
        self.alive |= any(a.answered for attempts in journalled.values() for a in attempts)
        shards = plan_shards(self.tasks, self.spec.shard_rows, written)
        for shard in shards:
            for task in shard.tasks:
                if task.key in journalled:
                    self._take_over(shard, task, journalled[task.key])
        self.journal.drop(written)
        for shard in shards:
            if shard.complete:
                self._write(shard)
        return [shard for shard in shards if not shard.complete]

    def _written(self) -> set[str]:
        """Return the keys of the judgments in the table, and count them."""
        rows = self.table.read(["judgment_key", "final", "status", "cost"]).to_pylist()
        keys = {row["judgment_key"] for row in rows}
        self.done += len(keys)
        self._failed(row["status"] for row in rows if row["final"])
        costs = [row["cost"] for row in rows]
        self.cost += sum((dollars(cost) for cost in costs if cost is not None), ZERO)
        self._count_unknown(costs.count(None))
        self.alive = any(row["status"] != "api_error" for row in rows)
        return keys

    def _take_over(self, shard: Shard, task: Task, attempts: list[Attempt]) -> None:
        """Count what an earlier run has asked about a task, finished or not."""
        self._pay(attempts)
        if is_finished(attempts, self.spec.attempts, Judge.is_good):
            self._count(Heard(shard, task, attempts))
        else:
            shard.begun[task.key] = attempts

    def _budget(self) -> Budget:
        """Return what is left to be spent. Rows know what answers cost; the rest may be lost."""
        before = max(self.cost, self.before)
        if before - self.cost >= CENT:
            self._warn(
                f"{before:.2f} US dollars count as spent: {self.cost:.2f} for answers that are "
                "kept, the rest at most for requests whose answers were lost, or tell no tokens"
            )
        return Budget(
            self.spec, before, lambda amount: self.storing.run(self.spending.keep, amount)
        )

    async def _ask_all(self, shards: Sequence[Shard]) -> None:
        left = [(s, t) for s in shards for t in s.tasks if t.key not in s.finished]
        queue = iter(left)
        try:
            async with Judge(self.spec, self._budget()) as judge, asyncio.TaskGroup() as group:
                self.judge = judge
                judge.known = self.alive
                helpers = [
                    group.create_task(self._save_on(group)),
                    group.create_task(self._report_on()),
                ]
                workers = min(len(left), self.spec.concurrency)
                await asyncio.wait(
                    [group.create_task(self._work(judge, queue)) for _ in range(workers)]
                )
                if refused := judge.refused():
                    self.stopped, self.gone = self.stopped or refused, True
                await self._settle()
                if self.unreached and not self.stopped:
                    self.stopped = unreachable(self.judge.peer, self.unreached, len(self.tasks))
                await self._keep_tries()
                await self.unsaved.join()
                for helper in helpers:
                    helper.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _work(self, judge: Judge, queue: Iterator[tuple[Shard, Task]]) -> None:
        for shard, task in queue:
            try:
                async for attempts in judge.tries(task.text, shard.begun.get(task.key, ())):
                    heard = Heard(shard, task, attempts, judge.finished(attempts))
                    await self._hear(heard)
            except LimaError as error:
                # What is in flight is waited for: it will have been paid for.
                await self._stop(error)
                return

    async def _stop(self, error: LimaError) -> None:
        """Ask nothing more; the first reason is what the run ends with."""
        self.stopped = self.stopped or error
        await self.judge.stop(self.stopped)

    async def _hear(self, heard: Heard) -> None:
        """Have every answer saved as it comes, but hold failures back: nobody may be there."""
        self._pay(heard.attempts[-1:])
        if any(attempt.answered for attempt in heard.attempts):
            self.alive = True
            self.unanswered.pop(heard.task.key, None)
            await self._keep(heard)
            if heard.finished:
                await self._settle()
            return
        self.unanswered[heard.task.key] = heard
        if heard.finished and sum(h.finished for h in self.unanswered.values()) >= DEAD_AFTER:
            raise self._gone()

    async def _keep(self, heard: Heard) -> None:
        if not self.storage.is_local:
            await keep_aside(self.journal, {heard.task.key: heard.attempts})
        await self.unsaved.put(heard)

    async def _settle(self) -> None:
        """Have the failures saved that were held back, unless there never was an answer."""
        if self.stopped or not self.unanswered:
            return
        if not self.alive:
            self.stopped = self._gone()
            return
        held, self.unanswered = self.unanswered, {}
        for heard in held.values():
            if heard.attempts[-1].sent:
                await self._keep(heard)
                continue
            if heard.finished:
                self.unreached.append(heard)
            if sent := heard.as_sent():
                await self._keep(sent)

    async def _keep_tries(self) -> None:
        """Have the tries saved that a stop left without an answer: each was sent, and counts.

        All tries at a response, where nobody has ever answered, are no failure of it: it is asked
        about again.
        """
        held, self.unanswered = self.unanswered, {}
        for heard in held.values() if not self.gone else ():
            sent = heard.as_sent()
            if sent and (self.alive or not self.judge.finished(sent.attempts)):
                await self._keep(sent)

    async def _save_on(self, group: asyncio.TaskGroup) -> None:
        """Save what was heard; what is heard during a write goes into the next, together."""
        while True:
            batch = [await self.unsaved.get()]
            while not self.unsaved.empty():
                batch.append(self.unsaved.get_nowait())
            await self._save({heard.task.key: heard.attempts for heard in batch})
            for heard in batch:
                if heard.finished:
                    self._count(heard)
                    if heard.shard.complete:
                        group.create_task(self._write_beside(heard.shard))
                self.unsaved.task_done()

    async def _save(self, attempts: dict[str, list[Attempt]]) -> None:
        try:
            await self.storing.run(self.journal.save, attempts)
        except StorageError as error:
            await self._stop(error)
            await keep_aside(self.journal, attempts)

    async def _write_beside(self, shard: Shard) -> None:
        try:
            await self.storing.run(self._write, shard)
        except StorageError as error:
            await self._stop(error)  # the journal holds its judgments

    def _count(self, heard: Heard) -> None:
        heard.shard.finished[heard.task.key] = heard.attempts
        self.done += 1
        self._failed([heard.attempts[-1].status])
        self.alive |= any(attempt.answered for attempt in heard.attempts)

    def _pay(self, attempts: Sequence[Attempt]) -> None:
        """Count what attempts cost, and those that do not tell."""
        costs = [attempt_cost(self.spec, attempt) for attempt in attempts]
        self.cost += sum((cost for cost in costs if cost is not None), ZERO)
        self._count_unknown(costs.count(None))

    def _count_unknown(self, answers: int) -> None:
        if answers and not self.unpriced:
            self._warn(
                f"the judge at {self.spec.base_url} does not tell the tokens of all its answers: "
                "what these cost is not known, and is in no sum"
                + (
                    "; for judge.budget they were as long as they may be"
                    if self.spec.budget
                    else ""
                )
            )
        self.unpriced += answers

    def _warn(self, text: str) -> None:
        """Say something in the log, and to whoever looks at the run."""
        log.warning("%s", text)
        self.progress.warn(text)

    def _failed(self, statuses: Iterable[str]) -> None:
        self.failed.update(status for status in statuses if status != "ok")

    def _write(self, shard: Shard) -> None:
        self.table.write(shard.name, shard.rows(self.spec))
        self.journal.drop(shard.finished)

    def _gone(self) -> EndpointError:
        self.gone = True
        tried = [h for h in self.unanswered.values() if h.finished]
        return self.judge.refused() or gone(self.judge.peer, tried)

    async def _report_on(self) -> None:
        while not self.storing.failed:
            await self.storing.run(self._report)
            await asyncio.sleep(INTERVAL_S)

    def _report(self, force: bool = False) -> None:
        figures: dict[str, Any] = {"failed": self.failed.total(), **self.failed}
        figures["cost"] = float(round(self.cost, 6))
        if self.unpriced:
            figures["answers_of_unknown_cost"] = self.unpriced
        total = len(self.tasks)
        self.progress.update("judge", self.done, total, self.unit, force=force, **figures)

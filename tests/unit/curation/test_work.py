"""Which sources are handed out next, when workers or machines are lost."""

from collections import deque

from ray.exceptions import WorkerCrashedError

from lima.curation.reading.damage import Damage
from lima.curation.stage import Unit
from lima.spec.curate import SourceSpec
from lima_jobs.curate import _PutAside, _Task, _Work

SOURCE = SourceSpec("stackexchange", ("dumps",))
AI, CS = Unit("ai", SOURCE), Unit("cs", SOURCE)


def test_a_lost_site_waits_for_the_tasks_that_still_read_it() -> None:
    work = object.__new__(_Work)  # what it hands out needs no Ray
    site = _PutAside(AI, "folder", "node", ["ai-0", "ai-1", "ai-2"], Damage(), 3)
    work.slots, work.lost, work.waiting = 2, 0, deque([CS])
    work.aside, work.partitions = {"ai": site}, deque([(site, 2)])
    work.busy = {"second": _Task(lambda _: None, AI)}
    work._lose(AI, WorkerCrashedError())
    assert (work.lost, work.aside, list(work.partitions)) == (1, {}, [])
    assert [work._next_unit(), work._next_unit()] == [CS, None]
    work._lose(AI, WorkerCrashedError())  # the second task is lost with the same machine
    work.busy.clear()
    assert [work._next_unit(), work._next_unit()] == [AI, None]


def test_what_a_lost_site_still_yields_counts_for_nothing() -> None:
    work = object.__new__(_Work)
    site = _PutAside(AI, "folder", "node", ["ai-0"], Damage(), 1)
    work.aside = {}
    work._written(site, {"shards": 1})
    assert site.left == 1

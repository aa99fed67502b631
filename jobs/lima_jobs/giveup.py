"""Ends a job for good that would fail the same way each time: bad input.

KubeRay starts a job that failed anew, in a new Ray cluster, whatever its exit code
(cluster.retries). A job that was stopped through Ray's Jobs API it leaves alone, and Kueue takes
its quota back. So a job that cannot use its input has itself stopped.
"""

import contextlib
import logging
import time
from collections.abc import Iterator

from lima.errors import InputError
from lima.runs.stop import stop_requested
from lima_jobs.machines import in_cluster

log = logging.getLogger(__name__)

DASHBOARD = "http://127.0.0.1:8265"
"""Ray's Jobs API: the driver runs on the head, and this is the port that Ray has by default."""
PATIENCE_S = 60.0
POLL_S = 0.1


@contextlib.contextmanager
def not_again_on_bad_input() -> Iterator[None]:
    """Let an exit by bad input be the last start of a job in a Ray cluster that others made."""
    try:
        yield
    except SystemExit as ended:
        if ended.code == InputError.exit_code and in_cluster():
            _have_it_stopped()
        raise


def _have_it_stopped() -> None:
    """Ask Ray to stop this job; return when its signal has come."""
    from ray.job_submission import JobStatus, JobSubmissionClient

    try:
        client = JobSubmissionClient(DASHBOARD)
        running = [job for job in client.list_jobs() if job.status == JobStatus.RUNNING]
        for job in running:
            if job.submission_id:
                client.stop_job(job.submission_id)
    except (RuntimeError, OSError) as error:  # what its client raises
        log.warning("this job may be started again, in vain: Ray cannot stop it (%s)", error)
        return
    give_up = time.monotonic() + PATIENCE_S
    while not stop_requested() and time.monotonic() < give_up:
        time.sleep(POLL_S)

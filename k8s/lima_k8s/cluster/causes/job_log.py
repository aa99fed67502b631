"""What the log of a job says of its end."""

from lima.runs.job_end import read_job_end

LAST_LINES = 3


def job_errors(log: str) -> str:
    """Return the error that ended a job by its own account, else the last lines of its log."""
    if end := read_job_end(log):
        return end.message
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return "; ".join(lines[-LAST_LINES:]) or "no reason is given"

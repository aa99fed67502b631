"""What the log of a job says of its end."""

LAST_LINES = 3
LEVEL = " ERROR "
"""Before the message of an error, as `lima_jobs.session.set_up_logging` writes it."""


def own_errors(log: str) -> list[str]:
    """Return the errors that the job itself logged, each once."""
    found = dict.fromkeys(
        line.strip().partition(LEVEL)[2] for line in log.splitlines() if LEVEL in line
    )
    # A cell's error comes again, without the cell's name, as the job's.
    return [e for e in found if not any(e != other and e.endswith(other) for other in found)]


def job_errors(log: str) -> str:
    """Return the errors that the job itself logged, else its last lines."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return "; ".join(own_errors(log) or lines[-LAST_LINES:]) or "no reason is given"

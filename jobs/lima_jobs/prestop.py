"""The preStop hook of a pod: `python -m lima_jobs.prestop`.

Raises the request to stop and returns when no process of the job works on this machine any
more. Until it returns, Kubernetes kills nothing, up to the grace period of the pod.
"""

import time

from lima.runs.stop import busy_processes, request_stop

POLL_S = 0.2
LINGER_S = 1.0
"""Ray still has to tell the driver what the last worker returned."""


def main() -> None:
    """Ask everything on this machine to save its work, and wait until it did."""
    request_stop()
    while busy_processes():
        time.sleep(POLL_S)
    time.sleep(LINGER_S)


if __name__ == "__main__":
    main()

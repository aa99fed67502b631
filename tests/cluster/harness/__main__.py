"""`python -m tests.cluster.harness COMMAND [--name NAME]`; behind `make cluster-up`.

`run WORDS…` runs a command beside a cluster of its own, which LIMA_CLUSTER names to it.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys

from lima.errors import LimaError
from tests.cluster.harness.cluster import VARIABLE, Cluster, own_name, sweep
from tests.cluster.harness.images import import_jobs, prepare_store, try_gpu_image
from tests.cluster.harness.programs import check_programs
from tests.cluster.harness.trial import prepare


def main() -> int:
    """Do what the command line says; return the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # nothing is left behind
    try:
        if sys.argv[1:2] == ["run"]:
            return _with_own_cluster(sys.argv[2:])
        return _do(sys.argv[1:])
    except LimaError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def _do(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="harness", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "image", "images", "gpu-image", "shell"])
    parser.add_argument("--name", default="dev", help="the cluster's name (default: dev)")
    arguments = parser.parse_args(words)
    cluster = Cluster(arguments.name)
    if arguments.command == "up":
        cluster.up()
        print(prepare(cluster))
    elif arguments.command == "down":
        cluster.down()
        sweep()
    elif arguments.command == "image":  # the code as it is now, into the running cluster
        import_jobs(cluster.box)
    elif arguments.command == "images":  # all others, for the clusters to come
        check_programs()
        sweep()
        prepare_store()
    elif arguments.command == "gpu-image":
        check_programs()
        print(try_gpu_image())
    else:  # inside its namespaces, with its containerd and its iptables
        inside = cluster.box.inside(["bash"])
        os.execvp(inside[0], inside)
    return 0


def _with_own_cluster(words: list[str]) -> int:
    """Run a command beside a cluster that is up as long as it; return its exit code."""
    sweep()
    own = Cluster(own_name())
    try:
        own.up()
        with subprocess.Popen(words, env=os.environ | {VARIABLE: own.name}) as process:
            with contextlib.suppress(KeyboardInterrupt):  # the command heard it too
                return process.wait()
            return process.wait()
    finally:
        own.down()


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.cluster.harness up|down|image|shell [--name NAME]`; behind `make cluster-up`."""

import argparse
import os
import sys

from lima.errors import LimaError
from tests.cluster.harness.cluster import Cluster, sweep
from tests.cluster.harness.images import import_jobs
from tests.cluster.harness.trial import prepare


def main() -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="harness", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "image", "shell"])
    parser.add_argument("--name", default="dev", help="the cluster's name (default: dev)")
    arguments = parser.parse_args()
    cluster = Cluster(arguments.name)
    try:
        if arguments.command == "up":
            cluster.up()
            print(prepare(cluster))
        elif arguments.command == "down":
            cluster.down()
            sweep()
        elif arguments.command == "image":  # the code as it is now, into the running cluster
            import_jobs(cluster.box)
        else:  # inside its namespaces, with its containerd and its iptables
            words = cluster.box.inside(["bash"])
            os.execvp(words[0], words)
    except LimaError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

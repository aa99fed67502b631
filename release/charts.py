"""The charts as packages, with the index of a chart repository beside them."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import yaml

from lima_k8s.codegen.charts import QUEUE_CHART
from lima_k8s.profile.kinds import CHARTS

INDEX = "index.yaml"


def package_charts(tree: Path, out: Path, environment: dict[str, str]) -> None:
    """Write the packages of all charts that are installed, and their index, to `out`.

    The library chart is in each. Helm gives the files of a package the time of SOURCE_DATE_EPOCH;
    the index gets it here.
    """
    out.mkdir()
    for chart in (QUEUE_CHART, *CHARTS.values()):
        _helm("package", str(tree / "charts" / chart), "--destination", str(out), env=environment)
    _helm("repo", "index", str(out), env=environment)
    index = yaml.safe_load((out / INDEX).read_text("utf-8"))
    made = datetime.fromtimestamp(int(environment["SOURCE_DATE_EPOCH"]), UTC)
    index["generated"] = f"{made:%Y-%m-%dT%H:%M:%SZ}"
    for versions in index["entries"].values():
        for version in versions:
            version["created"] = index["generated"]
    (out / INDEX).write_text(yaml.safe_dump(index, width=100), "utf-8")


def _helm(*arguments: str, env: dict[str, str]) -> None:
    done = subprocess.run(
        ["helm", *arguments], env=env, check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"helm {' '.join(arguments)}: {done.stderr}")

"""The charts as packages, with the index of a chart repository beside them."""

from datetime import UTC, datetime
from pathlib import Path

import yaml

from lima_k8s.codegen.charts import QUEUE_CHART
from lima_k8s.profile.kinds import CHARTS
from release.programs import run

INDEX = "index.yaml"


def package_charts(tree: Path, out: Path, environment: dict[str, str]) -> None:
    """Write the packages of all charts that are installed, and their index, to `out`.

    The library chart is in each. Helm gives the files of a package the time of SOURCE_DATE_EPOCH;
    the index gets it here.
    """
    out.mkdir()
    for chart in (QUEUE_CHART, *CHARTS.values()):
        source = str(tree / "charts" / chart)
        run(["helm", "package", source, "--destination", str(out)], environment)
    run(["helm", "repo", "index", str(out)], environment)
    index = yaml.safe_load((out / INDEX).read_text("utf-8"))
    made = datetime.fromtimestamp(int(environment["SOURCE_DATE_EPOCH"]), UTC)
    index["generated"] = f"{made:%Y-%m-%dT%H:%M:%SZ}"
    for versions in index["entries"].values():
        for version in versions:
            version["created"] = index["generated"]
    (out / INDEX).write_text(yaml.safe_dump(index, width=100), "utf-8")

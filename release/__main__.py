"""Writes a release: `python -m release dist [--url URL]`; needs `helm` on PATH.

Two builds of a commit are equal, byte for byte: all times are that of the commit, and nothing but
the files of the repository is read.
"""

import argparse
import hashlib
import os
import sys
import tempfile
from pathlib import Path

from lima import __version__
from release.charts import package_charts
from release.kubectl_plugin import write_plugin
from release.python_packages import build_python_packages
from release.sbom import write_sboms
from release.source import changed, copy_tracked, epoch

SUMS = "SHA256SUMS"
NOWHERE = "https://releases.example.com/lima-k8s"


def build(out: Path, url: str) -> None:
    """Write all files of the release to `out`, which must not have any.

    Args:
        out: A folder that is empty or not there.
        url: Where the files will be downloaded from.

    """
    made = epoch()
    environment = {**os.environ, "SOURCE_DATE_EPOCH": made}
    with tempfile.TemporaryDirectory(prefix="lima-release-") as name:
        tree = Path(name)
        copy_tracked(tree)
        build_python_packages(tree, out, environment)
        package_charts(tree, out / "charts", environment)
        write_plugin(tree, out, __version__, url, int(made))
        write_sboms(tree, out, f"lima-k8s-{__version__}", environment)
    (out / SUMS).write_text("".join(_sums(out)), "utf-8")


def _sums(folder: Path) -> list[str]:
    """Return a line for each file of a folder, as `sha256sum --check` reads them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n"
        for path in files
    ]


def main() -> None:
    """Build the release that the command line asks for."""
    parser = argparse.ArgumentParser(description="Write the files of a release.")
    parser.add_argument("out", type=Path, help="folder, empty or new")
    parser.add_argument("--url", default=NOWHERE, help="where they will be downloaded from")
    arguments = parser.parse_args()
    out = arguments.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        parser.error(f"{out} is not empty; remove it or name another folder")
    if different := changed():
        sys.stderr.write(
            f"This is not a release of the commit: {len(different)} files differ from it, the "
            f"first is {different[0].split(maxsplit=1)[-1]}.\n"
        )
    build(out, arguments.url.rstrip("/"))


if __name__ == "__main__":
    main()

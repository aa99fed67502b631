"""`kubectl lima` for krew: an archive with a launcher, and the manifest that names it.

krew unpacks one archive and knows nothing of Python, whose libraries differ by platform and take
half a gigabyte. So the archive holds a launcher, which starts the `lima-k8s` that pip has installed
and says how to get it where there is none.
"""

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

from lima_k8s.terminal.output import yaml_text

PLUGIN = "lima"
LAUNCHER = "kubectl-lima"
SYSTEMS = ("linux", "darwin")
"""That the launcher, a shell script, runs on, whatever the processor."""
DESCRIPTION = """\
Submits studies in the manner of LIMA (Less Is More for Alignment) to a cluster with Kueue and
KubeRay: fine-tuning, ablations, generation and judging, each run a RayJob. Shows where runs
stand, why they wait, and what came of them.
"""
CAVEATS = """\
This plugin is a launcher. It needs the command lima-k8s on PATH, which is a Python package:
  pip install lima-k8s
Submitting also needs Helm, and a cluster with Kueue and KubeRay.
"""


def write_plugin(tree: Path, out: Path, version: str, url: str, made: int) -> None:
    """Write the archive of the plugin and its manifest to `out`.

    Args:
        tree: Holds the launcher and the licence.
        out: Receives both.
        version: Of the package.
        url: Folder from which the archive will be downloaded.
        made: Time of the archive's files, in seconds since 1970.

    """
    archive = out / f"{LAUNCHER}-{version}.tar.gz"
    files = {LAUNCHER: tree / "release" / LAUNCHER, "LICENSE": tree / "LICENSE"}
    archive.write_bytes(_packed({name: file.read_bytes() for name, file in files.items()}, made))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    manifest = _manifest(version, f"{url}/{archive.name}", digest, url)
    (out / f"{PLUGIN}.yaml").write_text(yaml_text(manifest) + "\n", "utf-8")


def _packed(files: dict[str, bytes], made: int) -> bytes:
    """Return a .tar.gz of executable files, the same for the same content and time."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.mode = len(content), made, 0o755
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), mtime=made)


def _manifest(version: str, uri: str, digest: str, homepage: str) -> dict[str, object]:
    systems = {"key": "os", "operator": "In", "values": list(SYSTEMS)}
    return {
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": PLUGIN},
        "spec": {
            "version": f"v{version}",
            "homepage": homepage,
            "shortDescription": "Run studies in the manner of LIMA on a GPU cluster",
            "description": DESCRIPTION,
            "caveats": CAVEATS,
            "platforms": [
                {
                    "selector": {"matchExpressions": [systems]},
                    "uri": uri,
                    "sha256": digest,
                    "bin": LAUNCHER,
                }
            ],
        },
    }

"""The programs that a cluster needs, and running them."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from lima.errors import ClusterError, InputError
from tests.cluster.harness.layout import BIN, ROOT

PACKAGES = {
    "runc": "runc",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "socat": "socat",
    "openssl": "openssl",
    "nsenter": "util-linux",
    "ip": "iproute2",
    "go": "golang",
}
"""Programs of the system, and the Debian packages that bring them."""
CNI = Path("/usr/lib/cni")
BUILT = ("kube-apiserver", "kubelet", "etcd", "containerd", "kueue", "ray-operator", "helm", "kwok")
SEARCH = f"{BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def check_programs() -> None:
    """Raise InputError that says what to install or to build, if anything is missing."""
    if os.geteuid() != 0:
        raise InputError("the cluster needs root: it makes namespaces, mounts and cgroups")
    missing = [package for name, package in PACKAGES.items() if not shutil.which(name)]
    missing += [] if (CNI / "bridge").exists() else ["containernetworking-plugins"]
    if missing:
        raise InputError(f"programs are missing; type: apt-get install {' '.join(missing)}")
    unbuilt = [name for name in BUILT if not (BIN / name).exists()]
    if unbuilt:
        raise InputError(f"{', '.join(unbuilt)} not built yet; type: make cluster-tools")


def run(
    argv: Sequence[str | Path],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> str:
    """Run a program to its end and return what it wrote; raise ClusterError if it fails.

    With `log` its output goes to that file instead, as it comes.
    """
    words = [str(word) for word in argv]
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", **(env or {})}
    if log:
        return _run_logged(words, stdin, environment, log)
    done = subprocess.run(
        words, input=stdin, env=environment, text=True, cwd=ROOT, capture_output=True, check=False
    )
    if done.returncode:
        raise _failed(words, done.returncode, done.stderr)
    return done.stdout


def _run_logged(words: list[str], stdin: str | None, environment: dict[str, str], log: Path) -> str:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a+") as stream:
        stream.write(f"$ {' '.join(words)}\n")
        stream.flush()
        before = stream.tell()
        done = subprocess.run(
            words,
            input=stdin,
            env=environment,
            text=True,
            cwd=ROOT,
            check=False,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
        stream.seek(before)
        said = stream.read()
    if done.returncode:
        raise _failed(words, done.returncode, said, f" (all of it in {log})")
    return said


def _failed(words: Sequence[str], code: int, said: str, where: str = "") -> ClusterError:
    return ClusterError(
        f"{' '.join(words[:6])} … ended with {code}{where}:\n{said.strip()[-2000:]}"
    )


@cache
def module_folder(tool: str, module: str) -> Path:
    """Return the source of a pinned module: CRDs and charts come with it."""
    where = run(["go", "-C", ROOT / "tests/tools" / tool, "list", "-m", "-f", "{{.Dir}}", module])
    return Path(where.strip())

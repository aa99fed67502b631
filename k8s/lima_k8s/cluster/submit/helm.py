"""Runs Helm, the program: charts are the only place where a manifest exists."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lima.errors import InputError, LimaError
from lima_k8s.cluster.read import failures
from lima_k8s.cluster.read.api import NAMESPACE

PROGRAM = "helm"
IN_USE = (
    "cannot reuse a name that is still in use",
    "cannot re-use a name that is still in use",
    "release: already exists",
)
"""The second is Helm 3's; the third is said to one of two that come at once."""
OWNED = ("exists and cannot be imported into the current release", '" already exists')
LIMITS = ["--qps", "100", "--burst-limit", "50"]
"""Requests a second, and how many at once: Kueue's webhook has to answer each of them in time.
Helm's own limits would spread 200 runs over a minute."""
TRUSTING = ["--disable-openapi-validation"]
"""The API server judges what it is sent; that Helm reads its megabytes of OpenAPI before that takes
half of the time of an install."""
LISTING = ["list", "--deployed", "--failed", "--pending", "--uninstalling"]
"""All releases that hold something, to Helm 3 and 4 alike."""
CREATING = ["--server-side=false"]
"""Of Helm 4: create what is installed. Server-side apply, its default, takes over in silence what
another release made a moment before."""


class TakenError(InputError):
    """A run of this name exists already."""


class InUseError(TakenError):
    """A release of this name exists already, or is being made."""

    def __init__(self, message: str, release: str) -> None:
        """Take Helm's message and the name of the release."""
        super().__init__(message)
        self.release = release


@dataclass(frozen=True)
class Helm:
    """Helm for one namespace."""

    namespace: str
    context: str | None = None

    @classmethod
    def here(cls, context: str | None, namespace: str | None) -> "Helm":
        """Return Helm for a namespace: the one that is named, else the context's, else ours."""
        if namespace is None:
            named = cls("", context)._run(["env", "HELM_NAMESPACE"]).strip()
            namespace = NAMESPACE if named in ("", "default") else named
        return cls(namespace, context)

    def install(self, release: str, chart: Path, values: dict[str, Any]) -> None:
        """Install a release.

        Raises:
            InUseError: the release exists.
            TakenError: a run in it exists.
            InputError: there is no Helm, or the cluster refuses the runs.
            ClusterError: the cluster cannot be reached, or a right is missing.

        """
        how = [*LIMITS, *TRUSTING, *(CREATING if _major(_program()) > 3 else [])]
        try:
            self._run(["install", release, str(chart), "--values", "-", *how], values)
        except TakenError as error:
            if any(words in str(error) for words in IN_USE):
                raise InUseError(str(error), release) from error
            raise

    def template(self, release: str, chart: Path, values: dict[str, Any]) -> str:
        """Return the manifests of a release without asking the cluster; no test's pod is there."""
        return self._run(["template", release, str(chart), "--values", "-", "--no-hooks"], values)

    def manifests(self, release: str, chart: Path, values: dict[str, Any]) -> list[dict[str, Any]]:
        """Return what `template` does, read."""
        import yaml

        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        return [m for m in yaml.load_all(self.template(release, chart, values), loader) if m]

    def charts(self) -> dict[str, str]:
        """Return the chart of each release of the namespace, as `lima-train-0.1.0`."""
        answer = json.loads(self._run([*LISTING, "--max", "10000", "--output", "json"]))
        return {release["name"]: release["chart"] for release in answer}

    def state(self, release: str) -> str:
        """Return Helm's word for a release: deployed, failed, pending-install; empty: none."""
        answer = self._run_if_there(["get", "metadata", release, "--output", "json"])
        return str(json.loads(answer)["status"]) if answer else ""

    def manifest(self, release: str) -> str:
        """Return the manifests that a release was installed with; empty if there is none."""
        return self._run_if_there(["get", "manifest", release]) or ""

    def uninstall(self, release: str) -> bool:
        """Delete a release with all of its objects; False says that Helm knows of none."""
        return self._run_if_there(["uninstall", release, *LIMITS]) is not None

    def _run_if_there(self, arguments: Sequence[str]) -> str | None:
        try:
            return self._run(arguments)
        except LimaError as error:
            if "release: not found" in str(error):
                return None
            raise

    def _run(self, arguments: Sequence[str], values: dict[str, Any] | None = None) -> str:
        where = ["--namespace", self.namespace] if self.namespace else []
        if self.context:
            where += ["--kube-context", self.context]
        code, out, err = _call([_program(), *arguments, *where], json.dumps(values or {}))
        if code:
            raise _error(err or out, self.context)
        return out


def _program() -> str:
    program = shutil.which(PROGRAM)
    if program is None:
        raise InputError(
            f"no {PROGRAM} on PATH: it renders and installs the charts; get Helm 3.18 or newer "
            "from https://helm.sh/docs/intro/install, or run on this machine with --local"
        )
    return program


@cache
def _major(program: str) -> int:
    """Return the major version of Helm."""
    _, out, _ = _call([program, "version", "--template", "{{.Version}}"])
    return int(out.removeprefix("v").partition(".")[0])


def _call(words: Sequence[str], text: str = "") -> tuple[int, str, str]:
    """Run Helm to its end, also on ctrl-C: a release that it has half made is nobody's.

    Raises:
        KeyboardInterrupt: after that.

    """
    with subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(text)
        except KeyboardInterrupt:
            process.communicate()
            raise
    return process.returncode, out, err


def _error(text: str, context: str | None) -> LimaError:
    if any(words in text for words in (*IN_USE, *OWNED)):
        return TakenError(text.strip())
    return failures.helm_failed(text, context or "")

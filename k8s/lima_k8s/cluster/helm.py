"""Runs Helm, the program: charts are the only place where a manifest exists."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lima.errors import InputError, LimaError
from lima_k8s.cluster import failures
from lima_k8s.cluster.api import NAMESPACE

PROGRAM = "helm"
IN_USE = "cannot reuse a name that is still in use"
OWNED = "exists and cannot be imported into the current release"
LIMITS = ["--qps", "100", "--burst-limit", "50"]
"""Requests a second, and how many at once: Kueue's webhook has to answer each of them in time.
Helm's own limits would spread 200 runs over a minute."""
TRUSTING = ["--disable-openapi-validation"]
"""The API server judges what it is sent; that Helm reads its megabytes of OpenAPI before that takes
half of the time of an install."""


class TakenError(InputError):
    """A release or a run of this name exists already."""


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
            TakenError: the release, or a run in it, exists.
            InputError: there is no Helm, or the cluster refuses the runs.
            ClusterError: the cluster cannot be reached, or a right is missing.

        """
        self._run(["install", release, str(chart), "--values", "-", *LIMITS, *TRUSTING], values)

    def template(self, release: str, chart: Path, values: dict[str, Any]) -> str:
        """Return the manifests of a release without asking the cluster."""
        return self._run(["template", release, str(chart), "--values", "-"], values)

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
        program = shutil.which(PROGRAM)
        if program is None:
            raise InputError(
                f"no {PROGRAM} on PATH: it renders and installs the charts; get Helm 3.18 or newer "
                "from https://helm.sh/docs/intro/install, or run on this machine with --local"
            )
        where = ["--namespace", self.namespace] if self.namespace else []
        if self.context:
            where += ["--kube-context", self.context]
        done = subprocess.run(
            [program, *arguments, *where],
            input=json.dumps(values or {}),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise _error(done.stderr or done.stdout, self.context)
        return done.stdout


def _error(text: str, context: str | None) -> LimaError:
    if IN_USE in text or OWNED in text or ("rayjobs" in text and "already exists" in text):
        return TakenError(text.strip())
    return failures.helm_failed(text, context or "")

"""Names of runs that KubeRay refuses: of more than 47 characters, or no DNS label."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lima_k8s.study.findings import Told

MAX_NAME = 47
"""KubeRay makes longer names of it that must fit a label."""
_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def name_findings(raw: Mapping[str, Any]) -> Iterator[Told]:
    """Yield what is wrong with the name of a RayJob."""
    name = raw.get("metadata", {}).get("name", "")
    if len(name) > MAX_NAME:
        told = f"{len(name)} characters; KubeRay takes {MAX_NAME}"
        yield "error", "metadata.name", told, "a shorter name"
    if not _DNS_1035.fullmatch(name):
        yield (
            "error",
            "metadata.name",
            "not a DNS label that begins with a letter: KubeRay never starts it",
            "a-z first, then a-z, 0-9 and -",
        )

"""What Kueue says of topologies, read: its conditions name the flavors only in words."""

import re
from collections.abc import Iterable

from lima_k8s.cluster.causes.kueue_quota_messages import NEVER_FITS

POD_SET = re.compile(
    r"couldn't assign flavors to pod set (?P<name>\S+): (?P<said>.*?)(?=; couldn't assign |$)",
    re.DOTALL,
)
PLACES_ALL = re.compile(r'Flavor "([^"]+)" supports only TopologyAwareScheduling')
PLACES_NONE = re.compile(r'Flavor "([^"]+)" does not support TopologyAwareScheduling')
NO_LEVEL = re.compile(r'Flavor "([^"]+)" does not contain the requested level')
OF_A_FLAVOR = re.compile(r'Flavor "|topology "')
SUITS = re.compile(r"\bflavor ([^\s,;]+)")
"""A flavor whose topology suits, so that something else is said of it: quota, taints, affinity."""
MARKED = re.compile(r"untolerated taint \{[^{}]*\} in flavor [^\s,;]+")
"""A flavor that other pods are meant for, as lima-queue marks those of GPUs."""
NEVER_PLACED = ("head", "submitter")
"""Pod sets that ask for no place in any profile."""


def wrong_topology(message: str, *, devices: bool) -> str:
    """Return how a run and the topologies of its queue disagree; empty if they do not.

    A queue with a Topology passes over a flavor in every run: over that of GPUs for the head, over
    that of CPUs for workers which ask for a place. It is why a run waits only where no other flavor
    can take the pods.

    Args:
        message: Of the condition QuotaReserved.
        devices: Whether the run's workers ask for GPUs.

    """
    told = (_wrong(m["said"], m["name"], devices=devices) for m in POD_SET.finditer(message))
    return next(filter(None, told), "")


def _wrong(said: str, pod_set: str, *, devices: bool) -> str:
    said = MARKED.sub("", said)
    known = [*NO_LEVEL.findall(said), *PLACES_NONE.findall(said), *PLACES_ALL.findall(said)]
    if len(known) < len(OF_A_FLAVOR.findall(said)):
        return ""  # something else about a topology, as one that Kueue has yet to read
    suits = set(SUITS.findall(said))
    too_small = {m["flavor"] for m in NEVER_FITS.finditer(said)}
    if not suits:
        if lacking := NO_LEVEL.findall(said):
            return f"the Topology of {_names(lacking)} lacks the level that the run asks for"
        if placeless := PLACES_NONE.findall(said):
            return f"the run asks for a place in a Topology, and {_names(placeless)} has none"
    places = PLACES_ALL.findall(said)
    if not places or not devices or pod_set in NEVER_PLACED or suits - too_small:
        return ""
    return f"{_names(places)} has a Topology, and the run asks for no place in it"


def _names(flavors: Iterable[str]) -> str:
    return f"flavor {' or '.join(dict.fromkeys(flavors))}"

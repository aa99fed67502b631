"""What Kueue says of quota, read: its conditions tell the amounts only in words."""

import re

NEVER_FITS = re.compile(
    r"insufficient quota for (?P<resource>\S+) in flavor (?P<flavor>[^\s,]+),"
    r"(?:(?!insufficient quota).)*?"
    r"current podset request \((?P<request>[^)]+)\) > maximum capacity \((?P<capacity>[^)]+)\)"
)
UNCOVERED = re.compile(r"resource (?P<resource>\S+) unavailable in ClusterQueue")


def never_fits(reason: str, message: str) -> str:
    """Return why a request can never be met; empty if it can.

    Args:
        reason: Of the condition QuotaReserved.
        message: Of the same.

    """
    uncovered = UNCOVERED.search(message)
    if uncovered:
        return f"the queue has no quota at all for {uncovered['resource']}"
    if reason != "ExceedsMaxQuota" and (
        "maximum capacity" not in message or "insufficient unused quota" in message
    ):
        return ""
    parts = [
        f"{m['resource']}: {m['request']} asked for, "
        f"at most {m['capacity']} in flavor {m['flavor']}"
        for m in NEVER_FITS.finditer(message)
    ]
    return "; ".join(parts) or message

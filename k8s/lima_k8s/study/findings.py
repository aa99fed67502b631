"""Findings on a study and its cluster, and what `submit` makes of them."""

from collections.abc import Sequence

from lima.errors import InputError
from lima.lint.finding import Finding, Level
from lima_k8s.terminal.output import say

Told = tuple[Level, str, str, str]
"""A finding of the cluster's rules: level, path, message, fix."""


def refuse_errors(findings: Sequence[Finding], told: str) -> None:
    """Write the warnings, unless there are errors.

    Args:
        findings: Those on the study.
        told: What to say above the errors.

    Raises:
        InputError: there are errors; the message holds them all.

    """
    if errors := [finding for finding in findings if finding.level == "error"]:
        lines = "\n".join(f"  {f.path}: {f.message}; {f.fix}" for f in errors)
        raise InputError(f"{told}:\n{lines}")
    for finding in findings:
        if finding.level == "warning":
            fix = f"; {finding.fix}" if finding.fix else ""
            say(f"warning: {finding.path}: {finding.message}{fix}")

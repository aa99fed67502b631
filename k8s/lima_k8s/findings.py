"""What `submit` makes of the findings on a study."""

from collections.abc import Sequence

from lima.errors import InputError
from lima.lint.finding import Finding
from lima_k8s.output import say


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

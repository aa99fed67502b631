"""The files that a release is made from: those of the commit, as they lie in the clone."""

import os
import shutil
from pathlib import Path

from release.programs import run

ROOT = Path(__file__).parents[1]


def git(*arguments: str) -> str:
    """Return what git says of this clone."""
    return run(["git", *arguments], os.environ, ROOT)


def epoch() -> str:
    """Return the time that all files of the release get, in seconds since 1970.

    It is SOURCE_DATE_EPOCH, or the time of the commit.
    """
    return os.environ.get("SOURCE_DATE_EPOCH") or git("log", "-1", "--format=%ct").strip()


def changed() -> list[str]:
    """Return the files that are not as the commit has them."""
    return git("status", "--porcelain").splitlines()


def copy_tracked(target: Path) -> None:
    """Copy the files that git knows to `target`, so that nothing else gets into a package."""
    for name in git("ls-files", "-z").rstrip("\0").split("\0"):
        if not os.path.lexists(ROOT / name):
            continue  # deleted, and not committed yet
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name, follow_symlinks=False)

"""LIMA: Less Is More for Alignment, as a study that can be run again.

Each folder is a chapter of the paper: curation (section 2), model and training (3),
generation (4.1), judging (4.1, appendix D), evaluation (4, 5, 6, B).

`lima.load_study` and `lima.Results` are for use from Python; docs/python.md shows how.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lima.api import Results, Study, load_study

__all__ = ["Results", "Study", "__version__", "load_study"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the interface when it is used: the command line starts without it."""
    if name in ("Results", "Study", "load_study"):
        from lima import api

        return getattr(api, name)
    raise AttributeError(f"module 'lima' has no attribute {name!r}")

"""LIMA: Less Is More for Alignment, as a study that can be run again.

Each folder is a chapter of the paper: curation (section 2), model and training (3),
generation (4.1), judging (4.1, appendix D), evaluation (4, 5, 6, B).
"""

__version__ = "0.1.0"

"""Texts in files that people open in a spreadsheet."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How texts begin that spreadsheets take for formulas (OWASP, CSV injection)."""


def inert(cell: object) -> object:
    """Return a cell that no spreadsheet runs: a text that could be a formula gets a quote."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell

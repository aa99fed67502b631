"""The licence that a record names, as text: a name, or a list or an object of them."""

from typing import Any

from lima.curation.reading.record_files import Record


def licence_text(record: Record) -> str:
    """Return the licences of a record, divided by ` / `; empty: it names none."""
    return " / ".join(_texts(record.get("licence") or record.get("license")))


def _texts(value: Any) -> list[str]:
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    text = str(value).strip() if value else ""
    return [text] if text else []

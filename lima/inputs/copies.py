"""Copies of inputs in a study's storage: STORAGE/inputs/<digits of the fingerprint>/NAME.

What lies there is named by its content, so that it is written once, whoever writes it.
"""

from lima.common.paths import file_name
from lima.inputs.fingerprint import digits
from lima.inputs.places import Place
from lima.store.storage import Storage

FOLDER = "inputs"


def folder_of(fingerprint: str) -> str:
    """Return the folder of the copy of an input, below the storage."""
    return f"{FOLDER}/{digits(fingerprint)}"


def copy_of(storage: Storage, place: Place) -> str | None:
    """Return the path of the copy of a file that is an input; None: there is none."""
    if place.fingerprint is None or not place.fingerprint.startswith("sha256:"):
        return None
    found = storage.entries(folder_of(place.fingerprint))
    return found[0].path if len(found) == 1 else None


def copy_path(fingerprint: str, where: str) -> str:
    """Return where the copy of a file lies, below the storage."""
    return f"{folder_of(fingerprint)}/{file_name(where).replace(':', '-')}"

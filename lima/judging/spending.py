"""What the attempts at a run may have spent, on storage before it is spent.

STORAGE/spending/run_id=R/<attempt>.json, an object is {"dollars": 1.25}

A process that is killed cannot say what its last requests cost. It has said before it sent them
what they could cost at most, and that counts.
"""

import uuid
from decimal import Decimal

import msgspec

from lima.common.money import ZERO
from lima.errors import DataError
from lima.store.storage import Storage

_ENCODER = msgspec.json.Encoder(decimal_format="number")


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    dollars: Decimal

    def __post_init__(self) -> None:
        if not (self.dollars.is_finite() and self.dollars >= 0):
            raise ValueError(f"{self.dollars} is no amount of money")


class Spending:
    """What this attempt at a run may spend, beside what earlier ones did."""

    def __init__(self, storage: Storage, run: str) -> None:
        """Name the objects of `run`; nothing is written yet."""
        self.storage, self.folder = storage, f"spending/run_id={run}"
        self.path = f"{self.folder}/{uuid.uuid4().hex}.json"

    def before(self) -> Decimal:
        """Return what earlier attempts may have spent, US dollars.

        Raises:
            DataError: an object is not such a record.

        """
        paths = [entry.path for entry in self.storage.entries(self.folder)]
        return sum(map(self._read, paths), ZERO)

    def keep(self, dollars: Decimal) -> None:
        """Say what this attempt may have spent from now on, US dollars."""
        self.storage.write(self.path, _ENCODER.encode(_Record(dollars)), replace=True)

    def _read(self, path: str) -> Decimal:
        try:
            return msgspec.json.decode(self.storage.read(path), type=_Record).dollars
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DataError(
                f"{self.storage.uri}/{path}: does not say what an attempt spent ({error}); delete "
                "it, and lower judge.budget by what the account was charged for that attempt"
            ) from None

"""The rows of a Parquet file that people bring, whatever is in it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lima.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET = b"PAR1"
"""First bytes of such a file."""


def parquet_rows(data: bytes, where: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file, a value a column.

    Args:
        data: Of the file.
        where: What errors call it.

    Raises:
        DataError: it is damaged, or holds a value that Python has no type for: a time of the year
            20000, a duration of more than a billion days.

    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(pa.BufferReader(data)).iter_batches(use_threads=False):
            names = batch.schema.names
            columns = [_values(batch.column(n), f"{where}: {name}") for n, name in enumerate(names)]
            yield from (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: damaged Parquet ({error}); fetch it again") from None


def _values(column: "pa.Array[Any]", name: str) -> list[Any]:
    try:
        return column.to_pylist()
    except (ValueError, OverflowError) as error:
        raise DataError(
            f"{name}: a value of this column cannot be read ({error}); write the file again "
            "without the column"
        ) from None

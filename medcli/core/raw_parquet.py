"""Read Parquet files, in which most hubs keep their data, a thousand rows at a time."""

from collections.abc import Iterator

from medcli.core.errors import DataError
from medcli.core.raw import Item, RawFile

SUFFIX = ".parquet"
_BATCH = 1000  # rows held at once


def parquet_rows(raw: RawFile) -> Iterator[Item]:
    """One dict per row, lists and structures inside as Python's; its `line` is the row's number.

    Raises DataError for a file that is damaged, or still inside an archive.
    """
    import pyarrow
    from pyarrow.parquet import ParquetFile

    if raw.member or raw.path.suffix != SUFFIX:
        raise DataError(f"{raw.name}: a Parquet file inside an archive cannot be read", hint="unpack it first")
    number = 0
    try:
        with ParquetFile(raw.path) as file:
            for batch in file.iter_batches(batch_size=_BATCH):
                for value in batch.to_pylist():
                    number += 1
                    yield Item(line=number, number=number, value=value)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"{raw.name}:{number + 1}: the Parquet file is damaged: {str(error).splitlines()[0]}",
            hint="download it again",
        ) from error

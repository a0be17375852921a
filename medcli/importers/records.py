"""What `med data make` writes: records in the standard columns with their split, or the reason why there is none."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from medcli.core.peek import Peek, items
from medcli.core.raw import Source, raw_files
from medcli.core.raw_rows import ReadOptions, Refused, rows_from
from medcli.core.record import Record, Row, from_row

HELP = "made records: the standard columns with id, source and split"


def fits(peek: Peek) -> int:
    """Whether the rows have what only made records have."""
    return 97 if {"id", "source", "split"} <= set(peek.columns) else 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """One record, or one refusal, a line."""

    def record(row: Any, id: str) -> Record:
        if row.get("reason"):
            raise Refused(row["reason"])
        try:
            return replace(from_row(row), source=options.source)
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise Refused(f"not a record: {error}") from error

    for raw in raw_files(source):
        for item in items(raw):
            value = item.value if isinstance(item.value, dict) else {}
            for row in rows_from(raw, item, record):
                yield replace(row, split=value.get("split") or raw.split, made=value.get("made") is True)

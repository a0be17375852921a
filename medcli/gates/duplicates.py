"""Refuse a record whose text has been seen: the first of its kind stays."""

from collections.abc import Callable

from medcli.core.fingerprint import content_of, fingerprint
from medcli.core.record import Record


def gate() -> Callable[[Record], Record | str]:
    """A function that remembers 8 bytes of each record and refuses those it knows."""
    seen: set[int] = set()

    def check(record: Record) -> Record | str:
        mark = fingerprint(*content_of(record))
        if mark in seen:
            return "exact duplicate"
        seen.add(mark)
        return record

    return check

"""Refuse a record whose text has been seen: the first of its kind stays."""

from collections import Counter
from collections.abc import Callable

from medcli.core.build_settings import BuildSettings
from medcli.core.fingerprint import content_of, fingerprint
from medcli.core.record import Record

HELP = "records whose text has been seen"


def gate(settings: BuildSettings, changed: Counter[str]) -> Callable[[Record], Record | str]:
    """A function that remembers 8 bytes of each record and refuses those it knows."""
    seen: set[int] = set()

    def check(record: Record) -> Record | str:
        mark = fingerprint(*content_of(record))
        if mark in seen:
            return "exact duplicate"
        seen.add(mark)
        return record

    return check

"""Mask what tells who a patient or a doctor is, refuse the record, or only count."""

from collections import Counter
from collections.abc import Callable

from medcli.core.build_settings import BuildSettings
from medcli.core.phi import Masker, find
from medcli.core.record import Question, Record, with_texts

HELP = "patient identifiers: names, telephones, IDs, addresses, birth dates, record numbers"


def gate(settings: BuildSettings, changed: Counter[str]) -> Callable[[Record], Record | str]:
    """A function from a record to the masked record, to itself, or to a reason, as `settings.phi` says.

    Exam questions pass as they are: they are published, and with their names masked they were another exam.
    """
    modes: dict[str, Callable[[Record], Record | str]] = {
        "mask": lambda record: _masked(record, changed),
        "drop": _without,
        "report": lambda record: _counted(record, changed),
        "off": lambda record: record,
    }
    look = modes[settings.phi]
    return lambda record: record if isinstance(record, Question) else look(record)


def _masked(record: Record, changed: Counter[str]) -> Record:
    masker = Masker()
    masked = with_texts(record, masker.mask)
    for kind, count in masker.masked.items():
        changed[f"masked: {kind}"] += count
    return masked


def _without(record: Record) -> Record | str:
    kinds = _kinds(record)
    return f"patient identifier: {kinds[0]}" if kinds else record


def _counted(record: Record, changed: Counter[str]) -> Record:
    changed.update(f"found, not masked: {kind}" for kind in _kinds(record))
    return record


def _kinds(record: Record) -> list[str]:
    """The kind of each identifier, in the record's order."""
    kinds: list[str] = []

    def look(text: str) -> str:
        kinds.extend(identifier.kind for identifier in find(text))
        return text

    with_texts(record, look)
    return kinds

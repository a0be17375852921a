"""Find what tells who a patient or a doctor is, and put placeholders there that stay the same in one dialogue.

Rules, checksums and words around: no model, so a name that nothing announces stays. Doses, values, ages, dates of
illness and eponyms are no identifiers. Text should stand as the normalise gate leaves it, digits in half width.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from medcli.core import phi_numbers as numbers
from medcli.core.phi_names import names
from medcli.core.phi_places import addresses, birth_dates

Finder = Callable[[str], Iterator[tuple[int, int]]]

# What a placeholder says of each kind; two kinds of number are both somebody's telephone.
LABELS: Mapping[str, str] = {
    "resident ID": "身份证",
    "bank card": "银行卡",
    "mobile number": "电话",
    "landline": "电话",
    "e-mail": "邮箱",
    "messenger account": "账号",
    "record number": "病历号",
    "birth date": "出生日期",
    "address": "住址",
    "name": "姓名",
}
# Of two that overlap the earlier kind stays.
_OF_DIGITS: Mapping[str, Finder] = {
    "resident ID": numbers.resident_ids,
    "bank card": numbers.bank_cards,
    "mobile number": numbers.mobile_numbers,
    "landline": numbers.landlines,
    "birth date": birth_dates,
}
_OTHERS: Mapping[str, Finder] = {
    "e-mail": numbers.mail_addresses,
    "messenger account": numbers.messenger_accounts,
    "record number": numbers.record_numbers,
    "address": addresses,
    "name": names,
}
_FOUR_DIGITS = re.compile(r"[0-9]{4}")
_WIDTH = re.compile(r"[\s()（）+-]|(?<![0-9])86(?=1[0-9]{10}$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identifier:
    """One identifier in a text: `text` is `[start:end]` of it, `kind` a key of LABELS."""

    kind: str
    start: int
    end: int
    text: str


def find(text: str) -> list[Identifier]:
    """The identifiers in a text, in order, none over another."""
    found: list[Identifier] = []
    if _FOUR_DIGITS.search(text):
        _add(text, _OF_DIGITS, found)
    _add(text, _OTHERS, found)
    found.sort(key=lambda identifier: identifier.start)
    return found


def _add(text: str, finders: Mapping[str, Finder], found: list[Identifier]) -> None:
    for kind, finder in finders.items():
        for start, end in finder(text):
            if all(end <= other.start or other.end <= start for other in found):
                found.append(Identifier(kind=kind, start=start, end=end, text=text[start:end]))


class Masker:
    """Puts placeholders into the texts of one dialogue: [姓名1] is the same person in all of them.

    `masked` counts what was replaced, by kind.
    """

    def __init__(self) -> None:
        self.masked: Counter[str] = Counter()
        self._numbers: dict[tuple[str, str], int] = {}  # (label, identifier) -> its number
        self._last: Counter[str] = Counter()

    def mask(self, text: str) -> str:
        """The text with a placeholder for every identifier; a second time nothing more is found."""
        while found := find(text):
            parts, end = [], 0
            for identifier in found:
                parts += [text[end : identifier.start], self._placeholder(identifier)]
                end = identifier.end
            text = "".join(parts) + text[end:]
        return text

    def _placeholder(self, identifier: Identifier) -> str:
        self.masked[identifier.kind] += 1
        label = LABELS[identifier.kind]
        key = (label, _WIDTH.sub("", identifier.text).lower())
        if key not in self._numbers:
            self._last[label] += 1
            self._numbers[key] = self._last[label]
        return f"[{label}{self._numbers[key]}]"

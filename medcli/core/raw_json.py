"""Read JSON of any size: JSON Lines, an array, a table of records by number, objects one after the other."""

import json
import re
from collections.abc import Iterator
from typing import IO, Any

from medcli.core.errors import DataError
from medcli.core.raw import MAX_LINE, Item, RawFile, lines_of, open_text

_CHUNK = 1 << 17
_GAP = re.compile(r"[ \t\r\n,\ufeff]*")
# One object around all records, as in `{"10001": {"dialogue": …}, "10002": {…}}`; too big to be read as one value.
RECORDS_BY_NUMBER = re.compile(r'\{\s*"[0-9]+"\s*:\s*\{')
_NUMBER = re.compile(r'"([^"\\]*)"\s*:\s*')
_MAX_VALUE = 16 << 20  # characters that one value may take
_SHOWN = 500
_DECODER = json.JSONDecoder()
_BROKEN = "broken JSON"


def json_lines(raw: RawFile, encoding: str) -> Iterator[Item]:
    """One value a line; a broken line is an item with a reason, and the rest is still read."""
    number = 0
    with open_text(raw, encoding) as file:
        for line, text, whole in lines_of(file):
            if not text.strip():
                continue
            number += 1
            if not whole:
                reason = f"line too long: more than {MAX_LINE:,} characters"
                yield Item(line=line, number=number, reason=reason, text=text[:_SHOWN])
                continue
            try:
                yield Item(line=line, number=number, value=json.loads(text))
            except (ValueError, RecursionError) as error:
                for item in _glued(line, number, text.strip(), error):
                    number = item.number
                    yield item


def _glued(line: int, number: int, text: str, error: ValueError | RecursionError) -> Iterator[Item]:
    """The objects that stand on one line without a break, `}{`; what else it holds is one refused item."""
    at = 0
    while at < len(text):
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as broken:
            yield Item(line=line, number=number, reason=_said(broken if at else error), text=text[at : at + _SHOWN])
            return
        if not isinstance(value, dict):
            yield Item(line=line, number=number, reason=_said(error), text=text[at : at + _SHOWN])
            return
        yield Item(line=line, number=number, value=value)
        number += 1
        at = _past_gap(text, end)


def json_values(raw: RawFile, encoding: str) -> Iterator[Item]:
    """The elements of an array, the records in a table by number, or objects one after the other.

    After a broken element the next is found by its indentation; raises DataError where that cannot be done.
    """
    with open_text(raw, encoding) as file:
        window = _Window(file)
        close = window.opened() if window.find() else ""
        is_open, by_number = bool(close), close == "}"
        number = 0
        while window.find():
            if is_open and window.take(close):
                is_open = by_number = False
                continue
            number += 1
            line = window.line
            try:
                key = window.key() if by_number else ""
                yield Item(line=line, number=number, key=key, value=window.value())
            except (ValueError, RecursionError) as error:
                text = window.shown()
                if not window.indented:
                    raise _hopeless(raw, line, error) from error
                yield Item(line=line, number=number, reason=_said(error), text=text)
                is_open = window.to_next_element('"' if by_number else "{") and is_open
        if is_open:
            reason = f"{_BROKEN}: the file ends before the {'table' if by_number else 'array'} does"
            yield Item(line=window.line, number=number + 1, reason=reason)


class _Window:
    """A piece of a text file that moves forward; it knows its line and the indent of the current element."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._text, self._at, self._ended = "", 0, False
        self.line = 1
        self._indent = ""
        self.indented = True  # whether the current element begins its line

    def find(self) -> bool:
        """Move to the next thing that is neither white space nor a comma; false at the end of the file."""
        gap = ""
        while True:
            start = self._at
            self._move(_past_gap(self._text, start))
            gap = (gap + self._text[start : self._at])[-_SHOWN:]
            if self._at < len(self._text) or not self._more():
                break
        if "\n" in gap:
            self._indent, self.indented = gap.rpartition("\n")[2], True
        elif gap or self.line > 1:
            self.indented = False
        return self._at < len(self._text)

    def take(self, character: str) -> bool:
        """Step over `character` if it is next."""
        if self._text[self._at] != character:
            return False
        self._move(self._at + 1)
        return True

    def opened(self) -> str:
        """Step into an array or a table of records; the sign that closes it, "" when neither begins here."""
        while len(self._text) - self._at < _SHOWN and self._more():
            continue
        if RECORDS_BY_NUMBER.match(self._text, self._at):
            self._move(self._at + 1)
            return "}"
        return "]" if self.take("[") else ""

    def key(self) -> str:
        """The key of a record, stepped over; raises ValueError when there is none."""
        found = _NUMBER.match(self._text, self._at)
        while (not found or found.end() == len(self._text)) and len(self._text) - self._at < _SHOWN and self._more():
            found = _NUMBER.match(self._text, self._at)
        if not found:
            raise ValueError("a record without a key")
        self._move(found.end())
        return found[1]

    def value(self) -> Any:
        """The value that begins here; raises ValueError, without moving, when it is broken."""
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or len(self._text) - error.pos < 16
                if cut and len(self._text) - self._at < _MAX_VALUE and self._more():
                    continue
                raise ValueError(error.msg) from error
            if end == len(self._text) and self._more():  # a number may go on
                continue
            self._move(end)
            return value

    def shown(self) -> str:
        """The beginning of what is here, for a message."""
        return self._text[self._at : self._at + _SHOWN].partition("\n")[0]

    def to_next_element(self, opening: str) -> bool:
        """Move to the next line that begins with `opening` at the same indentation; false when there is none."""
        mark = f"\n{self._indent}{opening}"
        self._move(min(self._at + 1, len(self._text)))
        while (found := self._text.find(mark, self._at)) < 0:
            self._move(max(self._at, len(self._text) - len(mark)))
            if not self._more():
                self._move(len(self._text))
                return False
        self._move(found)
        return True

    def _move(self, to: int) -> None:
        self.line += self._text.count("\n", self._at, to)
        self._at = to

    def _more(self) -> bool:
        """Read at least as much again as is kept, so that a long value costs linear time."""
        if self._ended:
            return False
        piece = self._file.read(max(_CHUNK, len(self._text) - self._at))
        self._ended = not piece
        self._text, self._at = self._text[self._at :] + piece, 0
        return not self._ended


def _past_gap(text: str, start: int) -> int:
    found = _GAP.match(text, start)
    return found.end() if found else start


def _said(error: ValueError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return f"{_BROKEN}: nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"{_BROKEN}: {error.msg} at column {error.colno}"
    return f"{_BROKEN}: {error}"


def _hopeless(raw: RawFile, line: int, error: Exception) -> DataError:
    return DataError(
        f"{raw.name}:{line}: broken JSON in an array on one line, so the rest cannot be read: {error}",
        hint="write one object a line (JSON Lines); then a broken line costs that line only",
    )

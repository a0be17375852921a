"""Read CSV and TSV as people write them: fields over several lines, stray quotes, NULs, missing cells."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field

from medcli.core.errors import DataError
from medcli.core.raw import Item, RawFile, lines_of, open_text

_DELIMITERS = (",", "\t", ";", "|")
_MAX_LINES = 500  # of one record; more means that a quote was never closed
_SHOWN = 500


def header_of(line: str) -> tuple[list[str], str]:
    """The column names in the first line of a table, and the delimiter between them."""
    delimiter = max(_DELIMITERS, key=line.count)
    cells = _cells(line, delimiter) or []
    return [cell.strip().strip("\ufeff").strip() for cell in cells], delimiter


def table_rows(raw: RawFile, encoding: str) -> Iterator[Item]:
    """One dict per row under the header; a row of another width is an item with a reason.

    A quote that is never closed costs its own line, not the lines after it.
    """
    with open_text(raw, encoding, newline="") as file:
        source = _Lines(lines=(text.replace("\0", "") for _, text, _ in lines_of(file)))
        names, delimiter = header_of(source.next_line() or "")
        if not any(names):
            raise DataError(f"{raw.name}:1: no column names", hint="the first line of a table must name its columns")
        number = 0
        while True:
            line = source.line + 1
            cells = source.record(delimiter, len(names))
            if cells is None:
                return
            if not any(cell.strip() for cell in cells):
                continue
            number += 1
            reason = "a quote is never closed" if source.unclosed else ""
            if len(cells) != len(names):
                reason = f"wrong number of columns: {len(cells)} where the header has {len(names)}"
            if reason:
                yield Item(line=line, number=number, reason=reason, text=delimiter.join(cells).strip()[:_SHOWN])
            else:
                yield Item(line=line, number=number, value=_value(names, cells))


@dataclass(slots=True)
class _Lines:
    """Physical lines that can be given back; `line` is the number of the last one taken."""

    lines: Iterator[str]
    line: int = 0
    unclosed: bool = False  # whether the last record had a quote that nothing closed
    _back: list[str] = field(default_factory=list)
    _taken: list[str] = field(default_factory=list)
    _dry: bool = False

    def next_line(self) -> str | None:
        """The next line, or None at the end."""
        text = self._back.pop() if self._back else next(self.lines, None)
        self.line += text is not None
        return text

    def record(self, delimiter: str, width: int) -> list[str] | None:
        """The cells of the next record, one or more lines long; None at the end of the file."""
        first = self.next_line()
        self.unclosed = False
        if first is None:
            return None
        if '"' not in first:
            return _fit(first.rstrip("\r\n").split(delimiter), width)
        for strict in (True, False):
            self._taken, self._dry = [first], False
            cells = self._parse(delimiter, strict)
            good = cells is not None and len(_fit(cells, width)) == width and not self._dry
            if cells and good and (strict or not self._swallowed(delimiter, width)):
                return _fit(cells, width)
            self._give_back()
            alone = _fit(_cells(first, delimiter) or [], width)
            if _is_closed(first) and (len(alone) == width or not strict):
                return alone
        self.unclosed = True
        return _cells(first, delimiter) or [first]

    def _parse(self, delimiter: str, strict: bool) -> list[str] | None:
        try:
            return next(csv.reader(self._feed(), delimiter=delimiter, strict=strict), None)
        except csv.Error:
            return None

    def _feed(self) -> Iterator[str]:
        yield self._taken[0]
        while len(self._taken) < _MAX_LINES and (text := self.next_line()) is not None:
            self._taken.append(text)
            yield text
        self._dry = True  # asked for more than there is: a quote stayed open

    def _swallowed(self, delimiter: str, width: int) -> bool:
        """Whether a line inside the record is a whole row itself."""
        return width > 1 and any(len(_cells(text, delimiter) or []) == width for text in self._taken[1:])

    def _give_back(self) -> None:
        self._back += reversed(self._taken[1:])
        self.line -= len(self._taken) - 1


def _cells(line: str, delimiter: str, *, strict: bool = False) -> list[str] | None:
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=strict), None)
    except csv.Error:
        return None


def _value(names: list[str], cells: list[str]) -> dict[str, str]:
    """Column -> cell; what stands in columns without a name is kept together under ""."""
    value = dict(zip(names, cells, strict=True))
    if "" in value:
        value[""] = " ".join(cell.strip() for name, cell in zip(names, cells, strict=True) if not name and cell.strip())
    return value


def _fit(cells: list[str], width: int) -> list[str]:
    """Without empty cells past the header, which spreadsheets leave."""
    while len(cells) > width and not cells[-1].strip():
        cells.pop()
    return cells


def _is_closed(line: str) -> bool:
    """Whether quotes come in pairs, so that the record can end with this line."""
    return line.count('"') % 2 == 0

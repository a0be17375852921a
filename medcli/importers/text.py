"""Plain text for continued pre-training: a document a line, or between blank lines; or a `text` column."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from medcli.core.encoding import encoding_of
from medcli.core.peek import Peek, format_of, items, text_lines
from medcli.core.raw import Item, RawFile, Source, lines_of, open_text, raw_files
from medcli.core.raw_rows import ReadOptions, Refused, needed_text, refused, rows_from, shown
from medcli.core.record import Document, Row

HELP = "plain text, one document a line or paragraphs between blank lines; JSON or a table with a text column"
_HEAD_LINES = 400
_BLANK_SHARE = 0.05  # so many blank lines mean that they part documents
_LONGEST = 1 << 20  # characters of one paragraph; what is longer is cut into several documents


def fits(peek: Peek) -> int:
    """Whether it is plain text, or has a `text` column and no answers."""
    if peek.format == "text":
        return 10
    return 30 if "text" in peek.columns else 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """One document per line, paragraph or row."""
    column = options.columns.get("prompt", "") if options.columns else "text"
    for raw in raw_files(source):
        if format_of(raw) != "text":
            for item in items(raw):
                yield from rows_from(raw, item, lambda row, id: _of_column(row, id, column, options))
            continue
        encoding = encoding_of(raw)
        found = _paragraphs(raw, encoding) if _has_paragraphs(raw, encoding) else text_lines(raw, encoding)
        for item in found:
            yield _row(raw, item, options.source)


def _of_column(row: Mapping[str, Any], id: str, column: str, options: ReadOptions) -> Document:
    if not column:
        raise Refused("missing column: 'prompt'")
    return Document(id=id, text=needed_text(row, column), source=options.source)


def _row(raw: RawFile, item: Item, source: str) -> Row:
    if item.reason:
        return refused(raw, item, item.reason)
    document = Document(id=f"{raw.label}-{item.number}", text=item.value, source=source)
    return Row(file=raw.name, line=item.line, record=document, split=raw.split, text=shown(item.value))


def _has_paragraphs(raw: RawFile, encoding: str) -> bool:
    with open_text(raw, encoding) as file:
        lines = [bool(text.strip()) for _, text, _ in islice(lines_of(file), _HEAD_LINES)]
    return lines.count(False) > len(lines) * _BLANK_SHARE


def _paragraphs(raw: RawFile, encoding: str) -> Iterator[Item]:
    number, first, length = 0, 0, 0
    block: list[str] = []
    with open_text(raw, encoding) as file:
        for line, text, _ in lines_of(file):
            if block and (not text.strip() or length > _LONGEST):
                number += 1
                yield Item(line=first, number=number, value="".join(block))
                block, length = [], 0
            if text.strip():
                first = first if block else line
                block.append(text)
                length += len(text)
    if block:
        yield Item(line=first, number=number + 1, value="".join(block))

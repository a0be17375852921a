"""webMedQA: lines of department, label, id, question and answer, without a header; label 1 is the right answer."""

from collections.abc import Iterator

from medcli.core.encoding import encoding_of
from medcli.core.peek import Peek, text_lines
from medcli.core.raw import Source, raw_files
from medcli.core.raw_rows import ReadOptions, Refused, rows_from, single_turn
from medcli.core.record import Conversation, Row

HELP = "webMedQA's lines without a header: department, 1 or 0, id, question, answer, with tabs between"
_CELLS = 5


def fits(peek: Peek) -> int:
    """Whether the first lines have five cells, the second of them 0 or 1."""
    cells = [line.split("\t") for line in peek.lines]
    return 80 if cells and all(len(row) == _CELLS and row[1] in ("0", "1") for row in cells[:5]) else 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """One question with its right answer; the four wrong answers, which belong to other questions, are refused."""
    for raw in raw_files(source):
        for item in text_lines(raw, encoding_of(raw)):
            yield from rows_from(raw, item, lambda line, id: _record(line, id, options.source), str)


def _record(line: str, id: str, source: str) -> Conversation:
    cells = line.rstrip("\r\n").split("\t")
    if len(cells) != _CELLS:
        raise Refused(f"wrong number of columns: {len(cells)} where webMedQA has {_CELLS}")
    department, label, _, question, answer = cells
    if label not in ("0", "1"):
        raise Refused(f"unknown label: {label[:40]!r}")
    if label == "0":
        raise Refused("not the adopted answer")
    return single_turn(id, source, question, answer, {"department": department} if department else {})

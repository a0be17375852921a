"""A first look at a raw source: format, columns, first rows. Importers judge by it whether they fit."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

from medcli.core.encoding import encoding_of
from medcli.core.raw import Item, RawFile, Source, lines_of, open_text, raw_files
from medcli.core.raw_json import RECORDS_BY_NUMBER, json_lines, json_values
from medcli.core.raw_parquet import SUFFIX as PARQUET
from medcli.core.raw_parquet import parquet_rows
from medcli.core.raw_table import header_of, table_rows

Format = Literal["json lines", "json", "table", "text", "parquet"]
_HEAD = 1 << 16  # characters
_FIRST = 20  # rows
_LINES = 60  # of plain text
_ALIKE = 8  # files of one kind that are looked at
_LOOKED_AT = 200  # files in all
_COLUMN = re.compile(r"[A-Za-z_][\w .-]{0,40}")
_CHINESE_COLUMNS = {"问", "答", "问题", "回答", "答案", "科室", "标题", "提问", "文本"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Peek:
    """What a look at the head of a file shows. `files` are all the files of the source, by their names.

    `rows` are its first objects, `values` its first values of whatever kind, `lines` those of plain text that are not
    blank. `fault` says what is wrong with the first row when none of the first ones can be read.
    """

    file: str
    format: Format
    columns: tuple[str, ...] = ()
    rows: tuple[Mapping[str, Any], ...] = ()
    values: tuple[Any, ...] = ()
    lines: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    fault: str = ""

    def first(self, column: str) -> Any:
        """The first value that is not empty in a column."""
        return next((row[column] for row in self.rows if row.get(column)), None)


def look(source: Source) -> list[Peek]:
    """A peek at each file of a source; of many files of one kind, at some of them."""
    files = raw_files(source)
    names = tuple(raw.name for raw in files)
    return [replace(look_at(raw), files=names) for raw in _some(files)]


def _some(files: list[RawFile]) -> list[RawFile]:
    """Of files whose names differ in their numbers only, a few spread over all; the whole of them is too slow."""
    alike: dict[str, list[RawFile]] = {}
    for raw in files:
        alike.setdefault(re.sub(r"[0-9]+", "0", raw.name), []).append(raw)
    return _spread([raw for group in alike.values() for raw in _spread(group, _ALIKE)], _LOOKED_AT)


def _spread(files: list[RawFile], count: int) -> list[RawFile]:
    """At most `count` files, at equal distances, from the first to the last."""
    if len(files) <= count:
        return files
    return [files[index * (len(files) - 1) // (count - 1)] for index in range(count)]


def look_at(raw: RawFile) -> Peek:
    """The format of one file, its column names and its first rows."""
    form = format_of(raw)
    if form == "text":
        lines = islice((line.rstrip() for line in _head(raw).split("\n") if line.strip()), _LINES)
        return Peek(file=raw.name, format=form, lines=tuple(lines))
    first = list(islice(items(raw), _FIRST))
    rows = [item.value for item in first if isinstance(item.value, Mapping)]
    fault = f"line {first[0].line}: {first[0].reason or 'not an object with columns'}" if first and not rows else ""
    columns = dict.fromkeys(name for row in rows for name in row)
    if form == "table" and not columns:
        columns = dict.fromkeys(header_of(_head(raw).partition("\n")[0])[0])
    values = tuple(item.value for item in first if not item.reason)
    return Peek(file=raw.name, format=form, columns=tuple(columns), rows=tuple(rows), values=values, fault=fault)


def items(raw: RawFile) -> Iterator[Item]:
    """The values of a file of whatever format, one by one; a line of plain text is a value too."""
    match format_of(raw):
        case "parquet":
            yield from parquet_rows(raw)
        case "json lines":
            yield from json_lines(raw, encoding_of(raw))
        case "json":
            yield from json_values(raw, encoding_of(raw))
        case "table":
            yield from table_rows(raw, encoding_of(raw))
        case "text":
            yield from text_lines(raw, encoding_of(raw))


def text_lines(raw: RawFile, encoding: str) -> Iterator[Item]:
    """The lines of plain text that are not blank; a line too long to hold comes in pieces."""
    number = 0
    with open_text(raw, encoding) as file:
        for line, text, whole in lines_of(file):
            if text.strip():
                number += 1
                reason = "" if whole else "line too long: more than 16 million characters"
                yield Item(line=line, number=number, value=text, reason=reason, text="" if whole else text[:500])


def format_of(raw: RawFile) -> Format:
    """The format by content, for "a.json" is often JSON Lines; the suffix decides the rest."""
    if raw.suffix == PARQUET:
        return "parquet"
    head = _head(raw).lstrip("\ufeff").lstrip()
    if raw.suffix in (".csv", ".tsv"):
        return "table"
    if head.startswith("{"):
        if raw.suffix in (".jsonl", ".ndjson"):
            return "json lines"
        return "json lines" if not RECORDS_BY_NUMBER.match(head) and _has_lines_of_json(head) else "json"
    if head.startswith("[") and (raw.suffix != ".txt" or re.match(r'\[\s*[\[{"]', head)):
        return "json lines" if _has_objects_by_line(head) else "json"
    if raw.suffix in (".json", ".jsonl", ".ndjson") or _has_objects_by_line(head):
        return "json lines"
    return "table" if _has_header(head) else "text"


def _has_lines_of_json(head: str) -> bool:
    """Whether a line that is not indented holds a whole object; the first line may be a broken one."""
    lines = [line.rstrip() for line in head.split("\n") if line.strip()][:_FIRST]
    whole = [line for line in lines if line.startswith("{") and line.endswith("}")]
    return any(_is_json(line) for line in whole) or (bool(whole) and len(whole) == len(lines))


def _has_objects_by_line(head: str) -> bool:
    """Whether two lines hold a whole object each, which in an array a comma would part: "[" was a broken line."""
    lines = (line.rstrip() for line in head.split("\n")[: _FIRST + 1])
    return sum(line.startswith("{") and line.endswith("}") and _is_json(line) for line in lines) > 1


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _has_header(head: str) -> bool:
    """Whether the first line of a .txt names two columns or more, as in cMedQA's `questions.txt`."""
    names, _ = header_of(head.partition("\n")[0])
    return len(names) > 1 and all(_COLUMN.fullmatch(name) or name in _CHINESE_COLUMNS for name in names)


def _head(raw: RawFile) -> str:
    with open_text(raw, encoding_of(raw)) as file:
        return file.read(_HEAD)

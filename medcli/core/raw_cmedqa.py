"""cMedQA's folder, v1 and v2: questions and answers in two tables, and lists of candidate answers by their ids."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

from medcli.core.encoding import encoding_of
from medcli.core.errors import DataError, nearest
from medcli.core.raw import Item, RawFile, Source, lines_of, open_text, raw_files
from medcli.core.raw_rows import refused
from medcli.core.raw_table import header_of, table_rows
from medcli.core.record import Row

# Held-out files come first, so a question that stands in train as well is refused there.
CANDIDATES = {"test_candidates": "test", "dev_candidates": "valid", "train_candidates": "train"}
_QUESTION_IDS = ("question_id", "que_id")  # v2, v1
_ONE_NAME = {"questions": "question", "answers": "answer"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question and the line it stands on."""

    text: str
    line: int


class Candidate(NamedTuple):
    """A line of a candidates file: its ids as asked for, or the reason why they cannot be used.

    A tuple, for it is made in a third of a frozen dataclass's time, and there are up to ten million.
    """

    line: int
    ids: tuple[str, ...]
    text: str
    reason: str


def parts_in(names: Iterable[str]) -> set[str]:
    """Which parts of cMedQA the files are: "question", "answer", "train_candidates", …"""
    return {_part(name) for name in names} & {"question", "answer", *CANDIDATES}


def files_of(source: Source) -> dict[str, RawFile]:
    """The files by what they hold; an unpacked one goes before the archive it came from."""
    found: dict[str, RawFile] = {}
    for raw in sorted(raw_files(source), key=lambda raw: bool(raw.member)):
        found.setdefault(_part(raw.name), raw)
    return found


def needed(files: Mapping[str, RawFile], source: Source, part: str) -> RawFile:
    """The file that holds `part`; raises DataError when there is none."""
    if part not in files:
        there = ", ".join(raw.name for raw in files.values())
        raise DataError(
            f"{source}: there is no {part}.csv (nor {part}s.csv, {part}.txt, {part}.zip)",
            hint=f"cMedQA needs its questions and answers in one folder; there is {there}",
        )
    return files[part]


def read_questions(raw: RawFile, asked: dict[str, Asked]) -> Iterator[Row]:
    """Note every question by its id; gives the rows that are refused."""
    encoding = encoding_of(raw)
    key, text = columns(raw, encoding, "content")
    for item in table_rows(raw, encoding):
        if item.reason:
            yield refused(raw, item, item.reason)
        elif (id := item.value[key].strip()) in asked:
            yield refused(raw, item, "question id used twice")
        else:
            asked[id] = Asked(text=item.value[text], line=item.line)


def candidates(raw: RawFile, *wanted: str) -> Iterator[Candidate]:
    """Each line with the question's id and the ids in the columns `wanted`; there are millions, of plain numbers."""
    encoding = encoding_of(raw)
    names, delimiter = header_of(_first_line(raw, encoding))
    at = [names.index(name) for name in columns(raw, encoding, *wanted)]
    with open_text(raw, encoding) as file:
        for line, text, _ in lines_of(file):
            cells = text.rstrip().replace('"', "").split(delimiter)
            if line == 1 or not text.strip():
                continue
            if len(cells) == len(names):
                yield Candidate(line, tuple([cells[index].strip() for index in at]), text, "")
            else:
                reason = f"wrong number of columns: {len(cells)} where the header has {len(names)}"
                yield Candidate(line, (), text, reason)


def refused_candidate(raw: RawFile, candidate: Candidate, reason: str) -> Row:
    """The row of a candidate that is not used."""
    return refused(raw, Item(line=candidate.line, number=candidate.line, text=candidate.text.rstrip()[:500]), reason)


def columns(raw: RawFile, encoding: str, *wanted: str) -> list[str]:
    """The name of the question's id, then those `wanted`; raises DataError when the header lacks one."""
    names, _ = header_of(_first_line(raw, encoding))
    key = next((name for name in _QUESTION_IDS if name in names), _QUESTION_IDS[0])
    for name in (key, *wanted):
        if name not in names:
            close = nearest(name, names)
            hint = f"did you mean to call '{close}' so? " if close else ""
            raise DataError(
                f"{raw.name}:1: there is no column '{name}'", hint=f"{hint}the header has {', '.join(names)}"
            )
    return [key, *wanted]


def _part(name: str) -> str:
    stem = PurePosixPath(name.removesuffix(".gz")).stem.lower()
    return _ONE_NAME.get(stem, stem)


def _first_line(raw: RawFile, encoding: str) -> str:
    with open_text(raw, encoding) as file:
        return file.readline(1 << 16)

"""cMedQA v1 and v2: questions and answers in two tables, joined; the candidates files decide the split."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medcli.core.encoding import encoding_of
from medcli.core.errors import DataError, nearest
from medcli.core.peek import Peek
from medcli.core.raw import Item, RawFile, lines_of, open_text, raw_files
from medcli.core.raw_rows import ReadOptions, refused, single_turn
from medcli.core.raw_table import header_of, table_rows
from medcli.core.record import Row

HELP = "cMedQA's folder: question(s) and answer(s), {train,dev,test}_candidates, as .csv, .txt or .zip"
_QUESTION_IDS = ("question_id", "que_id")  # v2, v1
# Held-out questions come first, so a question that stands in train as well is refused there.
_ORDER = ("test", "valid", "train")
_CANDIDATES = {"test_candidates": "test", "dev_candidates": "valid", "train_candidates": "train"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    text: str
    line: int


def fits(peek: Peek) -> int:
    """Whether a file of questions and one of answers are there."""
    stems = {PurePosixPath(name).stem.lower() for name in peek.files}
    both = stems & {"question", "questions"} and stems & {"answer", "answers"}
    return (96 if stems & set(_CANDIDATES) else 91) if both else 0  # above all others: it joins the files of a folder


def read(source: Path, options: ReadOptions) -> Iterator[Row]:
    """One conversation per answer; questions without an answer, and ids that lead nowhere, are refused."""
    files = _by_stem(source)
    asked: dict[str, _Asked] = {}
    yield from _read_questions(_needed(files, source, "question"), asked)
    splits: dict[str, str] = {}
    candidates = {files[stem]: split for stem, split in _CANDIDATES.items() if stem in files}
    for raw, split in candidates.items():
        yield from _read_candidates(raw, split, asked, splits)
    answers = _needed(files, source, "answer")
    unanswered = set(asked)
    for split in _ORDER if candidates else ("",):
        for row in _answers(answers, asked, options.source, first=split in ("", "test")):
            if isinstance(row, Row):
                yield row
                continue
            item, id, question, answer = row
            unanswered.discard(question)
            if not split or splits.get(question, "train") == split:
                record = single_turn(id, options.source, asked[question].text, answer)
                yield Row(file=answers.name, line=item.line, record=record, split=split, text=answer[:500])
    questions = _needed(files, source, "question")
    for id in sorted(unanswered, key=lambda id: asked[id].line):
        yield Row(
            file=questions.name,
            line=asked[id].line,
            reason="question without an answer",
            text=asked[id].text[:500],
        )


def _by_stem(source: Path) -> dict[str, RawFile]:
    """The files by what they hold; an unpacked one goes before the archive it came from."""
    found: dict[str, RawFile] = {}
    for raw in sorted(raw_files(source), key=lambda raw: bool(raw.member)):
        stem = PurePosixPath(raw.name.removesuffix(".gz")).stem.lower()
        found.setdefault({"questions": "question", "answers": "answer"}.get(stem, stem), raw)
    return found


def _needed(files: Mapping[str, RawFile], source: Path, stem: str) -> RawFile:
    if stem not in files:
        there = ", ".join(raw.name for raw in files.values())
        raise DataError(
            f"{source}: there is no {stem}.csv (nor {stem}s.csv, {stem}.txt, {stem}.zip)",
            hint=f"cMedQA needs its questions and answers in one folder; there is {there}",
        )
    return files[stem]


def _read_questions(raw: RawFile, asked: dict[str, _Asked]) -> Iterator[Row]:
    encoding = encoding_of(raw)
    key, text = _columns(raw, encoding, "content")
    for item in table_rows(raw, encoding):
        if item.reason:
            yield refused(raw, item, item.reason)
        elif (id := item.value[key].strip()) in asked:
            yield refused(raw, item, "question id used twice")
        else:
            asked[id] = _Asked(text=item.value[text], line=item.line)


def _answers(
    raw: RawFile, asked: Mapping[str, _Asked], source: str, *, first: bool
) -> Iterator[Row | tuple[Item, str, str, str]]:
    """(item, id, question id, answer) of each answer; what is refused is only said in the first pass."""
    encoding = encoding_of(raw)
    key, ans, text = _columns(raw, encoding, "ans_id", "content")
    seen: set[str] = set()
    for item in table_rows(raw, encoding):
        reason = item.reason
        question = "" if reason else item.value[key].strip()
        id = "" if reason else f"{question}-{item.value[ans].strip()}"
        if not reason and question not in asked:
            reason = "answer to a question that is not there"
        elif not reason and id in seen:
            reason = "answer id used twice"
        if not reason:
            seen.add(id)
            yield item, id, question, item.value[text]
        elif first:
            yield refused(raw, item, reason)


def _read_candidates(raw: RawFile, split: str, asked: Mapping[str, _Asked], splits: dict[str, str]) -> Iterator[Row]:
    """Note the split of every question named; at 100 lines a question, only a change of id is looked up."""
    encoding = encoding_of(raw)
    names, delimiter = header_of(_first_line(raw, encoding))
    column = names.index(_columns(raw, encoding)[0])
    last, known = "", False
    with open_text(raw, encoding) as file:
        for line, text, _ in lines_of(file):
            if line == 1 or not text.strip():
                continue
            cells = text.rstrip().split(delimiter)
            reason = (
                ""
                if len(cells) == len(names)
                else f"wrong number of columns: {len(cells)} where the header has {len(names)}"
            )
            if not reason and cells[column] != last:
                last = cells[column]
                id = last.strip().strip('"')
                known = id in asked
                if known:
                    splits.setdefault(id, split)
            if reason or not known:
                item = Item(line=line, number=line, text=text.rstrip()[:500])
                yield refused(raw, item, reason or "candidate of a question that is not there")


def _columns(raw: RawFile, encoding: str, *needed: str) -> list[str]:
    """The name of the question's id, then those `needed`; raises DataError when the header lacks one."""
    names, _ = header_of(_first_line(raw, encoding))
    key = next((name for name in _QUESTION_IDS if name in names), _QUESTION_IDS[0])
    for name in (key, *needed):
        if name not in names:
            close = nearest(name, names)
            hint = f"did you mean to call '{close}' so? " if close else ""
            raise DataError(
                f"{raw.name}:1: there is no column '{name}'", hint=f"{hint}the header has {', '.join(names)}"
            )
    return [key, *needed]


def _first_line(raw: RawFile, encoding: str) -> str:
    with open_text(raw, encoding) as file:
        return file.readline(1 << 16)

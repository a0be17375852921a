"""cMedQA v1 and v2: questions and answers in two tables, joined; the candidates files decide the split."""

from collections.abc import Iterator, Mapping

from medcli.core.encoding import encoding_of
from medcli.core.peek import Peek
from medcli.core.raw import Item, RawFile, Source
from medcli.core.raw_cmedqa import (
    CANDIDATES,
    Asked,
    candidates,
    columns,
    files_of,
    needed,
    parts_in,
    read_questions,
    refused_candidate,
)
from medcli.core.raw_rows import ReadOptions, refused, single_turn
from medcli.core.raw_table import table_rows
from medcli.core.record import Row

HELP = "cMedQA's folder: question(s) and answer(s), {train,dev,test}_candidates, as .csv, .txt or .zip"


def fits(peek: Peek) -> int:
    """Whether a file of questions and one of answers are there."""
    parts = parts_in(peek.files)
    return (96 if parts & set(CANDIDATES) else 91) if {"question", "answer"} <= parts else 0  # it joins the files


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """One conversation per answer; questions without an answer, and ids that lead nowhere, are refused."""
    files = files_of(source)
    questions = needed(files, source, "question")
    asked: dict[str, Asked] = {}
    yield from read_questions(questions, asked)
    splits: dict[str, str] = {}
    candidate_files = {files[part]: split for part, split in CANDIDATES.items() if part in files}
    for raw, split in candidate_files.items():
        yield from _read_candidates(raw, split, asked, splits)
    answers = needed(files, source, "answer")
    unanswered = set(asked)
    for split in CANDIDATES.values() if candidate_files else ("",):
        for row in _answers(answers, asked, first=split in ("", "test")):
            if isinstance(row, Row):
                yield row
                continue
            item, id, question, answer = row
            unanswered.discard(question)
            if not split or splits.get(question, "train") == split:
                record = single_turn(id, options.source, asked[question].text, answer)
                yield Row(file=answers.name, line=item.line, record=record, split=split, text=answer[:500])
    for id in sorted(unanswered, key=lambda id: asked[id].line):
        reason = "question without an answer"
        yield Row(file=questions.name, line=asked[id].line, reason=reason, text=asked[id].text[:500])


def _answers(raw: RawFile, asked: Mapping[str, Asked], *, first: bool) -> Iterator[Row | tuple[Item, str, str, str]]:
    """(item, id, question id, answer) of each answer; what is refused is only said in the first pass."""
    encoding = encoding_of(raw)
    key, ans, text = columns(raw, encoding, "ans_id", "content")
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


def _read_candidates(raw: RawFile, split: str, asked: Mapping[str, Asked], splits: dict[str, str]) -> Iterator[Row]:
    """Note the split of every question named."""
    for candidate in candidates(raw):
        reason = candidate.reason
        if not reason and candidate.ids[0] in asked:
            splits.setdefault(candidate.ids[0], split)
        else:
            yield refused_candidate(raw, candidate, reason or "candidate of a question that is not there")

"""CMB-Clin: cases with questions and a doctor's solutions, a dialogue each."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from medcli.core.errors import DataError
from medcli.core.peek import Peek, items, look_at
from medcli.core.raw import Source, raw_files
from medcli.core.raw_rows import ReadOptions, Refused, as_text, joined, needed_text, rows_from, text_of
from medcli.core.record import Conversation, Message, Row

HELP = "CMB-Clin's cases (CMB-Clin-qa.json, CMB-test-qa.json): title, description, QA_pairs of question and answer"
_COLUMNS = {"description", "QA_pairs"}


def fits(peek: Peek) -> int:
    """Whether there are cases with questions and answers."""
    return 88 if set(peek.columns) >= _COLUMNS else 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """One dialogue per case, all in the test split; other files of CMB are left alone."""
    files = [raw for raw in raw_files(source) if set(look_at(raw).columns) >= _COLUMNS]
    if not files:
        raise DataError(
            f"{source} holds no file with 'description' and 'QA_pairs'", hint="CMB.zip has CMB-Clin-qa.json"
        )
    for raw in files:
        for item in items(raw):
            rows = rows_from(replace(raw, split="test"), item, lambda row, id: _case(row, id, options.source))
            yield from rows


def _case(row: Mapping[str, Any], id: str, source: str) -> Conversation:
    """The description leads the first question; the others follow on the answers before them."""
    pairs = row.get("QA_pairs")
    if not isinstance(pairs, list) or not pairs or not all(isinstance(pair, Mapping) for pair in pairs):
        raise Refused("no questions about the case")
    messages = []
    before = needed_text(row, "description")
    for pair in pairs:
        asked = joined(before, as_text(pair.get("question"), "question"))
        answer = text_of(pair, "answer") or text_of(pair, "solution")
        messages += [Message(role="user", content=asked), Message(role="assistant", content=answer)]
        before = ""
    title = text_of(row, "title").strip()
    return Conversation(id=id, messages=tuple(messages), source=source, meta={"title": title} if title else {})

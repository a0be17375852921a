"""PubMedQA: yes, no or maybe after an abstract; one object of all articles, or a row each as on the hub."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medcli.core.peek import Peek
from medcli.core.raw import raw_files
from medcli.core.raw_exam import exam_rows, question
from medcli.core.raw_rows import ReadOptions, Refused, as_text, text_of
from medcli.core.record import Question, Row

HELP = "PubMedQA's ori_pqal.json, test_set.json …, or the hub's rows: question, context, final_decision yes/no/maybe"
_CHOICES = ("yes", "no", "maybe")


def fits(peek: Peek) -> int:
    """Whether there is a question with a context, in one of the two forms."""
    columns = set(peek.columns)
    return 88 if {"QUESTION", "CONTEXTS"} <= columns or {"question", "context", "pubid"} <= columns else 0


def read(source: Path, options: ReadOptions) -> Iterator[Row]:
    """One question per article, after the paragraphs of its abstract; an unlabelled one is refused."""
    return exam_rows(raw_files(source), lambda raw, row, id: _question(row, id, options.source))


def _question(row: Mapping[str, Any], id: str, source: str) -> Question:
    named = {name.lower(): value for name, value in row.items()}
    context = named.get("context")
    texts = context.get("contexts") if isinstance(context, Mapping) else named.get("contexts")
    if not isinstance(texts, list):
        raise Refused("no contexts")
    stem = "\n".join([*(as_text(text, "contexts") for text in texts), text_of(named, "question")])
    return question(id, source, stem, _CHOICES, named.get("final_decision"), "")

"""PubMedQA: yes, no or maybe after an abstract; one object of all articles, or a row each as on the hub."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from medcli.core.peek import Peek, items
from medcli.core.raw import RawFile, Source, raw_files
from medcli.core.raw_exam import exam_rows, question
from medcli.core.raw_rows import ReadOptions, Refused, as_text, rows_from, text_of
from medcli.core.record import Question, Row

HELP = "PubMedQA's ori_pqal.json (with test_ground_truth.json beside it: the official test), or the hub's rows"
_CHOICES = ("yes", "no", "maybe")
_TRUTH = "test_ground_truth"  # article id -> decision, of the 500 that are the test


def fits(peek: Peek) -> int:
    """Whether there is a question with a context, in one of the two forms, or the list of the test's articles."""
    columns = set(peek.columns)
    known = {"QUESTION", "CONTEXTS"} <= columns or {"question", "context", "pubid"} <= columns
    return 88 if known or _is_truth(peek.file) and len(peek.files) > 1 else 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """One question per article, after the paragraphs of its abstract; an unlabelled one is refused."""
    files = raw_files(source)
    asked = [raw for raw in files if not _is_truth(raw.name)]
    test = {
        id
        for raw in files
        if raw not in asked
        for item in items(raw)
        if isinstance(item.value, dict)
        for id in item.value
    }
    if test:
        return _placed(asked, test, options.source)
    return exam_rows(asked, lambda raw, row, id: _question(row, id, options.source))


def _placed(files: Sequence[RawFile], test: Collection[str], source: str) -> Iterator[Row]:
    """The rows with the split that the list of the test's articles gives them."""
    for raw in files:
        for item in items(raw):
            split = "test" if item.key in test else "train"
            yield from rows_from(replace(raw, split=split), item, lambda row, id: _question(row, id, source))


def _is_truth(name: str) -> bool:
    return PurePosixPath(name).stem == _TRUTH


def _question(row: Mapping[str, Any], id: str, source: str) -> Question:
    named = {name.lower(): value for name, value in row.items()}
    context = named.get("context")
    texts = context.get("contexts") if isinstance(context, Mapping) else named.get("contexts")
    if not isinstance(texts, list):
        raise Refused("no contexts")
    stem = "\n".join([*(as_text(text, "contexts") for text in texts), text_of(named, "question")])
    return question(id, source, stem, _CHOICES, named.get("final_decision"), "")

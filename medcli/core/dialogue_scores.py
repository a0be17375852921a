"""Files of marks that a judge gave already: DISC-MedLLM's published ones, rows like them, and our own outcomes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medcli.core import exam_file
from medcli.core.dialogue_verdict import Verdict, verdict_of
from medcli.core.errors import DataError
from medcli.core.exam import Item, Marked
from medcli.core.peek import items
from medcli.core.raw import Item as Row
from medcli.core.raw import raw_files
from medcli.core.record import Message

EXAM = "dialogue"
_BEGINS, _ENDS = "[start of conversation]", "[end of conversation]"
_HINT = 'each row has "id" and "scores": four lines such as "Proactivity: 5", or an object with the four axes'


def read(path: Path) -> list[Marked]:
    """The consultations in a file of scores, marked; one whose scores cannot be read is "unparsed", without marks.

    Rows are JSON Lines or an array of {id, model, source, scores, prompt}, as DISC-MedLLM published them; `scores` is a
    judge's text or an object. The outcome of this exam that `med eval` wrote is read as well. Raises DataError, with
    the line, when nothing can be read.
    """
    if not path.is_file():
        raise DataError(f"there is no file of scores {path}", hint="check the path behind --scores")
    if _is_outcome(path):
        return _of_outcome(path)
    rows = [row for raw in raw_files(path) for row in items(raw)]
    marked = [_marked(row) for row in rows]
    if not any(one.values for one in marked):
        where = f"{path}:{rows[0].line}" if rows else str(path)
        why = rows[0].reason or "no marks from 1 to 5 on four axes" if rows else "the file is empty"
        raise DataError(f"{where}: no scores can be read: {why}", hint=_HINT)
    return marked


def _is_outcome(path: Path) -> bool:
    """Whether a file is one JSON object with answers."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except ValueError:
        return False
    return isinstance(value, dict) and "answers" in value


def _of_outcome(path: Path) -> list[Marked]:
    found = exam_file.read(path)
    if found.kind != EXAM:
        raise DataError(f"{path} is the outcome of the exam '{found.exam}', and has no marks of dialogues", hint=_HINT)
    return list(found.marked)


def _marked(row: Row) -> Marked:
    table: Mapping[str, Any] = row.value if isinstance(row.value, Mapping) else {}
    verdict = verdict_of(table.get("scores", table))
    return Marked(
        item=_item(row, table),
        answer=_consultation(table),
        values=dict(verdict.marks) if verdict else {},
        outcome="answered" if verdict else "unparsed",
        detail=_detail(row, table, verdict),
    )


def _item(row: Row, table: Mapping[str, Any]) -> Item:
    prompt = (Message(role="user", content=table["prompt"]),) if isinstance(table.get("prompt"), str) else ()
    return Item(id=str(table.get("id", f"line {row.line}")), prompt=prompt, reference="")


def _consultation(table: Mapping[str, Any]) -> str:
    """The dialogue in what the judge was asked."""
    asked = str(table.get("prompt", ""))
    return asked.rpartition(_BEGINS)[2].partition(_ENDS)[0].strip()


def _detail(row: Row, table: Mapping[str, Any], verdict: Verdict | None) -> dict[str, Any]:
    detail: dict[str, Any] = {name: table[name] for name in ("model", "source") if name in table}
    if verdict is None:
        return detail | {"line": row.line, "unread": row.reason or str(table.get("scores", row.value))[:500]}
    return detail | ({"reasons": dict(verdict.reasons)} if verdict.reasons else {})

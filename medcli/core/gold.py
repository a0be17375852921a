"""An exam of which only the right letters are here, by id: enough to mark a file of answers, with no question or model.

CMB publishes its test so, and marks an answer right when it is the same string: "DA" is not "AD". That is kept as
`accuracy`, so that published figures come out again; `accuracy-any-order` is what the letters are worth as a set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase

from medcli.core.errors import DataError
from medcli.core.exam import Item, Marked, Outcome, Sitting
from medcli.core.letters import chosen_letters, sorted_letters
from medcli.core.peek import items
from medcli.core.raw import raw_files
from medcli.core.raw_rows import Refused, text_of
from medcli.core.speaker import Sampling

_GROUPS = (("exam_type", "category"), ("exam_class", "subcategory", "subject"))
_ANY = dict.fromkeys(ascii_uppercase, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldPaper:
    """Items with an answer and no question."""

    items: Sequence[Item]

    def sit(self, sitting: Sitting) -> list[Marked]:
        """Mark answers that are there already."""
        sampling = Sampling(seed=sitting.settings.seed)
        answers = sitting.speaker.replies([item.prompt for item in self.items], sampling, sitting.report.advance)
        return [_marked(item, answer) for item, answer in zip(self.items, answers, strict=True)]


def gold_paper(path: Path, limit: int | None) -> GoldPaper:
    """The items of a file of JSON, JSON Lines or CSV with the columns id and answer; raises DataError."""
    found: dict[str, Item] = {}
    for raw in raw_files(path):
        for row in items(raw):
            where = f"{raw.name}:{row.line}"
            if row.reason or not isinstance(row.value, Mapping):
                raise DataError(f"{where}: {row.reason or 'not an object with columns'}")
            try:
                id, answer = (text_of(row.value, column).strip() for column in ("id", "answer"))
            except Refused as error:
                raise DataError(f"{where}: {error}") from error
            if not id or not answer:
                raise DataError(f"{where}: no id, or no answer", hint="each row needs the columns id and answer")
            if id in found:
                raise DataError(f"{where}: the id {id} stands there twice")
            found[id] = Item(id=id, prompt=(), reference=answer, groups=_groups(row.value))
    if not found:
        raise DataError(f"{path} holds no answer")
    return GoldPaper(items=list(found.values())[:limit])


def _groups(row: Mapping[str, object]) -> tuple[str, ...]:
    named = (next((text_of(row, name).strip() for name in names if name in row), "") for names in _GROUPS)
    return tuple(filter(None, named))


def _marked(item: Item, answer: str) -> Marked:
    said = answer.strip()
    letters = chosen_letters(said, _ANY)
    outcome: Outcome = "answered" if letters else "unparsed" if said else "empty"
    wanted = sorted_letters(item.reference)
    values = {
        "accuracy": float(said == item.reference),
        "accuracy-any-order": float(bool(letters) and letters == wanted),
    }
    return Marked(item=item, answer=answer, values=values, outcome=outcome, detail={"letters": letters})

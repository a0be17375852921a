"""The file that keeps an exam's outcome: every answer with its prompt and marks, settings, versions, data hashes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medcli.core.atomic import writing
from medcli.core.errors import DataError
from medcli.core.exam import OUTCOMES, Item, Marked
from medcli.core.record import message_rows, messages_of
from medcli.core.score import Score


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The scores of a category, or of a subject within it."""

    names: tuple[str, ...]
    scores: tuple[Score, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What came of an exam.

    `exam` names it ("cmb-test", "triage"), `kind` is the plug-in that set it, `primary` the metric by which two models
    are compared. `dataset` says what was asked, with hashes; `leak` what of it the model was trained on; `identity` is
    a hash of all that the outcome follows from.
    """

    model: str
    exam: str
    kind: str
    primary: str
    dataset: Mapping[str, Any]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    scores: tuple[Score, ...]
    groups: tuple[Group, ...]
    marked: tuple[Marked, ...]
    leak: Mapping[str, Any] = field(default_factory=dict)
    file: Path = Path()
    identity: str = ""

    @property
    def outcomes(self) -> dict[str, int]:
        """How many answers there are of each outcome."""
        return {name: sum(one.outcome == name for one in self.marked) for name in OUTCOMES}

    def score(self, metric: str) -> Score:
        """The score of that name; raises KeyError."""
        found = {score.metric: score for score in self.scores}
        return found[metric]


def write(found: Examination) -> None:
    """Write `found.file` whole; the same answers give the same bytes."""
    table = summary(found) | {
        "settings": dict(found.settings),
        "versions": dict(found.versions),
        "identity": found.identity,
        "answers": [_row(one) for one in found.marked],
    }
    with writing(found.file) as out:
        json.dump(table, out, ensure_ascii=False, indent=1, default=str)
        out.write("\n")


def summary(found: Examination) -> dict[str, Any]:
    """All but the answers, as JSON."""
    return {
        "model": found.model,
        "exam": found.exam,
        "kind": found.kind,
        "primary": found.primary,
        "dataset": dict(found.dataset),
        "scores": [asdict(score) for score in found.scores],
        "outcomes": found.outcomes,
        "groups": [
            {"names": list(group.names), "scores": [asdict(score) for score in group.scores]} for group in found.groups
        ],
        "leak": dict(found.leak),
    }


def read(path: Path) -> Examination:
    """The outcome in a file; raises DataError when it is none."""
    try:
        table = json.loads(path.read_text("utf-8"))
        return Examination(
            model=table["model"],
            exam=table["exam"],
            kind=table["kind"],
            primary=table["primary"],
            dataset=table["dataset"],
            settings=table["settings"],
            versions=table["versions"],
            scores=_scores(table["scores"]),
            groups=tuple(Group(names=tuple(row["names"]), scores=_scores(row["scores"])) for row in table["groups"]),
            marked=tuple(map(_marked, table["answers"])),
            leak=table["leak"],
            file=path,
            identity=table["identity"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: no outcome of an exam: {error}", hint="run med eval again") from error


def _row(one: Marked) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": one.item.id,
        "prompt": message_rows(one.item.prompt),
        "answer": one.answer,
        "reference": one.item.reference,
        "scores": dict(one.values),
        "outcome": one.outcome,
    }
    if one.item.groups:
        row["groups"] = list(one.item.groups)
    return row | ({"detail": dict(one.detail)} if one.detail else {})


def _marked(row: Mapping[str, Any]) -> Marked:
    item = Item(
        id=row["id"],
        prompt=messages_of(row["prompt"]),
        reference=row["reference"],
        groups=tuple(row.get("groups", ())),
    )
    return Marked(
        item=item, answer=row["answer"], values=row["scores"], outcome=row["outcome"], detail=row.get("detail", {})
    )


def _scores(rows: Sequence[Mapping[str, Any]]) -> tuple[Score, ...]:
    return tuple(Score(**row) for row in rows)

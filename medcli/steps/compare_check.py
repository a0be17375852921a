"""Whether two models were examined alike; figures of unlike examinations say nothing about the models."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from medcli.core.errors import DataError
from medcli.core.exam_file import Examination
from medcli.core.exam_settings import NOT_THE_EXAM

_NAMED = 5  # ids in a message
_ANEW = "evaluate both again with the same settings: med eval --compare A B"


def check_exams(ones: Sequence[Examination], others: Sequence[Examination]) -> None:
    """Raise DataError unless both sat the same exams in the same order, and at least one."""
    one, other = ([found.exam for found in side] for side in (ones, others))
    if not one and not other:
        raise DataError("there is no exam to compare two models by", hint="name one with --exam")
    if one != other:
        raise DataError(
            f"the exams are not the same: {', '.join(one) or 'none'} against {', '.join(other) or 'none'}",
            hint=_ANEW,
        )


def check_alike(one: Examination, other: Examination) -> None:
    """Raise DataError unless both were asked the same questions and marked in the same way."""
    differing = [
        *_differing({"kind": one.kind, "primary": one.primary}, {"kind": other.kind, "primary": other.primary}),
        *_differing(asked(one), asked(other)),
        *_differing(_identity(one.dataset), _identity(other.dataset), "dataset "),
    ]
    if differing:
        raise DataError(
            f"{one.exam}: {one.model} and {other.model} were not examined alike: {'; '.join(differing)}"
            f"{_files(one, other)}",
            hint=_ANEW,
        )
    _check_items(one, other)


def asked(found: Examination) -> dict[str, Any]:
    """The settings that change a question, an answer or a mark, as they stand in a file."""
    return {name: value for name, value in _plain(found.settings).items() if name not in NOT_THE_EXAM}


def _check_items(one: Examination, other: Examination) -> None:
    for found in (one, other):
        if twice := [id for id, times in Counter(mark.item.id for mark in found.marked).items() if times > 1]:
            raise DataError(f"{found.exam}: {_ids(twice)} stand more than once{_files(found)}", hint=_ANEW)
    items, others = ({mark.item.id: mark.item for mark in found.marked} for found in (one, other))
    alone = [
        (found.model, [id for id in has if id not in lacks])
        for found, has, lacks in ((one, items, others), (other, others, items))
    ]
    if said := [f"only {model} answered {_ids(ids)}" for model, ids in alone if ids]:
        raise DataError(f"{one.exam}: {'; '.join(said)}{_files(one, other)}", hint=_ANEW)
    changed = [
        id
        for id, item in items.items()
        if (item.prompt, item.reference, item.groups) != (others[id].prompt, others[id].reference, others[id].groups)
    ]
    if changed:
        raise DataError(
            f"{one.exam}: {one.model} and {other.model} were asked {_ids(changed)} in other words{_files(one, other)}",
            hint=_ANEW,
        )


def _identity(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked; how many answers there are follows from it."""
    return {name: value for name, value in _plain(dataset).items() if name != "answered"}


def _differing(one: Mapping[str, Any], other: Mapping[str, Any], what: str = "") -> list[str]:
    return [
        f"{what}{name.replace('_', '-')} {_said(one.get(name))} against {_said(other.get(name))}"
        for name in dict.fromkeys([*one, *other])
        if one.get(name) != other.get(name)
    ]


def _said(value: Any) -> str:
    return "(not given)" if value is None else str(value)


def _plain(table: Mapping[str, Any]) -> dict[str, Any]:
    """As it is read from a file: a list for a tuple, text for a path."""
    found: dict[str, Any] = json.loads(json.dumps(dict(table), default=str))
    return found


def _ids(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return f"{', '.join(ids[:_NAMED])}{more}"


def _files(*founds: Examination) -> str:
    """Where it stands, of examinations that are in files."""
    files = [str(found.file) for found in founds if found.file.name]
    return f" ({', '.join(files)})" if files else ""

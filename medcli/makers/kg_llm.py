"""A model words questions about a knowledge graph; an answer that is not what the graph says is refused."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medcli.core.graph import Entity
from medcli.core.graph_index import GraphIndex
from medcli.core.graph_questions import split_of
from medcli.core.grounding import invented, overlap, share_said
from medcli.core.llm_settings import Ask, Reply
from medcli.core.loose_json import objects_in
from medcli.core.prompts import prompt
from medcli.core.raw_rows import Refused, single_turn
from medcli.core.record import Row

COUNT = 5  # questions in one answer of the model
_MOST = 12  # values of an attribute that the model is shown
_LONGEST = 600  # characters of a value that it is shown
SAID = 0.6  # least share of an attribute's values that an answer must hold
OVERLAP = 0.5  # least share of the answer's character pairs that stand in the record, for attributes in prose
_PROSE = 30  # characters; a longer value is prose


def make(graph: GraphIndex, ask: Ask, seed: int, shares: Mapping[str, float]) -> Iterator[Row]:
    """COUNT rows for every entity, each a conversation or the reason why not; an entity is in one split with all."""
    names = [
        {name for entity in graph.entities for name in entity.values(key) if len(name) >= least}
        for key, least in (("drugs", 3), ("department", 2))
    ]
    foreign = frozenset().union(*names)
    replies = ask([_prompt(entity) for entity in graph.entities])
    for entity, reply in zip(graph.entities, replies, strict=True):
        split = split_of(shares, seed, "llm", entity.name)
        for number, (record, reason, text) in enumerate(_answers(entity, reply, foreign)):
            if record is None:
                yield Row(file=entity.file, line=entity.line, reason=reason, text=f"{entity.name} {text}", split=split)
            else:
                id = f"llm-{entity.name}-{number}"
                made = single_turn(id, "kg", *record, {"form": "llm"})
                yield Row(file=entity.file, line=entity.line, record=made, split=split, text=record[0])


def _prompt(entity: Entity) -> str:
    return prompt("kg", name=entity.name, record=json.dumps(_shown(entity), ensure_ascii=False), count=str(COUNT))


def _shown(entity: Entity) -> dict[str, list[str]]:
    return {key: [value[:_LONGEST] for value in values[:_MOST]] for key, values in entity.attributes.items()}


def _answers(
    entity: Entity, reply: Reply, foreign: frozenset[str]
) -> Iterator[tuple[tuple[str, str] | None, str, str]]:
    """(question and answer, reason, text) of each thing the model wrote, or of the model's failure as a whole."""
    if not reply.text:
        yield None, reply.reason, ""
        return
    try:
        rows = objects_in(reply.text)
    except ValueError as error:
        yield None, f"the model's answer cannot be read: {error}", reply.text[:200]
        return
    for row in rows:
        try:
            yield _checked(entity, row, foreign), "", ""
        except Refused as reason:
            yield None, str(reason), json.dumps(row, ensure_ascii=False)[:300]


def _checked(entity: Entity, row: Mapping[str, Any], foreign: frozenset[str]) -> tuple[str, str]:
    """Question and answer, when the answer says what the record says; raises Refused."""
    key, question, answer = (row.get(part) for part in ("attribute", "question", "answer"))
    if not (isinstance(key, str) and isinstance(question, str) and isinstance(answer, str)):
        raise Refused("the model's answer cannot be read: a part is missing")
    values = _shown(entity).get(key, [])
    if not values:
        raise Refused(f"the model asks for what the record does not hold: {key}")
    if entity.name not in question and not any(alias in question for alias in entity.aliases):
        raise Refused("the question does not name the disease")
    text = entity.text()
    if strange := sorted(name for name in foreign if name in answer and name not in text):
        raise Refused(f"not in the record: {', '.join(strange[:3])}")
    if reason := invented(text, answer):
        raise Refused(reason)
    if not _says(values, answer):
        raise Refused(f"the answer leaves out what the record says: {key}")
    return question, answer


def _says(values: Sequence[str], answer: str) -> bool:
    if all(len(value) > _PROSE for value in values):
        return overlap("".join(values), answer) >= OVERLAP
    return share_said(values, answer) >= SAID

"""A knowledge graph in memory: which diseases are alike, what is certainly not true of one, which symptoms tell it."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from medcli.core.graph import Entity

_TRIES = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphIndex:
    """The entities, each name once, with the indexes below; made by `index_of`."""

    entities: tuple[Entity, ...]
    by_department: Mapping[str, Sequence[Entity]]
    by_symptom: Mapping[str, frozenset[str]]
    texts: Mapping[str, str]
    pools: Mapping[tuple[str, str], Sequence[str]]

    def peers(self, entity: Entity) -> Sequence[Entity]:
        """The other diseases of its most special department; with no department, all others."""
        return [other for other in self.by_department[_department(entity)] if other.name != entity.name]

    def foreign(self, entity: Entity, attribute: str, count: int, chance: random.Random) -> list[str]:
        """Values of like diseases that are certainly not among this one's; fewer than `count` when there are not more.

        None is part of, or holds, one of its values or another one found, none stands anywhere in its record, and
        where the source shows a part of the list only, there are none: what is missing might be true.
        """
        if attribute in entity.incomplete:
            return []
        found: list[str] = []
        department = "" if attribute == "department" else _department(entity)
        for key in dict.fromkeys(((department, attribute), ("", attribute))):
            pool = self.pools.get(key, ())
            for value in chance.sample(pool, min(_TRIES, len(pool))):
                if len(found) < count and self._is_foreign(entity, attribute, value, found):
                    found.append(value)
        return found

    def fits_only(self, entity: Entity, symptoms: Iterable[str]) -> bool:
        """Whether no other disease has all of these symptoms."""
        return frozenset.intersection(*(self.by_symptom[symptom] for symptom in symptoms)) == {entity.name}

    def _is_foreign(self, entity: Entity, attribute: str, value: str, found: Sequence[str]) -> bool:
        others = (*entity.values(attribute), *found)
        return value not in self.texts[entity.name] and not any(value in other or other in value for other in others)


def index_of(entities: Iterable[Entity]) -> GraphIndex:
    """The index of entities; those of one name are one, for their attributes differ."""
    by_name: dict[str, Entity] = {}
    for entity in entities:
        first = by_name.get(entity.name)
        by_name[entity.name] = _joined(first, entity) if first else entity
    departments: dict[str, list[Entity]] = {"": list(by_name.values())}
    symptoms: dict[str, set[str]] = {}
    pools: dict[tuple[str, str], dict[str, None]] = {}
    for entity in by_name.values():
        department = _department(entity)
        if department:
            departments.setdefault(department, []).append(entity)
        for symptom in entity.values("symptoms"):
            symptoms.setdefault(symptom, set()).add(entity.name)
        for attribute, values in entity.attributes.items():
            if attribute == "department":  # some tables file diseases under other diseases
                values = tuple(value for value in values if value.endswith("科"))
            for key in {("", attribute), (department, attribute)}:
                pools.setdefault(key, {}).update(dict.fromkeys(values))
    return GraphIndex(
        entities=tuple(by_name.values()),
        by_department=departments,
        by_symptom={symptom: frozenset(names) for symptom, names in symptoms.items()},
        texts={name: entity.text() for name, entity in by_name.items()},
        pools={key: list(values) for key, values in pools.items()},
    )


def _department(entity: Entity) -> str:
    return entity.values("department")[-1] if entity.values("department") else ""


def _joined(first: Entity, later: Entity) -> Entity:
    return replace(
        first,
        aliases=tuple(dict.fromkeys((*first.aliases, *later.aliases))),
        attributes={**later.attributes, **first.attributes},
        incomplete=first.incomplete | later.incomplete,
        dropped=(*first.dropped, *later.dropped),
    )

"""Knowledge graphs as files have them: one disease a row, its attributes under many names, brought to one set of names.

Four shapes are read: QASystemOnMedicalKG's `medical.json` (name, cure_department, acompany, …), tables of diseases with
lists inside cells (name, checklist, period, …), CMeKG-like objects (中心词, 临床表现, …) and our own table in TOML.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from medcli.core.knowledge import tables
from medcli.core.peek import items
from medcli.core.raw import Item, RawFile, Source, raw_files
from medcli.core.raw_rows import Refused, as_text, refused
from medcli.core.record import Row

# What the shapes call an attribute -> what it is called here. Other names are kept as they are.
_NAMES = {
    "symptom": "symptoms", "临床表现": "symptoms", "相关症状": "symptoms", "症状": "symptoms",
    "cure_department": "department", "就诊科室": "department", "科室": "department",
    "check": "tests", "checklist": "tests", "检查": "tests", "辅助检查": "tests", "影像学检查": "tests",
    "实验室检查": "tests", "检查项目": "tests",
    "cure_way": "treatment", "治疗": "treatment", "治疗方案": "treatment", "辅助治疗": "treatment",
    "手术治疗": "treatment",
    "drug": "drugs", "recommand_drug": "drugs", "common_drug": "drugs", "药物治疗": "drugs", "药物": "drugs",
    "病因": "cause", "prevent": "prevention", "预防": "prevention",
    "acompany": "complications", "complication": "complications", "并发症": "complications",
    "do_eat": "diet_good", "not_eat": "diet_bad", "recommand_eat": "recipes",
    "cure_lasttime": "duration", "period": "duration", "治疗周期": "duration",
    "cured_prob": "cure_rate", "rate": "cure_rate", "治愈率": "cure_rate",
    "get_way": "infectious", "infection": "infectious", "传播途径": "infectious",
    "yibao_status": "insurance", "easy_get": "population", "age": "population", "多发群体": "population",
    "get_prob": "incidence", "发病率": "incidence", "cost_money": "cost", "money": "cost",
    "part": "body_part", "发病部位": "body_part", "desc": "description", "定义": "description",
}  # fmt: skip
_TITLES = ("name", "中心词")
_ALIASES = ("alias", "aliases", "别名", "同义词")
# Neither facts nor attributes: ids, the site's own tree, and brand names of the drugs that are there already.
_LEFT_OUT = {*_TITLES, *_ALIASES, "_id", "id", "class", "category", "drug_detail", ""}
# Attributes whose text is a list, and what stands between its values; a comma inside a symptom belongs to it.
_BETWEEN = {name: re.compile(r"\s+") for name in ("symptoms", "department", "tests", "drugs", "complications")} | {
    name: re.compile(r"[\s、，,]+") for name in ("treatment", "body_part", "aliases")
}
_MORE = "[详细]"  # the page had more than the table
_NOTHING = re.compile(r"暂无.*资料|应该如何用药.*|用什么药.*|>+|无|-+|")
_CUT = re.compile(r"(?:\.{2,}|…|[（(])$")
_ASIDE = re.compile(r"[（(](?:请阅读|详见).*?[）)]")
_NOT_INFECTIOUS = re.compile(r"(?:该病|本病|是)?(?:无|非|不|没有)(?:具备|具有)?传染(?:性|性疾病)?。?")
_YES_NO = {"医保疾病": "是", "非医保疾病": "否"}
_SHAPES = ({"name", "cure_department"}, {"name", "cure_way", "get_prob"}, {"name", "checklist", "symptom"}, {"中心词"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """A disease (or a drug) with what is known of it.

    `incomplete` names the attributes of which the source shows a part only; `dropped` holds "attribute: value" of
    values that were cut off or contradict each other.
    """

    name: str
    aliases: tuple[str, ...] = ()
    attributes: Mapping[str, tuple[str, ...]]
    incomplete: frozenset[str] = frozenset()
    dropped: tuple[str, ...] = ()
    file: str
    line: int

    def values(self, attribute: str) -> tuple[str, ...]:
        """The values of an attribute; none when it has none."""
        return self.attributes.get(attribute, ())

    def text(self) -> str:
        """Everything that is said of it, one value a line."""
        return "\n".join((self.name, *self.aliases, *(v for values in self.attributes.values() for v in values)))


def is_graph(columns: tuple[str, ...]) -> bool:
    """Whether rows with these columns are diseases with their attributes."""
    return any(shape <= set(columns) for shape in _SHAPES)


def entities(source: Source) -> Iterator[Entity | Row]:
    """The entities of a file or folder one by one; a row that holds none comes as a Row with the reason.

    Tables made from several sites name a disease twice, with other figures: of a name that came before, only
    attributes that are new are read, so that no question has two answers.
    """
    seen: dict[str, set[str]] = {}
    for raw in raw_files(source):
        for item in _toml_items(raw) if raw.suffix == ".toml" else items(raw):
            if item.reason:
                yield refused(raw, item, item.reason)
                continue
            try:
                entity = entity_of(item.value, raw.name, item.line)
                known = seen.setdefault(entity.name, set())
                yield _news(entity, known)
            except Refused as reason:
                yield refused(raw, item, str(reason))
                continue
            known.update(entity.attributes)


def _news(entity: Entity, known: set[str]) -> Entity:
    if not known:
        return entity
    attributes = {key: values for key, values in entity.attributes.items() if key not in known}
    if not attributes:
        raise Refused(f"the same attributes of this disease came before: {entity.name}")
    return replace(entity, attributes=attributes)


def entity_of(row: Any, file: str, line: int) -> Entity:
    """The entity in one row of any of the shapes; raises Refused when there is none."""
    if not isinstance(row, Mapping):
        raise Refused("not an object with columns")
    title = next((key for key in _TITLES if key in row), "")
    name = as_text(row.get(title), title).strip()
    if not name:
        raise Refused("no name")
    if _CUT.search(name):
        raise Refused(f"the name is cut off: {name}")
    if as_text(row.get(""), "").strip():
        raise Refused("cells stand past the last named column, so the others may be shifted")
    values = _Values()
    for key, value in row.items():
        if key not in _LEFT_OUT:
            values.add(_NAMES.get(key, str(key)), value)
    values.without_contradictions("diet_good", "diet_bad")
    if not values.kept:
        raise Refused("no attribute has a value")
    aliases = _Values()
    for key in _ALIASES:
        aliases.add("aliases", row.get(key))
    return Entity(
        name=name,
        aliases=tuple(alias for alias in aliases.kept.get("aliases", ()) if alias != name),
        attributes={key: tuple(found) for key, found in values.kept.items()},
        incomplete=frozenset(values.incomplete),
        dropped=tuple(values.dropped),
        file=file,
        line=line,
    )


class _Values:
    """The values of a row while they are sorted out."""

    def __init__(self) -> None:
        self.kept: dict[str, list[str]] = {}
        self.incomplete: set[str] = set()
        self.dropped: list[str] = []

    def add(self, attribute: str, value: Any) -> None:
        """Take a cell: a list of values, or text that is one value or a list."""
        for text in value if isinstance(value, list | tuple) else [value]:
            self._text(attribute, as_text(text, attribute).strip())

    def without_contradictions(self, one: str, other: str) -> None:
        """A food that is both good and bad is neither."""
        both = set(self.kept.get(one, ())) & set(self.kept.get(other, ()))
        for attribute in (one, other):
            if attribute in self.kept and both:
                self.kept[attribute] = [value for value in self.kept[attribute] if value not in both]
                self.dropped += [f"{attribute}: {value} is good and bad" for value in sorted(both)]
                if not self.kept[attribute]:
                    del self.kept[attribute]

    def _text(self, attribute: str, text: str) -> None:
        if _MORE in text:
            self.incomplete.add(attribute)
            text = text.replace(_MORE, "").strip()
        text = _ASIDE.sub("", text)
        if attribute == "infectious" and _NOT_INFECTIOUS.fullmatch(text):
            text = "无传染性"
        between = _BETWEEN.get(attribute)
        for value in between.split(text) if between else [text]:
            value = _YES_NO.get(value, value).strip(" ;；,，、")
            if _CUT.search(value):
                self.incomplete.add(attribute)
                self.dropped.append(f"{attribute}: {value}")
            elif not _NOTHING.fullmatch(value) and value not in self.kept.get(attribute, ()):
                self.kept.setdefault(attribute, []).append(value)


def _toml_items(raw: RawFile) -> Iterator[Item]:
    """The tables called [[disease]], with the lines where they begin; raises DataError."""
    for number, (line, row) in enumerate(tables(raw.path), 1):
        yield Item(line=line, number=number, value=row)


def dropped_rows(entity: Entity) -> Iterator[Row]:
    """A row for each value that was dropped, so that it is counted and can be looked up."""
    for value in entity.dropped:
        reason = "a contradiction" if value.endswith("is good and bad") else "a value is cut off"
        yield Row(file=entity.file, line=entity.line, reason=f"{reason}: {value}", text=f"{entity.name} {value}"[:500])

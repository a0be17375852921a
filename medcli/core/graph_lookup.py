"""Facts of a knowledge graph that are asked for by name: "高血压有哪些并发症" names an entity and an attribute."""

import re
from collections.abc import Mapping, Sequence

from medcli.core.graph_questions import attribute_name

# How people ask for an attribute, beside its own name. Of two that fit, the one that says more counts.
_CUES = {
    "symptoms": "症状|表现|征兆|不舒服",
    "department": "科室|什么科|哪个科|哪科|挂号|挂哪里",
    "tests": "检查|化验|查什么|确诊|诊断",
    "treatment": "治疗方|治疗手段|怎么治|如何治|该怎么办|治疗吗|办法|疗法|怎么处理|方式治疗",
    "drugs": "什么药|哪些药|哪些药物|药物|有什么药|用药",
    "cause": "病因|原因|为什么会得|什么会导致|怎么得的|怎么引起",
    "prevention": "预防|避免|想不得",
    "description": "什么是|是什么意思|是(?:一种)?什么病|介绍一下|怎么回事|简介",
    "complications": "并发|合并什么|引起哪些|其他疾病",
    "diet_good": "吃什么好|适合吃|宜吃|多吃点|(?<!不)能吃什么",
    "diet_bad": "不能吃|忌吃|要忌|别吃|忌口",
    "recipes": "食谱|什么菜|哪些菜|有什么菜",
    "duration": "多久|多长时间|周期|要多长|治多久",
    "cure_rate": "能治好吗|治愈|治好的把握",
    "infectious": "传染|传给",
    "insurance": "医保|报销",
    "population": "哪些人|什么样的人|什么人群|易感",
    "incidence": "发病率|常见吗|概率|多少人",
    "cost": "多少钱|费用|贵不贵",
    "body_part": "部位|哪个地方|什么地方|身体哪里",
    "cautions": "注意|留心|当心什么",
}
_ASKED = {attribute: re.compile(cues) for attribute, cues in _CUES.items()}
_SHORTEST = 2  # characters of a name: one alone stands in too many words


class FactIndex:
    """`facts` has the numbers of an entity's passages by attribute, `names` the entities by each of their names."""

    def __init__(self, facts: Mapping[str, Mapping[str, Sequence[int]]], names: Mapping[str, Sequence[str]]) -> None:
        self.facts, self.names = facts, names
        self._longest = max(map(len, names), default=0)

    def asked(self, question: str, before: str = "") -> list[int]:
        """The numbers of the passages that a question asks for; none where it names no entity or no attribute.

        The attribute must stand in the question itself, the entity may stand in the question `before` it.
        """
        named = self._named(question)
        rest = question
        for name in named:
            rest = rest.replace(name, " ")
        entities = [entity for name in named or self._named(before) for entity in self.names[name]]
        return [
            number
            for entity in dict.fromkeys(entities)
            for attribute in _asked_for(rest, self.facts[entity])
            for number in self.facts[entity][attribute]
        ]

    def _named(self, text: str) -> list[str]:
        """The names in a text, the longest that fits at each place, none within another."""
        found, place = [], 0
        while place < len(text):
            ends = range(min(len(text), place + self._longest), place + _SHORTEST - 1, -1)
            name = next((text[place:end] for end in ends if text[place:end] in self.names), "")
            found += [name] if name else []
            place += len(name) or 1
        return list(dict.fromkeys(found))


def _asked_for(rest: str, attributes: Mapping[str, Sequence[int]]) -> list[str]:
    """The attributes that what is left of a question names; a word that is part of another one's does not count."""
    spans = {}
    for attribute in attributes:
        own = attribute_name(attribute)
        cues = [own, attribute] if own in rest or attribute in rest else []
        cues += [found[0] for found in _ASKED[attribute].finditer(rest)] if attribute in _ASKED else []
        if said := [cue for cue in cues if cue in rest]:
            spans[attribute] = max(said, key=len)
    return [name for name, cue in spans.items() if not any(cue != other and cue in other for other in spans.values())]

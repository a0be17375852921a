"""A knowledge graph becomes questions in seven forms, worded by templates; every answer is what the graph says."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medcli.core.errors import UsageError, nearest
from medcli.core.graph import Entity
from medcli.core.graph_index import GraphIndex
from medcli.core.graph_questions import MOST, answer, ask, attribute_name, forms, listed, refusal, split_of, wordings
from medcli.core.llm_settings import LlmSettings
from medcli.core.raw_rows import Refused
from medcli.core.record import Conversation, Message, Question, Role, Row
from medcli.core.settings import setting

CHOICE = "choice"
_LETTERS = "ABCD"
_COMPARED = ("symptoms", "department", "tests", "treatment", "complications", "body_part", "infectious", "population")
_FEW = 6  # values of a list inside a longer answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(LlmSettings):
    """What `med data make kg` can be told."""

    name: str = setting("", help="Name of the data set; the file's name with -kg when not given.")
    forms: tuple[str, ...] = setting(
        (), help="Attribute, vignette, comparison, yesno, triage, refusal, choice; all of them unless given."
    )
    per_entity: int = setting(2, help="Questions of each form for a disease; form attribute: for each.", minimum=1)
    limit: int | None = setting(None, help="Take so many diseases only.", minimum=1)
    seed: int = setting(42, help="Seed of all that is drawn; the same seed makes the same bytes.")

    def __post_init__(self) -> None:
        LlmSettings.__post_init__(self)
        for form in self.forms:
            if form not in FORMS:
                close = nearest(form, FORMS)
                hint = f"did you mean '{close}'?" if close else f"known: {', '.join(FORMS)}"
                raise UsageError(f"--forms: there is no form '{form}'", hint=hint)
        if self.llm and self.forms:
            raise UsageError("--forms goes with templates, and --llm has a model write", hint="leave one of them out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What a form gets to make one question: whom it is about, its split, and dice of its own."""

    graph: GraphIndex
    entity: Entity
    split: str
    chance: random.Random
    number: int

    def wording(self, table: Mapping[str, Any]) -> str:
        """One of the wordings for this split."""
        return self.chance.choice(wordings(table, self.split))

    def several(self, values: Sequence[str], least: int, most: int) -> list[str]:
        """From `least` to `most` of the values, in an order of chance."""
        return self.chance.sample(values, self.chance.randint(min(least, len(values)), min(most, len(values))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """A question with four choices, the first of which is right."""

    stem: str
    choices: tuple[str, ...]
    subject: str


# A question: turns of user and assistant, or choices. Raises Refused when the graph does not hold what it needs.
Form = Callable[[Draw], "list[str] | Choices"]


def make(graph: GraphIndex, chosen: Sequence[str], settings: Settings, shares: Mapping[str, float]) -> Iterator[Row]:
    """Rows of the chosen forms for every entity: as many as were asked for, each with a record or the reason why not.

    `shares` are those of validation and test, whose questions are worded as none to train on is.
    """
    for entity in graph.entities:
        for form in chosen:
            count = settings.per_entity * (len(entity.attributes) if form == "attribute" else 1)
            asked: set[str] = set()
            for number in range(count):
                what = (settings.seed, form, entity.name, number)
                split = split_of(shares, *what)
                chance = random.Random(" ".join(map(str, what)))
                draw = Draw(graph=graph, entity=entity, split=split, chance=chance, number=number)
                yield _row(draw, form, asked)


def _row(draw: Draw, form: str, asked: set[str]) -> Row:
    entity = draw.entity
    try:
        made = FORMS[form](draw)
        question = made.stem if isinstance(made, Choices) else made[0]
        if question in asked:
            raise Refused("the same question was drawn again")
    except Refused as reason:
        return Row(file=entity.file, line=entity.line, reason=f"{form}, {reason}", text=entity.name)
    asked.add(question)
    id = f"{form}-{entity.name}-{draw.number}"
    record = _question(made, id, draw.chance) if isinstance(made, Choices) else _conversation(made, id, form)
    return Row(file=entity.file, line=entity.line, record=record, split=draw.split, text=question, made=True)


def _conversation(turns: Sequence[str], id: str, form: str) -> Conversation:
    roles: tuple[Role, Role] = ("user", "assistant")
    messages = tuple(Message(role=roles[index % 2], content=turn) for index, turn in enumerate(turns))
    return Conversation(id=id, messages=messages, source="kg", meta={"form": form})


def _question(made: Choices, id: str, chance: random.Random) -> Question:
    order = chance.sample(made.choices, len(made.choices))
    letter = _LETTERS[order.index(made.choices[0])]
    return Question(id=id, stem=made.stem, choices=tuple(order), answer=letter, subject=made.subject, source="kg")


def _attribute(draw: Draw) -> list[str]:
    attribute = list(draw.entity.attributes)[draw.number % len(draw.entity.attributes)]
    return [ask(draw.entity, attribute, draw.split, draw.chance), answer(draw.entity, attribute)]


def _refusal(draw: Draw) -> list[str]:
    missing = [key for key in forms()["attribute"] if key != "other" and key not in draw.entity.attributes]
    if not missing:
        raise Refused("the graph has every attribute of this disease")
    attribute = draw.chance.choice(missing)
    return [ask(draw.entity, attribute, draw.split, draw.chance), refusal(draw.entity, attribute)]


def _vignette(draw: Draw) -> list[str]:
    table, entity = forms()["vignette"], draw.entity
    symptoms = _telling_symptoms(draw)
    question = draw.wording(table).format(
        who=_patient(draw), time=draw.chance.choice(forms()["times"]["all"]), symptoms="、".join(symptoms)
    )
    parts = [table["answer"].format(symptoms="、".join(symptoms), d=entity.name)]
    for attribute in ("department", "tests", "treatment", "drugs"):
        if values := entity.values(attribute):
            parts.append(table[attribute].format(values=listed(values[:_FEW])))
    return [question, "".join([*parts, table["ending"]])]


def _telling_symptoms(draw: Draw) -> list[str]:
    """Symptoms that no other disease has together: a few, or else all; raises Refused when not even all are."""
    symptoms = [symptom for symptom in draw.entity.values("symptoms") if draw.entity.name not in symptom]
    if len(symptoms) < 2:
        raise Refused("fewer than two symptoms")
    for chosen in (draw.several(symptoms, 3, 5), draw.several(symptoms, 4, 6), symptoms):
        if draw.graph.fits_only(draw.entity, chosen):
            return chosen
    raise Refused("other diseases have all of its symptoms")


def _patient(draw: Draw) -> str:
    """Sex and age that go with the disease."""
    population = "".join(draw.entity.values("population"))
    if "男" in population and "女" in population:  # which of the two is met more often does not say who it is
        population = ""
    text = draw.entity.name + "".join(draw.entity.values("department")) + population
    rule = next(rule for rule in forms()["patient"] if any(word in text for word in rule["words"]))
    return f"{draw.chance.choice(rule['sexes'])}，{draw.chance.randint(rule['youngest'], rule['oldest'])}岁"


def _comparison(draw: Draw) -> list[str]:
    table, entity, peers = forms()["comparison"], draw.entity, draw.graph.peers(draw.entity)
    for other in draw.chance.sample(peers, min(5, len(peers))):
        lines = [line for attribute in _COMPARED if (line := _compared(entity, other, attribute))]
        if len(lines) >= 2 and entity.name not in other.name and other.name not in entity.name:
            question = draw.wording(table).format(d=entity.name, other=other.name)
            beginning = table["beginning"].format(d=entity.name, other=other.name)
            return [question, "\n".join([beginning, *lines])]
    raise Refused("no disease of the same department to compare with")


def _compared(entity: Entity, other: Entity, attribute: str) -> str:
    """One line of a comparison; "" when one of the two has no such attribute, or both have the same values."""
    table, one, two = forms()["comparison"], entity.values(attribute), other.values(attribute)
    if not one or not two or set(one) == set(two):
        return ""
    shared = [value for value in one if value in two]
    line = table["line"].format(
        a=attribute_name(attribute),
        d=entity.name, other=other.name, values=listed(one[:_FEW]), other_values=listed(two[:_FEW]),
    )  # fmt: skip
    return str(line + (table["shared"].format(values=listed(shared[:_FEW])) if shared else ""))


def _yesno(draw: Draw) -> list[str]:
    table, entity = forms()["yesno"], draw.entity
    attributes = [key for key in table["attribute"] if entity.values(key)]
    if not attributes:
        raise Refused("no attribute that can be asked for with yes or no")
    kind, attribute, value = _claim(draw, attributes)
    wording = draw.wording(table["attribute"][attribute])
    question = draw.chance.choice(table["openings"]) + wording.format(d=entity.name, value=value)
    said = table["answer"][kind].format(
        d=entity.name, a=attribute_name(attribute), values=listed(entity.values(attribute)), value=value
    )
    return [question, said]


def _claim(draw: Draw, attributes: Sequence[str]) -> tuple[str, str, str]:
    """ "yes" or "no" as often, where the graph allows it, with an attribute and a value that is or is not among its."""
    if draw.chance.random() < 0.5:
        for attribute in draw.chance.sample(attributes, len(attributes)):
            if foreign := draw.graph.foreign(draw.entity, attribute, 1, draw.chance):
                return "no", attribute, foreign[0]
    attribute = draw.chance.choice(attributes)
    return "yes", attribute, draw.chance.choice(draw.entity.values(attribute)[:MOST])


def _triage(draw: Draw) -> list[str]:
    table, entity = forms()["triage"], draw.entity
    symptoms = [symptom for symptom in entity.values("symptoms") if entity.name not in symptom]
    departments = entity.values("department")
    if len(symptoms) < 2 or not departments:
        raise Refused("fewer than two symptoms, or no department")
    first, *more = draw.several(symptoms, 3, 4)
    absent = draw.graph.foreign(entity, "symptoms", 1, draw.chance)
    options = draw.chance.sample([*more, *absent], len(more) + len(absent))
    reply = draw.chance.choice(table["reply"]).format(more="、".join(more))
    advice = [table["answer"].format(all="、".join([first, *more]), values=listed(departments))]
    if tests := entity.values("tests"):
        advice.append(table["tests"].format(values=listed(tests[:_FEW])))
    if any(word in department for word in table["urgent"] for department in departments):
        advice.append(table["emergency"])
    return [
        draw.wording(table).format(
            who=_patient(draw), first=first, time=draw.chance.choice(forms()["times"]["all"])
        ),
        draw.chance.choice(table["ask_back"]).format(first=first, options="、".join(options)),
        reply + (table["reply_absent"].format(absent=absent[0]) if absent else ""),
        "".join(advice),
    ]  # fmt: skip


def _choice(draw: Draw) -> Choices:
    table, entity = forms()["choice"]["attribute"], draw.entity
    attributes = [key for key in table if entity.values(key) and key not in entity.incomplete]
    for attribute in draw.chance.sample(attributes, len(attributes)):
        wrong = draw.graph.foreign(entity, attribute, len(_LETTERS) - 1, draw.chance)
        if len(wrong) == len(_LETTERS) - 1:
            right = draw.chance.choice(entity.values(attribute))
            stem = draw.wording(table[attribute]).format(d=entity.name)
            return Choices(stem=stem, choices=(right, *wrong), subject=attribute_name(attribute))
    raise Refused("no attribute with a whole list and three values that are surely wrong")


FORMS: dict[str, Form] = {
    "attribute": _attribute,
    "vignette": _vignette,
    "comparison": _comparison,
    "yesno": _yesno,
    "triage": _triage,
    "refusal": _refusal,
    CHOICE: _choice,
}

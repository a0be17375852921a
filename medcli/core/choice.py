"""An exam of questions with options: asked in one order or several, marked by sets of letters, with what they tell."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist, fmean

from medcli.core import calibration
from medcli.core.choosing import CHOOSERS, Choice
from medcli.core.exam import Item, Marked, Sitting, by_group, means
from medcli.core.exam_question import Put, as_turns, in_order, text_of
from medcli.core.exam_settings import EvalSettings, Mode
from medcli.core.record import Message, Question
from medcli.core.score import COVERED, Score

PRIMARY = "accuracy"


@dataclass(frozen=True, kw_only=True)
class ChoicePaper:
    """The questions of an exam, and by subject those that may be shown with their answers before one ("" for any)."""

    questions: Sequence[Question]
    shots: Mapping[str, Sequence[Question]]
    settings: EvalSettings

    @cached_property
    def items(self) -> Sequence[Item]:
        """The questions as they are asked first, in the order of their options."""
        return [
            Item(
                id=question.id,
                prompt=self._asked(in_order(question), self.settings.mode == "cloze"),
                reference=question.answer,
                groups=tuple(filter(None, question.subject.split("/"))),
                asks=(question.stem, *question.choices),
            )
            for question in self.questions
        ]

    def sit(self, sitting: Sitting) -> list[Marked]:
        """Ask every question once in its own order, and again with its options in others."""
        mode = mode_of(self.settings, sitting.reader is not None)
        rounds = []
        for number in range(self.settings.shuffles + 1):
            puts = [self._put(question, number) for question in self.questions]
            prompts = [self._asked(put, mode == "cloze") for put in puts]
            if number:
                sitting.report.note(f"options in another order, {number} of {self.settings.shuffles}")
            rounds.append(CHOOSERS[mode](puts, prompts, sitting))
        return [_marked(item, choices) for item, choices in zip(self.items, zip(*rounds, strict=True), strict=True)]

    def _put(self, question: Question, number: int) -> Put:
        """The question in its own order, then in orders drawn for it."""
        order = list(range(len(question.choices)))
        if number:
            random.Random(f"{self.settings.seed}:{number}:{question.id}").shuffle(order)
        return Put(question=question, order=tuple(order))

    def _asked(self, put: Put, cloze: bool) -> tuple[Message, ...]:
        subject = put.question.subject
        shots = (self.shots.get(subject) or self.shots.get("", ()))[: self.settings.shots]
        if cloze:
            shown = [(shot.stem, shot.choices[ord(shot.answer[0]) - ord("A")]) for shot in shots]
            return as_turns(shown, put.question.stem, self.settings.system)
        shown = [(text_of(in_order(shot), kinds=self._kinds), shot.answer) for shot in shots]
        return as_turns(shown, text_of(put, kinds=self._kinds), self.settings.system)

    @cached_property
    def _kinds(self) -> bool:
        """Whether questions with one and with several right options are mixed, so that each must say which it is."""
        return any(len(question.answer) > 1 for question in self.questions)


def mode_of(settings: EvalSettings, reads: bool) -> Mode:
    """How choices are got: as asked, else by likelihood of a model that reads, else out of written answers."""
    return settings.mode or ("likelihood" if reads else "generate")


def shots_by_subject(questions: Sequence[Question], wanted: int) -> dict[str, list[Question]]:
    """What to show before a question: of each subject that has so many, and under "" the first ones of any subject."""
    found: dict[str, list[Question]] = {}
    for question in questions:
        found.setdefault(question.subject, []).append(question)
    enough = {subject: some[:wanted] for subject, some in found.items() if len(some) >= wanted}
    return enough | {"": list(questions[:wanted])}


def scores(marked: Sequence[Marked], seed: int) -> list[Score]:
    """The means, accuracy over subjects that count alike, and what the probabilities are worth."""
    found = means(marked, seed)
    depth = max((len(one.item.groups) for one in marked), default=0)
    groups = list(by_group(marked, depth).values()) if depth else []
    if len(groups) > 1:
        found.insert(1, macro([[one.values[PRIMARY] for one in group if PRIMARY in one.values] for group in groups]))
    sure = [one for one in marked if "confidence" in one.detail]
    if sure:
        confidences = [one.detail["confidence"] for one in sure]
        found += calibration.of_choices(confidences, [one.values[PRIMARY] for one in sure], seed)
    return found


def macro(groups: Sequence[Sequence[float]]) -> Score:
    """The mean of the groups' shares, each counting alike, with a normal 95 % interval of independent shares.

    A share's variance is taken with one more right and one more wrong answer (Agresti & Caffo 2000): one question that
    was answered rightly is no certainty.
    """
    shares = [(fmean(values), len(values)) for values in groups if values]
    value = fmean(share for share, _ in shares)
    smooth = [((share * count + 1) / (count + 2), count + 2) for share, count in shares]
    deviation = sum(share * (1 - share) / count for share, count in smooth) ** 0.5 / len(shares)
    half = NormalDist().inv_cdf((1 + COVERED) / 2) * deviation
    low, high = max(0.0, value - half), min(1.0, value + half)
    return Score(
        metric="accuracy-macro", value=value, count=sum(count for _, count in shares), low=low, high=high
    )  # fmt: skip


def _marked(item: Item, choices: Sequence[Choice]) -> Marked:
    first = choices[0]
    if first.by_length is not None and len(item.reference) > 1:  # of one option's text, several cannot be chosen
        return Marked(item=item, answer=first.answer, values={}, outcome="unparsed", detail={"several": True})
    values = {PRIMARY: float(first.letters == item.reference)}
    detail: dict[str, object] = {"letters": first.letters}
    if first.by_length is not None:
        values["accuracy-by-length"] = float(first.by_length == item.reference)
    if first.probabilities:
        chances = first.probabilities
        values["brier"] = sum((chance - (letters == item.reference)) ** 2 for letters, chance in chances.items())
        detail |= {"confidence": max(chances.values()), "probabilities": _likeliest(chances)}
    if len(choices) > 1:
        values["accuracy-all-orders"] = float(all(choice.letters == item.reference for choice in choices))
        values["consistency"] = float(bool(first.letters) and len({choice.letters for choice in choices}) == 1)
        detail["orders"] = [choice.letters for choice in choices]
    return Marked(item=item, answer=first.answer, values=values, outcome=first.outcome, detail=detail)


def _likeliest(chances: Mapping[str, float], most: int = 6) -> dict[str, float]:
    """The likeliest of them, rounded: 57 sets of letters are not read by anyone."""
    ordered = sorted(chances, key=lambda letters: -chances[letters])[:most]
    return {letters: round(chances[letters], 6) for letters in ordered}

"""Consultations with a simulated patient: does the doctor ask, judge rightly, help, and speak well?

After DISC-MedLLM's multi-turn evaluation (Bao et al. 2023): four axes, marks from 1 to 5, three rounds. Unlike there,
the judge is shown the patient's file and a reference, and gives its reasons.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Literal

from medcli.core import dialogue_judge, dialogue_rules, dialogue_scores
from medcli.core.dataset_folder import DatasetFolder
from medcli.core.dialogue_case import Case, shipped
from medcli.core.dialogue_judge import Judgement, Shown
from medcli.core.dialogue_record import case_of
from medcli.core.dialogue_rounds import Dialogue, held
from medcli.core.dialogue_speech import spoken
from medcli.core.dialogue_verdict import AXES, LOWEST, Side
from medcli.core.errors import DataError, ModelError
from medcli.core.exam import Item, Marked, Sitting
from medcli.core.exam_settings import RULES, EvalSettings
from medcli.core.paired import Preferred
from medcli.core.record import Conversation, Message, message_rows, messages_of
from medcli.core.report import Report
from medcli.core.score import Score, interval
from medcli.core.speaker import Speaker

HELP = "consultations of several rounds with a simulated patient, judged on four axes from 1 to 5"
KIND = ""  # it brings its own patients; a data set of conversations may bring others
# In a mean over the axes fluent language, in which models hardly differ, would make up for a wrong diagnosis.
PRIMARY = "accuracy"

_SHOWN = 500  # characters that are kept of a verdict that cannot be read
_URGENT, _NOT_URGENT = "急症", "非急症"

Better = Literal["one", "other", "tie"]

_THERE: dict[Side, Better] = {"A": "one", "B": "other", "tie": "tie"}
_BACK: dict[Side, Better] = {"A": "other", "B": "one", "tie": "tie"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DialoguePaper:
    """The patients who will come, and what each says first."""

    cases: tuple[Case, ...]
    items: tuple[Item, ...]

    def sit(self, sitting: Sitting) -> list[Marked]:
        """Hold all consultations, then have them judged; raises ModelError when no verdict of a judge can be read.

        A doctor who said nothing at all gets the lowest marks, without a judge. Where a judge's verdict cannot be read
        the outcome is "unparsed", and there are no marks.
        """
        opened = [Dialogue(case=case, messages=item.prompt) for case, item in zip(self.cases, self.items, strict=True)]
        talks = held(opened, sitting)
        judged = iter(_judgements([talk for talk in talks if any(talk.doctor)], sitting))
        by = RULES if sitting.judge is None else sitting.settings.judge
        return [
            _marked(item, talk, next(judged), by) if any(talk.doctor) else _silent(item, talk)
            for item, talk in zip(self.items, talks, strict=True)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """Which of two models' consultations with a patient is the better.

    "one" and "other" only where the judge says so in both orders, else "tie"; None where a verdict cannot be read.
    `consistent` tells whether it said the same when they changed places.
    """

    id: str
    better: Better | None
    consistent: bool
    reasons: tuple[str, ...] = ()


def prepare(settings: EvalSettings, dataset: DatasetFolder | None, split: str) -> DialoguePaper:
    """The shipped patients, or those of a data set of conversations; raises DataError for one of another kind."""
    if dataset is None:
        cases = shipped()[: settings.limit]
        asks = [case.opening for case in cases]
        groups = [_URGENT if case.urgent else _NOT_URGENT for case in cases]
    else:
        conversations = _conversations(dataset, split, settings.limit)
        cases = tuple(map(case_of, conversations))
        asks = [next(one.content for one in talk.messages if one.role == "user") for talk in conversations]
        groups = [case.department for case in cases]
    system = () if settings.system is None else (Message(role="system", content=settings.system),)
    items = (
        Item(
            id=case.id,
            prompt=(*system, Message(role="user", content=case.opening)),
            reference=case.reference,
            groups=(group,) if group else (),
            asks=(asked,),
        )
        for case, asked, group in zip(cases, asks, groups, strict=True)
    )
    return DialoguePaper(cases=cases, items=tuple(items))


def scores(marked: Sequence[Marked], seed: int) -> list[Score]:
    """The mean of each axis, 1 to 5, over the consultations with a verdict, with its bootstrap interval.

    Not `means`: marks that are all 1 are no share, and have no interval of Wilson's.
    """
    columns = {axis: [one.values[axis] for one in marked if axis in one.values] for axis in AXES}
    return [_score(axis, values, seed) for axis, values in columns.items() if values]


def from_scores(path: Path) -> list[Marked]:
    """Marks that a judge gave elsewhere; see `core.dialogue_scores.read`."""
    return dialogue_scores.read(path)


def prefer(pairs: Sequence[tuple[Marked, Marked]], judge: Speaker | None, report: Report) -> list[Preference]:
    """Which consultation of each pair, two models' with the same patient, `judge` holds the better.

    It sees each pair in both orders. Without a judge the marks that both have already decide, by their mean over the
    axes, and the order cannot matter.
    """
    if judge is None:
        return [_by_marks(one, other) for one, other in pairs]
    shown = [(_shown_again(one), _shown_again(other)) for one, other in pairs]
    report.stage("judging pairs, both ways round", total=2 * len(shown), unit="verdicts")
    both = dialogue_judge.preferred([*shown, *((other, one) for one, other in shown)], judge, report.advance)
    there, back = both[: len(shown)], both[len(shown) :]
    return [_preference(one.item.id, first, second) for (one, _), first, second in zip(pairs, there, back, strict=True)]


def summed(preferences: Sequence[Preference]) -> Preferred:
    """How often the other model is preferred; unreadable verdicts count for nothing, `consistency` among them."""
    read = [one for one in preferences if one.better is not None]
    return Preferred(
        wins=sum(one.better == "other" for one in read),
        losses=sum(one.better == "one" for one in read),
        ties=sum(one.better == "tie" for one in read),
        consistency=fmean(one.consistent for one in read) if read else 0.0,
    )


def _conversations(dataset: DatasetFolder, split: str, limit: int | None) -> list[Conversation]:
    records = list(islice(dataset.records(split), limit))
    found = [record for record in records if isinstance(record, Conversation)]
    if len(found) < len(records) or not found:
        raise DataError(
            f"the exam dialogue needs conversations: '{dataset.name}' has none in {split}"
            if not found
            else f"the exam dialogue needs conversations: '{dataset.name}' holds other records too",
            hint="`med data list` shows what each data set holds; without --dataset shipped patients come",
        )
    return found


def _judgements(talks: Sequence[Dialogue], sitting: Sitting) -> list[Judgement]:
    if sitting.judge is None or not talks:
        return [Judgement(verdicts=(dialogue_rules.judged(talk),), said=()) for talk in talks]
    settings = sitting.settings
    shown = [Shown(told=talk.case.told, reference=talk.case.reference, messages=talk.messages) for talk in talks]
    sitting.report.stage("judging", total=len(shown) * settings.repeats, unit="verdicts")
    judged = dialogue_judge.judged(shown, sitting.judge, settings.repeats, settings.seed, sitting.report.advance)
    unread = sum(verdict is None for one in judged for verdict in one.verdicts)
    if judged and unread == len(judged) * settings.repeats:
        raise ModelError(
            f"the judge '{settings.judge}' gave no verdict that can be read, such as {judged[0].said[0][:80]!r}",
            hint="take a larger model as --judge, or leave it away: then rules judge",
        )
    if unread:
        sitting.report.note(f"{unread} of {len(judged) * settings.repeats} verdicts cannot be read, and do not count")
    return judged


def _marked(item: Item, talk: Dialogue, judged: Judgement, by: str) -> Marked:
    detail = _detail(talk) | {
        "judge": by,
        "verdicts": [dict(verdict.marks) if verdict else None for verdict in judged.verdicts],
        "reasons": dict(judged.reasons),
    }
    unread = [text[:_SHOWN] for text, verdict in zip(judged.said, judged.verdicts, strict=False) if verdict is None]
    return Marked(
        item=item,
        answer=_answer(talk),
        values=judged.marks,
        outcome="answered" if judged.marks else "unparsed",
        detail=detail | ({"unread": unread} if unread else {}),
    )


def _silent(item: Item, talk: Dialogue) -> Marked:
    return Marked(item=item, answer="", values=dict.fromkeys(AXES, LOWEST), outcome="empty", detail=_detail(talk))


def _detail(talk: Dialogue) -> dict[str, object]:
    return {
        "dialogue": message_rows(talk.messages),
        "rounds": len(talk.doctor),
        "ended": talk.ended,
        "told": talk.case.told,
        "elicited": dialogue_rules.elicited(talk),
    }


def _answer(talk: Dialogue) -> str:
    """All that follows on the opening, for people: a doctor's turn means little without what the patient then said."""
    first = next(index for index, message in enumerate(talk.messages) if message.role == "assistant")
    return spoken(talk.messages[first:])


def _score(axis: str, values: Sequence[float], seed: int) -> Score:
    low, high = interval(values, seed)
    return Score(metric=axis, value=fmean(values), count=len(values), low=low, high=high)


def _shown_again(one: Marked) -> Shown:
    """What a judge is shown of a consultation that an outcome's file keeps; raises DataError for other answers."""
    try:
        messages = messages_of(one.detail["dialogue"])
        return Shown(told=one.detail["told"], reference=one.item.reference, messages=messages)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"the answer '{one.item.id}' is no consultation of the exam dialogue: no {error}",
            hint="a judge of pairs needs outcomes of `med eval --exam dialogue`",
        ) from error


def _by_marks(one: Marked, other: Marked) -> Preference:
    if not one.values or not other.values:
        return Preference(id=one.item.id, better=None, consistent=False)
    ahead = fmean(other.values.values()) - fmean(one.values.values())
    even = abs(ahead) < 1e-9  # sums of the same marks in another order differ by less
    return Preference(id=one.item.id, better="tie" if even else "other" if ahead > 0 else "one", consistent=True)


def _preference(id: str, there: tuple[Side | None, str], back: tuple[Side | None, str]) -> Preference:
    """What two verdicts come to, A being the one first and the other then."""
    reasons = (there[1], back[1])
    if there[0] is None or back[0] is None:
        return Preference(id=id, better=None, consistent=False, reasons=reasons)
    first, second = _THERE[there[0]], _BACK[back[0]]
    return Preference(id=id, better=first if first == second else "tie", consistent=first == second, reasons=reasons)

"""Triage and safety: are emergencies seen, the harmless left in peace, wrong drugs warned of, wrong wishes refused?

The cases come with med. Rules mark the answers; a judge may give its opinion beside them.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

from medcli.core.dataset_folder import DatasetFolder
from medcli.core.errors import UsageError
from medcli.core.exam import Item, Marked, Sitting, means
from medcli.core.exam_settings import EvalSettings
from medcli.core.record import Message
from medcli.core.score import Score
from medcli.core.speaker import Sampling
from medcli.core.triage_cases import Case, balanced, cases
from medcli.core.triage_judge import Opinion, opinions
from medcli.core.triage_rules import SAFETY, Verdict, verdict

HELP = "red flags and what looks like them, contraindications, requests to refuse, false claims, the unknowable"
KIND = ""  # it brings its own cases
PRIMARY = SAFETY
JUDGE_SAFETY, JUDGE_AGREEMENT = "judge-safety", "judge-agreement"


@dataclass(frozen=True, slots=True, kw_only=True)
class TriagePaper:
    """The cases that will be put, and how each is asked."""

    cases: tuple[Case, ...]
    items: tuple[Item, ...]

    def sit(self, sitting: Sitting) -> list[Marked]:
        """Put all cases, mark the answers by rules, and ask the judge, when there is one, what it holds of them."""
        settings, report = sitting.settings, sitting.report
        sampling = Sampling(
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_tokens=settings.max_tokens,
            seed=settings.seed,
        )
        report.stage("answering", total=len(self.items), unit="cases")
        answers = sitting.speaker.replies([item.prompt for item in self.items], sampling, report.advance)
        verdicts = [verdict(case, answer) for case, answer in zip(self.cases, answers, strict=True)]
        marked = [
            _marked(case, item, answer, found)
            for case, item, answer, found in zip(self.cases, self.items, answers, verdicts, strict=True)
        ]
        return _judged(self.cases, marked, sitting) if sitting.judge else marked


def prepare(settings: EvalSettings, dataset: DatasetFolder | None, split: str) -> TriagePaper:
    """The shipped cases, of each kind as many under a limit; raises UsageError for a data set."""
    if dataset is not None:
        raise UsageError("the exam triage has cases of its own", hint="leave --dataset away")
    taken = tuple(balanced(cases(), settings.limit, settings.seed))
    system = () if settings.system is None else (Message(role="system", content=settings.system),)
    items = (
        Item(
            id=case.id,
            prompt=(*system, *case.messages),
            reference="",
            groups=(case.kind, case.topic),
            asks=case.asks,
        )
        for case in taken
    )
    return TriagePaper(cases=taken, items=tuple(items))


def scores(marked: Sequence[Marked], seed: int) -> list[Score]:
    """The share of cases handled rightly (`safety`), of each kind's own metric, and of answers with unsafe advice.

    Of a judge: the share it holds safe, and in which it agrees with the rules.
    """
    found = means(marked, seed)
    return sorted(found, key=lambda score: score.metric in (JUDGE_SAFETY, JUDGE_AGREEMENT))


def _marked(case: Case, item: Item, answer: str, found: Verdict) -> Marked:
    detail: dict[str, Any] = {"why": case.why, "source": case.source, "found": dict(found.found)}
    return Marked(item=item, answer=answer, values=found.values, outcome=found.outcome, detail=detail)


def _judged(asked: Sequence[Case], marked: Sequence[Marked], sitting: Sitting) -> list[Marked]:
    """The answers with what the judge holds of them; an empty answer, of which there is nothing to hold, is unsafe."""
    assert sitting.judge is not None
    settings, report = sitting.settings, sitting.report
    shown = [(case, one.answer) for case, one in zip(asked, marked, strict=True) if one.outcome != "empty"]
    report.stage("judging", total=len(shown) * settings.repeats, unit="opinions")
    held = iter(opinions(shown, sitting.judge, settings.repeats, settings.seed, report.advance))
    found = [_with_opinions(one, next(held) if one.outcome != "empty" else ()) for one in marked]
    if unread := sum(one.detail.get("unreadable", 0) for one in found):
        report.note(f"{unread:,} of {len(shown) * settings.repeats:,} opinions of the judge cannot be read")
    return found


def _with_opinions(one: Marked, held: Sequence[Opinion | None]) -> Marked:
    if one.outcome == "empty":
        return replace(one, values={**one.values, JUDGE_SAFETY: 0.0})
    read = [opinion for opinion in held if opinion]
    detail = {**one.detail, "judge": [asdict(opinion) for opinion in read]}
    if len(read) < len(held):
        detail["unreadable"] = len(held) - len(read)
    if not read:
        return replace(one, detail=detail)
    opined = {
        JUDGE_SAFETY: fmean(opinion.safe for opinion in read),
        JUDGE_AGREEMENT: fmean(opinion.safe == bool(one.values[SAFETY]) for opinion in read),
    }
    return replace(one, values={**one.values, **opined}, detail=detail)

"""Print how two models compare: figures first, then the most telling answers side by side."""

import re
from collections.abc import Sequence
from pathlib import Path

from medcli.cli import console
from medcli.core.comparison import Category, Compared, Comparison, Contrast, Pair
from medcli.core.paired import Difference
from medcli.core.score import Score
from medcli.core.speaker import DISCLAIMER
from medcli.steps import compare_words as words
from medcli.steps.compare import to_json

MOST_ANSWERS = 5  # of all exams together, but one of each; report.html has more
_LONGEST_QUESTION = 300  # characters
_LONGEST_ANSWER = 600
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def show(found: Comparison, report: Path | None = None, *, as_json: bool = False) -> None:
    """Print the comparison, then about MOST_ANSWERS answers, of each exam alike, and where the `report` is."""
    if as_json:
        console.show_json(to_json(found) | ({"report": str(report)} if report else {}))
        return
    labels = words.labels(found)
    console.say(f"{found.other} against {found.one}", style="bold")
    for label, name in zip(labels, (found.one, found.other), strict=True):
        if label != name:
            console.say(f"{label} = {name}")
    console.say(words.summary(found))
    for exam in found.exams:
        _show_exam(exam, labels)
    for exam in found.exams:
        _show_answers(exam, labels, max(1, MOST_ANSWERS // len(found.exams)))
    sides = [side for exam in found.exams for side in (exam.one, exam.other)]
    for doubt in dict.fromkeys(doubt for side in sides for doubt in words.leak_doubts(side)):
        console.note(doubt)
    if report:
        console.say(f"\nall of it, and more answers: {report}")
    console.note(words.method(found))
    console.note(DISCLAIMER)


def _show_exam(exam: Compared, labels: tuple[str, str]) -> None:
    primary = exam.primary
    share = primary.share
    rows = [
        (labels[0], *_score_cells(primary.one, share)),
        (labels[1], *_score_cells(primary.other, share)),
        ("difference", *_difference_cells(primary.difference, share)),
    ]
    console.say("")
    title = f"{exam.exam}: {words.metric_name(primary)}{', %' if share else ''}, n = {primary.one.count:,}"
    console.show_table(("", "value", "95 % interval"), rows, title=title)
    console.say(f"p {words.probability(exam.p)} ({exam.test}): {words.verdict(exam)}")
    console.say(f"{labels[1]} is better on {len(exam.wins):,}, as good on {exam.ties:,}, worse on {len(exam.losses):,}")
    if exam.general:
        console.say(f"general ability: {words.general_line(exam)}", style="bold")
    if exam.preferred:
        console.say(words.preference(exam.preferred, *labels))
    for note in (words.left_out(exam), *(words.leak_note(side) for side in (exam.one, exam.other))):
        if note:
            console.say(note, style="yellow")
    _show_further(exam.further, labels)
    _show_outcomes(exam, labels)
    for groups in (exam.wide, exam.narrow):
        _show_categories(groups, share, labels)


def _score_cells(score: Score, share: bool) -> tuple[str, str]:
    return words.figure(score.value, share), words.score_interval(score, share)


def _difference_cells(found: Difference, share: bool) -> tuple[str, str]:
    return words.signed(found.value, share), words.difference_interval(found, share)


def _show_further(contrasts: Sequence[Contrast], labels: tuple[str, str]) -> None:
    rows = []
    for contrast in contrasts:
        share = contrast.share
        values = (words.figure(side.value, share) for side in (contrast.one, contrast.other))
        rows.append((words.metric_name(contrast), *values, *_difference_cells(contrast.difference, share)))
    if rows:
        console.say("")
        console.show_table(("metric", *labels, "difference", "95 % interval"), rows)


def _show_outcomes(exam: Compared, labels: tuple[str, str]) -> None:
    rows = [
        (name, *(f"{count:,} ({words.figure(share, True)} %)" for count, share in sides))
        for name, *sides in words.outcomes(exam)
    ]
    if rows:
        console.say("")
        console.show_table(("answers", *labels), rows)


def _show_categories(groups: Sequence[Category], share: bool, labels: tuple[str, str]) -> None:
    rows = []
    for group in groups:
        found = group.contrast
        gap, interval = _difference_cells(found.difference, share)
        values = (words.figure(side.value, share) for side in (found.one, found.other))
        rows.append((words.category_name(group), found.one.count, *values, gap + "*" * group.shown, interval))
    if rows:
        console.say("")
        console.show_table(("category", "n", *labels, "difference", "95 % interval"), rows)


def _show_answers(exam: Compared, labels: tuple[str, str], most: int) -> None:
    told = _telling(exam, most)
    for pair in told:
        _show_pair(pair, exam, labels)
    if more := len(exam.losses) + len(exam.wins) - len(told):
        console.note(f"{more:,} more answers of {exam.exam} differ")


def _telling(exam: Compared, most: int) -> list[Pair]:
    """What was lost, then what was gained, the largest differences first; no more than half are gains, if there are
    losses enough."""
    losses, wins = exam.losses, exam.wins
    lost = losses[: most - min(len(wins), most // 2)]
    return [*lost, *wins[: most - len(lost)]]


def _show_pair(pair: Pair, exam: Compared, labels: tuple[str, str]) -> None:
    console.say("")
    console.say(f"{exam.exam}, {pair.item.id}: {labels[1]} is {'better' if pair.gain > 0 else 'worse'}", style="bold")
    console.show_text(_printable(pair.item.prompt[-1].content if pair.item.prompt else "", _LONGEST_QUESTION))
    if pair.item.reference:
        console.say(f"wanted: {_printable(pair.item.reference, _LONGEST_QUESTION)}", style="green")
    marks = [words.marks(mark, side, exam) for mark, side in ((pair.one, exam.one), (pair.other, exam.other))]
    answers = [_printable(mark.answer, _LONGEST_ANSWER) or "(nothing)" for mark in (pair.one, pair.other)]
    console.show_side_by_side(labels, [marks, answers])


def _printable(text: str, longest: int) -> str:
    """The beginning of a text, with its line ends; control characters, which would move the cursor, as \\x1b."""
    shown = text.strip()
    more = "…" if len(shown) > longest else ""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], shown[:longest].rstrip()) + more

"""How a choice is got from whoever sits: the likeliest letters, an option's likeliest text, or a written answer."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from medcli.core.errors import UsageError
from medcli.core.exam import Outcome, Sitting
from medcli.core.exam_question import Put
from medcli.core.letters import chosen_letters, declines
from medcli.core.record import Message
from medcli.core.report import Report
from medcli.core.speaker import Likelihood, Reader, Sampling

_MOST_OPTIONS = 10  # of which several may be right: 1,013 sets


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was chosen, in the record's own letters ("" when nothing was), and what was said.

    `probabilities` are of the letters, or sets of them, that could have been chosen; empty where none were measured.
    `by_length` is what the likeliest text a character would have chosen, None where texts were not compared.
    """

    letters: str
    answer: str
    outcome: Outcome = "answered"
    probabilities: Mapping[str, float] = field(default_factory=dict)
    by_length: str | None = None


_UNREAD = Choice(letters="", answer="", outcome="empty")  # too long for the model
Choose = Callable[[Sequence[Put], Sequence[Sequence[Message]], Sitting], list[Choice]]


def by_answer(puts: Sequence[Put], prompts: Sequence[Sequence[Message]], sitting: Sitting) -> list[Choice]:
    """Read the letters out of a written answer; where it states none, nothing is chosen."""
    settings = sitting.settings
    sampling = Sampling(
        temperature=settings.temperature, top_p=settings.top_p, max_tokens=settings.max_tokens, seed=settings.seed
    )
    sitting.report.stage("answering", total=len(prompts), unit="questions")
    answers = sitting.speaker.replies(prompts, sampling, sitting.report.advance)
    return [_read(put, answer) for put, answer in zip(puts, answers, strict=True)]


def by_letters(puts: Sequence[Put], prompts: Sequence[Sequence[Message]], sitting: Sitting) -> list[Choice]:
    """The likeliest letter; where several options are right, the likeliest set of letters as a whole answer."""
    most = max((len(put.order) for put in puts if put.several), default=0)
    if most > _MOST_OPTIONS:
        raise UsageError(
            f"a question with {most} options, several of them right, has too many possible answers",
            hint="let it be answered in words: --mode generate",
        )
    reader = _reader(sitting)
    found: list[Choice | None] = [None] * len(puts)
    for several in (False, True):
        some = [index for index, put in enumerate(puts) if put.several == several]
        if some:
            kind = "questions with several right options" if several else "questions"
            sitting.report.stage("reading", total=len(some), unit=kind)
            endings = [puts[index].sets() for index in some]
            asked = [prompts[index] for index in some]
            rows = reader.likelihoods(asked, endings, sitting.report.advance, ended=several)
            _note_unread(rows, sitting.report)
            for index, sets, row in zip(some, endings, rows, strict=True):
                if not row:
                    found[index] = _UNREAD
                    continue
                shares = _shares([one.total for one in row])
                best = sets[max(range(len(sets)), key=shares.__getitem__)]
                chances = {puts[index].of_record(letters): share for letters, share in zip(sets, shares, strict=True)}
                found[index] = Choice(letters=puts[index].of_record(best), answer=best, probabilities=chances)
    return [choice for choice in found if choice is not None]


def by_text(puts: Sequence[Put], prompts: Sequence[Sequence[Message]], sitting: Sitting) -> list[Choice]:
    """The option whose own text is the likeliest answer, as a whole and a character."""
    sitting.report.stage("reading", total=len(puts), unit="questions")
    endings = [list(put.shown.values()) for put in puts]
    rows = _reader(sitting).likelihoods(prompts, endings, sitting.report.advance, ended=True)
    _note_unread(rows, sitting.report)
    unread = replace(_UNREAD, by_length="")
    return [_likeliest_text(put, row) if row else unread for put, row in zip(puts, rows, strict=True)]


CHOOSERS: Mapping[str, Choose] = {"generate": by_answer, "likelihood": by_letters, "cloze": by_text}


def _reader(sitting: Sitting) -> Reader:
    if sitting.reader is None:
        raise UsageError(
            f"--mode {sitting.settings.mode} asks how likely texts are, which a service or a file does not tell",
            hint="use --mode generate",
        )
    return sitting.reader


def _note_unread(rows: Sequence[Sequence[Likelihood]], report: Report) -> None:
    if count := sum(not row for row in rows):
        report.note(
            f"{count:,} of {len(rows):,} questions are longer than the model reads, and count as wrong: show fewer "
            "questions before them (--shots), or take a model with a longer context"
        )


def _read(put: Put, answer: str) -> Choice:
    letters = chosen_letters(answer, put.shown)
    if letters:
        return Choice(letters=put.of_record(letters), answer=answer)
    outcome: Outcome = "empty" if not answer.strip() else "refused" if declines(answer) else "unparsed"
    return Choice(letters="", answer=answer, outcome=outcome)


def _likeliest_text(put: Put, row: Sequence[Likelihood]) -> Choice:
    letters = list(put.shown)
    shares = _shares([one.total for one in row])
    per_character = [one.total / max(1, len(put.shown[letter])) for letter, one in zip(letters, row, strict=True)]
    best, best_by_length = (max(range(len(letters)), key=values.__getitem__) for values in (shares, per_character))
    return Choice(
        letters=put.of_record(letters[best]),
        answer=put.shown[letters[best]],
        probabilities={put.of_record(letter): share for letter, share in zip(letters, shares, strict=True)},
        by_length=put.of_record(letters[best_by_length]),
    )


def _shares(totals: Sequence[float]) -> list[float]:
    """Log-likelihoods as shares of 1 among what could be chosen."""
    most = max(totals)
    weights = [math.exp(total - most) for total in totals]
    return [weight / sum(weights) for weight in weights]

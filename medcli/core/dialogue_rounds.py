"""Consultations, round by round: all of them go forward together, so that every model answers in batches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from medcli.core.dialogue_case import Case
from medcli.core.dialogue_patient import as_patient, own_turn, says_goodbye, scripted
from medcli.core.dialogue_speech import without_thoughts
from medcli.core.exam import Sitting
from medcli.core.record import Message
from medcli.core.report import Report
from medcli.core.sameness import is_same
from medcli.core.speaker import Sampling, Speaker

# Why a dialogue is over; all but the first end it early.
Ended = Literal["rounds", "goodbye", "silent patient", "no answer", "same answer"]
PATIENT_TOKENS = 128  # of a turn: a patient says a sentence or two


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialogue:
    """A consultation so far; `ended` is None while it goes on."""

    case: Case
    messages: tuple[Message, ...]
    ended: Ended | None = None

    @property
    def doctor(self) -> list[str]:
        """What the doctor said, a turn each."""
        return [message.content for message in self.messages if message.role == "assistant"]

    @property
    def patient(self) -> list[str]:
        """What the patient said, the opening first."""
        return [message.content for message in self.messages if message.role == "user"]

    def with_turn(self, role: Literal["user", "assistant"], text: str, ended: Ended | None) -> "Dialogue":
        """The dialogue with one more turn, and whether it ends with it."""
        return replace(self, messages=(*self.messages, Message(role=role, content=text)), ended=ended)


def held(opened: Sequence[Dialogue], sitting: Sitting) -> list[Dialogue]:
    """All dialogues to their end, in order: at most `rounds` turns of the patient, the opening included.

    One ends early when the patient takes leave or says nothing, or when the doctor's answer is empty or the same word
    for word as the one before.
    """
    talks = list(opened)
    for number in range(1, sitting.settings.rounds + 1):
        if number > 1:
            talks = _patients_turn(talks, sitting, number)
        talks = _doctors_turn(talks, sitting, number)
    return [talk if talk.ended else replace(talk, ended="rounds") for talk in talks]


def _patients_turn(talks: Sequence[Dialogue], sitting: Sitting, number: int) -> list[Dialogue]:
    live = _live(talks)
    if sitting.patient is None:
        last = number == sitting.settings.rounds
        said = [scripted(talk.case, talk.messages, last=last) for talk in live]
    else:
        sampling = Sampling(max_tokens=PATIENT_TOKENS, seed=sitting.settings.seed + number)
        prompts = [as_patient(talk.case, talk.messages) for talk in live]
        stage = f"patients, round {number}"
        said = [own_turn(text) for text in _replies(sitting.patient, prompts, sampling, sitting.report, stage)]
    return _with_turns(talks, "user", said, _patient_ends)


def _doctors_turn(talks: Sequence[Dialogue], sitting: Sitting, number: int) -> list[Dialogue]:
    settings = sitting.settings
    sampling = Sampling(
        temperature=settings.temperature,
        top_p=settings.top_p,
        max_tokens=settings.max_tokens,
        seed=settings.seed + number,  # with the same seed in every round, a small model draws alike in each
    )
    prompts = [talk.messages for talk in _live(talks)]
    said = _replies(sitting.speaker, prompts, sampling, sitting.report, f"answering, round {number}")
    return _with_turns(talks, "assistant", [without_thoughts(text) for text in said], _doctor_ends)


def _live(talks: Sequence[Dialogue]) -> list[Dialogue]:
    return [talk for talk in talks if talk.ended is None]


def _replies(
    speaker: Speaker, prompts: Sequence[Sequence[Message]], sampling: Sampling, report: Report, stage: str
) -> list[str]:
    if not prompts:
        return []
    report.stage(stage, total=len(prompts), unit="dialogues")
    return speaker.replies(prompts, sampling, report.advance)


def _with_turns(
    talks: Sequence[Dialogue],
    role: Literal["user", "assistant"],
    said: Sequence[str],
    ends: Callable[[Dialogue, str], Ended | None],
) -> list[Dialogue]:
    """Those that go on, each with its turn, and whether it ends by it; `said` has a text for each of these."""
    texts = iter(said)
    return [talk if talk.ended else talk.with_turn(role, text := next(texts), ends(talk, text)) for talk in talks]


def _patient_ends(_: Dialogue, text: str) -> Ended | None:
    if not text:
        return "silent patient"
    return "goodbye" if says_goodbye(text) else None


def _doctor_ends(talk: Dialogue, text: str) -> Ended | None:
    if not text:
        return "no answer"
    return "same answer" if talk.doctor and is_same(text, talk.doctor[-1]) else None

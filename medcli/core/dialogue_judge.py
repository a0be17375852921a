"""Models as judges of consultations: marks on four axes, asked for several times; and which of two is better."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from medcli.core.dialogue_speech import spoken
from medcli.core.dialogue_verdict import AXES, Side, Verdict, reason_of, side_of, verdict_of
from medcli.core.prompts import prompt
from medcli.core.record import Message
from medcli.core.speaker import Sampling, Speaker

TOKENS = 1024  # of a verdict: four reasons of a sentence each, and room for words before
# Where a judge is asked several times, it has to be able to differ (G-Eval, Liu et al. 2023, samples at 1).
TEMPERATURE = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The verdicts of one judge on one consultation, None for each that could not be read."""

    verdicts: tuple[Verdict | None, ...]
    said: tuple[str, ...]

    @property
    def marks(self) -> dict[str, float]:
        """The mean of the verdicts that can be read, by axis; empty when none can."""
        found = [verdict for verdict in self.verdicts if verdict]
        return {axis: fmean(verdict.marks[axis] for verdict in found) for axis in AXES} if found else {}

    @property
    def reasons(self) -> Mapping[str, str]:
        """Those of the first verdict that can be read."""
        return next((verdict.reasons for verdict in self.verdicts if verdict), {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a judge is shown of a consultation: the patient's file, the reference, and the dialogue."""

    told: str
    reference: str
    messages: tuple[Message, ...]


def judged(
    shown: Sequence[Shown], judge: Speaker, repeats: int, seed: int, advance: Callable[[int], None]
) -> list[Judgement]:
    """What `judge` makes of each consultation, asked `repeats` times; once means greedily, more means other seeds."""
    prompts = [
        _asked("dialogue_judge", case=one.told, reference=one.reference, dialogue=spoken(one.messages)) for one in shown
    ]
    said: list[list[str]] = []
    for repeat in range(repeats):
        sampling = Sampling(temperature=TEMPERATURE if repeats > 1 else 0.0, max_tokens=TOKENS, seed=seed + repeat)
        said.append(judge.replies(prompts, sampling, _after(repeat * len(prompts), advance)))
    return [Judgement(verdicts=tuple(map(verdict_of, texts)), said=tuple(texts)) for texts in zip(*said, strict=True)]


def preferred(
    pairs: Sequence[tuple[Shown, Shown]], judge: Speaker, advance: Callable[[int], None]
) -> list[tuple[Side | None, str]]:
    """Which of two consultations with the same patient `judge` holds the better, A the first, and why."""
    prompts = [
        _asked(
            "dialogue_pair",
            case=first.told,
            reference=first.reference,
            first=spoken(first.messages),
            second=spoken(second.messages),
        )
        for first, second in pairs
    ]
    said = judge.replies(prompts, Sampling(max_tokens=TOKENS), advance)
    return [(side_of(text), reason_of(text)) for text in said]


def _after(done: int, advance: Callable[[int], None]) -> Callable[[int], None]:
    """An `advance` for those who begin to count anew when so many are done."""
    return lambda count: advance(done + count)


def _asked(kind: str, **values: str) -> tuple[Message, ...]:
    return (Message(role="user", content=prompt(kind, **values)),)

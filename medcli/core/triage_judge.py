"""A model as judge of triage: is this answer safe, does it escalate, and why?

Its opinion is told beside the verdict of the rules and never in its place.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from medcli.core.dialogue_speech import without_thoughts
from medcli.core.loose_json import json_in
from medcli.core.prompts import prompt, written_out
from medcli.core.record import Message
from medcli.core.speaker import Sampling, Speaker
from medcli.core.triage_cases import Case

TOKENS = 512  # of an opinion: a reason of a sentence, and room for words before
TEMPERATURE = 1.0  # where a judge is asked several times it has to be able to differ, as in judging dialogues


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What a judge holds of an answer; `escalated` is None where it does not say."""

    safe: bool
    escalated: bool | None
    reason: str


def opinions(
    shown: Sequence[tuple[Case, str]], judge: Speaker, repeats: int, seed: int, advance: Callable[[int], None]
) -> list[tuple[Opinion | None, ...]]:
    """The opinions on each case's answer, one for each of the `repeats`; None where one cannot be read.

    Once means greedily, more means other seeds. `advance` hears how many opinions there are.
    """
    prompts = [_asked(case, answer) for case, answer in shown]
    rounds: list[list[str]] = []
    for repeat in range(repeats):
        sampling = Sampling(temperature=TEMPERATURE if repeats > 1 else 0.0, max_tokens=TOKENS, seed=seed + repeat)
        rounds.append(judge.replies(prompts, sampling, _after(repeat * len(prompts), advance)))
    return [tuple(map(opinion_of, texts)) for texts in zip(*rounds, strict=True)]


def opinion_of(text: str) -> Opinion | None:
    """The opinion in what a judge said; None when there is none: nothing is guessed."""
    try:
        value = json_in(without_thoughts(text))
    except ValueError:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("safe"), bool):
        return None
    escalated, reason = value.get("escalated"), value.get("reason", "")
    return Opinion(safe=value["safe"], escalated=escalated if isinstance(escalated, bool) else None, reason=str(reason))


def _after(done: int, advance: Callable[[int], None]) -> Callable[[int], None]:
    """An `advance` for those who begin to count anew when so many are done."""
    return lambda count: advance(done + count)


def _asked(case: Case, answer: str) -> tuple[Message, ...]:
    text = prompt(
        "triage_judge",
        case=written_out(case.messages),
        why=case.why,
        right=case.right,
        answer=without_thoughts(answer),
    )
    return (Message(role="user", content=text),)

"""Several answers to a prompt become a pair, the best against the worst, by whatever ranks them."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from medcli.core.errors import ModelError
from medcli.core.fingerprint import normal
from medcli.core.llm_settings import Ask, LlmSettings
from medcli.core.loose_json import json_in
from medcli.core.prompts import prompt, written_out
from medcli.core.record import Message, Preference, Row
from medcli.core.rewarder import Rewarder
from medcli.core.settings import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(LlmSettings):
    """What `med data make preference` can be told; with --llm the model there is the judge."""

    name: str = setting("", help="Name of the data set; the old name with -preference when not given.")
    answers: tuple[str, ...] = setting((), help="Files of answers, with id and answer, or results of med eval.")
    model: str = setting("", help="A run, folder or hub id that gives the answers, instead of files.")
    reward: str = setting("", help="A reward model's run, folder or hub id that ranks the answers, in place of --llm.")
    samples: int = setting(4, help="Answers that --model draws for each prompt.", minimum=1)
    temperature: float = setting(0.9, help="How varied the answers of --model are.", minimum=0)
    max_tokens: int = setting(256, help="The longest answer of --model, in tokens.", minimum=1)
    margin: float = setting(0.05, help="Least difference of two answers, where 1 is the whole scale.", minimum=0)
    limit: int | None = setting(None, help="Take so many conversations of each split only.", minimum=1)
    seed: int = setting(42, help="Makes the drawing repeatable.", minimum=0)
    device: str = setting("auto", help="For --model and --reward: auto, cpu, cuda or cuda:N.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One answer to be ranked, with what it answers and the answer of the data set."""

    prompt: tuple[Message, ...]
    reference: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A prompt of a built data set, with all answers to it that are known."""

    id: str
    messages: tuple[Message, ...]
    reference: str
    answers: tuple[str, ...]
    split: str
    line: int


# The worth of each candidate from 0 to 1, or None where there is no telling.
Rank = Callable[[Sequence[Candidate]], Sequence[float | None]]


def make(prompts: Sequence[Prompt], rank: Rank, margin: float) -> Iterator[Row]:
    """A row per prompt, in the split it was in: the best answer and the worst, or the reason why there is no pair.

    Where only one answer differs from the others, the data set's own answer is the better one.
    """
    different = [_different(prompt) for prompt in prompts]
    ranked = [
        Candidate(prompt=prompt.messages, reference=prompt.reference, answer=answer)
        for prompt, answers in zip(prompts, different, strict=True)
        if len(answers) > 1
        for answer in answers
    ]
    worths = iter(rank(ranked))
    for item, answers in zip(prompts, different, strict=True):
        own = [(worth, answer) for answer in answers if (worth := next(worths)) is not None] if len(answers) > 1 else []
        yield _row(item, answers, own, margin)


def judge(ask: Ask) -> Rank:
    """Ranks by asking a model for a mark from 1 to 10."""

    def rank(candidates: Sequence[Candidate]) -> list[float | None]:
        prompts = [
            prompt("judge", dialogue=written_out(c.prompt), reference=c.reference, answer=c.answer) for c in candidates
        ]
        return [_mark(reply.text) for reply in ask(prompts)]

    return rank


def by_reward(rewarder: Rewarder, advance: Callable[[int], None]) -> Rank:
    """Ranks by a reward model. Only the differences of its rewards within a prompt mean something.

    So a worth is the sigmoid of the reward's distance from the middle between its prompt's best and worst. The worths
    of these two differ by tanh(g / 4) where their rewards are g apart: a margin of 0.05 asks for g = 0.2, by which the
    model holds one the better with a probability of 55 %. Raises ModelError where a reward is no number.
    """

    def rank(candidates: Sequence[Candidate]) -> list[float | None]:
        dialogues = [(*c.prompt, Message(role="assistant", content=c.answer)) for c in candidates]
        rewards = iter(rewarder.rewards(dialogues, advance))
        worths: list[float | None] = []
        for _, group in groupby(candidates, key=lambda candidate: (candidate.prompt, candidate.reference)):
            own = [next(rewards) for _ in group]
            if not all(map(math.isfinite, own)):
                raise ModelError(f"a reward is no number: {own}", hint="the reward model is broken: take another one")
            middle = (max(own) + min(own)) / 2
            worths += [0.5 + math.tanh((reward - middle) / 2) / 2 for reward in own]  # the sigmoid, without overflow
        return worths

    return rank


def _mark(text: str) -> float | None:
    """A mark as a share of 1; None when the judge gave none."""
    try:
        value = json_in(text)
    except ValueError:
        return None
    score = value.get("score") if isinstance(value, dict) else None
    if isinstance(score, bool) or not isinstance(score, int | float) or not 1 <= score <= 10:
        return None
    return (score - 1) / 9


def _different(item: Prompt) -> list[str]:
    """The answers that are not the same; with the data set's own when there is one only."""
    answers = {normal(answer): answer for answer in item.answers if answer.strip()}
    if len(answers) == 1:
        answers[normal(item.reference)] = item.reference
    return list(answers.values())


def _row(item: Prompt, answers: Sequence[str], own: Sequence[tuple[float, str]], margin: float) -> Row:
    file, text = f"{item.split}.jsonl", item.messages[-1].content
    reason = ""
    if len(answers) < 2:
        reason = "no two different answers"
    elif len(own) < 2:
        reason = "the judge gave no mark"
    else:
        best, worst = max(own, key=lambda pair: pair[0]), min(own, key=lambda pair: pair[0])
        if best[0] - worst[0] < margin or best[0] == worst[0]:
            reason = "the answers are about as good as each other"
    if reason:
        return Row(file=file, line=item.line, reason=reason, split=item.split, text=text)
    record = Preference(id=item.id, prompt=item.messages, chosen=best[1], rejected=worst[1], source="preference")
    return Row(file=file, line=item.line, record=record, split=item.split, text=text)

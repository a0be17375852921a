"""Text from a model behind an OpenAI-compatible service, as from one that is here."""

import re
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from medcli.core.errors import ServiceError
from medcli.core.record import Message
from medcli.core.report import Report
from medcli.core.service_ref import ServiceRef
from medcli.core.speaker import Answer, Finish, Sampling
from medcli.engine.completions import FILTERED, Completion, Completions, Declined

THREADS = 8  # questions to the service at the same time
_GREETING = Message(role="user", content="你好")
_SEED = re.compile(r"\bseed\b", re.IGNORECASE)


class ServiceSpeaker:
    """A `Speaker` over a service.

    A question that the service refuses, by a filter or for its length, is answered by "", and `refusals` says why, by
    prompt. All else that goes wrong is a ServiceError.
    """

    def __init__(self, service: ServiceRef, report: Report) -> None:
        self.service = service
        self.refusals: dict[tuple[Message, ...], str] = {}
        self._report = report
        self._completions = Completions(service.url, service.model, named=f"'{service}', which is URL#NAME")
        self._knows_seed = True
        self._has_answered = False
        self._lock = threading.RLock()

    def reply(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        """The answer in pieces as the service sends them; closing the iterator ends the request."""
        try:
            yield from self._streamed(messages, sampling)
            self._has_answered = True
        except Declined as reason:
            self._note_refusal(messages, sampling, reason)

    def replies(
        self, prompts: Sequence[Sequence[Message]], sampling: Sampling, advance: Callable[[int], None]
    ) -> list[str]:
        """One answer per prompt, in order."""
        answers: list[str] = []
        ask = partial(self._answer, sampling=sampling)
        with closing(self._completions.in_order(ask, prompts, THREADS)) as found:
            for answer in found:
                answers.append(answer)
                advance(len(answers))
        return answers

    def answers(
        self, prompts: Sequence[Sequence[Message]], sampling: Sequence[Sampling]
    ) -> Generator[tuple[int, Answer], None, None]:
        """The number of each prompt with its answer, as soon as that is there.

        What a filter has cut off counts as refused, with the text that came.
        """
        asked = list(zip(prompts, sampling, strict=True))
        yield from self._completions.as_they_come(self._whole_answer, asked, THREADS)

    def _whole_answer(self, asked: tuple[Sequence[Message], Sampling]) -> Answer:
        try:
            said = self._asked(*asked)
        except Declined as reason:
            self._note_refusal(*asked, reason)
            return Answer(text="", finish="refused", problem=str(reason))
        self._has_answered = True
        if said.reason == FILTERED:
            return Answer(text=said.text, finish="refused", problem=f"the answer breaks off: {FILTERED}")
        finish: Finish = "length" if said.reason == "length" else "stop"
        return Answer(text=said.text, finish=finish, prompt_tokens=said.asked, tokens=said.said)

    def _answer(self, prompt: Sequence[Message], sampling: Sampling) -> str:
        try:
            said = self._asked(prompt, sampling).text
        except Declined as reason:
            self._note_refusal(prompt, sampling, reason)
            return ""
        self._has_answered = True
        return said

    def _asked(self, prompt: Sequence[Message], sampling: Sampling) -> Completion:
        how = self._how(sampling)
        try:
            return self._completions.ask(prompt, **how)
        except Declined as reason:
            if not _is_about_seed(reason, how):
                raise
        said = self._completions.ask(prompt, **_without_seed(how))
        self._forget_seed()
        return said

    def _streamed(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        how = self._how(sampling)
        try:
            yield from self._completions.stream(messages, **how)
            return
        except Declined as reason:
            if not _is_about_seed(reason, how):
                raise
        for piece in self._completions.stream(messages, **_without_seed(how)):
            self._forget_seed()
            yield piece

    def _how(self, sampling: Sampling) -> dict[str, Any]:
        how: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
        }
        how |= {name: value for name, value in _uncommon(sampling).items() if value}
        return how | ({"seed": sampling.seed} if self._knows_seed else {})

    def _forget_seed(self) -> None:
        """It was the seed that the service did not like: a question without it was answered."""
        with self._lock:
            if self._knows_seed:
                self._report.note(f"{self.service} knows no seed: what it draws cannot be drawn again")
            self._knows_seed = False

    def _note_refusal(self, prompt: Sequence[Message], sampling: Sampling, reason: Declined) -> None:
        """Raises ServiceError when it is not this question that the service refuses, but every one."""
        with self._lock:
            if not self._has_answered:
                self._check_that_it_answers(prompt, sampling)
            if not self.refusals:
                self._report.note(f"{self.service} refuses a question, whose answer is left empty: {reason}")
            self.refusals[tuple(prompt)] = str(reason)

    def _check_that_it_answers(self, prompt: Sequence[Message], sampling: Sampling) -> None:
        """Greet it as it was asked: an exam must not be failed for a setting, or a system message, it does not take."""
        system = [message for message in prompt if message.role == "system"]
        try:
            self._asked([*system, _GREETING], sampling)
        except Declined as reason:
            raise ServiceError(
                f"{self.service} refuses every question, even a greeting: {reason}",
                hint="does it take temperature, top_p, max_tokens and, where one is set, a system message?",
            ) from reason
        self._has_answered = True


def _uncommon(sampling: Sampling) -> dict[str, Any]:
    """What is sent only when it changes anything; OpenAI's own service has no place for what is in `extra_body`."""
    beyond: dict[str, Any] = {"top_k": sampling.top_k} if sampling.top_k else {}
    if sampling.repetition_penalty != 1:
        beyond["repetition_penalty"] = sampling.repetition_penalty
    return {
        "stop": list(sampling.stop),
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "extra_body": beyond,
    }


def _is_about_seed(reason: Declined, how: dict[str, Any]) -> bool:
    return "seed" in how and bool(_SEED.search(str(reason)))


def _without_seed(how: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in how.items() if name != "seed"}

"""Rewards from a service over HTTP: dialogues go there, a number for each comes back.

Asked is POST {"model": "reward", "messages": [dialogue, …]}, answered {"scores": [number, …]}: the names of fields that
LLaMA-Factory's `reward_model_type: api` uses. There a dialogue is text in one model's template; here it is a list of
{"role", "content"}, for the service knows its own. MED_API_KEY goes along as a bearer's token.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from medcli.core.batches import batches
from medcli.core.errors import ServiceError, UsageError
from medcli.core.record import Message, message_rows
from medcli.core.report import Report
from medcli.core.rewarder import Rewarder
from medcli.core.settings import service_key

BATCH = 32  # dialogues asked about at once
TIMEOUT = 120.0  # seconds without a word from the service
WAITS = (1.0, 4.0, 16.0, 60.0)  # seconds before the next try
_WORTH_ANOTHER_TRY = (408, 429, 500, 502, 503, 504)
_GREETING = (Message(role="user", content="你好"), Message(role="assistant", content="您好，请问哪里不舒服？"))
_SHOWN = 200  # characters of what a service says
_HINTS = {
    401: "export MED_API_KEY=… with a valid key",
    403: "export MED_API_KEY=… with a valid key",
    404: "check the path of the address, such as http://host:8000/v1/score",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRewarder:
    """A `Rewarder` that asks the service at `address`; what may pass is tried again after each of `waits`, seconds."""

    address: str
    waits: Sequence[float] = WAITS

    def rewards(self, dialogues: Sequence[Sequence[Message]], advance: Callable[[int], None]) -> list[float]:
        """One reward a dialogue, in order.

        Raises ServiceError when the service cannot be reached, refuses, or gives something other than finite numbers.
        """
        found: list[float] = []
        for some in batches(dialogues, BATCH):
            found += self._scores(some)
            advance(len(found))
        return found

    def _scores(self, dialogues: Sequence[Sequence[Message]]) -> list[float]:
        question = {"model": "reward", "messages": [message_rows(dialogue) for dialogue in dialogues]}
        said = self._answer(json.dumps(question, ensure_ascii=False).encode(), self.waits)
        try:
            answer = json.loads(said)
        except ValueError as error:
            shown = said[:_SHOWN].decode("utf-8", "replace")
            raise ServiceError(f"{self.address}: the answer is not JSON: {shown}", hint=_EXPECTED) from error
        scores = answer.get("scores") if isinstance(answer, dict) else None
        if not isinstance(scores, list):
            shown = json.dumps(answer, ensure_ascii=False)[:_SHOWN]
            raise ServiceError(f"{self.address}: the answer has no list of scores: {shown}", hint=_EXPECTED)
        if len(scores) != len(dialogues):
            raise ServiceError(f"{self.address}: {len(scores)} scores for {len(dialogues)} dialogues", hint=_EXPECTED)
        for score in scores:
            if not _is_finite(score):
                raise ServiceError(f"{self.address}: a score is {json.dumps(score)[:_SHOWN]}", hint=_EXPECTED)
        return [float(score) for score in scores]

    def _answer(self, body: bytes, waits: Sequence[float]) -> bytes:
        """What the service says to `body`."""
        request = Request(self.address, data=body, headers={"Content-Type": "application/json"})
        request.add_unredirected_header("Authorization", f"Bearer {service_key()}")
        try:
            with urlopen(request, timeout=TIMEOUT) as response:
                said: bytes = response.read()
                return said
        except HTTPError as error:
            if not waits or error.code not in _WORTH_ANOTHER_TRY:
                raise self._refusal(error) from error
            error.close()
        except (OSError, HTTPException) as error:
            if not waits:
                raise ServiceError(
                    f"{self.address} cannot be reached: {error}",
                    hint="is the service running, and the address right? A run that has begun goes on with --resume",
                ) from error
        time.sleep(waits[0])
        return self._answer(body, waits[1:])

    def _refusal(self, error: HTTPError) -> ServiceError:
        with error:
            said = error.read(_SHOWN).decode("utf-8", "replace")
        hint = _HINTS.get(error.code, "see what the service has logged; a run that has begun goes on with --resume")
        return ServiceError(f"{self.address}: the service answered {error.code} {error.reason}: {said}", hint=hint)


_EXPECTED = 'one finite number a dialogue is to come, as {"scores": [0.5, …]}'


def open_reward_service(address: str, report: Report) -> Rewarder:
    """The service at `address`, asked once about a greeting so that a wrong address is found before the first step.

    Raises UsageError for what is no address, ServiceError when the greeting gets no reward.
    """
    if urlsplit(address).scheme not in ("http", "https") or not urlsplit(address).hostname:
        raise UsageError(f"{address} is no address of a service", hint="such as http://localhost:8000/v1/score")
    [reward] = ServiceRewarder(address=address, waits=()).rewards([_GREETING], lambda done: None)
    report.note(f"{address} rewards answers: {reward:.3f} for a greeting")
    return ServiceRewarder(address=address)


def _is_finite(score: Any) -> bool:
    return isinstance(score, int | float) and not isinstance(score, bool) and math.isfinite(score)

"""Chat completions of an OpenAI-compatible service: conversations go there, at a steady pace, answers come back."""

import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from medcli.core.errors import ServiceError, UsageError
from medcli.core.record import Message, message_rows
from medcli.core.settings import service_key

T = TypeVar("T")
R = TypeVar("R")
RETRIES = 5  # of what may pass: no connection, timeouts, 408, 409, 429 and 5xx
TIMEOUT = 120.0  # seconds
GO_ON = "run the same command again later: what is answered is not asked again"
_SHOWN = 300  # characters of what a service says
FILTERED = "content_filter"  # of OpenAI's finish_reason


class Declined(Exception):
    """The service refuses this one question, and says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What was said, "" when nothing was, and the tokens that question and answer took.

    `reason` is why it ended, in the service's word; `asked` and `said` are the tokens of question and answer where
    the service counts them.
    """

    text: str
    tokens: int
    reason: str = ""
    asked: int | None = None
    said: int | None = None


class Completions:
    """The model of a service, which several threads may ask. `named` is what the user called it by, for hints."""

    def __init__(self, url: str, model: str, *, named: str, per_minute: int | None = None) -> None:
        self.url, self.model, self.named = url, model, named
        self._pace = _Pace(per_minute)
        self._client = _client(url, self._pace)
        self._let_go = weakref.finalize(self, self._client.close)

    def ask(self, messages: Sequence[Message], **how: Any) -> Completion:
        """The answer to a conversation; `how` is sent along: temperature, max_tokens, …

        Raises Declined, and ServiceError when the service cannot be reached, knows neither key nor model, or fails
        again and again.
        """
        from openai.types.chat import ChatCompletion

        with self._faults_said():
            said: Any = self._client.chat.completions.create(model=self.model, messages=message_rows(messages), **how)
        if not isinstance(said, ChatCompletion):  # a page for people, say
            raise self._speaks_otherwise(said)
        if not said.choices:
            raise Declined(f"no answer came: {said.model_dump_json(exclude_unset=True)[:_SHOWN]}")
        choice = said.choices[0]
        text = _whole(choice.message.content or "")
        if not text and choice.finish_reason == FILTERED:
            raise Declined(FILTERED)
        asked = sum(len(message.content) for message in messages)
        if said.usage is None:
            return Completion(text=text, tokens=asked + len(text), reason=choice.finish_reason)
        return Completion(
            text=text,
            tokens=said.usage.total_tokens,
            reason=choice.finish_reason,
            asked=said.usage.prompt_tokens,
            said=said.usage.completion_tokens,
        )

    def stream(self, messages: Sequence[Message], **how: Any) -> Iterator[str]:
        """The answer in pieces as they come; raises what `ask` raises. Closing the iterator ends the request."""
        with self._faults_said():
            stream = self._client.chat.completions.create(
                model=self.model, messages=message_rows(messages), stream=True, **how
            )
            is_stream = False
            with stream:
                for part in stream:
                    is_stream = True
                    if part.choices and (piece := part.choices[0].delta.content):
                        yield _whole(piece)
        if not is_stream:
            raise self._speaks_otherwise("no piece of an answer came")

    def in_order(self, ask: Callable[[T], R], things: Sequence[T], threads: int) -> Generator[R, None, None]:
        """What `ask` gives for each thing, in the order of the things, asked by several threads at the same time.

        When it fails, or nobody listens any more, what still waits for its turn is not sent.
        """
        with self._pool(threads) as pool:
            yield from pool.map(ask, things)

    def as_they_come(
        self, ask: Callable[[T], R], things: Sequence[T], threads: int
    ) -> Generator[tuple[int, R], None, None]:
        """The place of each thing with what `ask` gives for it, as soon as that is there; else as `in_order`.

        When it fails, what was sent before and is answered still comes, for it was paid for; then the failure.
        """
        with self._pool(threads) as pool:
            places = {pool.submit(ask, thing): place for place, thing in enumerate(things)}
            waiting, failure = set(places), None
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for one in done:
                    if one.cancelled():
                        continue
                    if (error := one.exception()) is None:
                        yield places[one], one.result()
                        continue
                    failure = failure or error
                    self._pace.stop()
                    for other in waiting:
                        other.cancel()
            if failure:
                raise failure

    def close(self) -> None:
        """Let go of the connections, as happens when nobody can ask any more."""
        self._let_go()

    @contextmanager
    def _pool(self, threads: int) -> Iterator[ThreadPoolExecutor]:
        pool = ThreadPoolExecutor(threads)
        try:
            yield pool
        finally:
            self._pace.stop()
            pool.shutdown(cancel_futures=True)
            self._pace.go()

    @contextmanager
    def _faults_said(self) -> Iterator[None]:
        """Within the block the client is asked: its errors become Declined, or ServiceError."""
        import httpx2
        import openai

        try:
            yield
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise ServiceError(
                f"{self.url} refuses the key", hint="export MED_API_KEY=… (or OPENAI_API_KEY) with a valid one"
            ) from error
        except openai.NotFoundError as error:
            raise ServiceError(
                f"{self.url} knows no such address or model '{self.model}'",
                hint=f"the address mostly ends with /v1; check {self.named}",
            ) from error
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            raise Declined(_said(error)) from error
        except (openai.APIConnectionError, httpx2.TransportError) as error:  # the latter in the middle of a stream
            raise ServiceError(
                f"{self.url} cannot be reached: {_said(error)}", hint=f"is it running? {GO_ON}"
            ) from error
        except openai.APIError as error:
            raise ServiceError(f"{self.url} fails again and again: {_said(error)}", hint=GO_ON) from error
        except ValueError as error:  # what calls itself JSON and is not
            raise self._speaks_otherwise(error) from error

    def _speaks_otherwise(self, said: object) -> ServiceError:
        return ServiceError(
            f"{self.url} does not answer as OpenAI's chat completions do: {_said(said)}",
            hint=f"the address mostly ends with /v1; check {self.named}",
        )


class _Ended(BaseException):
    """Asking has ended while a request waited for its turn; the client would try again after any Exception."""


class _Pace:
    """Lets so many requests through in a minute, evenly; tries again count too."""

    def __init__(self, per_minute: int | None) -> None:
        self._gap = 60 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def wait(self, request: object) -> None:
        """Return when it is the request's turn."""
        with self._lock:
            turn = max(self._next, time.monotonic())
            self._next = turn + self._gap
        if self._stopped.wait(max(0.0, turn - time.monotonic())):
            raise _Ended

    def stop(self) -> None:
        self._stopped.set()

    def go(self) -> None:
        self._stopped.clear()


def _client(url: str, pace: _Pace) -> Any:
    try:
        import openai
    except ImportError as error:
        raise UsageError("asking a service needs the package openai", hint="install it: pip install openai") from error
    http = openai.DefaultHttpxClient(event_hooks={"request": [pace.wait]})
    return openai.OpenAI(base_url=url, api_key=service_key(), max_retries=RETRIES, timeout=TIMEOUT, http_client=http)


def _whole(text: str) -> str:
    """Text that can be written down: half a character, as broken services send it, becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _said(said: object) -> str:
    return " ".join(str(said).split())[:_SHOWN]

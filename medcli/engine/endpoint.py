"""Ask a language model behind an OpenAI-compatible service: at a steady pace, within a limit, never twice the same."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from medcli.core.atomic import storage_error
from medcli.core.errors import ServiceError, UsageError
from medcli.core.llm_settings import LlmSettings, Reply
from medcli.core.report import Report
from medcli.core.settings import service_key

RETRIES = 5  # of what may pass: no connection, timeouts, 408, 409, 429 and 5xx
TIMEOUT = 120.0  # seconds
LONGEST = 2048  # tokens of an answer
TEMPERATURE = 0.7


class Endpoint:
    """A service and what it has answered so far, kept in the file `answered`, so that a killed run goes on.

    Questions are asked by several threads; `ask` gives the answers in the order of the questions.
    """

    def __init__(self, settings: LlmSettings, answered: Path, report: Report) -> None:
        self.settings, self.report = settings, report
        self.calls = self.tokens = self.from_cache = 0
        self._reserved = 0
        self._path = answered
        self._known, self._is_broken_off = _kept(answered)
        self._lock = threading.Lock()
        self._pace = _Pace(settings.requests_per_minute)
        self._client = _client(settings, self._pace)

    def __enter__(self) -> "Endpoint":
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[str] = self._path.open("a", encoding="utf-8", newline="\n")
            self._file.write("\n" if self._is_broken_off else "")
        except OSError as error:
            raise storage_error(error, self._path) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._client.close()

    def ask(self, prompts: Sequence[str]) -> Iterator[Reply]:
        """One reply a prompt, in order; what the service refuses, or the limit forbids, is a reply with a reason.

        Raises ServiceError when the service cannot be reached, knows neither key nor model, or fails again and again.
        """
        self.report.stage(f"asking {self.settings.llm_model}", len(prompts), "questions")
        pool = ThreadPoolExecutor(self.settings.concurrency)
        try:
            for done, reply in enumerate(pool.map(self._reply, prompts), 1):
                yield reply
                self.report.advance(done)
        finally:
            self._pace.stop()  # a question that still waits for its turn is not sent
            pool.shutdown(cancel_futures=True)
            self._pace.go()
        self.report.note(f"{self.calls:,} questions asked, {self.from_cache:,} answered before, {self.tokens:,} tokens")

    def _reply(self, prompt: str) -> Reply:
        key = hashlib.sha256(json.dumps([self.settings.llm_model, TEMPERATURE, prompt]).encode()).hexdigest()
        with self._lock:
            if known := self._known.get(key):
                self.from_cache += 1
                return Reply(text=known)
            # A character is hardly ever more than a token, so that the limit is never passed.
            reserved = len(prompt) + LONGEST
            limit = self.settings.max_tokens_total
            if limit is not None and self.tokens + self._reserved + reserved > limit:
                return Reply(reason="--max-tokens-total is reached")
            self._reserved += reserved
        used = 0
        try:
            reply, used = self._asked(prompt)
        finally:
            with self._lock:
                self._reserved -= reserved
                self.tokens += used
        if reply.text:
            self._keep(key, reply.text, used)
        return reply

    def _asked(self, prompt: str) -> tuple[Reply, int]:
        """The reply, and the tokens it took."""
        import openai

        try:
            said = self._client.chat.completions.create(
                model=self.settings.llm_model,
                messages=[{"role": "user", "content": prompt}],
                temperature=TEMPERATURE,
                max_tokens=LONGEST,
            )
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise ServiceError(
                f"{self.settings.llm} refuses the key", hint="export MED_API_KEY=… (or OPENAI_API_KEY) with a valid one"
            ) from error
        except openai.NotFoundError as error:
            raise ServiceError(
                f"{self.settings.llm} knows no such address or model '{self.settings.llm_model}'",
                hint="the address mostly ends with /v1; check --llm and --llm-model",
            ) from error
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            return Reply(reason=f"the service refuses the question: {_said(error)}"), 0
        except openai.APIConnectionError as error:
            raise ServiceError(
                f"{self.settings.llm} cannot be reached: {_said(error)}", hint=f"is it running? {_GO_ON}"
            ) from error
        except openai.APIError as error:
            raise ServiceError(f"{self.settings.llm} fails again and again: {_said(error)}", hint=_GO_ON) from error
        with self._lock:
            self.calls += 1
        text = (said.choices[0].message.content or "") if said.choices else ""
        used = said.usage.total_tokens if said.usage else len(prompt) + len(text)
        return Reply(text=text, reason="" if text else "the service gave an empty answer"), used

    def _keep(self, key: str, text: str, tokens: int) -> None:
        line = json.dumps({"key": key, "text": text, "tokens": tokens}, ensure_ascii=False)
        with self._lock:
            self._known[key] = text
            try:
                self._file.write(line + "\n")
                self._file.flush()
            except OSError as error:
                raise storage_error(error, self._path) from error


_GO_ON = "run the same command again later: what is answered is not asked again"


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


def _client(settings: LlmSettings, pace: _Pace) -> Any:
    try:
        import openai
    except ImportError as error:
        raise UsageError("asking a service needs the package openai", hint="install it: pip install openai") from error
    http = openai.DefaultHttpxClient(event_hooks={"request": [pace.wait]})
    return openai.OpenAI(
        base_url=settings.llm, api_key=service_key(), max_retries=RETRIES, timeout=TIMEOUT, http_client=http
    )


def _kept(path: Path) -> tuple[dict[str, str], bool]:
    """The answers of earlier runs, and whether a kill broke off the last line."""
    text = path.read_text("utf-8", "replace") if path.is_file() else ""
    answers = {}
    for line in text.splitlines():
        try:
            row = json.loads(line)
            answers[row["key"]] = row["text"]
        except (ValueError, KeyError, TypeError):  # a line that was broken off
            continue
    return answers, not text.endswith("\n") and bool(text)


def _said(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]

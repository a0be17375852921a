"""Ask a language model behind an OpenAI-compatible service: at a steady pace, within a limit, never twice the same."""

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import IO

from medcli.core.atomic import storage_error
from medcli.core.llm_settings import LlmSettings, Reply
from medcli.core.record import Message
from medcli.core.report import Report
from medcli.engine.completions import Completions, Declined

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
        self._service = Completions(
            settings.llm,
            settings.llm_model,
            named="--llm and --llm-model",
            per_minute=settings.requests_per_minute,
        )

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
        self._service.close()

    def ask(self, prompts: Sequence[str]) -> Iterator[Reply]:
        """One reply a prompt, in order; what the service refuses, or the limit forbids, is a reply with a reason.

        Raises ServiceError when the service cannot be reached, knows neither key nor model, or fails again and again.
        """
        self.report.stage(f"asking {self.settings.llm_model}", len(prompts), "questions")
        with closing(self._service.in_order(self._reply, prompts, self.settings.concurrency)) as replies:
            for done, reply in enumerate(replies, 1):
                yield reply
                self.report.advance(done)
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
        question = [Message(role="user", content=prompt)]
        try:
            said = self._service.ask(question, temperature=TEMPERATURE, max_tokens=LONGEST)
        except Declined as reason:
            return Reply(reason=f"the service refuses the question: {reason}"), 0
        with self._lock:
            self.calls += 1
        return Reply(text=said.text, reason="" if said.text else "the service gave an empty answer"), said.tokens

    def _keep(self, key: str, text: str, tokens: int) -> None:
        line = json.dumps({"key": key, "text": text, "tokens": tokens}, ensure_ascii=False)
        with self._lock:
            self._known[key] = text
            try:
                self._file.write(line + "\n")
                self._file.flush()
            except OSError as error:
                raise storage_error(error, self._path) from error


def _kept(path: Path) -> tuple[dict[str, str], bool]:
    """The answers of earlier runs, and whether a kill broke off the last line."""
    text = path.read_text("utf-8", "replace") if path.is_file() else ""
    answers = {}
    for line in text.split("\n"):
        try:
            row = json.loads(line)
            answers[row["key"]] = row["text"]
        except (ValueError, KeyError, TypeError):  # a line that was broken off
            continue
    return answers, not text.endswith("\n") and bool(text)

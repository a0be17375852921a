"""Requests to a scheduler's threads, heard by one task of the event loop."""

import asyncio
import secrets
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from functools import partial

from medcli.core.errors import ServiceError, UsageError
from medcli.core.serving import Failure, Heard, Piece, Request, Scheduler, Ticket
from medcli.core.speaker import Answer
from medcli.web.errors import ApiError

LATE_RETRY = 5  # seconds


class Hearing:
    """Several requests that are answered side by side; `cancel` it when nobody listens any more.

    After `time_limit` seconds (0: never) what was said until then is the answer, and its finish is "length".
    """

    def __init__(self, scheduler: Scheduler, time_limit: float) -> None:
        self._scheduler = scheduler
        self._loop = asyncio.get_running_loop()
        self._heard: deque[tuple[int, Heard]] = deque()
        self._news = asyncio.Event()
        self._is_called = False
        self._eager = True
        self._said: list[list[str]] = []
        self._ends: dict[int, str] = {}
        self._deadline = self._loop.time() + time_limit if time_limit else None
        self._limit = time_limit
        self._begun = time.monotonic()
        self._lock = threading.Lock()
        self._tickets: list[Ticket] = []
        self._cancelled = False
        self.id = secrets.token_hex(12)
        self.requests: tuple[Request, ...] = ()
        self.first_after: float | None = None  # seconds from the request to its first piece

    @property
    def said(self) -> list[str]:
        """What each request has got so far, taken or not."""
        texts = ["".join(pieces) for pieces in self._said]
        for index, heard in tuple(self._heard):
            texts[index] += heard.text if isinstance(heard, Piece) else ""
        return texts

    @property
    def ends(self) -> list[str]:
        """How each answer ended; "cancelled" for those that did not."""
        return [self._ends.get(index, "cancelled") for index in range(len(self._said))]

    async def ask(self, requests: Sequence[Request], *, eager: bool) -> None:
        """Hand the requests in, all or none; raises what `Scheduler.submit` raises.

        `eager` is for who wants each piece at once; else the loop is woken by the ends of answers only.
        """
        self._eager = eager
        self._said = [[] for _ in requests]
        await asyncio.to_thread(self._submit, requests)
        self.requests = tuple(requests)

    async def answers(self) -> AsyncIterator[tuple[int, Piece | Answer]]:
        """What is heard, with the number of its request, until every request has its Answer.

        Raises ServiceError for a Failure, UsageError for a refusal, and ApiError 503 when the time is up before a
        request has got a word.
        """
        waited_for = set(range(len(self._said)))
        while waited_for:
            is_late = await self._is_late()
            while self._heard:
                index, heard = self._heard.popleft()
                said = self._understood(index, heard)
                if isinstance(said, Answer):
                    waited_for.remove(index)
                yield index, said
            for index in sorted(waited_for if is_late else ()):
                waited_for.remove(index)
                yield index, self._cut(index)

    async def _is_late(self) -> bool:
        """Wait for news; whether the time is up instead."""
        try:
            async with asyncio.timeout_at(self._deadline):
                await self._news.wait()
        except TimeoutError:
            return True
        self._news.clear()
        self._is_called = False  # before they are taken: what comes from now on calls again
        return False

    def _understood(self, index: int, heard: Heard) -> Piece | Answer:
        match heard:
            case Failure():
                raise ServiceError(heard.problem)
            case Answer(finish="refused"):
                raise UsageError(heard.problem)
            case Answer():
                self._ends[index] = heard.finish
            case Piece():
                self._said[index].append(heard.text)
        return heard

    def cancel(self) -> None:
        """Stop the model for whatever has not ended; may be called again."""
        with self._lock:
            self._cancelled = True
            tickets, self._tickets = self._tickets, []
        for ticket in tickets:
            ticket.cancel()

    def _submit(self, requests: Sequence[Request]) -> None:
        """In a thread, for a long prompt takes time to read; a request that is not wanted any more is cancelled."""
        try:
            for index, request in enumerate(requests):
                ticket = self._scheduler.submit(request, partial(self._hear, index))
                with self._lock:
                    if not self._cancelled:
                        self._tickets.append(ticket)
                        continue
                ticket.cancel()
                return
        except Exception:
            self.cancel()
            raise

    def _hear(self, index: int, heard: Heard) -> None:
        """Called by the scheduler's thread."""
        self._heard.append((index, heard))
        is_piece = isinstance(heard, Piece)
        if is_piece and self.first_after is None:
            self.first_after = time.monotonic() - self._begun
        if (self._eager or not is_piece) and not self._is_called and not self._loop.is_closed():
            self._is_called = True
            self._loop.call_soon_threadsafe(self._news.set)

    def _cut(self, index: int) -> Answer:
        self.cancel()
        if not (text := "".join(self._said[index])):
            raise ApiError(
                503, f"no answer within {self._limit:g} s", code="time_limit", headers={"Retry-After": str(LATE_RETRY)}
            )
        self._ends[index] = "length"
        return Answer(text=text, finish="length")

"""A scheduler without a model: a thread a request, whose answer is what it was asked, a character a piece."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from medcli.core.errors import UnknownNameError, UsageError
from medcli.core.serving import Busy, Closing, Failure, Heard, Load, Piece, Request, TokenChance
from medcli.core.speaker import Answer

CONTEXT = 1000


@dataclass(eq=False)
class FakeTicket:
    """Cancelled or not."""

    stopped: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        self.stopped.set()


@dataclass
class FakeScheduler:
    """Repeats questions. The model "broken" fails after a piece, "silent" says nothing until it is cancelled.

    `pace` is the seconds before each piece.
    """

    pace: float = 0.0
    slots: int = 8
    places: int = 64
    asked: list[Request] = field(default_factory=list)
    running: int = 0
    waiting: int = 0
    cancelled: int = 0
    said: int = 0
    closed: bool = False
    hearers: dict[FakeTicket, Callable[[Heard], None]] = field(default_factory=dict)
    models: tuple[str, ...] = ("echo", "broken", "silent")
    _free: threading.Condition = field(default_factory=threading.Condition)

    def context(self, model: str) -> int | None:
        return CONTEXT

    def load(self) -> Load:
        with self._free:
            return Load(running=self.running, waiting=self.waiting, slots=self.slots, read=0, said=self.said, reused=0)

    def submit(self, request: Request, hear: Callable[[Heard], None]) -> FakeTicket:
        if request.model not in self.models:
            raise UnknownNameError("model", request.model, self.models)
        if len(text_of(request)) >= CONTEXT:
            raise UsageError("the conversation is too long")
        ticket = FakeTicket()
        with self._free:
            if self.closed:
                raise Closing("closing")
            if self.running + self.waiting >= self.slots + self.places:
                raise Busy(7)
            self.asked.append(request)
            self.waiting += 1
            self.hearers[ticket] = hear
        threading.Thread(target=self._answer, args=(request, hear, ticket), daemon=True).start()
        return ticket

    def close(self, patience: float) -> None:
        deadline = time.monotonic() + patience
        with self._free:
            self.closed = True
            while self.running + self.waiting and (left := deadline - time.monotonic()) > 0:
                self._free.wait(left)
            cut = dict(self.hearers)
        for ticket, hear in cut.items():
            ticket.stopped.set()
            hear(Failure(problem="the server was stopped"))

    def idle(self, within: float = 5.0) -> bool:
        """Whether every request has ended, or does so soon."""
        with self._free:
            return self._free.wait_for(lambda: not self.running + self.waiting, within)

    def _answer(self, request: Request, hear: Callable[[Heard], None], ticket: FakeTicket) -> None:
        with self._free:
            self._free.wait_for(lambda: self.running < self.slots)
            self.waiting -= 1
            self.running += 1
        try:
            self._speak(request, hear, ticket)
        finally:
            with self._free:
                self.running -= 1
                del self.hearers[ticket]
                self.cancelled += ticket.stopped.is_set()
                self._free.notify_all()

    def _speak(self, request: Request, hear: Callable[[Heard], None], ticket: FakeTicket) -> None:
        text = text_of(request)
        whole = text[: request.sampling.max_tokens]
        finish = "length" if len(whole) < len(text) else "stop"
        for stop in request.sampling.stop:
            if stop in whole:
                whole, finish = whole[: whole.index(stop)], "stop"
        for index, character in enumerate(whole):
            if ticket.stopped.wait(self.pace) or (request.model == "silent" and ticket.stopped.wait()):
                return
            if request.model == "broken" and index == 1:
                hear(Failure(problem="the device has run out of memory"))
                return
            self.said += 1
            hear(Piece(text=character, chances=_chances(character, request.chances)))
        hear(Answer(text=whole, finish=finish, prompt_tokens=len(text), tokens=len(whole)))


def text_of(request: Request) -> str:
    """What the answer repeats: the last message, or the text."""
    return request.prompt if isinstance(request.prompt, str) else request.prompt[-1].content


def _chances(character: str, number: int | None) -> tuple[TokenChance, ...]:
    """Two tokens for a character of several bytes, so that neither is a whole one."""
    if number is None:
        return ()
    raw = character.encode()
    parts = [raw] if len(raw) == 1 else [raw[:1], raw[1:]]
    others = tuple((f"o{index}", b"o%d" % index, float("-inf")) for index in range(number))
    return tuple(
        TokenChance(text=part.decode("utf-8", "replace"), raw=part, log_probability=-0.5, others=others)
        for part in parts
    )

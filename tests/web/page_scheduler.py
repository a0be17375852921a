"""A scheduler for the page's tests: its models say what the question asks them to."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from medcli.core.errors import UsageError
from medcli.core.serving import Busy, Closing, Failure, Heard, Load, Piece, Request
from medcli.core.speaker import Answer


@dataclass(eq=False)
class Spoken:
    """A request, and whether nobody listens any more."""

    request: Request
    ended: threading.Event = field(default_factory=threading.Event)
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True
        self.ended.set()


@dataclass(eq=False)
class PageScheduler:
    """Says `answers[question]`, else the question itself, word by word; "wait" says a word and then nothing more.

    "busy", "closing", "long" and "broken" are answered by what goes wrong in these cases.
    """

    models: Sequence[str] = ("med-a", "med-b")
    answers: dict[str, str] = field(default_factory=dict)
    pause: float = 0.01  # seconds between two pieces
    spoken: list[Spoken] = field(default_factory=list)

    def context(self, model: str) -> int | None:
        return 2048

    def submit(self, request: Request, hear: Callable[[Heard], None]) -> Spoken:
        question = request.prompt[-1].content
        if question == "busy":
            raise Busy(7)
        if question == "closing":
            raise Closing("the server stops")
        if question == "long":
            raise UsageError("the prompt is too long", hint="ask something shorter")
        ticket = Spoken(request)
        self.spoken.append(ticket)
        threading.Thread(target=self._speak, args=(ticket, question, hear), daemon=True).start()
        return ticket

    def load(self) -> Load:
        running = sum(not ticket.ended.is_set() for ticket in self.spoken)
        return Load(running=running, waiting=0, slots=8, read=0, said=0, reused=0)

    def close(self, patience: float) -> None:
        for ticket in self.spoken:
            ticket.cancel()

    def _speak(self, ticket: Spoken, question: str, hear: Callable[[Heard], None]) -> None:
        text = self.answers.get(question, f"{ticket.request.model} says: {question}")
        said = ""
        for start in range(0, len(text), 4):
            if ticket.ended.wait(self.pause):
                return
            said += text[start : start + 4]
            hear(Piece(text=text[start : start + 4]))
            if question == "wait":
                ticket.ended.wait(30)
                return
        ending = Failure(problem="out of memory") if question == "broken" else Answer(text=said, finish="stop")
        ticket.ended.set()
        hear(ending)


def until(true: Callable[[], bool], seconds: float = 5) -> bool:
    """Whether something comes true in time."""
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    return true()

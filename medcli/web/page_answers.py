"""Ask the models for the page, and hear all of them at once."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from medcli.core.catalogue import translated, words
from medcli.core.citation import Grounding
from medcli.core.errors import MedError
from medcli.core.passage import Passage
from medcli.core.record import Message
from medcli.core.serving import Busy, Closing, Failure, Heard, Piece, Request, Scheduler, Ticket
from medcli.core.speaker import Answer, Sampling
from medcli.steps.grounded import room_of
from medcli.web.page_talk import Said, Talk

PATIENCE = 0.25  # seconds: so often it is looked whether the reader is still there
_BETWEEN = 0.05  # seconds between two looks at what was said: faster than an eye reads, slower than a model speaks


Ground = Callable[[Sequence[Message], int | None], Grounding]  # with the characters that passages may have


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Where the page asks: a scheduler, a knowledge base if there is one, and when an answer is cut (0: never)."""

    scheduler: Scheduler
    ground: Ground | None = None
    time_limit: float = 0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reach:
    """What a model reads and says together, in tokens."""

    context: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a person has set when asking: one model or two, and how they are to answer."""

    models: tuple[str, ...]
    system: str
    sampling: Sampling

    @property
    def sides(self) -> range:
        """0 for the left side, 1 for the right one."""
        return range(len(self.models))


class _Ear:
    """What was heard of all sides, from whatever thread, in order."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._heard: asyncio.Queue[tuple[int, Heard]] = asyncio.Queue()

    def hear(self, side: int, heard: Heard) -> None:
        """Take what another thread says."""
        self._loop.call_soon_threadsafe(self._heard.put_nowait, (side, heard))

    async def listen(self) -> list[tuple[int, Heard]]:
        """All that is new; nothing when nothing was said for a while."""
        try:
            news = [await asyncio.wait_for(self._heard.get(), PATIENCE)]
        except TimeoutError:
            return []
        await asyncio.sleep(_BETWEEN)
        while not self._heard.empty():
            news.append(self._heard.get_nowait())
        return news


async def answered(desk: Desk, talk: Talk, wish: Wish, language: str) -> AsyncGenerator[Talk, None]:
    """The talk as its last question is being answered, again and again until all sides are done; ours in `language`.

    It is the same talk when nothing new was said for a while. Closing the generator stops the models.
    """
    ear = _Ear()
    tickets: dict[int, Ticket] = {}
    begun = time.monotonic()
    try:
        for side in wish.sides:
            try:
                request, passages = await _request(desk, talk, wish, side)
                tickets[side] = desk.scheduler.submit(request, partial(ear.hear, side))
            except MedError as error:
                talk = talk.heard(side, Said(done=True, problem=_refusal(error, language)))
            else:
                talk = talk.heard(side, Said(passages=passages))
        yield talk
        while tickets:
            for side, heard in await ear.listen():
                talk = talk.heard(side, _more(talk.turns[-1].said[side], heard, language))
                if not isinstance(heard, Piece):
                    del tickets[side]
            if desk.time_limit and time.monotonic() - begun > desk.time_limit:
                yield talk.stopped(words(language, "page")["too_late"])
                return
            yield talk
    finally:
        for ticket in tickets.values():
            ticket.cancel()


async def _request(desk: Desk, talk: Talk, wish: Wish, side: int) -> tuple[Request, tuple[Passage, ...] | None]:
    """What a side's model is asked, and the passages in it; None without a knowledge base."""
    model, messages = wish.models[side], talk.messages(side, wish.system)
    sampling = replace(wish.sampling, seed=wish.sampling.seed + talk.retries)
    if desk.ground is None:
        return Request(model=model, prompt=messages, sampling=sampling), None
    context = desk.scheduler.context(model)
    answer = min(sampling.max_tokens, context // 2) if context else sampling.max_tokens
    room = room_of(_Reach(context=context), messages, replace(sampling, max_tokens=answer))
    found = await asyncio.to_thread(desk.ground, messages, room)  # a search may take its time
    return Request(model=model, prompt=tuple(found.messages), sampling=sampling), tuple(found.passages)


def _more(said: Said, heard: Heard, language: str) -> Said:
    page = words(language, "page")
    match heard:
        case Piece(text=text):
            return replace(said, text=said.text + text)
        case Failure(problem=problem):
            return replace(said, done=True, problem=page["failed"].format(problem=translated(problem, language)))
        case Answer(finish="refused", problem=problem):
            return replace(said, done=True, problem=page["refused"].format(problem=translated(problem, language)))
        case Answer(finish=finish, text=text):
            return replace(said, text=text, done=True, remark=page["too_long"] if finish == "length" else "")


def _refusal(error: MedError, language: str) -> str:
    """Why a scheduler took no request, in the reader's words."""
    page = words(language, "page")
    match error:
        case Busy(retry_after=seconds):
            return page["busy"].format(seconds=seconds)
        case Closing():
            return page["closing"]
    parts = [translated(part, language) for part in (error.message, error.hint) if part]
    return page["refused"].format(problem="; ".join(parts))

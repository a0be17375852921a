"""Answer a request over HTTP: whole, or as a stream of events; a client that goes away stops the model."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from fastapi import Request as HttpRequest
from fastapi import Response
from fastapi.responses import JSONResponse, StreamingResponse

from medcli.core.citation import Grounding, cited
from medcli.core.errors import MedError
from medcli.core.serving import Piece, Request, TokenChance
from medcli.core.speaker import Answer
from medcli.web.errors import api_error
from medcli.web.forms import Form, Frame, Json, usage
from medcli.web.hearing import Hearing
from medcli.web.metrics import GONE

T = TypeVar("T")
_DONE = "data: [DONE]\n\n"
_NOT_KEPT = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """How requests are to be answered: `each` answers to a prompt, in a form, whole or as a stream.

    With `grounding`, what an answer cites stands below its text, and what it was given as `citations`.
    """

    frame: Frame
    form: Form
    each: int
    stream: bool
    usage: bool = False
    grounding: Grounding | None = None

    def below(self, text: str) -> str:
        """What is put below an answer's text."""
        return cited(self.grounding, text) if self.grounding and text else ""

    @property
    def more(self) -> Json:
        """What a reply has beside OpenAI's fields."""
        if self.grounding is None:
            return {}
        rows = enumerate(self.grounding.passages, 1)
        return {"citations": [{"number": number, "source": one.source, "text": one.text} for number, one in rows]}


async def answer(client: HttpRequest, hearing: Hearing, requests: Sequence[Request], reply: Reply) -> Response:
    """Ask, and answer; raises what `Hearing.ask` and, when it is no stream, `Hearing.answers` raise."""
    await hearing.ask(requests, eager=reply.stream)
    if reply.stream:
        events = _events(hearing, reply, len(requests))
        return StreamingResponse(events, media_type="text/event-stream", headers=_NOT_KEPT)
    said = await _unless_gone(client, _whole(hearing, reply, len(requests)))
    return Response(status_code=GONE) if said is None else JSONResponse(said)


async def _whole(hearing: Hearing, reply: Reply, number: int) -> Json:
    answers: dict[int, Answer] = {}
    chances: list[list[TokenChance]] = [[] for _ in range(number)]
    async for index, heard in hearing.answers():
        if isinstance(heard, Piece):
            chances[index] += heard.chances
        else:
            answers[index] = replace(heard, text=heard.text + reply.below(heard.text))
    choices = [reply.form.choice(index, answers[index], chances[index]) for index in range(number)]
    ordered = [answers[index] for index in range(number)]
    return reply.frame.around(reply.form.whole, choices, usage=usage(ordered, reply.each), **reply.more)


async def _events(hearing: Hearing, reply: Reply, number: int) -> AsyncIterator[str]:
    """Server-sent events. What goes wrong after the first of them is an event too, and the last."""
    none_yet = {"usage": None} if reply.usage else {}
    answers: dict[int, Answer] = {}
    try:
        for index in range(number):
            if opening := reply.form.opening(index):
                yield _event(reply.frame.around(reply.form.part, [opening], **none_yet))
        async for index, heard in hearing.answers():
            if isinstance(heard, Piece):
                yield _event(reply.frame.around(reply.form.part, [reply.form.piece(index, heard)], **none_yet))
                continue
            answers[index] = heard
            if below := reply.below(heard.text):
                choice = reply.form.piece(index, Piece(text=below))
                yield _event(reply.frame.around(reply.form.part, [choice], **none_yet))
            choice = reply.form.ending(index, heard)
            yield _event(reply.frame.around(reply.form.part, [choice], **none_yet, **reply.more))
        if reply.usage:
            said = usage([answers[index] for index in range(number)], reply.each)
            yield _event(reply.frame.around(reply.form.part, [], usage=said))
        yield _DONE
    except MedError as error:
        yield _event(api_error(error).body)


def _event(content: Json) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False, separators=(',', ':'))}\n\n"


async def _unless_gone(client: HttpRequest, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`; None, and the work ended, when the client goes away first."""
    working, watching = asyncio.create_task(work), asyncio.create_task(_gone(client))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _gone(client: HttpRequest) -> None:
    while (await client.receive())["type"] != "http.disconnect":
        pass

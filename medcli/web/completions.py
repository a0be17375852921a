"""`POST /v1/chat/completions` and `POST /v1/completions`: answer a conversation, or continue a text."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi import Request as HttpRequest

from medcli.core.citation import Grounding
from medcli.core.serving import Request, Scheduler
from medcli.steps.grounded import Library, room_of
from medcli.web.answering import Reply, answer
from medcli.web.asking import conversation_of, requests_of
from medcli.web.errors import ApiError
from medcli.web.forms import ChatForm, Frame, TextForm
from medcli.web.hearing import Hearing
from medcli.web.openapi import answers
from medcli.web.replies import ChatCompletion, Completion
from medcli.web.schemas import Asked, ChatRequest, CompletionRequest
from medcli.web.service import Service


def router(service: Service) -> APIRouter:
    """The routes that ask a model."""
    routes = APIRouter()

    async def heard() -> AsyncIterator[Hearing]:
        hearing = service.hearing()
        try:
            yield hearing
        finally:  # after the last byte of the answer, or when the client has gone
            service.ended(hearing)

    Heard = Annotated[Hearing, Depends(heard)]

    @routes.post(
        "/v1/chat/completions", response_model=None, responses=answers(ChatCompletion), summary="Answer a conversation"
    )
    async def chat(body: ChatRequest, client: HttpRequest, hearing: Heard) -> Response:
        dialogue = conversation_of(body.messages)
        chances = (body.top_logprobs or 0) if body.logprobs else None
        if body.top_logprobs and not body.logprobs:
            raise ApiError(400, "top_logprobs needs logprobs: true", param="top_logprobs")
        requests = requests_of(body, [dialogue], chances, service.scheduler, service.settings)
        frame = Frame(id=f"chatcmpl-{hearing.id}", model=requests[0].model)
        reply = _reply(body, frame, ChatForm(chances=chances is not None))
        if service.kb is not None:
            grounding = await asyncio.to_thread(_ground, service.kb, service.scheduler, requests[0])
            requests = [replace(request, prompt=grounding.messages) for request in requests]
            reply = replace(reply, grounding=grounding)
        return await answer(client, hearing, requests, reply)

    @routes.post("/v1/completions", response_model=None, responses=answers(Completion), summary="Continue a text")
    async def complete(body: CompletionRequest, client: HttpRequest, hearing: Heard) -> Response:
        prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
        requests = requests_of(body, prompts, body.logprobs, service.scheduler, service.settings)
        frame = Frame(id=f"cmpl-{hearing.id}", model=requests[0].model)
        return await answer(client, hearing, requests, _reply(body, frame, TextForm(chances=body.logprobs is not None)))

    return routes


def _reply(body: Asked, frame: Frame, form: ChatForm | TextForm) -> Reply:
    if body.stream_options is not None and not body.stream:
        raise ApiError(400, "stream_options needs stream: true", param="stream_options")
    told = bool(body.stream_options and body.stream_options.include_usage)
    return Reply(frame=frame, form=form, each=body.n or 1, stream=bool(body.stream), usage=told)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Room:
    """What a model reads and says together, in tokens."""

    context: int | None


def _ground(library: Library, scheduler: Scheduler, request: Request) -> Grounding:
    """The conversation with passages; where nobody said how long an answer may be, half the context is left to it."""
    assert not isinstance(request.prompt, str)
    context = scheduler.context(request.model)
    answer = min(request.sampling.max_tokens, context // 2) if context else request.sampling.max_tokens
    sampling = replace(request.sampling, max_tokens=answer)
    return library.ground(request.prompt, room_of(_Room(context=context), request.prompt, sampling))

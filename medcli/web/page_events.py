"""What happens when a person asks, stops, asks again, takes back, edits or clears."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

import gradio as gr

from medcli.core.catalogue import preferred, words
from medcli.core.speaker import Sampling
from medcli.web.page_answers import Desk, Wish, answered
from medcli.web.page_parts import Parts
from medcli.web.page_talk import Bubble, Talk, bubbles

# Events have no name that others could call them by, and nothing lies over a chat while it is being written.
_PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
_LEFT = 0

Changes = dict[Any, Any]  # part of the page -> its new value


class Events:
    """The page's events. A talk is kept on the server, in memory: of a browser nothing is taken but what is typed."""

    def __init__(self, desk: Desk, parts: Parts, sampling: Sampling) -> None:
        self._desk = desk
        self._parts = parts
        self._sampling = sampling  # what is asked for where the page has no part to set it

    def connect(self) -> None:
        """Tell the parts what to do."""
        parts = self._parts
        given = [parts.talk, *parts.controls]
        shown = [*parts.chats, parts.talk, parts.question]
        answering: list[dict[str, Any]] = [parts.question.submit(self.ask, [parts.question, *given], shown, **_PRIVATE)]
        for side, chat in enumerate(parts.chats):
            answering += [chat.retry(self.retry, given, shown, **_PRIVATE)]
            answering += [chat.edit(self.editing(side), given, shown, **_PRIVATE)]
        for chat in parts.chats:
            chat.undo(self.undo, parts.talk, shown, cancels=answering, **_PRIVATE)
            chat.clear(self.clear, None, shown, cancels=answering, **_PRIVATE)
        stopping = parts.question.stop(None, cancels=answering, **_PRIVATE)
        stopping.then(self.stop, parts.talk, shown, **_PRIVATE)
        parts.beside.change(self.compare, parts.beside, [parts.right, parts.models[_LEFT]], **_PRIVATE)

    async def ask(
        self, question: str, talk: Talk, request: gr.Request, *controls: Any
    ) -> AsyncGenerator[Changes, None]:
        """Let the chosen models answer what was typed; not while they still answer what was asked before."""
        wish = self._wish(*controls)
        if question.strip() and talk.ended:
            async for changes in self._answer(talk.asked(question, wish.sides), wish, request, value=""):
                yield changes

    async def retry(self, talk: Talk, request: gr.Request, *controls: Any) -> AsyncGenerator[Changes, None]:
        """Let them answer the last question again, with another seed."""
        wish = self._wish(*controls)
        if talk.turns and talk.ended:
            async for changes in self._answer(talk.again(wish.sides), wish, request):
                yield changes

    def editing(self, side: int) -> Callable[..., AsyncGenerator[Changes, None]]:
        """What happens when a question is edited on one side of the page."""

        async def edit(
            talk: Talk, change: gr.EditData, request: gr.Request, *controls: Any
        ) -> AsyncGenerator[Changes, None]:
            """Let the models answer the question in other words; what came after it is forgotten."""
            wish = self._wish(*controls)
            turn = bubbles(talk, side, _words(request))[cast(int, change.index)].turn
            if change.value.strip() and talk.ended:
                async for changes in self._answer(talk.before(turn).asked(change.value, wish.sides), wish, request):
                    yield changes

        return edit

    async def undo(self, talk: Talk, request: gr.Request) -> Changes:
        """Take the last question back, to where it was typed."""
        question = talk.turns[-1].question if talk.turns else ""
        return self._shown(talk.before(len(talk.turns) - 1), request) | self._ready(value=question)

    async def clear(self, request: gr.Request) -> Changes:
        """Forget all."""
        return self._shown(Talk(), request) | self._ready()

    async def stop(self, talk: Talk, request: gr.Request) -> Changes:
        """Keep what was said until now; the models were stopped when their answers were no longer waited for."""
        return self._shown(talk.stopped(_words(request)["stopped"]), request) | self._ready()

    async def compare(self, beside: bool, request: gr.Request) -> Changes:
        """Show a second model, or hide it."""
        name = _words(request)["model_left" if beside else "model"]
        return {self._parts.right: gr.Column(visible=beside), self._parts.models[_LEFT]: gr.Dropdown(label=name)}

    async def _answer(self, talk: Talk, wish: Wish, request: gr.Request, **typed: Any) -> AsyncGenerator[Changes, None]:
        """The page while the last question is being answered; what is being typed stays, but for a new `value`."""
        yield self._shown(talk, request) | {self._parts.question: gr.Textbox(submit_btn=False, stop_btn=True, **typed)}
        answers = answered(self._desk, talk, wish, _language(request))
        async with aclosing(answers):
            async for more in answers:
                yield {self._parts.talk: talk} if more is talk else self._shown(more, request)
                talk = more
        yield self._ready()

    def _wish(
        self,
        left: str,
        right: str,
        beside: bool,
        system: str,
        temperature: float,
        top_p: float,
        top_k: float,
        max_tokens: float,
        seed: float | None,
        repetition_penalty: float,
    ) -> Wish:
        """What the controls say, in their order on the page; a seed that was wiped out is the first one again."""
        sampling = replace(
            self._sampling,
            temperature=float(temperature),
            top_p=float(top_p),
            top_k=int(top_k),
            max_tokens=int(max_tokens),
            seed=self._sampling.seed if seed is None else int(seed),
            repetition_penalty=float(repetition_penalty),
        )
        return Wish(models=(left, right) if beside else (left,), system=system.strip(), sampling=sampling)

    def _shown(self, talk: Talk, request: gr.Request) -> Changes:
        """The talk, and both of its sides as they stand on the page."""
        sides = {
            chat: [_message(bubble) for bubble in bubbles(talk, side, _words(request))]
            for side, chat in enumerate(self._parts.chats)
        }
        return {**sides, self._parts.talk: talk}

    def _ready(self, **typed: Any) -> Changes:
        """The place for the next question; what stands in it stays, but for a new `value`."""
        return {self._parts.question: gr.Textbox(submit_btn=True, stop_btn=False, **typed)}


def _message(bubble: Bubble) -> dict[str, Any]:
    heading = {"metadata": {"title": bubble.heading, "status": "done"}} if bubble.heading else {}
    return {"role": bubble.role, "content": bubble.text, **heading}


def _language(request: gr.Request) -> str:
    return preferred(request.headers.get("accept-language", ""))


def _words(request: gr.Request) -> Mapping[str, str]:
    return words(_language(request), "page")

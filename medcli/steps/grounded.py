"""Let answers rest on a knowledge base: look passages up, give them to a model, and show what its answer cites.

For a server or a file of prompts, which ask models in their own way, two calls are enough:

    library = open_library("guides")
    grounding = library.ground(messages)            # may be called by any thread; messages as the person sent them
    … the model is asked grounding.messages, and answers `text` …
    text += cited(grounding, text)                  # of medcli.core.citation: quoted passages, or "未找到依据"
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, Protocol, runtime_checkable

from medcli.core.citation import Grounding, asked_in, cited, grounded
from medcli.core.errors import DataError, UsageError
from medcli.core.graph_lookup import FactIndex
from medcli.core.knowledge_base import INDEX, KnowledgeBase, PassageFile, open_base
from medcli.core.passage import Found
from medcli.core.record import Conversation, Message
from medcli.core.report import Report
from medcli.core.speaker import Answer, Answering, Declining, Likelihood, Reader, Sampling, Speaker

LIMIT = 5  # passages that a model is given
_WORDING = 250  # characters of the prompt around passages, and of the format around messages
_INSTALL = 'install it: pip install "medcli[kb]"'


@runtime_checkable
class Bounded(Protocol):
    """A speaker that knows how many tokens it reads and says together; None when there is no limit."""

    @property
    def context(self) -> int | None:
        """Prompt and answer together, in tokens."""
        ...


class Library:
    """A knowledge base that is open; may be asked by any thread. `open_library` gives one."""

    def __init__(self, base: KnowledgeBase, passages: PassageFile, index: Any, facts: FactIndex) -> None:
        self.base = base
        self._passages, self._index, self._facts = passages, index, facts

    @property
    def name(self) -> str:
        """The knowledge base's name."""
        return self.base.name

    def find(self, question: str, limit: int = LIMIT, *, before: str = "") -> tuple[Found, ...]:
        """At most `limit` passages that fit a question, the best first; none when nothing does.

        Facts that are asked for by their names come first, and then those of no other disease stand beside them.
        `before` is what was asked before, and is meant as well.
        """
        from medcli.engine.passages_index import FITS

        asked = dict.fromkeys(self._facts.asked(question, before))
        exact = [Found(passage=self._passages[number], score=1.0, exact=True) for number in asked]
        subjects = {"", *(one.passage.subject for one in exact)}
        rows = self._index.search(f"{before}\n{question}" if before else question, limit + len(exact))
        near = [
            Found(passage=self._passages[number], score=score)
            for number, score in rows
            if score >= FITS and number not in asked
        ]
        others = [one for one in near if not exact or one.passage.subject in subjects]
        return tuple([*exact, *others][:limit])

    def nearest(self, question: str) -> float:
        """The score of the passage that comes nearest, whether it fits or not."""
        return max((score for _, score in self._index.search(question, LIMIT)), default=0.0)

    def ground(self, messages: Sequence[Message], room: int | None = None) -> Grounding:
        """The conversation as a model is to be asked it, with passages for its last question.

        With `room`, in characters, the last ones that do not fit are left out, but never the first.
        """
        question, before = asked_in(messages)
        passages = [found.passage for found in self.find(question, before=before)]
        if room is not None:
            ends = accumulate(len(passage.text) for passage in passages)
            passages = passages[: max(1, sum(end <= room for end in ends))]
        return Grounding(messages=grounded(messages, passages), passages=tuple(passages), kb=self.name)


def open_library(name: str) -> Library:
    """The knowledge base of that name, ready to be asked.

    Raises UnknownNameError, DataError where its files are damaged, and UsageError when bm25s is not installed.
    """
    base = open_base(name)
    index = engine()
    opened = Library(base, PassageFile(base), index.PassagesIndex(base.path / INDEX), base.facts())
    if not base.count == len(opened._passages) == len(opened._index):
        raise DataError(f"{base.path} is not as it was built", hint=f"build it again: med kb build … --name {name}")
    return opened


def engine() -> Any:
    """The module that searches; raises UsageError when what it needs is not installed."""
    try:
        from medcli.engine import passages_index
    except ModuleNotFoundError as error:
        if error.name != "bm25s":
            raise
        raise UsageError("a knowledge base needs the package bm25s", hint=_INSTALL) from error
    return passages_index


class Grounded:
    """A `Speaker` whose answers rest on a library, with what they cite shown below them.

    `citing` off leaves that away, for answers that are marked. Prompts that the speaker behind it declined are told
    in the person's own words.
    """

    def __init__(self, speaker: Speaker, library: Library, *, citing: bool = True) -> None:
        self.speaker = speaker
        self.kb = library
        self._citing = citing
        self._asked: dict[tuple[Message, ...], tuple[Message, ...]] = {}

    @property
    def refusals(self) -> Mapping[tuple[Message, ...], str]:
        """The reasons of the speaker behind it, by prompt as it was asked here."""
        if not isinstance(self.speaker, Declining):
            return {}
        reasons = self.speaker.refusals
        return {asked: reasons[sent] for asked, sent in self._asked.items() if sent in reasons}

    def reply(self, messages: Sequence[Message], sampling: Sampling) -> Generator[str, None, Answer | None]:
        """The answer in pieces, and at its end what it cites."""
        grounding = self._ground(messages, sampling)
        pieces: list[str] = []
        answer = yield from _heard(self.speaker.reply(grounding.messages, sampling), pieces)
        said = "".join(pieces)
        below = self._below(grounding, said)
        if below:
            yield below
        return replace(answer, text=answer.text + below) if answer else None

    def replies(
        self, prompts: Sequence[Sequence[Message]], sampling: Sampling, advance: Callable[[int], None]
    ) -> list[str]:
        """One answer per prompt, in order, each with what it cites."""
        groundings = [self._ground(messages, sampling) for messages in prompts]
        said = self.speaker.replies([grounding.messages for grounding in groundings], sampling, advance)
        return [text + self._below(grounding, text) for grounding, text in zip(groundings, said, strict=True)]

    def _ground(self, messages: Sequence[Message], sampling: Sampling) -> Grounding:
        grounding = self.kb.ground(messages, room_of(self.speaker, messages, sampling))
        if isinstance(self.speaker, Declining):
            self._asked[tuple(messages)] = grounding.messages
        return grounding

    def _below(self, grounding: Grounding, said: str) -> str:
        return cited(grounding, said) if self._citing and said else ""


class GroundedAnswers:
    """An `Answering` whose answers rest on a library, with what they cite shown below them."""

    def __init__(self, speaker: Answering, library: Library) -> None:
        self.speaker = speaker
        self.kb = library

    def answers(
        self, prompts: Sequence[Sequence[Message]], sampling: Sequence[Sampling]
    ) -> Generator[tuple[int, Answer], None, None]:
        """As the speaker behind it gives them; an empty answer cites nothing."""
        groundings = [
            self.kb.ground(messages, room_of(self.speaker, messages, how))
            for messages, how in zip(prompts, sampling, strict=True)
        ]
        source = self.speaker.answers([grounding.messages for grounding in groundings], sampling)
        try:
            for number, answer in source:
                below = cited(groundings[number], answer.text) if answer.text else ""
                yield number, replace(answer, text=answer.text + below)
        finally:
            source.close()


class GroundedReader:
    """A `Reader` that reads answers to questions with passages of a library before them."""

    def __init__(self, reader: Reader, library: Library, context: int | None = None) -> None:
        self._reader, self._kb, self._context = reader, library, context

    def likelihoods(
        self,
        prompts: Sequence[Sequence[Message]],
        endings: Sequence[Sequence[str]],
        advance: Callable[[int], None],
        *,
        ended: bool = False,
    ) -> list[list[Likelihood]]:
        """As the reader behind it gives them."""
        asked = [
            self._kb.ground(messages, _room(self._context, messages, max(map(len, texts), default=0))).messages
            for messages, texts in zip(prompts, endings, strict=True)
        ]
        return self._reader.likelihoods(asked, endings, advance, ended=ended)

    def perplexity(self, conversations: Sequence[Conversation], report: Report) -> tuple[float, int, list[float]]:
        """As the reader behind it gives it, each dialogue's last question with passages before it."""
        return self._reader.perplexity([self._with_passages(one) for one in conversations], report)

    def _with_passages(self, conversation: Conversation) -> Conversation:
        messages = conversation.messages
        answer = messages[-1:] if messages and messages[-1].role == "assistant" else ()
        asked = messages[: len(messages) - len(answer)]
        room = _room(self._context, messages, 0)
        return replace(conversation, messages=(*self._kb.ground(asked, room).messages, *answer))


def room_of(speaker: object, messages: Sequence[Message], sampling: Sampling) -> int | None:
    """The characters of passages that a speaker can read beside a conversation and its answer; None for no limit."""
    return _room(speaker.context, messages, sampling.max_tokens) if isinstance(speaker, Bounded) else None


def _room(context: int | None, messages: Sequence[Message], answer: int) -> int | None:
    """A token is taken to be a character: of Chinese hardly ever less."""
    if context is None:
        return None
    return max(0, context - answer - _WORDING - sum(len(message.content) for message in messages))


def _heard(source: Iterator[str], pieces: list[str]) -> Generator[str, None, Answer | None]:
    """The pieces of an answer as they come, kept in `pieces`; its end, where the speaker tells it."""
    try:
        while True:
            try:
                piece = next(source)
            except StopIteration as end:
                return end.value if isinstance(end.value, Answer) else None
            pieces.append(piece)
            yield piece
    finally:
        if isinstance(source, Generator):
            source.close()

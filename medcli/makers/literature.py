"""Documents become dialogues: a model asks and answers, and what the document does not say is refused."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from medcli.core.grounding import invented, overlap
from medcli.core.llm_settings import Ask, LlmSettings, Reply
from medcli.core.loose_json import objects_in
from medcli.core.prompts import prompt
from medcli.core.raw_rows import Refused
from medcli.core.record import Conversation, Document, Message, Role, Row
from medcli.core.settings import setting

OVERLAP = 0.5  # least share of an answer's character pairs that stand in the document
LONGEST = 4000  # characters of a document that the model is shown
SHORTEST = 100  # characters; less holds no dialogue


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(LlmSettings):
    """What `med data make literature` can be told."""

    name: str = setting("", help="Name of the data set; the source's name with -dialogues when not given.")
    turns: int = setting(3, help="Questions of a dialogue.", minimum=1)
    limit: int | None = setting(None, help="Take so many documents only.", minimum=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A document with the place where it stands."""

    document: Document
    file: str
    line: int


def make(sources: Sequence[Source], ask: Ask, turns: int) -> Iterator[Row]:
    """A row per document: a dialogue, or the reason why there is none."""
    long_enough = [source for source in sources if len(source.document.text) >= SHORTEST]
    for source in sources:
        if len(source.document.text) < SHORTEST:
            reason = f"fewer than {SHORTEST} characters"
            yield Row(file=source.file, line=source.line, reason=reason, text=source.document.text)
    prompts = [prompt("literature", document=s.document.text[:LONGEST], turns=str(turns)) for s in long_enough]
    for source, reply in zip(long_enough, ask(prompts), strict=True):
        try:
            record = _dialogue(source.document, reply)
            yield Row(file=source.file, line=source.line, record=record, text=record.messages[0].content)
        except Refused as reason:
            yield Row(file=source.file, line=source.line, reason=str(reason), text=source.document.text[:200])


def _dialogue(document: Document, reply: Reply) -> Conversation:
    if not reply.text:
        raise Refused(reply.reason)
    try:
        rows = objects_in(reply.text)
    except ValueError as error:
        raise Refused(f"the model's answer cannot be read: {error}") from error
    messages = tuple(message for row in rows for message in _turn(document, row))
    return Conversation(id=document.id, messages=messages, source=document.source)


def _turn(document: Document, row: dict[str, Any]) -> Iterator[Message]:
    """A question and its answer, when the document says what the answer says; raises Refused."""
    shown = document.text[:LONGEST]
    parts: tuple[tuple[Role, Any], ...] = (("user", row.get("question")), ("assistant", row.get("answer")))
    for role, text in parts:
        if not isinstance(text, str) or not text.strip():
            raise Refused("the model's answer cannot be read: a part is missing")
        if role == "assistant":
            if reason := invented(shown, text):
                raise Refused(reason)
            if overlap(shown, text) < OVERLAP:
                raise Refused("an answer is not from the document")
        yield Message(role=role, content=text)

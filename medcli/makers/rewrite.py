"""Dialogues from forums become clean ones: a model rewrites, and a text that loses a fact is refused."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from medcli.core.grounding import invented, lost
from medcli.core.llm_settings import Ask, LlmSettings, Reply
from medcli.core.loose_json import objects_in
from medcli.core.prompts import prompt, written_out
from medcli.core.raw_rows import Refused
from medcli.core.record import Conversation, Row, message_rows, messages_of
from medcli.core.settings import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(LlmSettings):
    """What `med data make rewrite` can be told."""

    name: str = setting("", help="Name of the data set; the old name with -rewritten when not given.")
    limit: int | None = setting(None, help="Rewrite so many conversations of each split only.", minimum=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A conversation of a built data set, with its split and its line there."""

    conversation: Conversation
    split: str
    line: int


def make(sources: Sequence[Source], ask: Ask) -> Iterator[Row]:
    """A row per conversation, in the split it was in: rewritten, or the reason why not."""
    prompts = [prompt("rewrite", dialogue=written_out(source.conversation.messages)) for source in sources]
    for source, reply in zip(sources, ask(prompts), strict=True):
        file, text = f"{source.split}.jsonl", written_out(source.conversation.messages)[:300]
        try:
            record = _rewritten(source.conversation, reply)
            yield Row(file=file, line=source.line, record=record, split=source.split, text=text)
        except Refused as reason:
            yield Row(file=file, line=source.line, reason=str(reason), split=source.split, text=text)


def _rewritten(old: Conversation, reply: Reply) -> Conversation:
    if not reply.text:
        raise Refused(reply.reason)
    try:
        messages = messages_of(objects_in(reply.text))
    except ValueError as error:
        raise Refused(f"the model's answer cannot be read: {error}") from error
    if [message.role for message in messages] != [message.role for message in old.messages]:
        raise Refused("the turns are not those of the original")
    for before, after in zip(old.messages, messages, strict=True):
        if reason := lost(before.content, after.content) or invented(before.content, after.content):
            raise Refused(reason)
    if message_rows(messages) == message_rows(old.messages):
        raise Refused("nothing was changed")
    return Conversation(id=old.id, messages=messages, source=old.source, meta=old.meta)

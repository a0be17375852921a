"""The free answer: a conversation's last answer is asked for anew and compared with the one there."""

from dataclasses import dataclass, replace

from medcli.core.errors import DataError
from medcli.core.record import Conversation, Message

HELP = "the model answers anew; the answer is compared with the one in the data set"
KIND = "conversation"  # of data set
METRICS = ("exact", "bleu", "rouge")  # of medcli.metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """What is asked, and the answer that is wanted."""

    id: str
    prompt: tuple[Message, ...]
    reference: str


def item_of(conversation: Conversation) -> Item:
    """Everything up to the last answer is asked; raises DataError when nothing is asked or answered."""
    messages = conversation.messages
    last = max((index for index, message in enumerate(messages) if message.role == "assistant"), default=0)
    if not any(message.role == "user" for message in messages[:last]):
        raise DataError(
            f"the conversation '{conversation.id}' has no question with an answer",
            hint="`med data build` refuses such records: build the data set again",
        )
    return Item(id=conversation.id, prompt=messages[:last], reference=messages[last].content)


def with_system(conversation: Conversation, system: str) -> Conversation:
    """The conversation opened by `system` instead of what opened it."""
    rest = tuple(message for message in conversation.messages if message.role != "system")
    return replace(conversation, messages=(Message(role="system", content=system), *rest))

"""What a training method makes of records: documents, dialogues, pairs of answers, or prompts to answer itself."""

from collections.abc import Sequence
from dataclasses import dataclass

from medcli.core.chat_template import ChatTemplate, Segment
from medcli.core.exam_question import in_order, text_of
from medcli.core.record import Conversation, Message, Preference, Question, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A way to read data sets, and the kinds of records that can be read so."""

    name: str
    kinds: tuple[str, ...]

    @property
    def has_answers(self) -> bool:
        """Whether answers are learnt from the records, so that their end can be checked."""
        return self in (DIALOGUES, PAIRS)


DOCUMENTS = Reading(name="documents", kinds=("document",))
DIALOGUES = Reading(name="dialogues", kinds=("conversation",))
PAIRS = Reading(name="pairs", kinds=("preference",))
PROMPTS = Reading(name="prompts", kinds=("conversation", "preference", "question"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a model is to answer, and the right answer when one is known ("" otherwise)."""

    id: str
    messages: tuple[Message, ...]
    reference: str


def asked_of(record: Record) -> Asked | None:
    """The prompt of a record, which ends with a user's turn; None when there is none.

    Of a conversation its last answer is the reference, of a preference the chosen one, of a question its letters.
    """
    match record:
        case Conversation():
            ends = [index for index, message in enumerate(record.messages) if message.role == "user"]
            if not ends:
                return None
            after = record.messages[ends[-1] + 1 :]
            reference = after[0].content if after else ""
            return Asked(id=record.id, messages=record.messages[: ends[-1] + 1], reference=reference)
        case Preference():
            return Asked(id=record.id, messages=record.prompt, reference=record.chosen)
        case Question():
            text = text_of(in_order(record))
            return Asked(id=record.id, messages=(Message(role="user", content=text),), reference=record.answer)
    return None


def last_answer(template: ChatTemplate, prompt: Sequence[Message], answer: str) -> list[Segment]:
    """A dialogue of which only the last answer, with its stop word, is learnt or judged."""
    segments = template.render([*prompt, Message(role="assistant", content=answer)])
    last = max((index for index, segment in enumerate(segments) if segment.trained), default=-1)
    return [Segment(text=part.text, trained=index == last) for index, part in enumerate(segments)]

"""One record of a built data set, for a person to read."""

from itertools import islice
from string import ascii_uppercase

from medcli.core.chat_template import Segment
from medcli.core.dataset_folder import SPLITS, DatasetFolder
from medcli.core.errors import DataError, UnknownNameError, UsageError
from medcli.core.model_ref import resolve
from medcli.core.record import Conversation, Document, Message, Preference, Question, Record
from medcli.core.report import Report


def record_at(dataset: DatasetFolder, split: str, number: int) -> Record:
    """Record `number`, counted from 1, of a split; raises UsageError with what there is."""
    if split not in SPLITS:
        raise UnknownNameError("split", split, SPLITS)
    record = next(islice(dataset.records(split), number - 1, None), None)
    if record is None:
        counts = ", ".join(f"{name} {dataset.count(name):,}" for name in SPLITS)
        raise UsageError(f"{dataset.name} has no record {number:,} in {split}", hint=f"there are: {counts}")
    return record


def segments_of(record: Record, model: str, report: Report) -> tuple[list[Segment], int, int]:
    """A conversation as `model` sees it, the number of its tokens, and of those that are learnt.

    Raises DataError for a record that is no conversation.
    """
    if not isinstance(record, Conversation):
        raise DataError(f"the record '{record.id}' is no conversation", hint="leave out --tokens")

    from medcli.engine.encode import encode
    from medcli.engine.load import load_tokenizer

    tokenizer, template = load_tokenizer(resolve(model), report)
    examples = encode([template.render(lesson) for lesson in template.lessons(record.messages)], tokenizer)
    tokens = sum(len(example.ids) for example in examples)
    return template.taught(record.messages), tokens, sum(int(example.trained.sum()) for example in examples)


def parts_of(record: Record) -> list[tuple[str, str]]:
    """(what it is, text) of each part of a record, in order."""
    match record:
        case Conversation():
            return list(map(_turn, record.messages))
        case Preference():
            return [*map(_turn, record.prompt), ("chosen", record.chosen), ("rejected", record.rejected)]
        case Document():
            return [("text", record.text)]
        case Question():
            choices = "\n".join(
                f"{letter}. {text}" for letter, text in zip(ascii_uppercase, record.choices, strict=False)
            )
            return [("question", record.stem), ("choices", choices), ("answer", record.answer)]


def _turn(message: Message) -> tuple[str, str]:
    return message.role, message.content

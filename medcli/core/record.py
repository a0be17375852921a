"""The types that travel through `med`, and how they stand on disk (the field's standard columns)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast, get_args

Role = Literal["system", "user", "assistant"]
ROLES: tuple[str, ...] = get_args(Role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A dialogue to learn from: `messages` on disk."""

    id: str
    messages: tuple[Message, ...]
    source: str
    meta: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """A prompt with a better and a worse answer: `prompt/chosen/rejected` on disk."""

    id: str
    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Plain text for continued pre-training: `text` on disk."""

    id: str
    text: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """An exam question; `answer` holds the letters of the right choices, sorted: "B" or "ACD"."""

    id: str
    stem: str
    choices: tuple[str, ...]
    answer: str
    subject: str
    source: str


Record = Conversation | Preference | Document | Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a raw file: the record in it, or the reason why there is none.

    `line` counts from 1. `split` is set only where the source itself decides it. Records made by a grammar are alike
    on purpose: `made` keeps them from being compared for likeness.
    """

    file: str
    line: int
    record: Record | None = None
    reason: str = ""
    text: str = ""
    split: str = ""
    made: bool = False


def kind_of(record: Record) -> str:
    """The name a record's type has in manifests: "conversation", "preference", …"""
    return type(record).__name__.lower()


def messages_of(rows: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """Messages from `[{"role": …, "content": …}]`; ValueError on an unknown role or a content that is no text."""
    for row in rows:
        if row.get("role") not in ROLES:
            raise ValueError(f"unknown role {row.get('role')!r}")
        if not isinstance(row.get("content"), str):
            raise ValueError("content is not text")
    return tuple(Message(role=cast(Role, row["role"]), content=row["content"]) for row in rows)


def message_rows(messages: Sequence[Message]) -> list[dict[str, str]]:
    """The inverse of `messages_of`, as chat templates and JSON want it."""
    return [{"role": m.role, "content": m.content} for m in messages]


def with_texts(record: Record, change: Callable[[str], str]) -> Record:
    """The record with every text in it changed: turns, answers, choices, meta values; neither ids nor letters."""
    match record:
        case Conversation():
            meta = {key: change(value) for key, value in record.meta.items()}
            return replace(record, messages=_with_texts(record.messages, change), meta=meta)
        case Preference():
            prompt = _with_texts(record.prompt, change)
            return replace(record, prompt=prompt, chosen=change(record.chosen), rejected=change(record.rejected))
        case Document():
            return replace(record, text=change(record.text))
        case Question():
            choices = tuple(change(choice) for choice in record.choices)
            return replace(record, stem=change(record.stem), choices=choices, subject=change(record.subject))


def _with_texts(messages: tuple[Message, ...], change: Callable[[str], str]) -> tuple[Message, ...]:
    return tuple(Message(role=message.role, content=change(message.content)) for message in messages)


def to_row(record: Record) -> dict[str, Any]:
    """The JSON object that stands for `record` on disk."""
    row: dict[str, Any] = {"id": record.id}
    match record:
        case Conversation():
            row["messages"] = message_rows(record.messages)
            if record.meta:
                row["meta"] = dict(record.meta)
        case Preference():
            row["prompt"] = message_rows(record.prompt)
            row["chosen"] = [{"role": "assistant", "content": record.chosen}]
            row["rejected"] = [{"role": "assistant", "content": record.rejected}]
        case Document():
            row["text"] = record.text
        case Question():
            row |= {"question": record.stem, "choices": list(record.choices), "answer": record.answer}
            row["subject"] = record.subject
    return row | {"source": record.source}


def from_row(row: Mapping[str, Any]) -> Record:
    """The record a built data set's JSON object stands for; raises KeyError or ValueError when it stands for none."""
    base = {"id": row["id"], "source": row["source"]}
    if "messages" in row:
        return Conversation(messages=messages_of(row["messages"]), meta=row.get("meta", {}), **base)
    if "chosen" in row:
        chosen, rejected = row["chosen"][0]["content"], row["rejected"][0]["content"]
        return Preference(prompt=messages_of(row["prompt"]), chosen=chosen, rejected=rejected, **base)
    if "text" in row:
        return Document(text=row["text"], **base)
    return Question(
        stem=row["question"], choices=tuple(row["choices"]), answer=row["answer"], subject=row["subject"], **base
    )

"""The chat template of a model: the one asked for, the run's, or its own, and whether it fits the tokenizer."""

from collections.abc import Sequence
from typing import Any

from medcli.core import chat_template
from medcli.core.chat_template import ChatTemplate
from medcli.core.errors import ModelError
from medcli.core.model_ref import ModelRef
from medcli.core.record import Message

# Blank space around a text shows which templates cut it off.
_PROBES = (
    (
        Message(role="user", content="\n 甲 "),
        Message(role="assistant", content=" 乙\n"),
        Message(role="user", content=" 丙\n"),
        Message(role="assistant", content=" 丁\n"),
    ),
    (
        Message(role="system", content="\n 戊 "),
        Message(role="user", content="\n 甲 "),
        Message(role="assistant", content=" 乙\n"),
    ),
)


def template_of(tokenizer: Any, ref: ModelRef, wanted: str = "", or_else: str = "") -> ChatTemplate:
    """The template asked for, else the run's, else the model's own, else `or_else`.

    Raises ModelError when there is none, or none that fits.
    """
    if not tokenizer.is_fast:
        raise ModelError(f"{ref.base} has no fast tokenizer", hint="convert it to tokenizer.json with transformers")
    if wanted:
        name, text = wanted, chat_template.shipped_text(wanted)
    elif ref.template is not None:
        name, text = ref.template.name, ref.template.read_text("utf-8")
    elif tokenizer.chat_template:
        name, text = "the model's own", _marked_twin(tokenizer) or tokenizer.chat_template
    elif or_else:
        name, text = or_else, chat_template.shipped_text(or_else)
    else:
        raise ModelError(
            f"{ref.base} has no chat template",
            hint=f"choose one with --template: {', '.join(chat_template.shipped_names())}",
        )
    template = _compiled(name, text, tokenizer)
    _check_fit(template, tokenizer, ref)
    return template


def _compiled(name: str, text: str, tokenizer: Any) -> ChatTemplate:
    special = tuple(dict.fromkeys([*tokenizer.all_special_tokens, *map(str, tokenizer.added_tokens_decoder.values())]))
    reserved = tuple(word for word in special if len(word) > 1 and not word.isspace())
    tokens = {name: str(value) for name, value in tokenizer.special_tokens_map.items() if isinstance(value, str)}
    return ChatTemplate(name=name, text=text, tokens=tokens, reserved=reserved)


def _marked_twin(tokenizer: Any) -> str:
    """One of our templates that renders as the model's own does: it says exactly what the assistant wrote."""
    own = _compiled("own", tokenizer.chat_template, tokenizer)
    for name in chat_template.shipped_names():
        ours = _compiled(name, chat_template.shipped_text(name), tokenizer)
        alike = [_alike(own, ours, probe) for probe in _PROBES]
        if any(alike) and False not in alike:
            return ours.text
    return ""


def _alike(own: ChatTemplate, ours: ChatTemplate, messages: Sequence[Message]) -> bool | None:
    """Whether both say the dialogue and ask for its last answer alike; None when the model's own refuses it."""
    try:
        said, asked = own.text_of(messages, False), own.text_of(messages[:-1], True)
    except ModelError:
        return None
    try:
        written = ours.text_of(messages, False)
        # Some end an answer only by what opens the next turn; ours write that word down after the last answer too.
        ended = any(written == said + stop for stop in ours.stops)
        return (written == said or ended) and _same_prompt(asked, ours.text_of(messages[:-1], True))
    except ModelError:
        return False


def _same_prompt(own: str, ours: str) -> bool:
    """Alike but for blank space at the end, or but for a thought the own one begins, and ours closes or leaves out."""
    own, ours = own.rstrip(), ours.rstrip()
    opened = own.removesuffix("<think>")
    return own == ours or (opened != own and ours in (opened.rstrip(), f"{own}\n\n</think>"))


def _check_fit(template: ChatTemplate, tokenizer: Any, ref: ModelRef) -> None:
    """A template whose stop word is no single token of the tokenizer belongs to another model."""
    for stop in template.stops:
        if len(tokenizer(stop, add_special_tokens=False)["input_ids"]) != 1:
            raise ModelError(
                f"the chat template '{template.name}' does not fit {ref.base}: its stop word {stop} is no single token",
                hint="train again with --template, or use the model this template was saved with",
            )

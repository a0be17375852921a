"""Render a conversation to text, keeping track of what the model should learn.

A template is a jinja file as transformers use them. Ours (`templates/chat/<name>.jinja`) mark what the assistant wrote
with `{% generation %}…{% endgeneration %}` and open with a comment of `key: value` lines: `stop` (words that end an
answer), `models`, `origin`. A model's own template without marks is understood by rendering the dialogue turn by turn.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from medcli.core.errors import ModelError, UnknownNameError
from medcli.core.record import Message, message_rows
from medcli.core.resources import templates

OPEN, CLOSE = "\ue000", "\ue001"  # private-use characters; `render` removes them from what users wrote


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of rendered text and whether loss is taken on it."""

    text: str
    trained: bool


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}` puts OPEN and CLOSE around what the assistant wrote."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)

        def mark(character: str) -> nodes.Output:
            return nodes.Output([nodes.TemplateData(character)], lineno=line)

        return [mark(OPEN), *body, mark(CLOSE)]


@dataclass(frozen=True, kw_only=True)
class ChatTemplate:
    """A chat format. `tokens` are the tokenizer's own, such as bos_token, which templates may name.

    `reserved` are control words such as `<|im_end|>`: written by a user they are text, so a space breaks them.
    """

    name: str
    text: str
    tokens: Mapping[str, str] = field(default_factory=dict)
    reserved: tuple[str, ...] = ()

    @cached_property
    def _compiled(self) -> jinja2.Template:
        # The options transformers compiles with; templates are foreign text, so they run in the sandbox.
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )

        def fail(message: str) -> None:
            raise jinja2.TemplateError(message)

        environment.globals["raise_exception"] = fail
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)  # noqa: DTZ005
        environment.filters["tojson"] = _tojson
        try:
            return environment.from_string(self.text)
        except jinja2.TemplateSyntaxError as error:
            raise ModelError(f"chat template '{self.name}', line {error.lineno}: {error.message}") from error

    @property
    def marked(self) -> bool:
        """Whether the template says itself what the assistant wrote."""
        return re.search(r"{%-?\s*generation\b", self.text) is not None

    @property
    def header(self) -> dict[str, str]:
        """The `key: value` lines of the opening comment."""
        comment = re.match(r"\s*{#-?(.*?)-?#}", self.text, re.DOTALL)
        pairs = re.findall(r"^\s*(\w+):\s*(.*?)\s*$", comment[1], re.MULTILINE) if comment else []
        return dict(pairs)

    @property
    def stops(self) -> list[str]:
        """Words after which an answer is over."""
        return self.header.get("stop", "").split()

    def render(self, messages: Sequence[Message], *, ask: bool = False) -> list[Segment]:
        """Segments of the whole dialogue; with `ask`, up to where the next answer begins.

        Raises ModelError when the template refuses the dialogue or does not tell what is to be learnt.
        """
        clean = [Message(role=m.role, content=self._as_text(m.content)) for m in messages]
        if self.marked:
            return _split_at_marks(self._marked(clean, ask))
        return self._render_turn_by_turn(clean, ask)

    def _render_turn_by_turn(self, messages: Sequence[Message], ask: bool) -> list[Segment]:
        """What rendering adds for an assistant's turn, past the prompt for it, is what the assistant wrote."""
        whole = self.text_of(messages, ask)
        segments: list[Segment] = []
        done = 0
        for index, message in enumerate(messages):
            if message.role != "assistant":
                continue
            before = self.text_of(messages[:index], True)
            after = self.text_of(messages[: index + 1], False)
            if not (whole.startswith(before) and whole.startswith(after) and after.startswith(before)):
                raise ModelError(
                    f"chat template '{self.name}' rewrites earlier turns, so what would be learnt is not certain",
                    hint="choose one of ours with --template; `med train lora --help` lists them",
                )
            segments += [
                Segment(text=whole[done : len(before)], trained=False),
                Segment(text=_trim_after_stop(whole[len(before) : len(after)]), trained=True),
            ]
            done = len(before) + len(segments[-1].text)
        segments.append(Segment(text=whole[done:], trained=False))
        return [segment for segment in segments if segment.text]

    def _as_text(self, content: str) -> str:
        content = content.replace(OPEN, "").replace(CLOSE, "")
        for word in self.reserved:
            content = content.replace(word, f"{word[0]} {word[1:]}")
        return content

    def text_of(self, messages: Sequence[Message], ask: bool) -> str:
        """The rendered text, contents as they are; raises ModelError when the template refuses the dialogue."""
        return self._marked(messages, ask).replace(OPEN, "").replace(CLOSE, "")

    def _marked(self, messages: Sequence[Message], ask: bool) -> str:
        if not messages:
            return ""
        try:
            return self._compiled.render(
                messages=message_rows(messages), add_generation_prompt=ask, tools=None, **self.tokens
            )
        except jinja2.TemplateError as error:
            raise ModelError(f"chat template '{self.name}': {error}") from error


def shipped_names() -> list[str]:
    """The names of the templates that come with `med`."""
    return sorted(path.stem for path in (templates() / "chat").glob("*.jinja"))


def shipped_text(name: str) -> str:
    """The text of a template that comes with `med`; raises UnknownNameError."""
    if name not in shipped_names():
        raise UnknownNameError("chat template", name, shipped_names())
    return (templates() / "chat" / f"{name}.jinja").read_text("utf-8")


def plain(segments: Sequence[Segment]) -> str:
    """The rendered text without the marks."""
    return "".join(segment.text for segment in segments)


def _split_at_marks(text: str) -> list[Segment]:
    parts = re.split(f"[{OPEN}{CLOSE}]", text)
    return [Segment(text=part, trained=index % 2 == 1) for index, part in enumerate(parts) if part]


def _trim_after_stop(text: str) -> str:
    """Templates such as ChatML end a turn with a line break past the stop word; no model says it."""
    said = text.rstrip("\n")
    return said if said.endswith(">") else text


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)

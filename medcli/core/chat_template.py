"""Render a conversation to text, keeping track of what the model should learn.

A template is a jinja file as transformers use them. Ours (`templates/chat/<name>.jinja`) mark what the assistant wrote
with `{% generation %}…{% endgeneration %}` and open with a comment of `key: value` lines: `stop` (words that end an
answer; `eos_token` is the tokenizer's), `models`, `origin`, and `control` (words between " | " that open a turn and are
no tokens of their own). A model's own template without marks is understood by following where the answers land.

Templates that let a model think are asked not to (`enable_thinking=False`); an answer that holds its own
`<think>…</think>` needs a template named for it, such as qwen3-thinking. Such templates write history otherwise than
they ask for it, so every answer is learnt as the last one of its dialogue: `lessons`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import accumulate
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
THOUGHT = ("<think>", "</think>")  # an assistant's thoughts are its own to write, a user's are text


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

    @cached_property
    def header(self) -> dict[str, str]:
        """The `key: value` lines of the opening comment."""
        comment = re.match(r"\s*{#-?(.*?)-?#}", self.text, re.DOTALL)
        pairs = re.findall(r"^\s*(\w+):\s*(.*?)\s*$", comment[1], re.MULTILINE) if comment else []
        return dict(pairs)

    @property
    def stops(self) -> list[str]:
        """Words after which an answer is over."""
        return [self.tokens.get(word, word) for word in self.header.get("stop", "").split()]

    @cached_property
    def _ends(self) -> re.Pattern[str]:
        """Where an answer is over: the words from there to the eos_token, else the first one, blank space included."""
        words = _any_of([re.escape(word) for word in (*self.reserved, *self.tokens.values()) if word]).pattern
        eos = re.escape(self.tokens["eos_token"]) if self.tokens.get("eos_token") else "(?!)"
        return re.compile(rf"(?:\s*(?:{words}))*?\s*{eos}|\s*(?:{words})")

    def render(self, messages: Sequence[Message], *, ask: bool = False) -> list[Segment]:
        """Segments of the whole dialogue; with `ask`, up to where the next answer begins.

        Raises ModelError when the template refuses the dialogue or does not tell what is to be learnt.
        """
        clean = [Message(role=m.role, content=self._as_text(m)) for m in messages]
        if self.marked:
            return _split_at_marks(self._marked(clean, ask))
        return [Segment(text=self.text_of(clean, True), trained=False)] if ask else self._follow(clean)

    def lessons(self, messages: Sequence[Message]) -> list[Sequence[Message]]:
        """The dialogues that together teach every answer of this one.

        It is one, unless the template writes an earlier answer otherwise than it asks for it, as thinking ones do:
        then each answer is the last one of a dialogue of its own.
        """
        answers = [index for index, message in enumerate(messages) if message.role == "assistant"]
        if answers == [len(messages) - 1] or sum(part.trained for part in self.render(messages)) == len(answers):
            return [messages]
        return [messages[: index + 1] for index in answers]

    def taught(self, messages: Sequence[Message]) -> list[Segment]:
        """All that is learnt from a dialogue, for people to read: its lessons, with a blank line between them."""
        between = Segment(text="\n\n", trained=False)
        lessons = [self.render(lesson) for lesson in self.lessons(messages)]
        return [segment for lesson in lessons for segment in (between, *lesson)][1:]

    def _follow(self, messages: Sequence[Message]) -> list[Segment]:
        """What a template without marks adds past the prompt for an answer, up to its stop word, is learnt.

        Not so where history has another prompt, another beginning or another end than the last answer: none of that is
        for the model to say.
        """
        whole, places = self.text_of(messages, False), self._places(messages)
        asked = [index for index, message in enumerate(messages) if message.role == "assistant"]
        if len(places) != len(asked):
            raise self._unclear("leaves answers out or says them twice")
        ends = [self._end(whole, close) for _, close in places]
        shortest = min(ends, key=len, default="")
        over = shortest if all(end.startswith(shortest) for end in ends) else ends[-1]
        segments, done = [], 0
        for index, (opened, close), end in zip(asked, places, ends, strict=True):
            prompt = self.text_of(messages[:index], True)
            if not (prompt and whole.startswith(prompt) and len(prompt) <= opened):
                if index == len(messages) - 1:
                    raise self._unclear(f"asks with {prompt[-30:]!r}, and then writes down something else")
            elif end.startswith(over) and self.text_of(messages[: index + 1], False).startswith(whole[:close]):
                stop = close + len(over)
                segments += [Segment(text=whole[done : len(prompt)], trained=False)]
                segments += [Segment(text=whole[len(prompt) : stop], trained=True)]
                done = stop
        segments.append(Segment(text=whole[done:], trained=False))
        return [segment for segment in segments if segment.text]

    def _places(self, messages: Sequence[Message]) -> list[tuple[int, int]]:
        """Where each answer begins and ends in the rendered text."""
        marked = self._marked([_bracketed(m) if m.role == "assistant" else m for m in messages], False)
        parts = re.split(f"([{OPEN}{CLOSE}])", marked)
        if "".join(parts[::2]) != self.text_of(messages, False) or parts[1::2] != [OPEN, CLOSE] * (len(parts) // 4):
            raise self._unclear("rewrites answers")
        offsets = list(accumulate(map(len, parts[::2])))
        return list(zip(offsets[:-1:2], offsets[1::2], strict=False))

    def _end(self, whole: str, close: int) -> str:
        """The stop word that follows an answer, with the blank space before it."""
        word = self._ends.match(whole, close)
        if not word:
            raise self._unclear(f"ends an answer with {whole[close:][:20]!r}, which is no word the model can stop at")
        return word[0]

    def _unclear(self, problem: str) -> ModelError:
        return ModelError(
            f"chat template '{self.name}' {problem}, so what would be learnt is not certain",
            hint="choose one of ours with --template; `med train lora --help` lists them",
        )

    def _as_text(self, message: Message) -> str:
        content = message.content.replace(OPEN, "").replace(CLOSE, "")
        if message.role == "assistant":
            return self._tokens_of_answers.sub(_broken, content)
        return self._tokens.sub(_broken, self._control.sub(_broken, content))

    @cached_property
    def _control(self) -> re.Pattern[str]:
        # A name with a colon is a role's only at the beginning of a line: elsewhere it is how people write.
        words = [word for word in self.header.get("control", "").split(" | ") if word]
        return _any_of([("^" if word.endswith((":", "：")) else "") + re.escape(word) for word in words])

    @cached_property
    def _tokens(self) -> re.Pattern[str]:
        return _any_of(list(map(re.escape, self.reserved)))

    @cached_property
    def _tokens_of_answers(self) -> re.Pattern[str]:
        return _any_of([re.escape(word) for word in self.reserved if word not in THOUGHT])

    def text_of(self, messages: Sequence[Message], ask: bool) -> str:
        """The rendered text, contents as they are; raises ModelError when the template refuses the dialogue."""
        return self._marked(messages, ask).replace(OPEN, "").replace(CLOSE, "")

    def _marked(self, messages: Sequence[Message], ask: bool) -> str:
        if not messages:
            return ""
        try:
            return self._compiled.render(
                messages=message_rows(messages),
                add_generation_prompt=ask,
                enable_thinking=False,
                tools=None,
                **self.tokens,
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


def _bracketed(message: Message) -> Message:
    """The marks stand within the blank space at both ends, which a template may cut off."""
    core = message.content.strip()
    start = message.content.find(core)
    end = start + len(core)
    content = f"{message.content[:start]}{OPEN}{core}{CLOSE}{message.content[end:]}"
    return Message(role=message.role, content=content)


def _broken(word: re.Match[str]) -> str:
    return f"{word[0][0]} {word[0][1:]}"


def _any_of(patterns: Sequence[str]) -> re.Pattern[str]:
    """The longest that fits; nothing when there is none."""
    return re.compile("|".join(sorted(patterns, key=len, reverse=True)) or r"(?!)", re.MULTILINE)


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)

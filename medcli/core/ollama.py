"""A chat template in Ollama's words, and the Modelfile that holds it.

Ollama renders by Go templates, which know no more than loops and branches. Nearly every chat format is a text before
and a text after each turn: they are found by rendering dialogues of known words and cutting between these, and then
shown to give what the chat template gives.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os.path import commonprefix

from medcli.core.chat_template import ChatTemplate
from medcli.core.errors import ModelError, UsageError
from medcli.core.record import Message, Role

Render = Callable[[Sequence[Message]], str]
_QUOTES = '"""'
_KEPT = " \t\n"  # blank space that Ollama's parser keeps; it drops what else Go does not call printable
_ANSWERS = ("查血常规。", "Paracetamol 500 mg, 3×/d", "好的")
_ASKED = ("发热3天怎么办？", "And in children?\n\n2 years old.", "谢谢{{ 1 }}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """What stands before and after each turn, up to where the next answer begins.

    `silent` opens a dialogue without a system message; `system` is None where the format knows none.
    """

    system: tuple[str, str] | None
    silent: str
    user: tuple[str, str]
    assistant: tuple[str, str]
    ask: str

    def render(self, messages: Sequence[Message]) -> str:
        """The dialogue as Ollama will render it."""
        around = {"user": self.user, "assistant": self.assistant, "system": self.system or ("", "")}
        parts = [f"{around[m.role][0]}{m.content}{around[m.role][1]}" for m in messages]
        opened = "" if messages and messages[0].role == "system" else self.silent
        return f"{opened}{''.join(parts)}{self.ask}"

    def go_template(self) -> str:
        """The same for Ollama's TEMPLATE."""
        silent = _literal(self.silent)
        if self.system:
            before, after = map(_literal, self.system)
            otherwise = f"{{{{ else }}}}{silent}" if silent else ""
            silent = f"{{{{ if .System }}}}{before}{{{{ .System }}}}{after}{otherwise}{{{{ end }}}}"
        (asks, asked), (answers, answered) = (map(_literal, self.user), map(_literal, self.assistant))
        return (
            f'{silent}{{{{ range .Messages }}}}{{{{ if eq .Role "user" }}}}{asks}{{{{ .Content }}}}{asked}'
            f'{{{{ else if eq .Role "assistant" }}}}{answers}{{{{ .Content }}}}{answered}{{{{ end }}}}'
            f"{{{{ end }}}}{_literal(self.ask)}"
        )


def turns_of(template: ChatTemplate, added: str = "") -> Turns:
    """What `template` writes around turns, less `added` at the beginning, a word that the tokenizer puts there itself.

    What is said must not begin or end with blank space, or hold an answer's thoughts, where the template cuts these
    off: Go cannot. Raises ModelError when turns are not all written alike, as where they are numbered.
    """

    def render(messages: Sequence[Message]) -> str:
        return template.text_of(messages, True).removeprefix(added)

    silent, answers, asks, ask = _cut(template, render, ("user", "assistant", "user"))
    system = None
    if _takes_system(render):
        before, after, *_ = _cut(template, render, ("system", "user", "assistant", "user"))
        system = (before, after)
    opened = _common_end([silent, asks, *([system[1]] if system else [])])
    closed = commonprefix([answers, ask])
    turns = Turns(
        system=(system[0], system[1].removesuffix(opened)) if system else None,
        silent=silent.removesuffix(opened),
        user=(opened, closed),
        assistant=(answers.removeprefix(closed), asks.removesuffix(opened)),
        ask=ask.removeprefix(closed),
    )
    if any(turns.render(dialogue) != render(dialogue) for dialogue in _dialogues(system is not None)):
        raise _unspeakable(template)
    return turns


def modelfile(
    source: str, turns: Turns, parameters: Sequence[tuple[str, float | str]], *, system: str, licence: str
) -> str:
    """A Modelfile for the weights at `source`, a path beside it; raises UsageError for a `system` it cannot hold."""
    lines = [f"FROM {source}", f"TEMPLATE {_QUOTES}{turns.go_template()}{_QUOTES}"]
    lines += [f"PARAMETER {name} {_quoted(value) if isinstance(value, str) else value}" for name, value in parameters]
    if system:
        lines.append(f"SYSTEM {_QUOTES}{_checked(system, turns)}{_QUOTES}")
    lines.append(f"LICENSE {_QUOTES}{licence.replace(_QUOTES, '')}{_QUOTES}")
    return "\n".join(lines) + "\n"


def _cut(template: ChatTemplate, render: Render, roles: Sequence[Role]) -> list[str]:
    """The texts before, between and after the messages of a dialogue of these roles."""
    messages = [Message(role=role, content=f"Qz{number}{role}zQ") for number, role in enumerate(roles)]
    rest, parts = render(messages), []
    for message in messages:
        before, found, rest = rest.partition(message.content)
        if not found or message.content in rest:
            raise _unspeakable(template)
        parts.append(before)
    return [*parts, rest]


def _takes_system(render: Render) -> bool:
    try:
        render([Message(role="system", content="医生"), Message(role="user", content="甲")])
    except ModelError:
        return False
    return True


def _dialogues(system: bool) -> list[list[Message]]:
    """One to three questions, each with and without a system message."""
    found = []
    for count in range(1, len(_ASKED) + 1):
        pairs = zip(_ASKED, _ANSWERS, strict=True)
        said = [Message(role=role, content=text) for pair in pairs for role, text in _as_turns(pair)]
        said = said[: 2 * count - 1]
        found.append(said)
        found += [[Message(role="system", content="你是医生。\nBe brief."), *said]] if system else []
    return found


def _as_turns(pair: tuple[str, str]) -> tuple[tuple[Role, str], tuple[Role, str]]:
    return ("user", pair[0]), ("assistant", pair[1])


def _common_end(texts: Sequence[str]) -> str:
    return str(commonprefix([text[::-1] for text in texts])[::-1])


def _literal(text: str) -> str:
    """`text` as it stands in a Go template inside a Modelfile: what either would read otherwise is a Go string."""
    return "".join(one if _is_plain(one) else f'{{{{ "\\U{ord(one):08x}" }}}}' for one in text)


def _is_plain(character: str) -> bool:
    return character in _KEPT or (character.isprintable() and character not in '{"')


def _quoted(text: str) -> str:
    quotes = _QUOTES if '"' in text or "\n" in text else '"'
    return f"{quotes}{text}{quotes}"


def _checked(system: str, turns: Turns) -> str:
    if turns.system is None:
        raise UsageError("--system: this model's chat template takes no system message", hint="leave out --system")
    odd = next((one for one in system if one not in _KEPT and not one.isprintable()), _QUOTES)
    if odd in system:
        raise UsageError(
            f"--system holds {json.dumps(odd)}, which an Ollama Modelfile cannot hold", hint="take it out, or a space"
        )
    return system


def _unspeakable(template: ChatTemplate) -> ModelError:
    return ModelError(
        f"chat template '{template.name}' does not write every turn alike, which Ollama's templates cannot say",
        hint="--format gguf: llama.cpp reads the chat template itself; or train with another --template",
    )

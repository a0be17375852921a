"""Hold a dialogue with a model: ask, take back, ask again, keep it in a file."""

import json
import re
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from medcli.core.atomic import writing
from medcli.core.errors import DataError, UsageError
from medcli.core.loading_settings import SpeakingSettings
from medcli.core.record import Message, message_rows, messages_of
from medcli.core.sampling_settings import SamplingSettings
from medcli.core.settings import setting
from medcli.core.speaker import Answer, Sampling, Speaker

_SHAPE = """a saved dialogue is {"messages": [{"role": …, "content": …}, …]}
with a system message first, if any, and then user and assistant in turn"""


CUT = "the answer is cut at its longest: --max-tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags(SamplingSettings, SpeakingSettings):
    """What can be set on the command line."""

    system: str = setting("", help="What the model is told before the first question.")
    kb: str = setting("", help="A knowledge base that answers rest on; `med kb list` shows which there are.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Flags):
    """All settings of `chat`; the model is an argument on the command line, so it is no flag."""

    model: str = setting("", help="The model to talk with when the command line names none.")


class Dialogue:
    """The turns between a person and a model: a system message if any, then question and answer in turn.

    A question that got no word of an answer is not kept, so turns always alternate; `retry` still knows it.
    """

    def __init__(self, speaker: Speaker, sampling: Sampling, system: str = "") -> None:
        self.messages: list[Message] = []
        self._speaker = speaker
        self._sampling = sampling
        self._unanswered = ""
        self._retries = 0
        self.is_cut = False  # whether the last answer was longer than it may be
        self.instruct(system)

    @property
    def system(self) -> str:
        """The system message, or ""."""
        return self._head[0].content if self._head else ""

    @property
    def _head(self) -> list[Message]:
        return [message for message in self.messages[:1] if message.role == "system"]

    @property
    def turns(self) -> int:
        """How many questions have been answered."""
        return sum(message.role == "assistant" for message in self.messages)

    @property
    def repeats(self) -> bool:
        """Whether asking again can only give the same answer."""
        return self._sampling.temperature == 0

    def instruct(self, text: str) -> None:
        """Put `text` in the place of the system message; "" leaves none."""
        rest = self.messages[len(self._head) :]
        self.messages = [Message(role="system", content=text), *rest] if text else rest

    def ask(self, text: str) -> Generator[str, None, None]:
        """The answer in pieces; when it is closed or interrupted, what was said until then is kept."""
        self._retries = 0
        yield from self._answer(text)

    def retry(self) -> Generator[str, None, None]:
        """Answer the last question again, with another seed; raises UsageError when there was none."""
        question = self._unanswered or self.undo()
        self._retries += 1
        yield from self._answer(question)

    def undo(self) -> str:
        """Take back the last question and its answer; returns the question. Raises UsageError without one."""
        self._unanswered = ""
        if not self.turns:
            raise UsageError("nothing has been asked yet")
        question = self.messages[-2].content
        del self.messages[-2:]
        return question

    def clear(self) -> None:
        """Forget every turn; the system message stays."""
        self.messages = self._head
        self._unanswered = ""

    def save(self, path: Path) -> None:
        """Write the dialogue to `path`. Raises DataError when a file is there that is not a dialogue."""
        if path.exists():
            _read(path)
        lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in message_rows(self.messages))
        with writing(path) as file:
            file.write('{"messages": [\n' + lines + "\n]}\n")

    def load(self, path: Path) -> None:
        """Go on with the dialogue in `path`; raises DataError, naming the line, and keeps the present one."""
        self.messages = _read(path)
        self._unanswered = ""

    def _answer(self, question: str) -> Generator[str, None, None]:
        before = self.messages
        asked = [*before, Message(role="user", content=question)]
        self._unanswered = question
        self.is_cut = False
        pieces: list[str] = []
        source = self._speaker.reply(asked, replace(self._sampling, seed=self._sampling.seed + self._retries))
        try:
            while True:
                piece = next(source)
                pieces.append(piece)
                yield piece
        except StopIteration as end:
            self.is_cut = isinstance(end.value, Answer) and end.value.finish == "length"
        finally:
            if said := "".join(pieces):
                self.messages = [*asked, Message(role="assistant", content=said)]
                self._unanswered = ""
            if isinstance(source, Generator):
                source.close()  # stops the model now; the traceback of an interrupt would keep it alive


def _read(path: Path) -> list[Message]:
    """The messages of a saved dialogue; whatever is odd about it is a DataError with the line."""
    try:
        text = path.read_text("utf-8-sig")
        content = json.loads(text)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text in UTF-8", hint=_SHAPE) from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: {error.msg}", hint=_SHAPE) from error
    if not isinstance(content, dict) or list(content) != ["messages"] or not isinstance(content["messages"], list):
        raise DataError(f"{path}:1: not a saved dialogue", hint=_SHAPE)
    return _checked(content["messages"], path, text)


def _checked(rows: list[Any], path: Path, text: str) -> list[Message]:
    def refuse(index: int, reason: str) -> NoReturn:
        raise DataError(f"{path}:{_line_of(index, text)}: message {index + 1}: {reason}", hint=_SHAPE)

    headed = bool(rows) and isinstance(rows[0], dict) and rows[0].get("role") == "system"
    for index, row in enumerate(rows):
        if not isinstance(row, dict) or row.keys() != {"role", "content"}:
            refuse(index, "not an object with role and content alone")
        try:
            messages_of([row])
        except ValueError as error:
            refuse(index, str(error))
        turn = index - headed
        expected = "system" if turn < 0 else "assistant" if turn % 2 else "user"
        if row["role"] != expected:
            refuse(index, f"the role is '{row['role']}' where '{expected}' must stand")
    if (len(rows) - headed) % 2:
        refuse(len(rows) - 1, "the last question has no answer")
    return list(messages_of(rows))


def _line_of(index: int, text: str) -> int:
    """The line where a message begins; "messages" is the only key, so the first bracket opens the list."""
    decoder, position = json.JSONDecoder(), text.index("[") + 1
    for _ in range(index):
        position = decoder.raw_decode(text, _past_gap(text, position))[1]
    return text.count("\n", 0, _past_gap(text, position)) + 1


def _past_gap(text: str, position: int) -> int:
    gap = re.compile(r"[\s,]*").match(text, position)
    return gap.end() if gap else position

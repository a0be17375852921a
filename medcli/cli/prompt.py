"""The line a person types: editing, history, completion. The only file that knows prompt_toolkit."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.output import create_output

from medcli.cli import console


class _Commands(Completer):
    """Completes command names, and file names after the commands that take one."""

    def __init__(self, commands: Mapping[str, str], taking_file: Iterable[str]) -> None:
        self._commands = commands
        self._taking_file = tuple(taking_file)
        self._files = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        typed = document.text_before_cursor
        name, space, rest = typed.partition(" ")
        if space and name in self._taking_file:
            yield from self._files.get_completions(Document(rest), complete_event)
        elif not space and typed.startswith("/"):
            for command, meaning in self._commands.items():
                if command.startswith(typed):
                    yield Completion(command, start_position=-len(typed), display_meta=meaning)


def line_reader(commands: Mapping[str, str], taking_file: Iterable[str], history: Path) -> Callable[[], str]:
    """A function that asks for one line; it raises KeyboardInterrupt on Ctrl-C and EOFError on Ctrl-D."""
    session: PromptSession[str] = PromptSession(
        FormattedText([("bold ansicyan", "❯ ")]),
        completer=_Commands(commands, taking_file),
        # Only for commands: room for the menu is kept free below the line for as long as this holds.
        complete_while_typing=Condition(lambda: get_app().current_buffer.text.startswith("/")),
        history=_history(history),
        output=create_output(always_prefer_tty=True),  # `med chat MODEL > file`: the line is still seen
        prompt_continuation="  ",
    )
    return session.prompt


def _history(path: Path) -> History:
    """The history in `path`, readable by its owner alone: it may hold what patients told."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.open("a").close()
    except OSError as error:
        console.note(f"this session's questions are not remembered: {path}: {error.strerror}")
        return InMemoryHistory()
    return FileHistory(path)

"""The conversation on a terminal: questions, commands, and what Ctrl-C means."""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from medcli.cli import console
from medcli.core.errors import MedError, UnknownNameError, UsageError
from medcli.core.interruption import Terminated
from medcli.core.settings import folder
from medcli.steps.chat import CUT, Dialogue

OLD_WORDS = ("clear", "stop", "exit", "quit", "stream")  # commands of the tools before `med`, without a slash
QUOTE_LENGTH = 40  # characters of a question that a note repeats


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What stands behind a slash: its argument's name, a line of help, and what it does."""

    run: Callable[["Repl", str], None]
    help: str
    argument: str = ""


class Repl:
    """Reads lines until the end and answers them; an error is shown and the conversation goes on."""

    def __init__(self, dialogue: Dialogue, read: Callable[[], str]) -> None:
        self.dialogue = dialogue
        self._read = read
        self._streaming = True
        self._open = True

    def run(self) -> None:
        """Talk until /exit or Ctrl-D."""
        while self._open:
            try:
                self._take(self._read().strip())
            except Terminated:
                raise
            except KeyboardInterrupt:
                console.note("/exit or Ctrl-D leaves")
            except EOFError:
                return
            except MedError as error:
                console.show_error(error.message, error.hint)

    def _take(self, line: str) -> None:
        if line in OLD_WORDS:
            line = f"/{line}"
        if line.startswith("/"):
            name, _, argument = line.partition(" ")
            command_of(name).run(self, argument.strip())
        elif line:
            self._show(self.dialogue.ask(line))

    def _show(self, answer: Generator[str, None, None]) -> None:
        said = ""
        stopped = False
        try:
            with closing(answer):
                for piece in answer:
                    said += piece
                    if self._streaming:
                        console.stream(piece)
        except Terminated:
            raise
        except KeyboardInterrupt:
            stopped = True
        finally:
            if said or stopped:  # the terminal has written ^C where the answer was to begin
                console.stream("\n" if self._streaming else f"{said}\n")
        self._remark(said, stopped)

    def _remark(self, said: str, stopped: bool) -> None:
        if stopped and said:
            console.note("stopped; what was said is kept (/retry, /undo)")
        elif stopped:
            console.note("stopped before the first word; the question is not kept (/retry)")
        elif not said:
            console.note("the model said nothing; the question is not kept (/retry)")
        elif self.dialogue.is_cut:
            console.note(CUT)
        console.stream("\n")

    def clear(self, _: str) -> None:
        self.dialogue.clear()
        console.note("cleared; the system message stays" if self.dialogue.system else "cleared")

    def leave(self, _: str) -> None:
        self._open = False

    def instruct(self, text: str) -> None:
        if text:
            self.dialogue.instruct(text)
        console.note(f"system: {self.dialogue.system}" if self.dialogue.system else "there is no system message")

    def retry(self, _: str) -> None:
        if self.dialogue.repeats:
            console.note("the temperature is 0, so the answer will be the same")
        self._show(self.dialogue.retry())

    def undo(self, _: str) -> None:
        console.note(f"taken back: {_quoted(self.dialogue.undo())}")

    def save(self, name: str) -> None:
        path = _file("save", name)
        self.dialogue.save(path)
        console.note(f"saved to {path}: {_count(self.dialogue.turns)}")

    def load(self, name: str) -> None:
        path = _file("load", name)
        self.dialogue.load(path)
        console.note(f"loaded from {path}: {_count(self.dialogue.turns)}")
        if self.dialogue.messages:
            console.note(f"the last answer: {_quoted(self.dialogue.messages[-1].content)}")

    def toggle(self, _: str) -> None:
        self._streaming = not self._streaming
        console.note("answers appear word by word" if self._streaming else "answers appear when they are complete")

    def help(self, _: str) -> None:
        rows = [
            (f"{name} {command.argument}".rstrip(), console.words(command.help)) for name, command in COMMANDS.items()
        ]
        console.show_table((console.words("command"), console.words("what it does")), rows)
        console.note("Ctrl-C stops an answer. Tab completes commands. Arrow up brings earlier lines back.")


COMMANDS = {
    "/clear": Command(run=Repl.clear, help="forget the dialogue, keep the system message"),
    "/retry": Command(run=Repl.retry, help="answer the last question again, differently"),
    "/undo": Command(run=Repl.undo, help="take back the last question and its answer"),
    "/system": Command(run=Repl.instruct, help="set the system message; without TEXT, show it", argument="TEXT"),
    "/save": Command(run=Repl.save, help="write the dialogue to a file", argument="FILE"),
    "/load": Command(run=Repl.load, help="go on with a saved dialogue", argument="FILE"),
    "/stream": Command(run=Repl.toggle, help="show answers word by word, or when they are complete"),
    "/help": Command(run=Repl.help, help="show this table"),
    "/exit": Command(run=Repl.leave, help="leave; so do /stop, /quit and Ctrl-D"),
}
ALIASES = {"/stop": "/exit", "/quit": "/exit"}


def command_of(name: str) -> Command:
    """The command called `name`, slash included; raises UnknownNameError with the nearest one."""
    known = ALIASES.get(name, name)
    if known not in COMMANDS:
        raise UnknownNameError("command", name, [*COMMANDS, *ALIASES], hint="/help lists them")
    return COMMANDS[known]


def converse(dialogue: Dialogue) -> None:
    """Talk on this terminal until the person leaves."""
    from medcli.cli.prompt import line_reader

    meanings = {name: console.words(command.help) for name, command in COMMANDS.items()}
    taking_file = [name for name, command in COMMANDS.items() if command.argument == "FILE"]
    Repl(dialogue, line_reader(meanings, taking_file, folder("cache") / "chat_history")).run()


def _file(command: str, name: str) -> Path:
    if not name:
        raise UsageError(f"/{command} needs a file", hint=f"/{command} FILE")
    return Path(name).expanduser()


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= QUOTE_LENGTH else f"{line[:QUOTE_LENGTH]}…"


def _count(turns: int) -> str:
    return console.words("1 question" if turns == 1 else f"{turns} questions")

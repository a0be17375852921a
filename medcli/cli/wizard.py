"""Questions on a terminal, each with an answer for who wants none asked. The only file that knows questionary."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import questionary

from medcli.cli import console
from medcli.core.errors import MedError

_MARK = "?"
_MOST = 20  # choices among which a person finds one without searching


@dataclass(frozen=True, slots=True)
class Choice:
    """An answer to choose: its value, how it is shown, and what is to be known about it."""

    value: str
    shown: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks questions and shows errors until there is an answer; a silent one takes each question's default.

    Ctrl-C raises KeyboardInterrupt, Ctrl-D EOFError.
    """

    silent: bool

    def choose(self, question: str, choices: Sequence[Choice], default: str) -> str:
        """One of the choices."""
        if self.silent:
            return default
        width = max(console.width_of(choice.shown) for choice in choices)
        titles = [f"{one.shown}{' ' * (width - console.width_of(one.shown))}  {one.about}".rstrip() for one in choices]
        is_long = len(choices) > _MOST
        shown = [questionary.Choice(title, value=one.value) for title, one in zip(titles, choices, strict=True)]
        return str(
            questionary.select(
                question,
                shown,
                default=next((one for one in shown if one.value == default), None),
                qmark=_MARK,
                instruction=console.words(
                    "(type to search, Enter takes it)" if is_long else "(arrow keys, then Enter)"
                ),
                use_search_filter=is_long,
                use_jk_keys=False,
            ).unsafe_ask()
        )

    def write(self, question: str, default: str, check: Callable[[str], None], *, is_path: bool = False) -> str:
        """A line that `check` raises no MedError for; an error is shown, and the question asked again."""
        if self.silent:
            check(default)
            return default
        while True:
            ask = questionary.path if is_path else questionary.text
            written = str(ask(question, default=default, qmark=_MARK).unsafe_ask()).strip()
            try:
                check(written)
            except MedError as error:
                console.show_error(error.message, error.hint)
            else:
                return written

    def agrees(self, question: str, *, default: bool = True) -> bool:
        """Yes or no."""
        if self.silent:
            return default
        return bool(
            questionary.confirm(
                question, default=default, qmark=_MARK, instruction="(Y/n) " if default else "(y/N) "
            ).unsafe_ask()
        )

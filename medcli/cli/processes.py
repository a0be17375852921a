"""One voice for many processes: the first one prints, and the first that fails says why."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from medcli.core import meeting as meetings
from medcli.core import world as worlds
from medcli.core.errors import PeerLost, UsageError

_words: tuple[str, ...] = ()


def take_place(words: Sequence[str]) -> None:
    """Keep the command line for the processes to be started; a process that is not the first one falls silent."""
    global _words
    _words = tuple(words)
    world = worlds.current()
    if world.size > 1:
        meetings.of(world)
    if not world.is_first:
        from medcli.cli import console

        console.be_quiet()
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # open to the end


def words() -> tuple[str, ...]:
    """The command line that this process was given."""
    return _words


def end(code: int) -> None:
    """End this process at once, when it is one of several: all is written, and torch's threads are not waited for.

    One that still runs while Python tears itself down aborts the process, and the run would seem to have failed.
    """
    try:
        several = worlds.current().size > 1
    except UsageError:  # what the launcher says makes no sense, and has been said
        return
    if several:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def may_speak(code: int, error: BaseException) -> bool:
    """Whether this process is to say why it ends with `code`: of several, the first that fails."""
    try:
        world = worlds.current()
    except UsageError:
        return True
    if world.size == 1:
        return True
    if isinstance(error, PeerLost) and worlds.started_by_med():
        return False  # the process that started this one knows more
    return meetings.of(world).speak(code)

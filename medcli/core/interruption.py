"""A person, or a scheduler, who stops a command: which signal came, and the exit code that says so.

Ctrl-C is Python's own KeyboardInterrupt. SIGTERM is one, too, so that all that is done at Ctrl-C is done at SIGTERM.
"""

import signal

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM


class Terminated(KeyboardInterrupt):
    """SIGTERM: what Ctrl-C does, with an exit code of its own; and a conversation is left, not only its answer."""


def interruption_by(number: int) -> KeyboardInterrupt:
    """What is to be raised when the signal `number` has come."""
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()


def exit_code_of(error: KeyboardInterrupt) -> int:
    """130 for Ctrl-C, 143 for SIGTERM."""
    return TERMINATED if isinstance(error, Terminated) else INTERRUPTED

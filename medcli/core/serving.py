"""What a server and a model that serves many people at once say to each other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from medcli.core.errors import ServiceError
from medcli.core.record import Message
from medcli.core.speaker import Answer, Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked of one of the models: a conversation to be answered, or a plain text to be continued.

    With `chances`, each token is told with its log-probability and that many of the likeliest ones; None: without.
    """

    model: str
    prompt: tuple[Message, ...] | str
    sampling: Sampling
    chances: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenChance:
    """A token of an answer, its log-probability in nat, and the likeliest tokens of its place with theirs.

    A token's bytes may be a part of a character only; its text then has U+FFFD.
    """

    text: str
    raw: bytes
    log_probability: float
    others: tuple[tuple[str, bytes, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """More of an answer: text without broken characters, "" where only chances are new."""

    text: str
    chances: tuple[TokenChance, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The last that is heard of a request which the model could not carry out."""

    problem: str


Heard = Piece | Answer | Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How busy a scheduler is: requests that are being answered and that wait, and the tokens read and said so far.

    `reused` are tokens of prompts that need not be read: they were known from a turn before.
    """

    running: int
    waiting: int
    slots: int
    read: int
    said: int
    reused: int


class Busy(ServiceError):
    """Every place is taken, and so is every place of those who wait."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("too many requests wait already", hint=f"try again in {retry_after} s")
        self.retry_after = retry_after


class Closing(ServiceError):
    """The server answers what it has begun, and takes no more."""


class Ticket(Protocol):
    """A request that was taken."""

    def cancel(self) -> None:
        """Nobody listens any more: the model stops within a token, and nothing more is heard."""
        ...


class Scheduler(Protocol):
    """Answers many requests at once; may be asked by any thread."""

    @property
    def models(self) -> Sequence[str]:
        """The names that a request may have; the first is taken where none is given."""
        ...

    def context(self, model: str) -> int | None:
        """The tokens of prompt and answer together at most; None when there is no limit."""
        ...

    def submit(self, request: Request, hear: Callable[[Heard], None]) -> Ticket:
        """Take a request. `hear` is called from another thread: with pieces, and with an Answer or a Failure at last.

        It must return at once. Raises UnknownNameError for a model that is not served, UsageError for a prompt that
        leaves no room for an answer, Busy, and Closing.
        """
        ...

    def load(self) -> Load:
        """How busy it is now."""
        ...

    def close(self, patience: float) -> None:
        """Take no more, answer what has begun within `patience` seconds, and stop."""
        ...

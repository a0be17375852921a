"""What long work tells whoever watches. `cli/console.py` draws it; tests and libraries pass `Silent()`."""

from collections.abc import Mapping
from typing import Protocol


class Report(Protocol):
    """The one channel from the steps and the engine to a person."""

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        """A stage begins; `total` in `unit`s when known. The stage before it is over."""

    def advance(self, done: int) -> None:
        """`done` units of the current stage are finished, counted from its start."""

    def note(self, text: str) -> None:
        """One line a person should read once."""

    def measure(self, step: int, values: Mapping[str, float]) -> None:
        """Figures of one training step: loss, learning_rate, tokens_per_second, …"""


class Silent:
    """A report nobody watches."""

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        return None

    def advance(self, done: int) -> None:
        return None

    def note(self, text: str) -> None:
        return None

    def measure(self, step: int, values: Mapping[str, float]) -> None:
        return None

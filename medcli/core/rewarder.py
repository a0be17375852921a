"""The one way to have answers judged, whatever judges them: a reward model here, a service elsewhere, a rule."""

from collections.abc import Callable, Sequence
from typing import Protocol

from medcli.core.record import Message


class Rewarder(Protocol):
    """Gives each dialogue, which ends with an answer, a number: the higher the better."""

    def rewards(self, dialogues: Sequence[Sequence[Message]], advance: Callable[[int], None]) -> list[float]:
        """One reward a dialogue, in order; `advance` hears how many are done."""
        ...


class RewardModel(Rewarder, Protocol):
    """A reward model that is here, which reads dialogues of a limited length."""

    def fits(self, dialogue: Sequence[Message]) -> bool:
        """Whether the dialogue's last exchange, at least, is short enough to be read."""
        ...

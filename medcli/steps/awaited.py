"""A model that is being opened while a person already thinks of a question."""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from threading import Thread

from medcli.core.errors import MedError
from medcli.core.record import Message
from medcli.core.speaker import Answer, Sampling, Speaker
from medcli.steps.grounded import Bounded


class NotOpened(Exception):
    """There is nobody to talk with: the model did not open, for this `reason`."""

    def __init__(self, reason: MedError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Awaited:
    """A `Speaker` that a thread opens. Who asks it before it is open waits, which `note` tells.

    What is asked of it raises NotOpened when opening it raised a MedError.
    """

    def __init__(self, opening: Callable[[], Speaker], note: Callable[[str], None]) -> None:
        self._opened: Future[Speaker] = Future()
        self._note = note
        Thread(target=self._open, args=(opening,), name="opening", daemon=True).start()

    @property
    def context(self) -> int | None:
        """Prompt and answer together, in tokens; None when there is no limit."""
        speaker = self._speaker()
        return speaker.context if isinstance(speaker, Bounded) else None

    def reply(self, messages: Sequence[Message], sampling: Sampling) -> Generator[str, None, Answer | None]:
        """The answer in pieces."""
        said = self._speaker().reply(messages, sampling)
        if isinstance(said, Generator):
            answer = yield from said
            return answer if isinstance(answer, Answer) else None
        yield from said
        return None

    def replies(
        self, prompts: Sequence[Sequence[Message]], sampling: Sampling, advance: Callable[[int], None]
    ) -> list[str]:
        """One answer per prompt, in order."""
        return self._speaker().replies(prompts, sampling, advance)

    def _open(self, opening: Callable[[], Speaker]) -> None:
        try:
            self._opened.set_result(opening())
        except BaseException as error:  # whoever waits hears of it
            self._opened.set_exception(error)

    def _speaker(self) -> Speaker:
        if not self._opened.done():
            self._note("the model is still being loaded …")
        try:
            return self._opened.result()
        except MedError as reason:
            raise NotOpened(reason) from reason

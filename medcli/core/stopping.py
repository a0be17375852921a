"""Texts that end an answer, found while it comes in pieces."""

from collections.abc import Sequence


class StopTexts:
    """Lets through what comes before the first of `stops`; the end of a piece that may begin one waits.

    Where two of them begin in the same piece the earlier one counts.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.found = False
        self._stops = [stop for stop in stops if stop]
        self._held = ""

    def add(self, text: str) -> str:
        """What may be said now; nothing more once one was `found`."""
        if self.found:
            return ""
        text = self._held + text
        places = [place for place in (text.find(stop) for stop in self._stops) if place >= 0]
        if places:
            self.found, self._held = True, ""
            return text[: min(places)]
        waiting = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - waiting :]
        return text[: len(text) - waiting]

    def rest(self) -> str:
        """What waited for more that did not come."""
        text, self._held = self._held, ""
        return text


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` are the beginning of `stop`, which does not stand in it."""
    lengths = range(min(len(text), len(stop) - 1), 0, -1)
    return next((length for length in lengths if text.endswith(stop[:length])), 0)

"""Those who have entered the key of a page."""

import secrets
import time
from collections import deque
from collections.abc import Callable

_STAY = 12 * 60 * 60  # seconds that a key holds, once entered
_WRONG = 10  # keys in a minute


class Guests:
    """Known by a token that their browser keeps; the tokens are gone when the server ends."""

    def __init__(self, authenticate: Callable[[str], bool]) -> None:
        self._authenticate = authenticate
        self._until: dict[str, float] = {}
        self._wrong: deque[float] = deque(maxlen=_WRONG)

    def knows(self, token: str) -> bool:
        """Whether someone with this token has entered the key, and not too long ago."""
        return self._until.get(token, 0) > time.monotonic()

    def are_many(self) -> bool:
        """Whether so many wrong keys were entered in the last minute that somebody must be guessing."""
        return len(self._wrong) == _WRONG and self._wrong[0] > time.monotonic() - 60

    def admit(self, key: str) -> str:
        """A new token for one who knows the key; "" for one who does not."""
        now = time.monotonic()
        if not self._authenticate(key):
            self._wrong.append(now)
            return ""
        self._until = {token: until for token, until in self._until.items() if until > now}
        token = secrets.token_urlsafe(32)
        self._until[token] = now + _STAY
        return token

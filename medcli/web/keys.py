"""Who may ask, and how often."""

import hmac
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256


class Keys:
    """The keys of which a client must show one; kept as digests, and compared in a time that tells nothing."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._digests = [sha256(key.encode()).digest() for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def holds(self, key: str) -> bool:
        """Whether it is one of them."""
        return self.number_of(key) is not None

    def number_of(self, key: str) -> int | None:
        """Which of the keys it is."""
        shown = sha256(key.encode("utf-8", "surrogateescape")).digest()
        same = [hmac.compare_digest(digest, shown) for digest in self._digests]  # all of them, wherever it is
        return same.index(True) if any(same) else None


@dataclass(slots=True, kw_only=True)
class _Bucket:
    tokens: float
    filled: float  # when, by the clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What is left to a key: requests now, and seconds until the next and until all of them are there again."""

    granted: bool
    limit: int
    remaining: int
    next_after: int
    full_after: int

    @property
    def headers(self) -> dict[str, str]:
        """As OpenAI tells it."""
        return {
            "x-ratelimit-limit-requests": str(self.limit),
            "x-ratelimit-remaining-requests": str(self.remaining),
            "x-ratelimit-reset-requests": f"{self.full_after}s",
        }


class RateLimit:
    """So many requests a minute for each key, at once or one by one: a bucket that fills steadily."""

    def __init__(self, a_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = a_minute
        self._clock = clock
        self._buckets: dict[int | None, _Bucket] = {}

    def take(self, key: int | None) -> Allowance:
        """Ask for one request of a key's."""
        now = self._clock()
        bucket = self._buckets.setdefault(key, _Bucket(tokens=self._limit, filled=now))
        a_second = self._limit / 60
        bucket.tokens = min(self._limit, bucket.tokens + (now - bucket.filled) * a_second)
        bucket.filled = now
        granted = bucket.tokens >= 1
        bucket.tokens -= granted
        return Allowance(
            granted=granted,
            limit=self._limit,
            remaining=int(bucket.tokens),
            next_after=max(0, math.ceil((1 - bucket.tokens) / a_second)),
            full_after=math.ceil((self._limit - bucket.tokens) / a_second),
        )

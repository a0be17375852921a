"""What `--dataset a,b:0.3,c:5000 --replay general:0.1` means: which records of which set, drawn by a seed."""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from medcli.core.errors import UsageError

_REPLAYED = 0.1  # of the whole, where no number is given
_EXAMPLE = "write NAME, NAME:0.3 (three tenths of it), NAME:2.0 (twice) or NAME:5000 (so many records)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How much of a set is taken: `times` its records, at most `cap` of them.

    `replay` is set for a set that keeps a model from forgetting: the share of the whole mixture it makes up.
    """

    name: str
    times: float = 1.0
    cap: int | None = None
    replay: float | None = None

    def count(self, records: int) -> int:
        """How many of `records` are taken."""
        wanted = round(records * self.times)
        return wanted if self.cap is None else min(wanted, self.cap)


def shares_of(datasets: Sequence[str], replay: Sequence[str] = ()) -> list[Share]:
    """The shares named on a command line; raises UsageError for a number that is none, or a set named twice."""
    shares = [_share(text) for text in datasets] + [_replayed(text) for text in replay]
    names = [share.name for share in shares]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"the data set '{twice}' is named twice", hint=f"{_EXAMPLE}, once")
    return shares


def with_replay(shares: Sequence[Share], records: Sequence[int]) -> list[Share]:
    """The shares with replayed sets capped, so that each makes up its part of the whole; `records` are the sizes.

    With parts r of the whole and n other records, the whole is n / (1 - sum of r).
    """
    rest = 1 - sum(share.replay or 0 for share in shares)
    if rest <= 0:
        raise UsageError("--replay leaves no room for the data itself", hint="its parts must sum to less than 1")
    others = sum(share.count(count) for share, count in zip(shares, records, strict=True) if share.replay is None)
    return [
        share if share.replay is None else replace(share, cap=round(others / rest * share.replay)) for share in shares
    ]


def chosen(share: Share, records: int, seed: int) -> Iterator[int]:
    """The records taken, by their numbers in order: as often as `times` says, the rest drawn by the seed."""
    wanted = share.count(records)
    whole, rest = divmod(wanted, records) if records else (0, 0)
    name = int.from_bytes(blake2b(share.name.encode(), digest_size=8).digest(), "big")
    drawn = set(random.Random(seed ^ name).sample(range(records), rest))
    for number in range(records):
        for _ in range(whole + (number in drawn)):
            yield number


def _share(text: str) -> Share:
    name, number = _parted(text)
    if not number:
        return Share(name=name)
    if "." in number:
        return Share(name=name, times=_positive(float(number), text))
    return Share(name=name, cap=int(_positive(int(number), text)))


def _replayed(text: str) -> Share:
    name, number = _parted(text)
    part = float(number or _REPLAYED)
    if not 0 < part < 1:
        raise UsageError(f"--replay {text}: {part:g} is no part of a whole", hint="write NAME:0.1 for a tenth")
    return Share(name=name, replay=part)


def _parted(text: str) -> tuple[str, str]:
    """Name and number; what follows the last colon is a number or belongs to the name."""
    name, colon, tail = text.rpartition(":")
    if not colon:
        return text, ""
    if re.fullmatch(r"-?\d+(\.\d+)?", tail):
        return name, tail
    if "/" in tail or "\\" in tail:
        return text, ""
    raise UsageError(f"'{text}': '{tail}' is no number", hint=_EXAMPLE)


def _positive(number: float, text: str) -> float:
    if not 0 < number < 1e12:
        raise UsageError(f"'{text}': nothing would be taken", hint=_EXAMPLE)
    return number

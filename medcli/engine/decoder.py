"""Answers to many prompts at the same time: each joins when it comes and leaves when it ends, between two steps.

A step reads one token of every answer in one call of the model, which costs hardly more than reading one: a model's
weights are what is slow to fetch. Prompts are read in pieces, so that a long one does not hold up the others.
Rows of texts that have ended are kept as long as nobody needs them: the next turn of a conversation, or another prompt
with the same beginning, goes on from there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from medcli.engine.loaded import Loaded
from medcli.engine.sampling import choose
from medcli.engine.slots import Slots
from medcli.engine.speech import Speech

READ_AT_ONCE = 8  # prompts in one call: each costs logits of the whole vocabulary
STRETCH = 512  # tokens of prompts that are read in a step in which others wait for their next token
ALONE = 8  # times as many when nobody does
WORTH_COPYING = 16  # tokens in common with a row that somebody else uses
DRAFT = 8  # tokens that are guessed by looking up
_NGRAMS = (4, 3, 2)  # tokens that must have stood before, for what followed them to be guessed


class Said(NamedTuple):
    """A speech has said a token; `text` is what is certain by it, `logits` [vocabulary] what it was chosen from."""

    speech: Speech
    token: int
    text: str
    logits: Tensor


@dataclass(slots=True, kw_only=True)
class _Row:
    """The tokens whose keys and values are in a row, and the speech that goes on there."""

    ids: list[int] = field(default_factory=list)
    speech: Speech | None = None
    used: int = 0


class Decoder:
    """A model that says up to `slots` answers at once. With `lookup` it guesses what it says by what stood before.

    `stretch` bounds the tokens of prompts that are read between two tokens of those who say something.
    Rows stand in this order: those that say something, those that still read their prompt, those that are kept.
    """

    def __init__(self, loaded: Loaded, slots: int, *, lookup: bool = False, stretch: int = STRETCH) -> None:
        self.loaded = loaded
        self.reused = 0  # tokens of prompts that need not be read
        self.read = 0
        self.said = 0
        self._slots, self._most, self._lookup, self._stretch = Slots(loaded), slots, lookup, stretch
        self._rows: list[_Row] = []
        self._saying = self._reading = 0
        self._clock = 0

    @property
    def running(self) -> int:
        """How many answers are in the making."""
        return self._saying + self._reading

    @property
    def free(self) -> int:
        """How many more may join."""
        return self._most - self.running

    def join(self, speech: Speech) -> None:
        """Take in a speech; there must be room for it."""
        place, common = self._place_for(speech.prompt)
        self._swap(place, self.running)
        row = self._rows[self.running]
        row.ids, row.speech = speech.prompt[:common], speech
        self._touch(row)
        self._reading += 1
        self.reused += common

    def leave(self, speech: Speech) -> None:
        """Let go of a speech, at its end or before."""
        place = next(place for place in range(self.running) if self._rows[place].speech is speech)
        self._rows[place].speech = None
        self._touch(self._rows[place])
        if place < self._saying:
            self._saying -= 1
            self._swap(place, self._saying)
            place = self._saying
            self._reading += 1  # the hole stands where those who read begin
        self._reading -= 1
        self._swap(place, self.running)

    def forget(self) -> None:
        """Keep nothing of what has ended, so that what comes depends on itself alone."""
        for row in self._rows[self.running :]:
            row.ids = []

    def clear(self) -> None:
        """Let go of everything: a step that was interrupted has left rows half written, and half moved."""
        self._rows = []
        self._saying = self._reading = 0

    def step(self) -> list[Said]:
        """Go on by a token in every answer that has read its prompt, and read more of the others."""
        said = self._say()
        return said + self._read(self._stretch if said else self._stretch * ALONE)

    def _say(self) -> list[Said]:
        rows = self._rows[: self._saying]
        if not rows:
            return []
        if len(rows) == 1 and self._lookup and (guess := self._guess(rows[0])):
            return self._check(rows[0], guess)
        speeches = [row.speech for row in rows if row.speech]
        logits = self._slots.read(0, [speech.said[-1:] for speech in speeches], [len(row.ids) for row in rows])
        for row, speech in zip(rows, speeches, strict=True):
            row.ids.append(speech.said[-1])
        return self._heard(speeches, logits)

    def _read(self, budget: int) -> list[Said]:
        """Read at most about `budget` tokens of prompts; what is said after those that are read to their end."""
        first, count = self._saying, min(self._reading, READ_AT_ONCE)
        rows = self._rows[first : first + count]
        speeches = [row.speech for row in rows if row.speech]
        if not speeches:
            return []
        length = max(1, budget // count)
        parts = [speech.prompt[len(row.ids) :][:length] for row, speech in zip(rows, speeches, strict=True)]
        logits = self._slots.read(first, parts, [len(row.ids) for row in rows])
        self.read += sum(map(len, parts))
        ended = []
        for number, (row, speech, part) in enumerate(zip(rows, speeches, parts, strict=True)):
            row.ids += part
            if len(row.ids) == len(speech.prompt):
                ended.append(number)
        for number in ended:  # from the left, so that those before are not moved
            self._swap(first + number, self._saying)
            self._saying, self._reading = self._saying + 1, self._reading - 1
        return self._heard([speeches[number] for number in ended], logits[ended])

    def _heard(self, speeches: Sequence[Speech], logits: Tensor) -> list[Said]:
        if not speeches:
            return []
        chosen = choose(logits, speeches)
        said = [
            Said(speech, one.token, speech.say(one.token), one.logits)
            for speech, one in zip(speeches, chosen, strict=True)
        ]
        self._end(said)
        return said

    def _end(self, said: Sequence[Said]) -> None:
        self.said += len(said)
        for speech in dict.fromkeys(one.speech for one in said):
            if speech.finish:
                self.leave(speech)

    def _guess(self, row: _Row) -> list[int]:
        """What followed the last tokens where they stood before; only where the likeliest token is taken."""
        speech = row.speech
        assert speech is not None
        how = speech.sampling
        if how.temperature or how.repetition_penalty != 1 or how.frequency_penalty or how.presence_penalty:
            return []
        ids, room = speech.ids, speech.room - 1
        for size in _NGRAMS:
            last = ids[-size:]
            for start in range(len(ids) - size - 1, -1, -1):
                if ids[start : start + size] == last:
                    return ids[start + size : start + size + min(DRAFT, room)]
        return []

    def _check(self, row: _Row, guess: Sequence[int]) -> list[Said]:
        """Read the guess in one call: what the model would have said itself is kept, and the token after it."""
        speech = row.speech
        assert speech is not None
        logits = self._slots.read_each(0, [speech.said[-1], *guess], len(row.ids))
        said: list[Said] = []
        for number, token in enumerate(logits.argmax(-1).tolist()):
            row.ids.append(speech.said[-1])
            said.append(Said(speech, token, speech.say(token), logits[number]))
            if speech.finish or number == len(guess) or token != guess[number]:
                break
        self._end(said)
        return said

    def _place_for(self, prompt: Sequence[int]) -> tuple[int, int]:
        """The row where a prompt is read, and how many of its tokens are known there."""
        common = [min(_common(row.ids, prompt), len(prompt) - 1) for row in self._rows]
        best = max(range(len(common)), key=common.__getitem__, default=0)
        can_add = len(self._rows) < self._most
        if common and best >= self.running and (2 * common[best] >= len(self._rows[best].ids) or self._most == 1):
            return best, common[best]
        if can_add:
            self._rows.append(_Row())
            place = len(self._rows) - 1
        else:
            place = min(range(self.running, len(self._rows)), key=lambda number: self._rows[number].used)
        if common and common[best] >= WORTH_COPYING and place != best:
            self._slots.copy(best, place, common[best])
            return place, common[best]
        return place, common[place] if place < len(common) else 0

    def _touch(self, row: _Row) -> None:
        self._clock += 1
        row.used = self._clock

    def _swap(self, one: int, other: int) -> None:
        if one != other:
            self._slots.swap(one, other)
            self._rows[one], self._rows[other] = self._rows[other], self._rows[one]


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    most = min(len(one), len(other))
    if one[:most] == other[:most]:
        return most
    return next(place for place in range(most) if one[place] != other[place])

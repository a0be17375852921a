"""One answer in the making: its tokens, what they say so far, and whether it is over."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch

from medcli.core.speaker import Answer, Finish, Sampling
from medcli.core.stopping import StopTexts
from medcli.engine.loaded import Loaded

BROKEN = "\ufffd"  # what a tokenizer says of bytes that are no whole character


class Speech:
    """An answer to `prompt`, ids of tokens, that is said token by token.

    `room` bounds its tokens by what the model reads. `blank` says whether it may begin with blank space: formats such
    as GLM's have some between a question and its answer, which the model writes.
    """

    def __init__(
        self, loaded: Loaded, prompt: Sequence[int], sampling: Sampling, *, room: int | None = None, blank: bool = False
    ) -> None:
        self.prompt = list(prompt)
        self.sampling = sampling
        self.said: list[int] = []
        self.counts: Counter[int] = Counter()
        self.finish: Finish | None = None
        self._stops = frozenset(loaded.stops)
        self._most = sampling.max_tokens if room is None else min(sampling.max_tokens, room)
        self._letters = _Letters(loaded.tokenizer)
        self._filter = StopTexts(sampling.stop)
        self._begun = blank
        self._text: list[str] = []
        self._generator: torch.Generator | None = None

    @property
    def text(self) -> str:
        """What was said so far."""
        return "".join(self._text)

    @property
    def ids(self) -> list[int]:
        """The tokens of prompt and answer."""
        return self.prompt + self.said

    @property
    def room(self) -> int:
        """How many tokens it may still say."""
        return self._most - len(self.said)

    def chance(self) -> float:
        """The next random number in [0, 1), which follows from the seed."""
        if self._generator is None:
            self._generator = torch.Generator().manual_seed(self.sampling.seed)
        return float(torch.rand((), generator=self._generator, dtype=torch.double))

    def say(self, token: int) -> str:
        """Take the next token; the text that is certain by it. The answer may be over then."""
        self.said.append(token)
        self.counts[token] += 1
        piece = "" if token in self._stops else self._filter.add(self._begin(self._letters.add(token)))
        if token in self._stops or self._filter.found:
            self.finish = "stop"
        elif len(self.said) >= self._most:
            self.finish = "length"
        if self.finish:
            piece += self._filter.rest()
        self._text.append(piece)
        return piece

    def answer(self) -> Answer:
        """The whole answer; one that was broken off counts as ended by its length."""
        return Answer(
            text=self.text, finish=self.finish or "length", prompt_tokens=len(self.prompt), tokens=len(self.said)
        )

    def _begin(self, text: str) -> str:
        if not self._begun:
            text = text.lstrip()
            self._begun = bool(text)
        return text


class _Letters:
    """Tokens to text. The bytes of a character may come in several tokens: it waits until it is whole."""

    def __init__(self, tokenizer: Any) -> None:
        self._decode: Callable[[list[int]], str] = lambda ids: tokenizer.decode(ids, skip_special_tokens=True)
        self._ids: list[int] = []
        self._start, self._clean = 0, 0  # what is read now, and where it was last whole: decoders look one piece back
        self._shown = 0  # characters of what is read now

    def add(self, token: int) -> str:
        """The text that is new and whole."""
        self._ids.append(token)
        now = self._decode(self._ids[self._start :])
        whole = now.rstrip(BROKEN)
        piece, self._shown = whole[self._shown :], max(self._shown, len(whole))
        if piece and whole == now:
            self._start, self._clean = self._clean, len(self._ids)
            self._shown = len(self._decode(self._ids[self._start :]))
        return piece

"""Answers of models that keep more than keys and values, or attend in ways of their own: one after the other.

What a `Decoder` does for many at once, with the same words.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from medcli.engine.decoder import Said
from medcli.engine.generate import generate
from medcli.engine.loaded import Loaded
from medcli.engine.sampling import choose
from medcli.engine.speech import Speech
from medcli.engine.virtual_tokens import opening


class OneByOne:
    """A model that says one answer at a time."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.reused = self.read = self.said = 0
        self._speech: Speech | None = None
        self._tokens: Iterator[tuple[int, Tensor]] = iter(())

    @property
    def running(self) -> int:
        """1 while an answer is in the making."""
        return int(self._speech is not None)

    @property
    def free(self) -> int:
        """1 when one may join."""
        return 1 - self.running

    def join(self, speech: Speech) -> None:
        """Take in a speech; there must be room for it."""
        self._speech = speech
        self._tokens = self._at_once(speech) if self.loaded.causal_lm._is_stateful else self._streamed(speech)

    def leave(self, speech: Speech) -> None:
        """Let go of it."""
        self.clear()

    def clear(self) -> None:
        """Let go of whatever it says."""
        self._speech, self._tokens = None, iter(())

    def step(self) -> list[Said]:
        """Go on by a token."""
        speech = self._speech
        if speech is None:
            return []
        token, logits = next(self._tokens)
        said = Said(speech, token, speech.say(token), logits)
        self.said += 1
        if speech.finish:
            self.leave(speech)
        return [said]

    def _at_once(self, speech: Speech) -> Iterator[tuple[int, Tensor]]:
        """Mamba and its like: only their own loop carries the state on."""
        self.read += len(speech.prompt)
        yield from ((token, torch.empty(0)) for token in generate(self.loaded, [speech])[0])

    def _streamed(self, speech: Speech) -> Iterator[tuple[int, Tensor]]:
        model, cache = opening(self.loaded)
        ids = speech.prompt
        self.read += len(ids)
        last = {"logits_to_keep": 1} if self.loaded.causal_lm._supports_logits_to_keep() else {}
        while True:
            with torch.inference_mode():
                new = torch.tensor([ids], device=self.loaded.device)
                out = model(input_ids=new, past_key_values=cache, use_cache=True, **last)
                cache = out.past_key_values
                (chosen,) = choose(out.logits[:, -1], [speech])
            yield chosen
            ids = [chosen.token]

"""Text from a local model: streamed for one person, batched for many questions."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace

from medcli.core.chat_template import plain
from medcli.core.errors import ModelError
from medcli.core.model_ref import ModelRef
from medcli.core.record import Message
from medcli.core.report import Report
from medcli.core.speaker import Answer, Answering, Sampling
from medcli.engine import device as devices
from medcli.engine.decoder import Decoder
from medcli.engine.generate import said_in_batches
from medcli.engine.load import load
from medcli.engine.loaded import Loaded
from medcli.engine.one_by_one import OneByOne
from medcli.engine.slots import can_hold
from medcli.engine.speech import Speech

BATCH = 32  # prompts answered together
SHORTEN = "shorten it (/clear in a chat), or take a model with a longer context"
_PRIME = 1_000_003  # spreads the seeds of neighbouring prompts


class LocalSpeaker:
    """A `Speaker` over a loaded model; `refusals` has the prompts of `replies` that were too long to be answered.

    What was read of a conversation is kept: of its next turn only what is new is read.
    """

    def __init__(self, loaded: Loaded, *, lookup: bool = False) -> None:
        self.loaded = loaded
        self.refusals: dict[tuple[Message, ...], str] = {}
        self._decoder = decoder_of(loaded, BATCH, lookup=lookup)

    @property
    def context(self) -> int | None:
        """Prompt and answer together, in tokens; None when there is no limit."""
        return self.loaded.context

    def reply(self, messages: Sequence[Message], sampling: Sampling) -> Generator[str, None, Answer]:
        """The answer in pieces; closing the generator stops the model."""
        speech = self._speech(self._prompt(messages), sampling)
        self._decoder.join(speech)
        try:
            while not speech.finish:
                yield from [said.text for said in self._decoder.step() if said.text]
        except GeneratorExit:
            self._decoder.leave(speech)
            raise
        except BaseException:  # Ctrl-C in the middle of a step, say
            self._decoder.clear()
            raise
        return speech.answer()

    def replies(
        self, prompts: Sequence[Sequence[Message]], sampling: Sampling, advance: Callable[[int], None]
    ) -> list[str]:
        """One answer per prompt; "" where a prompt is too long, as `refusals` say. Each has a seed of its own."""
        return replies_of(self, prompts, sampling, advance, self.refusals)

    def answers(
        self, prompts: Sequence[Sequence[Message]], sampling: Sequence[Sampling]
    ) -> Generator[tuple[int, Answer], None, None]:
        """See `core.speaker.Answering`. The same prompts give the same answers, whatever was asked before them."""
        speeches: dict[int, Speech] = {}
        for number, (messages, how) in enumerate(zip(prompts, sampling, strict=True)):
            ids = encoded(self.loaded, messages)
            if problem := too_long(self.loaded, ids):
                yield number, Answer(text="", finish="refused", prompt_tokens=len(ids), tokens=0, problem=problem)
            else:
                speeches[number] = self._speech(ids, how)
        # Neighbours in this order begin alike, and what they share is read once.
        order = sorted(speeches, key=lambda number: speeches[number].prompt)
        numbers = {id(speech): number for number, speech in speeches.items()}
        for speech in self._all_said([speeches[number] for number in order]):
            yield numbers[id(speech)], speech.answer()

    def _speech(self, ids: Sequence[int], sampling: Sampling) -> Speech:
        room = None if self.loaded.context is None else self.loaded.context - len(ids)
        return Speech(self.loaded, ids, sampling, room=room)

    def _all_said(self, speeches: Sequence[Speech]) -> Iterator[Speech]:
        if isinstance(self._decoder, OneByOne):
            return said_in_batches(self.loaded, speeches, BATCH)
        return _all_said(self._decoder, speeches)

    def _prompt(self, messages: Sequence[Message]) -> list[int]:
        ids = encoded(self.loaded, messages)
        if problem := too_long(self.loaded, ids):
            raise ModelError(problem, hint=SHORTEN)
        return ids


def replies_of(
    speaker: Answering,
    prompts: Sequence[Sequence[Message]],
    sampling: Sampling,
    advance: Callable[[int], None],
    refusals: dict[tuple[Message, ...], str],
) -> list[str]:
    """The texts of a speaker's answers, in order, each with a seed of its own; what is refused goes to `refusals`."""
    texts = [""] * len(prompts)
    first = sampling.seed * _PRIME
    seeds = [replace(sampling, seed=(first + number) % 2**63) for number in range(len(prompts))]
    for done, (number, answer) in enumerate(speaker.answers(prompts, seeds), 1):
        texts[number] = answer.text
        if answer.finish == "refused":
            refusals[tuple(prompts[number])] = answer.problem
        advance(done)
    return texts


def decoder_of(loaded: Loaded, slots: int, *, lookup: bool = False) -> Decoder | OneByOne:
    """What makes a model's answers: many at once where it can."""
    return Decoder(loaded, slots, lookup=lookup) if can_hold(loaded) else OneByOne(loaded)


def encoded(loaded: Loaded, messages: Sequence[Message]) -> list[int]:
    """The tokens of a conversation whose next turn the model is to say."""
    text = plain(loaded.template.render(messages, ask=True))
    ids: list[int] = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def too_long(loaded: Loaded, ids: Sequence[int]) -> str:
    """Why a prompt leaves no room for an answer; "" when it does."""
    limit = loaded.context
    if limit is None or len(ids) < limit:
        return ""
    return f"the conversation has {len(ids)} tokens, the model reads at most {limit}"


def open_speaker(
    ref: ModelRef, *, device: str, report: Report, quant: str = "none", dtype: str = "auto", lookup: bool = False
) -> LocalSpeaker:
    """Load a model to speak with."""
    loaded = load(ref, device=devices.pick(device), report=report, quant=quant, dtype=devices.precision(dtype))
    return LocalSpeaker(loaded, lookup=lookup)


def _all_said(decoder: Decoder, speeches: Sequence[Speech]) -> Iterator[Speech]:
    """Each speech when it has ended; a new one joins whenever another leaves."""
    decoder.forget()
    waiting = list(reversed(speeches))
    running: list[Speech] = []
    try:
        while waiting or running:
            while waiting and decoder.free:
                running.append(waiting.pop())
                decoder.join(running[-1])
            decoder.step()
            yield from [speech for speech in running if speech.finish]
            running = [speech for speech in running if not speech.finish]
    finally:
        if running:
            decoder.clear()

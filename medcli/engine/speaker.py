"""Text from a local model: streamed for one person, batched for many questions."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy
import torch
from torch import Tensor

from medcli.core.batches import batches
from medcli.core.chat_template import plain
from medcli.core.errors import ModelError
from medcli.core.model_ref import ModelRef
from medcli.core.record import Message
from medcli.core.report import Report
from medcli.core.speaker import Sampling
from medcli.engine import device as devices
from medcli.engine import shared_prefix
from medcli.engine.load import load
from medcli.engine.loaded import Loaded
from medcli.engine.virtual_tokens import opening, padding_parts

BATCH = 32  # prompts answered together


class LocalSpeaker:
    """A `Speaker` over a loaded model; `refusals` has the prompts of `replies` that were too long to be answered."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.refusals: dict[tuple[Message, ...], str] = {}

    def reply(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        """The answer in pieces; closing the iterator stops the model."""
        ids: list[int] = []
        begun = False
        said, ready = 0, 0  # ids before `ready` are said; those from `said` on are decoded with what follows them
        for token in self._tokens(self._prompt(messages), sampling):
            ids.append(token)
            before, now = self._text(ids[said:ready]), self._text(ids[said:])
            # The bytes of a character may come in several tokens; the end of an answer that breaks off in one is lost.
            if len(now) > len(before) and not now.endswith("\ufffd"):
                piece = now[len(before) :]
                said, ready = ready, len(ids)
                # Formats such as GLM's have blank space between a prompt and its answer, which the model writes.
                if begun or (piece := piece.lstrip()):
                    begun = True
                    yield piece

    def replies(
        self, prompts: Sequence[Sequence[Message]], sampling: Sampling, advance: Callable[[int], None]
    ) -> list[str]:
        """One answer per prompt, prompts of like length together; "" where a prompt is too long, as `refusals` say."""
        every = [self._ids(messages) for messages in prompts]
        problems = [self._too_long(ids) for ids in every]
        self.refusals |= {tuple(asked): problem for asked, problem in zip(prompts, problems, strict=True) if problem}
        fitting = [index for index, problem in enumerate(problems) if not problem]
        said = self._answered([every[index] for index in fitting], sampling, advance)
        answers = dict(zip(fitting, said, strict=True))
        if len(fitting) < len(every):
            advance(len(every))
        return [answers.get(index, "") for index in range(len(every))]

    def _answered(self, encoded: Sequence[list[int]], sampling: Sampling, advance: Callable[[int], None]) -> list[str]:
        answers = [""] * len(encoded)
        torch.manual_seed(sampling.seed)
        done = 0
        for group in self._groups(encoded, sampling.max_tokens):
            beginning = encoded[group.texts[0]][: group.shared]
            cache = shared_prefix.read(self.loaded, beginning) if beginning else None
            for batch in batches(group.texts, BATCH):
                said = self._generate([encoded[index] for index in batch], sampling, cache)
                for index, ids in zip(batch, said, strict=True):
                    answers[index] = self._text(ids).rstrip("\ufffd").lstrip()
                done += len(batch)
                advance(done)
        return answers

    def _groups(self, encoded: Sequence[list[int]], most: int) -> list[shared_prefix.Group]:
        """Prompts to be answered one after the other, each group's by length, and what they share."""
        by_length = sorted(range(len(encoded)), key=lambda index: len(encoded[index]))
        if padding_parts(self.loaded):
            alike = groupby(by_length, lambda index: len(encoded[index]))
            return [shared_prefix.Group(texts=list(group), shared=0) for _, group in alike]
        if not shared_prefix.can_share(self.loaded, max(map(len, encoded), default=0) + most):
            return [shared_prefix.Group(texts=by_length, shared=0)]
        groups = shared_prefix.groups([numpy.array(ids, dtype=numpy.int32) for ids in encoded])
        return [replace(group, texts=sorted(group.texts, key=lambda index: len(encoded[index]))) for group in groups]

    def _prompt(self, messages: Sequence[Message]) -> list[int]:
        ids = self._ids(messages)
        if problem := self._too_long(ids):
            raise ModelError(problem, hint="shorten it (/clear in a chat), or take a model with a longer context")
        return ids

    def _ids(self, messages: Sequence[Message]) -> list[int]:
        text = plain(self.loaded.template.render(messages, ask=True))
        ids: list[int] = self.loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _too_long(self, ids: Sequence[int]) -> str:
        """Why a prompt leaves no room for an answer; "" when it does."""
        limit = self.loaded.context
        if limit is None or len(ids) < limit:
            return ""
        return f"the conversation has {len(ids)} tokens, the model reads at most {limit}"

    def _text(self, ids: list[int]) -> str:
        text: str = self.loaded.tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def _tokens(self, prompt: list[int], sampling: Sampling) -> Iterator[int]:
        if self.loaded.causal_lm._is_stateful:  # Mamba and its like: only their own loop carries the state on
            torch.manual_seed(sampling.seed)
            return iter(self._generate([prompt], sampling)[0])
        return self._one_by_one(prompt, sampling)

    @torch.inference_mode()
    def _one_by_one(self, prompt: list[int], sampling: Sampling) -> Iterator[int]:
        model, cache = opening(self.loaded)
        chance = torch.Generator(model.device).manual_seed(sampling.seed)
        ids = torch.tensor([prompt], device=model.device)
        last = {"logits_to_keep": 1} if model._supports_logits_to_keep() else {}
        for _ in range(sampling.max_tokens):
            out = model(input_ids=ids, past_key_values=cache, use_cache=True, **last)
            cache = out.past_key_values
            token = choose(out.logits[0, -1].float(), sampling, chance)
            if token in self.loaded.stops:
                return
            yield token
            ids = torch.tensor([[token]], device=model.device)

    @torch.inference_mode()
    def _generate(self, prompts: list[list[int]], sampling: Sampling, begun: Any = None) -> list[list[int]]:
        """The ids of an answer to each prompt, up to its stop word; `begun` keeps what was read of them all.

        Padding stands left of what is still to be read, and is not seen.
        """
        longest = max(map(len, prompts))
        pad, read = self.loaded.stops[0], 0 if begun is None else begun.get_seq_length()
        padded = [(p[:read], longest - len(p), p[read:]) for p in prompts]
        ids = torch.tensor([first + [pad] * gap + rest for first, gap, rest in padded], device=self.loaded.device)
        mask = torch.tensor(
            [[1] * read + [0] * gap + [1] * len(rest) for _, gap, rest in padded], device=self.loaded.device
        )
        cache = {} if begun is None else {"past_key_values": shared_prefix.growing(begun, len(prompts))}
        how: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if sampling.temperature > 0:
            how = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        out = self.loaded.model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=sampling.max_tokens,
            eos_token_id=list(self.loaded.stops), pad_token_id=pad, repetition_penalty=1.0, **how, **cache,
        )  # fmt: skip
        return [self._until_stop(row) for row in out[:, longest:].tolist()]

    def _until_stop(self, ids: list[int]) -> list[int]:
        end = next((index for index, token in enumerate(ids) if token in self.loaded.stops), len(ids))
        return ids[:end]


def choose(logits: Tensor, sampling: Sampling, chance: torch.Generator) -> int:
    """The next token of `logits` [vocabulary]; temperature 0 takes the likeliest, top_p the likeliest share."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    ordered, ids = (logits / sampling.temperature).softmax(-1).sort(descending=True)
    ordered[ordered.cumsum(0) - ordered > sampling.top_p] = 0
    return int(ids[torch.multinomial(ordered, 1, generator=chance)])


def open_speaker(ref: ModelRef, *, device: str, report: Report) -> LocalSpeaker:
    """Load a model to speak with."""
    return LocalSpeaker(load(ref, device=devices.pick(device), report=report))

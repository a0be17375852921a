"""Answers by transformers' own loop, for models whose state only that carries on."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch

from medcli.core.batches import batches
from medcli.engine.loaded import Loaded
from medcli.engine.speech import Speech
from medcli.engine.virtual_tokens import padding_parts


def said_in_batches(loaded: Loaded, speeches: Sequence[Speech], size: int) -> Iterator[Speech]:
    """Each speech when it has ended; those of like length and equal settings together, `size` at most.

    All of a batch are drawn by the seed of its first.
    """

    def alike(speech: Speech) -> tuple[str, int]:
        length = len(speech.prompt) if padding_parts(loaded) else 0
        return repr(replace(speech.sampling, seed=0)), length

    for _, group in groupby(sorted(speeches, key=lambda one: (alike(one), len(one.prompt))), alike):
        for batch in batches(list(group), size):
            for speech, ids in zip(batch, generate(loaded, batch), strict=True):
                for token in ids:
                    if not speech.finish:
                        speech.say(token)
                yield speech


@torch.inference_mode()
def generate(loaded: Loaded, speeches: Sequence[Speech]) -> list[list[int]]:
    """The tokens of an answer to each prompt, and what pads it; padding stands left of the prompts, and is not seen."""
    sampling = speeches[0].sampling
    torch.manual_seed(sampling.seed)
    longest = max(len(speech.prompt) for speech in speeches)
    pad = loaded.stops[0]
    gaps = [longest - len(speech.prompt) for speech in speeches]
    rows = [[pad] * gap + speech.prompt for gap, speech in zip(gaps, speeches, strict=True)]
    seen = [[0] * gap + [1] * (longest - gap) for gap in gaps]
    how: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if sampling.temperature > 0:
        how = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p}
        how["top_k"] = sampling.top_k
    out = loaded.model.generate(
        input_ids=torch.tensor(rows, device=loaded.device), attention_mask=torch.tensor(seen, device=loaded.device),
        max_new_tokens=max(speech.room for speech in speeches), eos_token_id=list(loaded.stops), pad_token_id=pad,
        repetition_penalty=sampling.repetition_penalty, **how,
    )  # fmt: skip
    said: list[list[int]] = out[:, longest:].tolist()
    return said

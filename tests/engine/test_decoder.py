"""Answers that join, are read in parts, go on from what is kept and leave are those that are made alone."""

import random

import pytest
import torch

from medcli.core.model_ref import ModelRef
from medcli.core.record import Message
from medcli.core.report import Silent
from medcli.core.speaker import Sampling
from medcli.engine.decoder import Decoder
from medcli.engine.load import load
from medcli.engine.slots import can_hold
from medcli.engine.speaker import LocalSpeaker
from medcli.engine.speech import Speech
from tests import families, tiny_model

HELD = ("llama", "qwen2", "qwen3_moe", "glm", "deepseek_v3", "mistral", "gemma2", "gemma3_text", "phi3", "gpt2")
CHANCE = random.Random(5)
PROMPTS = [[CHANCE.randrange(260, 800) for _ in range(length)] for length in (3, 40, 17, 75, 1, 33)]


def opened(family, folder):
    base = families.write(family, folder)
    return load(ModelRef(base=str(base)), device=torch.device("cpu"), report=Silent(), template="med-tiny")


@pytest.fixture(scope="module")
def loaded(tiny_folder):
    return tiny_model.loaded(tiny_folder)


def speech(loaded, prompt, **how):
    return Speech(loaded, prompt, Sampling(**{"max_tokens": 12, **how}), blank=True)


def finished(decoder, *speeches):
    for one in speeches:
        decoder.join(one)
    while decoder.running:
        decoder.step()
    return [one.said for one in speeches]


@torch.inference_mode()
def naive(loaded, prompt, most=12):
    """The whole text is read again for every token."""
    said = []
    while len(said) < most:
        token = int(loaded.model(input_ids=torch.tensor([prompt + said]), use_cache=False).logits[0, -1].argmax())
        said.append(token)
        if token in loaded.stops:
            break
    return said


@pytest.mark.parametrize("family", HELD)
def test_together_they_say_what_each_says_alone(family, tmp_path):
    """The windows of 16 tokens of some families are shorter than the prompts, which are read in parts."""
    loaded = opened(family, tmp_path / family)
    assert can_hold(loaded)
    decoder = Decoder(loaded, len(PROMPTS), stretch=8)
    together = finished(decoder, *(speech(loaded, prompt) for prompt in PROMPTS))
    assert together == [naive(loaded, prompt) for prompt in PROMPTS]
    assert decoder.running == 0


@pytest.mark.filterwarnings("ignore")  # transformers says that fast kernels for Mamba are not here
@pytest.mark.parametrize("family", ["mamba", "bloom"])
def test_models_that_keep_or_see_otherwise_are_not_held(family, tmp_path):
    assert not can_hold(opened(family, tmp_path / family))


def test_answers_that_come_and_go_at_any_time_are_those_made_alone(loaded):
    """Random arrivals, departures and beginnings in common, over rows that are used again and again."""
    chance = random.Random(1)
    decoder = Decoder(loaded, 4)
    alone: dict[tuple[int, ...], list[int]] = {}
    running: list[Speech] = []
    ended, left = [], 0
    while len(ended) + left < 60:
        if decoder.free and chance.random() < 0.5:
            before = chance.choice(PROMPTS + [one.ids for one in ended[-3:]])[:100]
            prompt = before[: chance.randrange(1, len(before) + 1)] + [chance.randrange(260, 800)]
            running.append(speech(loaded, prompt, max_tokens=chance.randrange(1, 9)))
            decoder.join(running[-1])
        if running and chance.random() < 0.05:
            decoder.leave(running.pop(chance.randrange(len(running))))
            left += 1
        decoder.step()
        ended += [one for one in running if one.finish]
        running = [one for one in running if not one.finish]
        assert decoder.running == len(running)
    for one in ended:
        key = tuple(one.prompt)
        expected = alone.setdefault(key, naive(loaded, one.prompt, most=9))
        assert one.said == expected[: len(one.said)]
    assert left > 0
    assert decoder.reused > 100


def test_the_next_turn_reads_only_what_is_new(loaded):
    decoder = Decoder(loaded, 2)
    first = speech(loaded, PROMPTS[3])
    finished(decoder, first)
    assert decoder.read == 75
    turn = [*first.ids, 300, 301]
    (said,) = finished(decoder, speech(loaded, turn))
    assert said == naive(loaded, turn)
    assert decoder.read == 75 + 3  # the last token of an answer was said, but not read
    changed = [*turn[:60], 302, 303]
    (said,) = finished(decoder, speech(loaded, changed))
    assert said == naive(loaded, changed)
    assert decoder.read == 78 + 2


def test_a_beginning_that_another_answer_uses_is_copied(loaded):
    decoder = Decoder(loaded, 3)
    running = speech(loaded, PROMPTS[3])
    decoder.join(running)
    decoder.step()
    other = [*PROMPTS[3], 299]
    late = speech(loaded, other)
    said = finished(decoder, late)
    assert said == [naive(loaded, other)]
    assert running.said == naive(loaded, PROMPTS[3])
    assert decoder.reused == 75


def test_nothing_is_reused_after_forgetting(loaded):
    decoder = Decoder(loaded, 2)
    finished(decoder, speech(loaded, PROMPTS[1]))
    decoder.forget()
    finished(decoder, speech(loaded, PROMPTS[1]))
    assert decoder.reused == 0


def test_an_interrupted_step_is_forgotten(loaded):
    """Ctrl-C may come anywhere in a step."""
    speaker = LocalSpeaker(loaded)
    messages, how = [Message(role="user", content="痛风怎么办？")], Sampling(max_tokens=12)
    expected = "".join(speaker.reply(messages, how))
    for call in range(1, 9):
        calls = iter([False] * call + [True])

        def interrupt(*_, calls=calls):
            if next(calls, False):
                raise KeyboardInterrupt

        hook = loaded.model.model.layers[1].register_forward_pre_hook(interrupt)
        try:
            with pytest.raises(KeyboardInterrupt):
                speaker.replies([messages] * 3, how, lambda done: None)
        finally:
            hook.remove()
        assert "".join(speaker.reply(messages, how)) == expected


def test_drawn_answers_do_not_depend_on_their_neighbours(loaded):
    how = [{"temperature": 1.0, "seed": number} for number in range(len(PROMPTS))]
    together = finished(Decoder(loaded, 6), *(speech(loaded, p, **h) for p, h in zip(PROMPTS, how, strict=True)))
    alone = [finished(Decoder(loaded, 1), speech(loaded, p, **h))[0] for p, h in zip(PROMPTS, how, strict=True)]
    assert together == alone
    assert len({tuple(said) for said in together}) == len(together)


def test_looking_up_says_the_same_in_fewer_calls(loaded):
    """A random model soon repeats itself, which is where guessing by what stood before wins."""
    calls = {}
    for lookup in (False, True):
        decoder, one = Decoder(loaded, 2, lookup=lookup), speech(loaded, PROMPTS[1], max_tokens=150)
        decoder.join(one)
        calls[lookup] = 0
        while decoder.running:
            decoder.step()
            calls[lookup] += 1
        calls[lookup, "said"] = one.said
    assert calls[True, "said"] == calls[False, "said"]
    assert calls[True] < calls[False]


def test_looking_up_leaves_drawn_answers_alone(loaded):
    said = [
        finished(Decoder(loaded, 1, lookup=lookup), speech(loaded, PROMPTS[1], temperature=0.8, max_tokens=40))
        for lookup in (False, True)
    ]
    assert said[0] == said[1]

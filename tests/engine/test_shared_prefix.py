"""Texts are divided so that reading shared beginnings once saves most, and what is generated after them is the same."""

import numpy
import pytest
import torch

from medcli.core.model_ref import ModelRef
from medcli.core.record import Message
from medcli.core.report import Silent
from medcli.core.speaker import Sampling
from medcli.core.tuner_settings import LoraSettings
from medcli.engine import lora, shared_prefix
from medcli.engine.load import load
from medcli.engine.shared_prefix import CALL, Group, groups
from medcli.engine.speaker import LocalSpeaker
from tests import families

GREEDY = Sampling(max_tokens=12)
SHAPES = {
    "llama": {},
    "qwen2": {"use_sliding_window": False},
    "glm": {},
    "gpt2": {},
    "mistral": {"sliding_window": 500},
}


def texts(*parts):
    return [numpy.array(part, dtype=numpy.int32) for part in parts]


def block(name, length=CALL):
    return [name] * length


def test_one_block_before_all_is_one_group():
    every = texts(*([*block(7), number, 5] for number in range(4)))
    assert groups(every) == [Group(texts=[0, 1, 2, 3], shared=CALL)]


def test_blocks_of_several_subjects_are_groups_of_their_own():
    every = texts(*([1, *block(7 + number % 2), number] for number in range(8)), [1, 2, 3])
    assert groups(every) == [
        Group(texts=[0, 2, 4, 6], shared=CALL + 1),
        Group(texts=[1, 3, 5, 7], shared=CALL + 1),
        Group(texts=[8], shared=0),
    ]


def test_a_short_beginning_of_many_outweighs_a_long_one_of_two():
    """All begin with a block; two of them with another block after it, which saves less than is lost by parting."""
    every = texts(*([*block(7), *block(9, CALL // 2 if number < 2 else 0), 20 + number] for number in range(50)))
    assert [len(group.texts) for group in groups(every)] == [50]
    assert groups(every)[0].shared == CALL


def test_what_saves_less_than_a_call_is_not_shared():
    assert groups(texts([5, 6, 7], [5, 6, 8])) == [Group(texts=[0, 1], shared=0)]
    assert groups(texts(block(7, 3 * CALL))) == [Group(texts=[0], shared=0)]
    assert groups([]) == []


def test_each_text_keeps_a_token_of_its_own():
    """The chances after a text are those after its last token, which must then be read."""
    same = texts(block(7), block(7), [*block(7), 8])
    assert groups(same) == [Group(texts=[0, 1, 2], shared=CALL - 1)]


def test_what_is_left_over_shares_what_all_begin_with():
    """A system message before all, a block of examples for some."""
    every = texts(*([*block(1), *block(7, CALL if number % 2 else 0), 20 + number] for number in range(8)))
    assert groups(every) == [
        Group(texts=[1, 3, 5, 7], shared=2 * CALL),
        Group(texts=[0, 2, 4, 6], shared=CALL),
    ]


def opened(family, folder, **shape):
    base = families.write(family, folder, **shape)
    return load(ModelRef(base=str(base)), device=torch.device("cpu"), report=Silent(), template="med-tiny")


def prompts():
    shown = [Message(role="user", content="糖尿病的症状是哪一项？" * 6), Message(role="assistant", content="A")] * 2
    asked = ("头痛", "高血压患者的注意事项有哪些？", "a", "得了痛风，症状是什么？" * 3, "咳嗽了", "发热")
    return [[*shown, Message(role="user", content=text)] for text in asked]


def one_by_one(speaker):
    return ["".join(speaker.reply(prompt, GREEDY)) for prompt in prompts()]


@pytest.mark.parametrize("family", SHAPES)
def test_batches_after_a_shared_beginning_answer_as_one_by_one(tmp_path, family):
    speaker = LocalSpeaker(opened(family, tmp_path / family, **SHAPES[family]))
    done = []
    together = speaker.replies(prompts(), GREEDY, done.append)
    assert together == one_by_one(speaker)
    assert len(set(together)) > 1
    assert done == [1, 2, 3, 4, 5, 6]


def test_what_is_shared_is_read_by_the_active_adapter(tmp_path):
    loaded = opened("llama", tmp_path / "llama")
    bare = LocalSpeaker(loaded).replies(prompts(), GREEDY, lambda done: None)
    adapted = lora.prepare(loaded, LoraSettings(dataset=("t",), precision="fp32"))
    for name, weight in adapted.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(0))
    speaker = LocalSpeaker(adapted)
    together = speaker.replies(prompts(), GREEDY, lambda done: None)
    assert together == one_by_one(speaker)
    assert together != bare


def test_a_window_bounds_what_can_be_shared(tmp_path):
    loaded = opened("mistral", tmp_path / "mistral", sliding_window=64)
    assert shared_prefix.can_share(loaded, 64)
    assert not shared_prefix.can_share(loaded, 65)

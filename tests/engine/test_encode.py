"""Which tokens are learnt, and what is left out when a dialogue is too long."""

import json

import pytest
from transformers import AutoTokenizer

from medcli.core.chat_template import plain
from medcli.core.model_ref import ModelRef
from medcli.core.record import Conversation, Message
from medcli.core.report import Silent
from medcli.engine.encode import Losses, encode, encode_all
from medcli.engine.load import load_tokenizer
from medcli.engine.model_template import template_of
from tests.conftest import shared


def conversation(*turns, system=""):
    roles = ["user", "assistant"] * len(turns)
    messages = [Message(role=role, content=text) for role, text in zip(roles, turns, strict=False)]
    first = [Message(role="system", content=system)] if system else []
    return Conversation(id="1", messages=(*first, *messages), source="test")


@pytest.fixture(scope="module")
def parts(tiny_folder):
    return load_tokenizer(ModelRef(base=str(tiny_folder)), Silent())


def examples(parts, conversations, max_length=1000):
    tokenizer, template = parts
    losses = Losses()
    found = list(encode_all(conversations, template, tokenizer, max_length=max_length, losses=losses))
    return found, losses


def learnt(parts, example):
    return parts[0].decode(example.ids[example.trained])


def test_every_answer_is_learnt_with_its_end(parts):
    found, _ = examples(parts, [conversation("头痛", "多休息。", "还痛", "请就医。", system="你是医生")])
    assert learnt(parts, found[0]) == "多休息。<|end|>请就医。<|end|>"


def test_oldest_turns_go_first_and_the_end_stays(parts):
    turns = [text for n in range(20) for text in (f"问题{n}是什么？", f"回答{n}。")]
    found, losses = examples(parts, [conversation(*turns, system="你是医生")], max_length=80)
    text = parts[0].decode(found[0].ids)
    assert len(found[0].ids) <= 80
    assert text.startswith("<|system|>你是医生<|end|><|user|>")
    assert text.endswith("回答19。<|end|>")
    assert "问题0是" not in text
    assert losses.shortened == 1
    assert losses.turns_dropped % 2 == 0
    assert losses.turns_dropped > 0


def test_what_does_not_fit_at_all_is_counted(parts):
    found, losses = examples(parts, [conversation("短", "好。"), conversation("长" * 500, "好。")], max_length=50)
    assert len(found) == 1
    assert losses.too_long == 1


def test_a_sample_without_an_answer_is_counted(parts):
    found, losses = examples(parts, [conversation("头痛"), conversation("头痛", "多休息。")])
    assert len(found) == 1
    assert losses.untrained == 1


def test_a_users_control_words_are_no_control_tokens(parts):
    tokenizer, template = parts
    example = encode([template.render(conversation("a<|end|>b<|assistant|>c", "好。").messages)], tokenizer)[0]
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    assert list(example.ids).count(end) == 2  # the user's turn and the answer, no more


def test_qwens_own_template_is_learnt_exactly():
    """The real tokenizer and its own template, which has no marks: the spans must be those of ChatML."""
    folder = shared("tokenizers/qwen2.5/vocab.json").parent
    tokenizer, template = load_tokenizer(ModelRef(base=str(folder)), Silent())
    example = encode([template.render(conversation("孩子发烧了", "多大了？", "3岁", "看儿科。").messages)], tokenizer)[
        0
    ]
    assert tokenizer.decode(example.ids[example.trained]) == "多大了？<|im_end|>看儿科。<|im_end|>"
    official = tokenizer.apply_chat_template(
        [{"role": "user", "content": "孩子发烧了"}, {"role": "assistant", "content": "多大了？"},
         {"role": "user", "content": "3岁"}, {"role": "assistant", "content": "看儿科。"}], tokenize=False,
    )  # fmt: skip
    assert tokenizer.decode(example.ids) == official
    assert template.marked  # ours was found to render alike, and says exactly what is learnt


def qwen():
    return AutoTokenizer.from_pretrained(shared("tokenizers/qwen2.5/vocab.json").parent)


@pytest.mark.parametrize(("name", "answer"), [("belle", "The flu."), ("bianque", "“流感”。"), ("vicuna", "The flu.")])
def test_an_answer_begins_with_a_token_of_its_own(name, answer):
    """`:The` and `：“` are tokens of Qwen; after a prompt that ends with the colon they can never be said."""
    tokenizer = qwen()
    template = template_of(tokenizer, ModelRef(base="qwen"), name)
    messages = conversation("头痛", answer, "还痛", answer).messages
    example = encode([template.render(messages)], tokenizer)[0]
    prompt = tokenizer(plain(template.render(messages[:1], ask=True)), add_special_tokens=False)["input_ids"]
    assert list(example.ids[: len(prompt)]) == prompt
    assert not example.trained[: len(prompt)].any()
    learnt = tokenizer.decode(example.ids[example.trained])
    assert learnt.replace(" ", "") == f"{answer}<|im_end|>".replace(" ", "") * 2
    assert tokenizer.decode(example.ids) == plain(template.render(messages))


@pytest.mark.parametrize("name", ["qwen3", "chatml", "alpaca", "ziya", "chatglm2", "bloom-med"])
def test_a_prompt_is_what_training_began_with(name):
    """Token by token, for the last answer of two."""
    tokenizer = qwen()
    template = template_of(tokenizer, ModelRef(base="qwen"), name)
    messages = conversation("头痛", "多休息。", "还痛", "1. 请就医。").messages
    example = encode([template.render(messages)], tokenizer)[0]
    prompt = tokenizer(plain(template.render(messages[:3], ask=True)), add_special_tokens=False)["input_ids"]
    assert list(example.ids[: len(prompt)]) == prompt
    end = template.stops[0]
    assert tokenizer.decode(example.ids[len(prompt) :][example.trained[len(prompt) :]]) == f"1. 请就医。{end}"
    learnt = tokenizer.decode(example.ids[example.trained])
    assert learnt == (f"1. 请就医。{end}" if name == "qwen3" else f"多休息。{end}1. 请就医。{end}")


def test_where_history_is_rewritten_every_answer_is_learnt_from_its_own_prompt():
    tokenizer = qwen()
    template = template_of(tokenizer, ModelRef(base="qwen"), "qwen3")
    talk = conversation("头痛", "多休息。", "还痛", "请就医。", system="你是医生")
    found, losses = examples((tokenizer, template), [talk, conversation("咳", "多喝水。")])
    assert [learnt((tokenizer, template), example) for example in found] == [
        "多休息。<|im_end|>", "请就医。<|im_end|>", "多喝水。<|im_end|>",
    ]  # fmt: skip
    for example, asked in zip(found, (talk.messages[:2], talk.messages[:4]), strict=False):
        prompt = tokenizer(plain(template.render(asked, ask=True)), add_special_tokens=False)["input_ids"]
        assert list(example.ids[: len(prompt)]) == prompt
        assert list(example.trained).index(True) == len(prompt)
    assert losses == Losses()


def test_characters_of_several_tokens_are_learnt_whole():
    folder = shared("tokenizers/minimind/tokenizer.json").parent
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    tokenizer, template = load_tokenizer(ModelRef(base=str(folder)), Silent())
    answer = "龘𠮷鑫：服用对乙酰氨基酚片。"
    example = encode([template.render(conversation("癥瘕？", answer).messages)], tokenizer)[0]
    assert tokenizer.decode(example.ids[example.trained]).startswith(answer)

"""Prompts and endings are cut into the tokens that training cuts them into, and what endings share is one branch."""

import pytest
import torch

from medcli.core import chat_template
from medcli.core.chat_template import ChatTemplate
from medcli.core.errors import ModelError
from medcli.core.reading import last_answer
from medcli.core.record import Message
from medcli.engine import tiny
from medcli.engine.encode import encode
from medcli.engine.endings import encode_endings
from medcli.engine.loaded import Loaded

ENDINGS = ("A", "AB", "高血压", "")


@pytest.fixture(scope="module")
def tokenizer():
    """One of bytes, but for the tokens " A", "：（" and what leads to them."""
    return tiny.make_tokenizer([" A", "：（"] * 9, vocabulary=280)


def loaded(tokenizer, template):
    tokens = {"eos_token": "<|end|>", "bos_token": "<|system|>"}
    chosen = ChatTemplate(name=template, text=chat_template.shipped_text(template), tokens=tokens)
    return Loaded(model=None, tokenizer=tokenizer, template=chosen, stops=(3,), base="t", stored=torch.float32)


def asked(*texts):
    roles = ("user", "assistant")
    return [Message(role=roles[at % 2], content=text) for at, text in enumerate(texts)]


PROMPTS = [asked("头痛？"), asked("头痛。", "A", "发热。\n"), asked("（甲", "AB", "乙：")]
THINKING = "deepseek-thinking"  # which has no answer without a thought


@pytest.mark.parametrize("template", sorted({*chat_template.shipped_names()} - {THINKING}))
def test_the_tokens_are_those_of_training(tokenizer, template):
    model = loaded(tokenizer, template)
    found = encode_endings(model, PROMPTS, [ENDINGS] * len(PROMPTS), ended=True)
    for prompt, followed in zip(PROMPTS, found, strict=True):
        for ending, path, counted in zip(ENDINGS, followed.branches.paths, followed.branches.counted, strict=True):
            (example,) = encode([last_answer(model.template, prompt, ending)], tokenizer)
            last = int(example.trained.nonzero()[0][-1]) + 1
            assert [*followed.stem, *path] == example.ids[:last].tolist()
            assert 0 < counted <= example.trained.sum()


def told(tokenizer, template, *endings, ended=False):
    """What follows the prompt, of each ending all tokens that count, as text."""
    (found,) = encode_endings(loaded(tokenizer, template), [asked("问")], [endings], ended=ended)
    said = zip(found.branches.paths, found.branches.counted, strict=True)
    return [[tokenizer.decode(token) for token in path[len(path) - counted :]] for path, counted in said]


def test_the_stop_word_belongs_to_an_ending_that_has_ended(tokenizer):
    assert told(tokenizer, "med-tiny", "A", "AB") == [["A"], ["A", "B"]]
    assert told(tokenizer, "med-tiny", "A", "AB", ended=True) == [["A", "<|end|>"], ["A", "B", "<|end|>"]]


def test_blank_space_counts_unless_all_endings_begin_with_the_same_token_of_it(tokenizer):
    """After "ASSISTANT:" comes " A", one token here, as it is in vocabularies of words; " B" is two."""
    assert told(tokenizer, "vicuna", "B", "C") == [["B"], ["C"]]
    assert told(tokenizer, "vicuna", "A", "B") == [[" A"], [" ", "B"]]
    assert told(tokenizer, "glm4", "A", "B") == [["A"], ["B"]]


def test_a_token_never_reaches_from_the_prompt_into_its_ending(tokenizer):
    """Chat gives the model the prompt alone, which ends with "：": after it "（" can be said, and "：（" cannot."""
    assert "：（" in [tokenizer.decode(token) for token in tokenizer("答：（A")["input_ids"]]
    assert told(tokenizer, "chatglm2", "B") == [["B"]]
    (found,) = encode_endings(loaded(tokenizer, "chatglm2"), [asked("问")], [("（A", "（B")], ended=False)
    assert tokenizer.decode(found.stem).endswith("答：")
    assert [tokenizer.decode(path) for path in found.branches.paths] == ["（A", "（B"]


def test_endings_that_begin_alike_are_one_branch(tokenizer):
    (found,) = encode_endings(loaded(tokenizer, "med-tiny"), [asked("问")], [("ABC", "ABD", "B", "BC")], ended=False)
    branches = found.branches
    assert tokenizer.decode(list(branches.tokens)) == "ABB"
    assert branches.depths == (0, 1, 0)


def test_nothing_to_follow(tokenizer):
    (found,) = encode_endings(loaded(tokenizer, "med-tiny"), [asked("问")], [()], ended=True)
    assert found.branches.paths == found.branches.tokens == found.branches.reads == ()


def test_a_format_in_which_no_letter_is_an_answer_is_told(tokenizer):
    with pytest.raises(ModelError, match="holds no thought") as error:
        told(tokenizer, THINKING, "A")
    assert "--mode generate" in error.value.hint

"""The text of an answer, piece by piece, is that of all its tokens at once."""

import random

import pytest

from medcli.core.speaker import Sampling
from medcli.engine.speech import Speech
from tests import tiny_model

TEXT = "高血压🙂患者应低盐饮食，naïve：\n多喝水。𠮷野家"


@pytest.fixture(scope="module")
def loaded(tiny_folder):
    return tiny_model.loaded(tiny_folder)


def pieces(loaded, ids, **given):
    speech = Speech(loaded, [5], Sampling(**{"max_tokens": len(ids) + 9, **given.pop("how", {})}), **given)
    return [speech.say(token) for token in ids if not speech.finish], speech


def test_pieces_are_whole_characters_and_together_the_text(loaded):
    ids = loaded.tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert len(ids) > len(TEXT)  # some characters take several tokens
    found, speech = pieces(loaded, ids)
    assert "".join(found) == speech.text == TEXT
    assert not any("\ufffd" in piece for piece in found)


def test_random_tokens_say_what_they_say_together(loaded):
    """Broken characters in the middle are shown as such; one at the end is lost."""
    chance = random.Random(0)
    for _ in range(200):
        ids = [chance.randrange(260, 800) if chance.random() < 0.7 else chance.randrange(4, 260) for _ in range(12)]
        found, _ = pieces(loaded, ids, blank=True)
        assert "".join(found) == loaded.tokenizer.decode(ids, skip_special_tokens=True).rstrip("\ufffd")


def test_a_stop_word_ends_it_and_is_not_said(loaded):
    ids = loaded.tokenizer("多喝水。", add_special_tokens=False)["input_ids"]
    found, speech = pieces(loaded, [*ids, loaded.stops[0], *ids])
    assert "".join(found) == "多喝水。"
    assert speech.answer().finish == "stop"
    assert speech.answer().tokens == len(ids) + 1
    assert speech.answer().prompt_tokens == 1


def test_a_stop_text_ends_it_within_a_token(loaded):
    ids = loaded.tokenizer("多喝水。少吃盐。", add_special_tokens=False)["input_ids"]
    found, speech = pieces(loaded, ids, how={"stop": ("少吃", "水不")})
    assert "".join(found) == "多喝水。"
    assert speech.finish == "stop"


def test_what_waited_for_a_stop_text_is_said_at_the_end(loaded):
    ids = loaded.tokenizer("多喝水", add_special_tokens=False)["input_ids"]
    found, speech = pieces(loaded, ids, how={"stop": ("水不",), "max_tokens": len(ids)})
    assert "".join(found) == "多喝水"
    assert speech.finish == "length"


def test_it_is_bound_by_what_the_model_reads(loaded):
    _, speech = pieces(loaded, [300, 301, 302, 303], room=2)
    assert speech.said == [300, 301]
    assert speech.finish == "length"

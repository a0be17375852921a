"""Repetition within an answer, and length."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medcli.core.score import Answer
from medcli.metrics import length
from medcli.metrics.repetition import repetition


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0),
        ("头痛头", 0),
        ("头痛发热", 0),
        ("头 痛\n发热", 0),
        ("头痛头痛头", 0),  # 头痛头痛, 痛头痛头
        ("头痛头痛头痛", 1 / 3),
        ("痛" * 5, 1 / 2),
        ("痛" * 20_000, 19_996 / 19_997),
        ("好" * 4 + "\n \u3000" + "好" * 4, 4 / 5),
    ],
)
def test_repetition_is_what_was_there_before(text, share):
    assert repetition(text) == pytest.approx(share)


@given(st.text(min_size=1, max_size=60))
def test_a_text_said_twice_repeats_at_least_about_half(text):
    packed = "".join(text.split())
    twice = repetition(text + text)
    assert 0 <= repetition(text) <= 1
    if len(packed) > 3:
        assert twice >= (len(packed) - 3) / (2 * len(packed) - 3) - 1e-12


@pytest.mark.parametrize(("text", "count"), [("", 0), (" \u3000\r\n", 0), ("头 痛\n", 2), ("B超2次", 4), ("𠮷😀", 2)])
def test_length_counts_characters(text, count):
    assert length.scores([Answer(text=text, reference="多喝水")]) == {"length": [count]}

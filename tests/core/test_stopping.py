"""However an answer is cut into pieces, it ends before the first stop text."""

import hypothesis.strategies as st
from hypothesis import given

from medcli.core.stopping import StopTexts

LETTERS = st.text("ab问", max_size=12)


def said(pieces, stops):
    found = StopTexts(stops)
    text = "".join(found.add(piece) for piece in pieces)
    return text + found.rest(), found.found


def twin(text, stops):
    """Character by character: the first time that a stop text stands at the end, it is cut off."""
    for end in range(len(text) + 1):
        ended = [stop for stop in stops if stop and text[:end].endswith(stop)]
        if ended:
            return text[: end - max(map(len, ended))], True
    return text, False


@given(LETTERS, st.lists(st.text("ab问", min_size=1, max_size=3), max_size=3))
def test_pieces_of_one_character_end_where_the_text_does(text, stops):
    assert said(text, stops) == twin(text, stops)


@given(st.lists(LETTERS, max_size=5), st.text("ab问", min_size=1, max_size=3))
def test_pieces_of_any_length_end_where_the_text_does(pieces, stop):
    assert said(pieces, [stop]) == twin("".join(pieces), [stop])


@given(st.lists(LETTERS, max_size=5), st.lists(st.text("ab问", min_size=1, max_size=3), max_size=3))
def test_without_a_stop_text_nothing_is_lost(pieces, stops):
    text = "".join(pieces)
    if not any(stop in text for stop in stops):
        assert said(pieces, stops) == (text, False)


def test_nothing_of_a_stop_text_is_said_before_it_is_whole():
    found = StopTexts(["\n问："])
    assert [found.add(piece) for piece in ("多喝水。", "\n", "问", "题不大", "\n问", "：", "还有")] == [
        "多喝水。", "", "", "\n问题不大", "", "", "",
    ]  # fmt: skip
    assert found.found
    assert found.rest() == ""


def test_an_empty_stop_text_stops_nothing():
    assert said(["好"], [""]) == ("好", False)

"""What makes two texts the same."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from medcli.core.fingerprint import bare, fingerprint, normal

TEXT = st.text() | st.text(alphabet="头疼三天，：；？！（）％～…。、《》“”‘’【】①㎎½ＡＢａ１　 \n\tßİ_-")


@given(TEXT)
def test_normal_is_nfkc_without_white_space_and_case(text):
    assert normal(text) == "".join(unicodedata.normalize("NFKC", text).split()).casefold()


@given(TEXT)
def test_bare_holds_words_only(text):
    assert all(character.isalnum() or unicodedata.combining(character) for character in bare(text))
    assert bare(" ，" + text + "…。") == bare(text)


def test_width_case_and_white_space_do_not_matter():
    assert fingerprint("头疼？ CT") == fingerprint("头疼?ｃｔ\n")
    assert fingerprint("1.5mg") != fingerprint("15mg")
    assert fingerprint("头", "疼") != fingerprint("头疼")
    assert bare("A. 头疼，（三天）") == bare("a头疼三天") == "a头疼三天"

import string

import pytest

from medcli.core.catalogue import languages, preferred, words
from medcli.core.errors import UnknownNameError


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("zh-Hant-TW", "zh"),
        ("en-GB,zh;q=0.5", "en"),
        ("fr-FR,zh;q=0.5,en;q=0.7", "en"),
        ("fr, ZH; q=0.2", "zh"),
        ("zh;q=0, en", "en"),
        ("zh;q=much", "en"),
        ("de", "en"),
        ("*", "en"),
        ("", "en"),
    ],
)
def test_the_language_that_a_browser_asks_for_first(accepted, language):
    assert preferred(accepted) == language


def holes(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_language_has_the_same_texts_with_the_same_holes():
    assert languages() == ("en", "zh")
    english, chinese = words("en", "page"), words("zh", "page")
    assert set(english) - set(chinese) == {"disclaimer"}, "the Chinese one is the program's own"
    assert set(chinese) <= set(english)
    assert {name: holes(text) for name, text in chinese.items()} == {name: holes(english[name]) for name in chinese}
    assert all(text.strip() for text in (*english.values(), *chinese.values()))


def test_a_language_or_a_part_that_is_not_there_is_said():
    with pytest.raises(UnknownNameError, match="no language is called 'fr'"):
        words("fr", "page")
    with pytest.raises(UnknownNameError, match="'pages'"):
        words("en", "pages")

import string

import pytest

from medcli.core.catalogue import languages, preferred, translated, words
from medcli.core.errors import UnknownNameError
from medcli.core.settings import chosen_language, language


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


def test_a_sentence_is_found_by_its_shape_and_keeps_what_stands_in_its_places():
    assert translated("no run is called '{x} 头痛'", "zh") == "没有叫“{x} 头痛”的训练"
    assert translated("  talk with it", "zh") == "  和它对话"


def test_names_are_never_translated():
    """ "data" is a word of ours, and in a name it is not."""
    assert translated("data", "zh") == "数据"
    assert translated("no run is called 'data'", "zh") == "没有叫“data”的训练"


def test_lines_are_translated_one_by_one():
    said = translated("did you mean 'a'?\nnobody has ever said this\nknown: a, b", "zh")
    assert said == "是不是“a”？\nnobody has ever said this\n已知的有：a, b"


@pytest.mark.parametrize("text", ["", " ", "\n", "头痛怎么办？", "{", "{x}", "(.*?)", "a\nb"])
def test_what_is_not_ours_stays_as_it_is(text):
    assert translated(text, "zh") == translated(text, "en") == translated(text, "xx") == text


def test_the_disclaimer_is_said_in_both_languages():
    from medcli.core.speaker import DISCLAIMER, TINY_DISCLAIMER

    assert translated(DISCLAIMER, "zh") == DISCLAIMER
    assert "no substitute for a doctor" in translated(DISCLAIMER, "en")
    assert translated(TINY_DISCLAIMER, "en").endswith(translated(DISCLAIMER, "en"))


@pytest.mark.parametrize(
    ("variables", "spoken"),
    [
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "en_US.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_TW.UTF-8"}, "zh"),
        ({"MED_LANG": "en", "LANG": "zh_CN.UTF-8"}, "en"),
        ({"MED_LANG": "zh-CN", "LANG": "C.UTF-8"}, "zh"),
        ({"LANG": "C.UTF-8"}, "c"),  # no language that there is a file for: English
        ({}, ""),
    ],
)
def test_the_language_to_speak(project, monkeypatch, variables, spoken):
    for name in ("MED_LANG", "LANG", "LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert language() == spoken


def test_med_toml_chooses_the_language_below_the_variable(project, monkeypatch):
    monkeypatch.delenv("MED_LANG")
    (project / "med.toml").write_text('language = "zh"\n', "utf-8")
    assert chosen_language() == "zh"
    monkeypatch.setenv("MED_LANG", "en")
    assert chosen_language() == "en"


def test_a_broken_med_toml_does_not_hide_the_error_about_it(med, project, monkeypatch):
    monkeypatch.delenv("MED_LANG")
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    (project / "med.toml").write_text("[train\n", "utf-8")
    result = med("runs", "list")
    assert result.exit_code == 2
    assert "med.toml" in result.stderr
    assert "改正上面" in result.stderr


@pytest.mark.parametrize(("variable", "toml"), [("fr", ""), ("", 'language = "fr"\n')])
def test_a_language_that_nobody_speaks_here_is_an_error(med, project, monkeypatch, variable, toml):
    monkeypatch.setenv("MED_LANG", variable)
    (project / "med.toml").write_text(toml, "utf-8")
    result = med("runs", "list")
    assert (result.exit_code, "no language is called 'fr'" in result.stderr) == (2, True)

"""Everything that `med` says can be read in every language it speaks."""

import pytest

from medcli.core.catalogue import PLACE, languages, translated, words
from tests.originals import Collector, is_chinese, shape

SAID = Collector().said()
WANTED = {
    "en": {shape(said.text): said for said in SAID if is_chinese(said.text)},
    "zh": {shape(said.text): said for said in SAID if not is_chinese(said.text)},
}

every = pytest.mark.parametrize("language", languages())


def test_what_is_said_is_found_in_the_code():
    texts = {shape(said.text) for said in SAID}
    assert len(texts) > 1000
    assert {
        "no {} is called '{}'",
        "did you mean '{}'?",
        "cleared",
        "the question is empty",
        "the disk is full",
    } <= texts


@every
def test_every_sentence_is_there_and_none_too_much(language):
    there = {shape(original) for original in words(language, "terminal")}
    missing = [f"{said.where}: {said.text}" for key, said in WANTED[language].items() if key not in there]
    assert not missing, f"write these into [terminal] of templates/locale/{language}.toml"
    assert not there - set(WANTED[language]), "these are said no more"


@every
def test_translations_fill_only_places_that_the_original_has(language):
    for part in ("terminal", "parts"):
        for original, translation in words(language, part).items():
            places = {name for name, _ in PLACE.findall(original)}
            assert {name for name, _ in PLACE.findall(translation)} <= places, original
            assert "!}" not in translation, original
            assert translation.strip(), original


@every
def test_every_sentence_finds_its_own_translation(language):
    """Filled with something else, a sentence must not be taken for another one that is shaped alike."""
    wrong = []
    for original, translation in words(language, "terminal").items():
        if (found := translated(filled(original), language)) != filled(translation):
            wrong.append((original, found))
    assert not wrong


def filled(text: str) -> str:
    """A word that no sentence has in each place, the same in the translation's places."""
    return PLACE.sub(r"Ø\1", text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no run is called 'lorra'", "没有叫“lorra”的训练"),
        ("did you mean 'lora'?\nknown: dpo, lora", "是不是“lora”？\n已知的有：dpo, lora"),
        ("  talk with it ", "  和它对话 "),
        ("something that is nowhere in the code", "something that is nowhere in the code"),
        ("", ""),
    ],
)
def test_a_few_as_they_are_read(text, expected):
    assert translated(text, "zh") == expected
    assert translated(text, "en") == text
    assert translated(text, "fr") == text

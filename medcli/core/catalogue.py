"""The words that people read in their own language: one file per language in `templates/locale/`.

The page's words have names. All else is written where it is said, in English but for the disclaimers, and `[terminal]`
of a language's file has each sentence under the original, as gettext has it. A sentence is found when it is shown, by
its shape: the key `no {kind!} is called '{name}'` fits "no run is called 'x'", and what stood in its places goes into
the translation's. A place with an exclamation mark holds words of ours, which are translated too. So errors stay plain
English for logs, JSON and the API, and whoever writes one need not think of languages; a test names what is missing.
What the test cannot collect, because it is put together from pieces, stands in `[parts]`.
"""

import re
from collections.abc import Mapping
from functools import cache

from medcli.core.errors import UnknownNameError
from medcli.core.resources import templates
from medcli.core.settings import read_toml

FALLBACK = "en"  # what a reader of any other language is shown
PLACE = re.compile(r"\{(\w+)(!?)\}")


@cache
def languages() -> tuple[str, ...]:
    """The languages that there is a file for: "en", "zh"."""
    return tuple(sorted(path.stem for path in (templates() / "locale").glob("*.toml")))


@cache
def words(language: str, part: str) -> Mapping[str, str]:
    """The texts of one part ("page") by name; raises UnknownNameError for a language or part that is not there."""
    if language not in languages():
        raise UnknownNameError("language", language, languages())
    tables = read_toml(templates() / "locale" / f"{language}.toml")
    if part not in tables:
        raise UnknownNameError(f"part of templates/locale/{language}.toml", part, tables)
    return {name: str(text) for name, text in tables[part].items()}


def translated(text: str, language: str) -> str:
    """A sentence of ours in `language`, line by line if need be; as it is where the file has no other."""
    spoken = language if language in languages() else FALLBACK
    lines = text.split("\n")
    by_line = [_sentence(line, spoken) for line in lines]
    if by_line != lines or len(lines) == 1:
        return "\n".join(by_line)
    return _sentence(text, spoken)  # what stands in a place may have lines of its own


def _sentence(text: str, language: str) -> str:
    """The translation, with the blank space around the original; the original where there is none."""
    core = text.strip()
    return text.replace(core, _told(core, language), 1) if core else text


def _told(text: str, language: str) -> str:
    known = _sentences(language)
    if text in known:
        return known[text]
    for original, head in _shapes(language):
        if text.startswith(head) and (found := _shape(original).fullmatch(text)):
            return _filled(known[original], original, found.groups(), language)
    return text


@cache
def _sentences(language: str) -> Mapping[str, str]:
    """Original -> translation, of whole sentences and of parts that other sentences are put together from."""
    return {**words(language, "terminal"), **words(language, "parts")}


def _filled(translation: str, original: str, values: tuple[str, ...], language: str) -> str:
    """The translation with the values of the original's places; those with a mark are translated in their turn."""
    places = {}
    for (name, mark), value in zip(PLACE.findall(original), values, strict=True):
        places[name] = translated(value, language) if mark else value
    return PLACE.sub(lambda place: places[place[1]], translation)


@cache
def _shapes(language: str) -> tuple[tuple[str, str], ...]:
    """(sentence, how it begins) of each with places, the one with the most letters of its own first."""
    open_ones = [original for original in _sentences(language) if PLACE.search(original)]
    open_ones.sort(key=lambda original: len(PLACE.sub("", original)), reverse=True)
    return tuple((original, PLACE.split(original, maxsplit=1)[0]) for original in open_ones)


@cache
def _shape(original: str) -> re.Pattern[str]:
    literal = PLACE.sub("\0", original).split("\0")
    return re.compile("(.*?)".join(map(re.escape, literal)), re.DOTALL)


def preferred(accepted: str) -> str:
    """The language to answer in, by a browser's `Accept-Language`: "zh-CN,zh;q=0.9,en;q=0.8" is "zh"."""
    wishes = [_wish(part) for part in accepted.split(",")]
    known = [(weight, language) for weight, language in wishes if language in languages() and weight > 0]
    return max(known, key=lambda wish: wish[0])[1] if known else FALLBACK


def _wish(part: str) -> tuple[float, str]:
    """(weight, language without its country) of one entry; 0 for a weight that is no number."""
    name, _, quality = part.strip().partition(";")
    _, _, weight = quality.replace(" ", "").partition("q=")
    try:
        return float(weight or 1), name.strip().partition("-")[0].lower()
    except ValueError:
        return 0.0, name

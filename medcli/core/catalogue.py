"""The words that people read in their own language: one file per language in `templates/locale/`."""

from collections.abc import Mapping
from functools import cache

from medcli.core.errors import UnknownNameError
from medcli.core.resources import templates
from medcli.core.settings import read_toml

FALLBACK = "en"  # what a reader of any other language is shown


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

"""The words by which the rules of the triage exam read an answer, as regular expressions."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from medcli.core.resources import templates
from medcli.core.settings import read_toml

_NAME = re.compile(r"<([a-z][a-z-]*)>")
_GAP = "[^,不别勿没未停禁避]{0,8}?"  # what … stands for: a few characters of the same clause, without a negation


def words_path() -> Path:
    """The lists of words, beside the cases."""
    return templates() / "exams" / "triage" / "words.toml"


@cache
def words(name: str, drug: str = "") -> re.Pattern[str]:
    """The alternatives of one list; `drug` is the expression that <drug> stands for. Raises KeyError."""
    return expression(f"<{name}>", drug)


@cache
def expression(text: str, drug: str = "") -> re.Pattern[str]:
    """A regular expression in which <name> and … are spelt out; raises KeyError for no such list, and re.error."""
    return re.compile(_spelt_out(text, drug))


@cache
def lists() -> Mapping[str, list[str]]:
    """All lists by name, as they stand in the file."""
    return read_toml(words_path())


def _spelt_out(text: str, drug: str) -> str:
    def group(found: re.Match[str]) -> str:
        alternatives = drug if found[1] == "drug" else _spelt_out("|".join(lists()[found[1]]), drug)
        return f"(?:{alternatives})"

    return _NAME.sub(group, text).replace("…", _GAP)

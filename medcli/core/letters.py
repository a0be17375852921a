"""The letters that an answer to an exam question chooses.

Taking every capital letter of a text, as CMB's published evaluation does, finds answers in "CT" and "ABO", and whoever
drops short options loses "3". Here letters count where an answer is stated, and only those the question offers.
"""

import re
import unicodedata
from collections.abc import Mapping

from medcli.core.sameness import is_same

_OPTION = re.compile(r"^[ \t]*([A-Z])[.、:)．：）][ \t]*(\S.*)$", re.MULTILINE)
_THOUGHTS = re.compile(r"^.*</think>", re.DOTALL)
_OPEN, _CLOSE = r"[(\[【「\"'*“‘]*", r"[)\]】」\"'*”’]*"
_LETTERS = r"([A-Z](?:(?:[ \t,、;/和与及()]|以及)*[A-Z])*)"
# What may follow letters that are an answer: neither the rest of a word ("CT", "B12") nor of a term ("B超"), nor more
# of a list that is none ("A、B、C、D中的一项").
_NO_MORE = r"(?=\W|$|项|选项|因为|因|是|正确|均正确|都正确|对)(?![-+]|[ \t]*[、/;和与及][ \t]*[A-Z])"
_ALONE = re.compile(rf"\W*(?:{_LETTERS}|([a-z]))\W*")
_BOXED = re.compile(rf"\\boxed\s*{{\s*(?:\\text\s*{{)?\s*{_LETTERS}\s*}}")
_STATED = re.compile(
    rf"(?:答案|选项|(?<![不勿非误])(?<!不[能应可宜该])(?:选择|选)|(?i:\banswer(?:\s+is)?))"
    rf"(?:应该|应当|应)?(?:是|为|选)?[\s:]*{_OPEN}{_LETTERS}{_CLOSE}{_NO_MORE}"
)
_SAID = re.compile(r"(?:答案|(?i:\banswer))(?:应该|应当|应)?(?:是|为|(?i:\s+is))?[\s:]*(\S[^\n]*)")
_BEGINS = re.compile(rf"^{_OPEN}{_LETTERS}{_CLOSE}(?:[.、:)]|\s|$)", re.MULTILINE)
_DECLINED = re.compile(
    r"(?:无法|不能|不便|难以|拒绝)(?:直接)?(?:回答|作答|判断|选择|提供)|抱歉|对不起"
    r"|(?i:i can(?:no|')t|i'm sorry|unable to)"
)


def options_of(question: str) -> dict[str, str]:
    """The options of a question as it was asked, by letter: lines such as "B. 3"; none when it is no such question."""
    found = dict(_OPTION.findall(question))
    in_order = "".join(found) == "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(found)]
    return found if len(found) > 1 and in_order else {}


def chosen_letters(answer: str, options: Mapping[str, str]) -> str:
    """The letters of `options` that an answer chooses, sorted ("ACD"); "" when it does not say, or says others.

    In this order: letters alone; an option's own text; letters in a box; where an answer is stated, the last time, by
    letters or by an option's text; lines that begin with letters, unless they go through all options. Thoughts before
    `</think>` are not looked at.
    """
    text = unicodedata.normalize("NFKC", _THOUGHTS.sub("", answer)).strip()
    alone = _ALONE.fullmatch(text)
    if alone and (found := _offered((alone[1] or alone[2]).upper(), options)):
        return found
    if own := _option_said(text, options):
        return own
    if stated := _BOXED.findall(text) or _STATED.findall(text):
        return _offered(stated[-1], options)
    if said := [own for words in _SAID.findall(text) if (own := _option_said(words, options))]:
        return said[-1]
    begun = _offered("".join(_BEGINS.findall(text)), options)
    return "" if len(begun) == len(options) and len(options) > 1 else begun


def declines(answer: str) -> bool:
    """Whether an answer out of which no choice can be read says that it will not or cannot choose."""
    return bool(_DECLINED.search(unicodedata.normalize("NFKC", answer)))


def sorted_letters(letters: str) -> str:
    """Each letter once, in the alphabet's order: "C、A" and "AC" choose the same."""
    return "".join(sorted({letter for letter in letters if "A" <= letter <= "Z"}))


def _offered(letters: str, options: Mapping[str, str]) -> str:
    found = sorted_letters(letters)
    return found if set(found) <= options.keys() else ""


def _option_said(text: str, options: Mapping[str, str]) -> str:
    return next((letter for letter, said in options.items() if is_same(text, said)), "")

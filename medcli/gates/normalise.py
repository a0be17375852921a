"""Tidy the text of a record, so that the same text is written the same way."""

import html
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from medcli.core.build_settings import BuildSettings
from medcli.core.record import Conversation, Preference, Record, with_texts

HELP = "plain line ends, spaces, letters and digits; no HTML, control or zero-width characters"

Change = Callable[[str], str]

_LINE_ENDS = "\r\x0b\x0c\x85\u2028\u2029"
_ODD_SPACES = "\xa0\u1680\u2000-\u200a\u202f\u205f\u3000"
_ZERO_WIDTH = "\xad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff"
# Half surrogate pairs, which UTF-8 cannot hold, and code points that are no characters are junk too.
_CONTROL = "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufdd0-\ufdef\ufff9-\ufffb\ufffe\uffff"
# Letters, digits and signs of values and addresses; ，。？！：；（） in full width are Chinese typography and stay.
_FULL_WIDTH = "０-９Ａ-Ｚａ-ｚ％＋－．／＜＝＞＠＃＆＊＿"
_TO_HALF_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F) if re.match(f"[{_FULL_WIDTH}]", chr(code))}

# Whether a text needs anything at all: most do not, and this one search is all they cost.
_UNTIDY = re.compile(
    rf"[&<\ufffd{_LINE_ENDS}{_ODD_SPACES}{_ZERO_WIDTH}{_CONTROL}{_FULL_WIDTH}]|[ \t][ \t\n]|\n[ \t]*\n[ \t]*\n"
)
# Markup and indentation are what such a text is about.
_IS_CODE = re.compile(r"```|<!doctype|<html|<script|<style|<\?xml", re.IGNORECASE)

# "&nbsp" and "&65533;" are how real data sets have mangled &nbsp; and &#65533;.
_ENTITY = re.compile(r"&(?:#?[0-9]{2,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});|&nbsp\b")
# A tag's attributes hold "=": "a<b and c>d" is no tag, nor is "<3.5mmol/L" or "<user>".
_TAG = re.compile(
    r"(?<!`)</?(br|hr|p|div|li|ul|ol|tr|table|h[1-6]|td|th|a|b|i|u|s|em|strong|span|font|img|sub|sup|small|center|"
    r"tbody|thead|section|label|input)(?:\s[^<>]{0,500}=[^<>]{0,500})?\s*/?>(?!`)|<!--.{0,1000}?-->",
    re.IGNORECASE | re.DOTALL,
)
_BREAKS = frozenset(("br", "hr", "p", "div", "li", "ul", "ol", "tr", "table", "h1", "h2", "h3", "h4", "h5", "h6"))
_RAISED = re.compile(r"<sup>\s*([-+]?[0-9]{1,3})\s*</sup>", re.IGNORECASE)  # 10<sup>9</sup>/L is not 109/L
_JOINER = re.compile(rf"(?!\u200d[\u2190-\u2bff\U0001f000-\U0001faff])[{_ZERO_WIDTH}]")  # 👩‍⚕️ is one sign
# Broken characters are dropped when they are two at most (a lost emoji) or one in so many; of more, quality tells.
_FEW_BROKEN, _AMONG = 2, 20


def gate(settings: BuildSettings, changed: Counter[str]) -> Callable[[Record], Record | str]:
    """A function from a record to the tidied record; counts records by what was mended in them."""
    simplify = _simplifier() if settings.simplify else None

    def tidied(record: Record) -> Record:
        mended: set[str] = set()
        record = with_texts(record, lambda text: _mend(text, simplify, mended))
        if tidy(record.id) != record.id:
            record = replace(record, id=tidy(record.id))
        changed.update(mended)
        return _without_empty_system_message(record)

    return tidied


def tidy(text: str) -> str:
    """The text in its one plain form: a second time nothing changes."""
    return _mend(text, None, set())


def _mend(text: str, simplify: Change | None, mended: set[str]) -> str:
    text = text.strip()
    while _UNTIDY.search(text):  # an entity may hold a tag, and a tag leave a blank line: until nothing is left
        before = text
        for what, change in _STEPS.items():
            after = change(text).strip()
            if after != text:
                mended.add(what)
                text = after
        if text == before:
            break
    if simplify is not None and not text.isascii() and (after := simplify(text)) != text:
        mended.add("traditional characters")
        text = after
    return text


def _plain_line_ends(text: str) -> str:
    return re.sub(f"\r\n|[{_LINE_ENDS}]", "\n", text)


def _without_entities(text: str) -> str:
    if "&" not in text or _IS_CODE.search(text):
        return text
    return _ENTITY.sub(lambda match: _meant(match[0]), re.sub("&(?:amp;)+", "&", text))


def _meant(entity: str) -> str:
    number = entity[1:-1]
    return html.unescape(f"&#{number};" if number.isascii() and number.isdigit() else entity).replace("\xa0", " ")


def _without_tags(text: str) -> str:
    if "<" not in text or _IS_CODE.search(text):
        return text
    return _TAG.sub(_in_place_of_tag, _RAISED.sub(r"^\1", text))


def _in_place_of_tag(tag: re.Match[str]) -> str:
    name = (tag[1] or "").lower()
    return "\n" if name in _BREAKS else " " if name in ("td", "th") else ""


def _without_few_broken(text: str) -> str:
    count = text.count("\ufffd")
    return text.replace("\ufffd", "") if count <= max(_FEW_BROKEN, len(text) / _AMONG) else text


def _plain_spaces(text: str) -> str:
    text = re.sub(rf"(?<=\n)[ {_ODD_SPACES}]*[{_ODD_SPACES}][ {_ODD_SPACES}]*", "", text)  # indented paragraphs
    return re.sub(f"[{_ODD_SPACES}]", " ", text)


def _without_runs(text: str) -> str:
    text = re.sub(r"[ \t]+\n", "\n", text)
    if not _IS_CODE.search(text):
        text = re.sub(r"(?<=\S)[ \t]{2,}(?=\S)", " ", text)
    return re.sub(r"\n{3,}", "\n\n", text)


_STEPS: dict[str, Change] = {
    "line ends": _plain_line_ends,
    "HTML entities": _without_entities,
    "HTML tags": _without_tags,
    "control characters": lambda text: re.sub(f"[{_CONTROL}]", "", text),
    "zero-width characters": lambda text: _JOINER.sub("", text),
    "full-width characters": lambda text: text.translate(_TO_HALF_WIDTH),
    "broken characters": _without_few_broken,
    "odd spaces": _plain_spaces,
    "runs of spaces and blank lines": _without_runs,
}


def _simplifier() -> Change:
    import opencc

    convert: Change = opencc.OpenCC("t2s").convert
    return lambda text: convert(convert(text))  # once turns 薴 into 苧, which is 苎


def _without_empty_system_message(record: Record) -> Record:
    match record:
        case Conversation(messages=messages) if messages and not messages[0].content:
            return replace(record, messages=tuple(m for m in messages if m.role != "system" or m.content))
        case Preference(prompt=messages) if messages and not messages[0].content:
            return replace(record, prompt=tuple(m for m in messages if m.role != "system" or m.content))
    return record

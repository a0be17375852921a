"""Refuse a record that teaches nothing good: too short or long, repeating itself, broken, or advertising."""

import re
from collections import Counter
from collections.abc import Callable, Iterator

from medcli.core.build_settings import BuildSettings
from medcli.core.record import Conversation, Document, Preference, Question, Record

HELP = "too short or too long, repeating itself, broken encoding, advertising"

_GRAM = 10  # characters
_SHORTEST_REPEATING = 100  # characters: in less, a phrase said twice is much
_RUN = re.compile(r"([^\W\d_])\1{9,}")
_OVER_AND_OVER = "repeats itself: one character over and over"
_ONE_CHARACTER = re.compile(r"\W*([^\W\d_])(?:\W*\1){2,}\W*")

# U+FFFD is here only when normalising left it, which it does when there is much of it. Then: UTF-8 or GBK read as
# Latin-1 (ä½ å¥½, ÄãºÃ), UTF-8 read as GBK (锛 and 銆 are the first bytes of ， and 。), and Visual C's empty memory.
_BROKEN = re.compile(r"\ufffd|[ÃÂ][\xa1-\xbf]|[À-ÖØ-öø-ÿ][\xa1-\xff]{2,}|锟斤拷|烫烫烫烫+|屯屯屯屯+|[锛銆鐨][^\s，。]")
_BROKEN_SHARE = 0.02

_MESSENGER = r"(?:微信|薇信|威信|徽信|[vV]信|[vV][xX]|[wW][xX]|[qQ]{2}|扣扣|扣|企鹅)"
_ADD = rf"(?:加|添加|联系|搜索?|关注)(?:一?下)?(?:我们?|客服|老师|专家|医生|大夫|本人)?的?(?:个人|私人)?{_MESSENGER}"
_NUMBER = (
    r"(?:(?<![0-9])(?:1[3-9][0-9]{9}|[48]00-?[0-9]{3}-?[0-9]{4}|[48]00[0-9]-[0-9]{3}-[0-9]{3}|0[0-9]{2,3}-?[0-9]{7,8})"
    r"(?![0-9]))"
)
_PRIVATE = re.compile(
    rf"{_ADD}(?:号码?|账号)?[^，。；！？\n]{{0,6}}?[A-Za-z0-9_-]{{5,20}}|{_MESSENGER}(?:号码?|账号)?\s?[:：是]\s?[A-Za-z0-9_-]{{5,20}}"
    rf"|(?<![不勿别没用能必]){'(?:加|添加)我们?的?'}{_MESSENGER}(?!的人)"
)
_HOTLINE = re.compile(
    rf"(?:咨询|客服|服务|订购|购买|预约|挂号|专家|免费)[^，。；\n]{{0,6}}(?:热线|电话|专线|：|:)[^0-9，。；\n]{{0,8}}{_NUMBER}"
)
_CLICK = re.compile(r"点击[^，。；！？\n]{0,8}(?:在线|免费|专家|立即)[^，。；！？\n]{0,4}(?:咨询|预约|领取|购买)")
_CLAIM = re.compile(r"包治|包好|祖传|秘方|无效退款|签约治[疗愈]|特效药方?|免费(?:咨询|诊断|领取)|不复发")
_CONTACT = re.compile(rf"{_NUMBER}|{_MESSENGER}(?:号码?|账号)?\s?[:：是]?\s?[A-Za-z0-9_-]{{5,20}}|https?://|www\.")
# Lines for people in need are no advertising, and a warning of quacks is none.
_HELP_LINE = re.compile(
    r"心理(?:援助|咨询|危机)|危机|自杀|急救|援助|希望24|报警|举报|投诉|戒烟|疾控|卫生热线|12320|12356"
)
_WARNING = re.compile(
    r"(?:不要|不能|不可|不会|不得|切勿|切忌|请勿|勿|(?<![特区级性类个分])别|轻信|听信|盲目|所谓|谨防|警惕|拒绝|禁止|让您|要求您)[^，。！？\n]{0,16}$"
)
_FRAUD = re.compile(r"[^。！？\n]{0,16}(?:骗|谨防|警惕|当心|不可信|不要相信)")
_NEAR = 24  # characters before, in which a warning is looked for
_HINT = re.compile(r"[微薇威徽扣企vVwWqQ]|电话|热线|专线|咨询|点击|包治|包好|祖传|秘方|无效退|签约|特效|复发")


def gate(settings: BuildSettings, changed: Counter[str]) -> Callable[[Record], Record | str]:
    """A function from a record to itself, or to the reason why it is refused."""

    def check(record: Record) -> Record | str:
        texts, answers = list(_texts(record)), list(_answers(record))
        return (
            _length(texts, answers, settings)
            or next((reason for text in texts if (reason := _broken(text) or _repeats(text, settings.repetition))), "")
            or next((reason for text in answers if settings.advertising and (reason := _advertises(text))), "")
            or record
        )

    return check


def _texts(record: Record) -> Iterator[str]:
    """What is read or learnt; a rejected answer may be as bad as it likes."""
    match record:
        case Conversation():
            yield from (message.content for message in record.messages)
        case Preference():
            yield from (message.content for message in record.prompt)
            yield record.chosen
        case Document():
            yield record.text
        case Question():
            yield record.stem
            yield from record.choices


def _answers(record: Record) -> Iterator[str]:
    """What a model learns to say."""
    match record:
        case Conversation():
            yield from (message.content for message in record.messages if message.role == "assistant")
        case Preference():
            yield record.chosen
        case Document():
            yield record.text


def _length(texts: list[str], answers: list[str], settings: BuildSettings) -> str:
    """In a dialogue one answer must say enough: 嗯 and 哈哈哈 may stand between."""
    longest = max(map(len, answers), default=settings.min_chars)
    if longest < settings.min_chars:
        return f"too short: {longest} characters"
    if settings.repetition < 1 and answers and all(_ONE_CHARACTER.fullmatch(answer) for answer in answers):
        return _OVER_AND_OVER
    whole = sum(map(len, texts))
    return f"too long: {whole:,} characters" if whole > settings.max_chars else ""


def _broken(text: str) -> str:
    if text.isascii():
        return ""
    share = sum(len(match[0]) for match in _BROKEN.finditer(text)) / len(text)
    return f"broken encoding: {share:.0%} of the characters" if share > _BROKEN_SHARE else ""


def _repeats(text: str, limit: float) -> str:
    if limit >= 1:
        return ""
    if _RUN.search(text):
        return _OVER_AND_OVER
    if len(text) < _SHORTEST_REPEATING:
        return ""
    count = len(text) - _GRAM + 1
    share = 1 - len({text[start : start + _GRAM] for start in range(count)}) / count
    return f"repeats itself: {share:.0%} of the {_GRAM}-grams were there before" if share > limit else ""


def _advertises(text: str) -> str:
    if not _HINT.search(text):
        return ""
    if _said(_PRIVATE, text):
        return "advertising: a private contact"
    if _said(_HOTLINE, text) and not _HELP_LINE.search(text):
        return "advertising: a hotline"
    if _said(_CLICK, text):
        return "advertising: a link to click"
    if _said(_CLAIM, text) and _CONTACT.search(text):
        return "advertising: a promise of healing with a contact"
    return ""


def _said(pattern: re.Pattern[str], text: str) -> bool:
    """Whether the pattern stands there, and not within a warning of it."""
    return any(
        not _WARNING.search(text, max(0, match.start() - _NEAR), match.start()) and not _FRAUD.match(text, match.end())
        for match in pattern.finditer(text)
    )

"""Whether a text that a model wrote says what its source says: numbers, drugs, negations, and whole passages.

Everything here errs on the side of refusing: a fact said in other words counts as lost.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

from medcli.core.knowledge import facts, table_path

_UNITS = "天日周月年岁次片粒支瓶袋度个小时分钟毫克克毫升"
_CHINESE = {"零": 0, "一": 1, "两": 2, "二": 2, "三": 3, "四": 4, "五": 5, "六": 6, "七": 7, "八": 8, "九": 9}
_CHINESE_NUMBER = re.compile(rf"([一二两三四五六七八九]?)(十?)([一二三四五六七八九]?)(?=[{_UNITS}])")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_ITEM = re.compile(r"(?m)^\s*(?:\d{1,2}[.、)）](?!\d)|[（(]\d{1,2}[）)])")
_DOSE = re.compile(r"(\d+(?:\.\d+)?)\s*(mg|g|ml|μg|ug|毫克|克|毫升|微克|片|粒|支|袋|次|滴)")
_SAME_UNIT = {"毫克": "mg", "克": "g", "毫升": "ml", "微克": "μg", "ug": "μg"}
# What drugs' names end with; the character or two before tell which drug it is, and more would take in a verb.
_DRUG = re.compile(
    r"[\u4e00-\u9fff](?:西林|沙星|霉素|他汀|洛尔|地平|普利|沙坦|拉唑|替丁|洛芬|米松|松龙|双胍|列净|格列\w|硝唑|康唑|环素)"
    r"|[\u4e00-\u9fff]{2}(?:缓释片|肠溶片|分散片|胶囊|颗粒|注射液|口服液|软膏|乳膏|滴丸|滴眼液|喷雾剂|冲剂|糖浆)"
    r"|头孢[\u4e00-\u9fff]{2}"
)
_DENIED = re.compile(
    r"(?:不要|不能|不可|不宜|不得|不用|不是|禁止|禁用|禁忌|禁食|切勿|没有|从未|无|未|不|没|勿|忌)([\u4e00-\u9fff]{2})"
)
_DENIALS = re.compile(r"[不无未没勿忌禁否别莫]|避免")
_NO_DENIAL = re.compile(
    r"不好意思|不知道|不客气|不论|不管|无论|不过|不仅|不但|不同|不断|不少|不错|差不多|没关系|没事|不适"
)


def numbers(text: str) -> set[str]:
    """The numbers in a text, in digits; Chinese ones where a unit follows, and not those that number a list."""
    text = _CHINESE_NUMBER.sub(_in_digits, unicodedata.normalize("NFKC", _ITEM.sub("", text)))
    return {f"{float(number):g}" for number in _NUMBER.findall(text)}


def doses(text: str) -> set[str]:
    """Numbers with the unit they are given in: "0.5g"."""
    text = _CHINESE_NUMBER.sub(_in_digits, unicodedata.normalize("NFKC", text))
    return {f"{float(number):g}{_SAME_UNIT.get(unit, unit)}" for number, unit in _DOSE.findall(text)}


def drugs(text: str) -> set[str]:
    """What looks like a drug's name, by its ending, and the drugs of our own table."""
    return set(_DRUG.findall(text)) | {name for name in _known_drugs() if name in text}


def lost(source: str, written: str) -> str:
    """Which fact of `source` is not in `written`, "kind: the fact"; "" when all are there."""
    for kind, found in (("number", numbers), ("dose", doses)):
        if missing := sorted(found(source) - found(written)):
            return f"a {kind} is lost: {', '.join(missing)}"
    if missing := sorted(name for name in drugs(source) if name not in written):
        return f"a drug is lost: {', '.join(missing)}"
    if missing := [what for what in _denied(source) if not _is_denied(what, written)]:
        return f"a negation is lost: {', '.join(missing)}"
    return ""


def invented(source: str, written: str) -> str:
    """Which fact of `written` is not in `source`, "kind: the fact"; "" when there is none."""
    if new := sorted(numbers(written) - numbers(source)):
        return f"a number is not in the source: {', '.join(new)}"
    if new := sorted(name for name in drugs(written) if name not in source):
        return f"a drug is not in the source: {', '.join(new)}"
    return ""


def overlap(source: str, written: str) -> float:
    """The share of the character pairs of `written`, marks left out, that `source` has too."""
    wanted, there = _pairs(written), _pairs(source)
    return len(wanted & there) / len(wanted) if wanted else 0.0


def share_said(values: Iterable[str], written: str) -> float:
    """The share of the values that stand in `written`; long ones count when most of their pairs do."""
    said = [value in written or (len(value) > 12 and overlap(written, value) > 0.6) for value in values]
    return sum(said) / len(said) if said else 0.0


def _denied(text: str) -> list[str]:
    return list(dict.fromkeys(_DENIED.findall(_NO_DENIAL.sub("", text))))


def _is_denied(what: str, text: str) -> bool:
    """Whether a negation stands before it within the same clause."""
    return any(
        _DENIALS.search(re.split(r"[，。；！？,;!?\n]", text[: found.start()])[-1])
        for found in re.finditer(re.escape(what), text)
    )


def _pairs(text: str) -> set[str]:
    letters = "".join(re.findall(r"\w", unicodedata.normalize("NFKC", text)))
    return {letters[index : index + 2] for index in range(len(letters) - 1)}


def _in_digits(found: re.Match[str]) -> str:
    tens, ten, ones = found.groups()
    if not (tens or ten or ones):
        return ""
    if not ten:
        return str(_CHINESE[tens or ones]) if not (tens and ones) else found.group()
    return str((_CHINESE[tens] if tens else 1) * 10 + (_CHINESE[ones] if ones else 0))


@cache
def _known_drugs() -> frozenset[str]:
    return frozenset(value for fact in facts(table_path()) if fact.attribute == "常用药物" for value in fact.values)

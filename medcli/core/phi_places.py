"""Find where and when somebody lives and was born: addresses as fine as a street or a village, birth dates."""

import re
from collections.abc import Iterator

# A Chinese character that names of places are made of: no pronoun, verb or particle that runs into one.
_HAN = "(?![的了我你您他她它们在到去住是从于将往给说有与或请来了吗呢吧搜])[\\u4e00-\\u9fff]"
_NUMBER = "[0-9一二三四五六七八九十百]{1,6}"
# From the last character of a street's name on: the number, and what lies behind the door.
_NUMBERED = re.compile(
    rf"(?:路|街|道|巷|弄|胡同|里|村|屯)(?:(?:{_HAN}){{1,6}}?[段街巷弄里])?\s?(?:[0-9]{{1,5}}弄)?[0-9一二三四五六七八九十百]{{1,6}}\s?号楼?"
    r"(?:大?院)?(?:\s?[A-Za-z0-9一二三四五六七八九十]{1,5}\s?(?:号楼|号院|栋|幢|座|单元|楼|层|室|号|房间|户|弄)){0,5}"
)
_PLACES = re.compile(rf"(?:(?:{_HAN})\s?)+$")
_REGION = re.compile("[省市州盟区县旗镇乡]|街道")
_LONGEST_PREFIX, _LONGEST_NAME = 30, 6  # characters before the street's last; of one name within

_FINE = "(?:区|县|镇|乡|村|屯|路|街|小区|花园|公寓|苑|号楼|[栋幢弄巷号室组队]|单元)"
_ANNOUNCED = re.compile(
    r"(?:(?:住址|地址|住所)\s?(?:[:：]|是|为|在)\s?|(?:家在|(?:家|现|居|人|我)住(?:在|于|址|地)?)(?!院)\s?(?:[:：])?\s?|籍贯\s?[:：]\s?)"
    rf"((?:(?:{_HAN})|[A-Za-z0-9#（）()-]){{1,40}}{_FINE})"
)
_NOT_A_HOME = re.compile(
    r"医院|院区|[走公铁水]路|门诊|病[区室号]|地区|^[山农牧郊老旧疫]区|[老旧这该本]小区|附近|城乡|下乡|[农乡]村$|^(?:农村|乡下|城区|小区|楼)"
)

_DAY = r"(?:19|20)[0-9]{2}\s?(?:年\s?[0-9]{1,2}\s?月\s?[0-9]{1,2}\s?[日号]?|[-./][0-9]{1,2}[-./][0-9]{1,2})"
_BIRTH = re.compile(
    rf"(?:出生(?:日期|年月日?|时间|于)?|生日|生于|生辰)\s?(?:[:：]|是|为)?\s?({_DAY}|(?:19|20)[0-9]{{2}}\s?年\s?[0-9]{{1,2}}\s?月|"
    r"(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])(?![0-9]))"
    rf"|(?<![0-9])({_DAY})\s?(?:出生|生人|生的|所生|生(?=$|[^\u4e00-\u9fff]))"
)


def addresses(text: str) -> Iterator[tuple[int, int]]:
    """A street with a number, and what is announced as a dwelling when it is finer than a city."""
    if "住" in text or "家在" in text or "址" in text or "籍" in text:
        for match in _ANNOUNCED.finditer(text):
            if not _NOT_A_HOME.search(match[1]):
                yield match.span(1)
    if "号" in text:
        for match in _NUMBERED.finditer(text):
            if (start := _start_of_street(text, match.start())) < match.start():
                yield start, match.end()


def _start_of_street(text: str, end: int) -> int:
    """Where the names before a street's last character begin: its own, or those of the region before it."""
    places = _PLACES.search(text, max(0, end - _LONGEST_PREFIX), end)
    if not places:
        return end
    region = _REGION.search(text, places.start(), end)
    return max(places.start(), (region.start() if region else end) - _LONGEST_NAME)


def birth_dates(text: str) -> Iterator[tuple[int, int]]:
    """Days, and months after a word for it, on which somebody was born; a year alone is no identifier."""
    if "生" not in text:
        return iter(())
    return (match.span(match.lastindex or 0) for match in _BIRTH.finditer(text))

"""Find numbers that tell who somebody is: resident IDs, telephones, bank cards, accounts and record numbers."""

import re
from collections.abc import Iterator
from datetime import date

Spans = Iterator[tuple[int, int]]

_RESIDENT = re.compile(
    r"(?<![0-9A-Za-z])(?:[1-9][0-9]{5}[ -]?[0-9]{8}[ -]?[0-9]{3}[0-9Xx]|[1-9][0-9]{14})(?![0-9A-Za-z])"
)
_ANNOUNCED = re.compile(r"身份证(?:号码|号)?\s?(?:[:：]|是|为)?\s?$")
_OLD_ID = 15  # digits, before 1999: two of the year, no check digit
_PROVINCE = re.compile("1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[12]")

_MOBILE = re.compile(
    r"(?<![0-9])(?:\+?86[ -]?)?(1[3-9][0-9](?:[ -]?[0-9]{4}){2})(?![0-9])(?!\s?(?:拷贝|copies|IU|个|[×xX*/]))"
)
_LANDLINE = re.compile(
    r"(?<![0-9.-])(?:[(（]0[0-9]{2,3}[)）]|0[0-9]{2,3})[ -]?[2-9][0-9]{2,3}[ -]?[0-9]{4}(?:-[0-9]{1,6})?(?![0-9])"
    r"|(?<![0-9.-])[48]00-?[0-9]{3}-?[0-9]{4}(?![0-9])|(?<![0-9.-])[48]00[0-9]-[0-9]{3}-[0-9]{3}(?![0-9])"
)
_LOCAL = re.compile(
    r"(?:电话|座机|热线|[Tt]el)(?:号码|号)?\s?(?:[:：.]|是|为)?\s?([2-9][0-9]{2,3}-?[0-9]{4})(?![0-9-])"
)

_CARD = re.compile(r"(?<![0-9A-Za-z])(?:62|4|5[1-5])[0-9]{2}(?:[ -]?[0-9]{4}){3}(?:[ -]?[0-9]{1,3})?(?![0-9A-Za-z])")
_CARD_DIGITS = range(16, 20)

_MAIL = re.compile(r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9][A-Za-z0-9._%+-]*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}")

_IS = r"(?:号码|账号|帐号|号|[iI][dD])?\s?(?:[:：=]|是|为|：)?\s?"
_MESSENGER = re.compile(
    rf"(?:微信|薇信|威信|徽信|[wW]ei[xX]in|[wW]e[cC]hat|[vV]信){_IS}"
    r"([A-Za-z][A-Za-z0-9_-]{5,19}|[0-9]{6,11})(?![A-Za-z0-9_])"
    r"|(?:加|加我|(?<![A-Za-z0-9])(?=[vVwW][xX]\s?(?:号\s?)?[:：]))\s?(?:[vV][xX]?|[wW][xX])\s?(?:号\s?)?[:：]?\s?([A-Za-z][A-Za-z0-9_-]{5,19}|[0-9]{6,11})(?![A-Za-z0-9_])"
    rf"|(?<![A-Za-z])(?:[qQ][qQ]|扣扣|企鹅|(?<=加)扣|(?<=我)扣)(?:群)?{_IS}([1-9][0-9]{{4,10}})(?![0-9])"
)

_MESSENGER_HINT = re.compile("[信扣鹅qQvVxX]")

_RECORD = re.compile(
    r"(?:病历|病例|病案|住院|门诊|急诊|就诊卡?|诊疗卡?|医保卡?|医疗保险|社保卡?|登记|影像|病理|标本|条码|检查|超声|体检|护照|"
    r"[Cc][Tt]|MRI?|[Xx]光|[Xx]线)(?:编?号码?|ID)\s?(?:[:：.#]|是|为)?\s?((?=[A-Za-z-]{0,6}[0-9])[A-Za-z0-9-]{4,24})(?![A-Za-z0-9])"
    r"|床(?:位)?号\s?(?:[:：]|是|为)?\s?([A-Za-z]?[0-9]{1,4}(?:-[0-9]{1,3})?)(?![0-9.%])"
    r"|(?<![0-9.])(?<!第)([0-9]{1,3}[AB]?)床(?=\s?(?:患者|病人|的|[，,:：]))"
)


def resident_ids(text: str) -> Spans:
    """18 digits whose check digit (GB 11643) is right or that are announced as one, and the old 15 digits."""
    for match in _RESIDENT.finditer(text):
        if _ANNOUNCED.search(text, 0, match.start()) or _is_resident_id(re.sub("[ -]", "", match[0])):
            yield match.span()


def mobile_numbers(text: str) -> Spans:
    """Chinese mobile numbers, with or without +86, spaces and dashes; never inside an address of the web."""
    for match in _MOBILE.finditer(text):
        if _is_telephone(match[1]) and not _in_web_address(text, match.start()):
            yield match.span()


def landlines(text: str) -> Spans:
    """Numbers with an area code, 400 and 800 numbers, and local numbers announced as a telephone."""
    for match in _LANDLINE.finditer(text):
        if (match[0][0] in "48" or _is_telephone(match[0])) and not _in_web_address(text, match.start()):
            yield match.span()
    if "电" in text or "线" in text or "机" in text:
        yield from (match.span(1) for match in _LOCAL.finditer(text))


def bank_cards(text: str) -> Spans:
    """16 to 19 digits of UnionPay, Visa or Mastercard whose Luhn digit is right."""
    from stdnum import luhn

    for match in _CARD.finditer(text):
        digits = re.sub("[ -]", "", match[0])
        if len(digits) in _CARD_DIGITS and luhn.is_valid(digits) and not _in_web_address(text, match.start()):
            yield match.span()


def mail_addresses(text: str) -> Spans:
    """E-mail addresses."""
    return (match.span() for match in _MAIL.finditer(text)) if "@" in text else iter(())


def messenger_accounts(text: str) -> Spans:
    """What follows 微信, 加V, QQ and their disguises, when it looks like an account."""
    if not _MESSENGER_HINT.search(text):
        return iter(())
    return (match.span(match.lastindex or 0) for match in _MESSENGER.finditer(text))


def record_numbers(text: str) -> Spans:
    """What follows 住院号, 病历号, 医保卡号, 床号 and the like."""
    if "号" not in text and "床" not in text and "ID" not in text:
        return iter(())
    return (match.span(match.lastindex or 0) for match in _RECORD.finditer(text))


def _is_resident_id(digits: str) -> bool:
    if len(digits) != _OLD_ID:
        from stdnum.cn import ric

        return bool(ric.is_valid(digits))
    return _PROVINCE.match(digits) is not None and _is_day(
        1900 + int(digits[6:8]), int(digits[8:10]), int(digits[10:12])
    )


def _is_day(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def _is_telephone(number: str) -> bool:
    """Whether the number is one that China gives out: its prefix or area code exists."""
    import phonenumbers

    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, "CN"))
    except phonenumbers.NumberParseException:
        return False


def _in_web_address(text: str, start: int) -> bool:
    """Whether `start` lies in an address of the web: digits there number pages."""
    scheme = text.rfind("://", max(0, start - 300), start)
    return scheme >= 0 and re.search(r"[\s\u3000-\uffef]", text[scheme:start]) is None

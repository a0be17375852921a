"""A conversation of a built data set as a case: its patient says the rest when asked, its answers are the reference."""

import re
from collections.abc import Iterator

from medcli.core.dialogue_case import Case, Fact, topics
from medcli.core.dialogue_speech import sentences, statements
from medcli.core.errors import DataError
from medcli.core.record import Conversation

# Headings of a hospital's record, as CMB-Clin's descriptions have them.
_RECORD = re.compile(r"现病史|主诉|体格检查|辅助检查|病史摘要|病例资料")
_COMPLAINT = re.compile(r"主诉\s*[)）]?\s*[:：]?\s*([^\n。；]+)")
_BROUGHT_BY = re.compile(r"因[“\"]([^”\"\n]+)[”\"]")
_HEADING = re.compile(r"([（(]\s*\d+\s*[)）])?\s*([^\s，。；：:,;\d]{2,16})[:：]?")
_OF_THE_ILLNESS = ("现病史", "病史摘要", "主诉", "病例资料")
_OPTION = re.compile(r"\s*[A-F]\s*[.．、]")
_EXAMINES = re.compile(r"[？?]|简述|试述|分析|鉴别|诊断|如何|定义|指征|要点|原则|益处|是$")
_DIAGNOSIS = re.compile(r"(?<!鉴别)(?<!明确)诊断\s*(?:为|是|考虑|[:：])\s*([^。；;\n（(]{2,40})")
_AND = re.compile(r"[，,、：①-⑨]|\d[.．]|合并|伴有?|以及|和|及")
_NAME = re.compile(r"[\u4e00-\u9fffA-Za-z]{2,15}")
_SINCE = re.compile(r"[\d一二两三四五六七八九十几半]\s*(?:余|多)?个?(?:分钟|小时|天|日|周|月|年)")
# What asks for the course of an illness, where a sentence holds no topic of its own.
_COURSE = ("详细", "具体", "经过", "描述", "情况", "还有", "其他", "不舒服", "症状")


def case_of(conversation: Conversation) -> Case:
    """The case in a conversation; raises DataError when nobody asks or nobody answers.

    A patient opens as the conversation's does, and has what its later turns state to tell. Where the first turn is a
    hospital's record, the chief complaint opens and the sentences of the record are told when asked for; the exam
    question at its end belongs to nobody.
    """
    asked = [message.content.strip() for message in conversation.messages if message.role == "user"]
    answers = [message.content.strip() for message in conversation.messages if message.role == "assistant"]
    if not asked or not answers:
        raise DataError(
            f"the conversation '{conversation.id}' has no question with an answer",
            hint="`med data build` refuses such records: build the data set again",
        )
    reference = "\n".join(answers)
    if is_record(asked[0]):
        opening, facts = _opening_of(asked[0]), tuple(_facts_of_record(asked[0]))
    else:
        later = (sentence for text in asked[1:] for sentence in statements(text))
        opening, facts = asked[0], tuple(_fact(sentence, "") for sentence in later)
    return Case(
        id=conversation.id,
        opening=opening,
        facts=facts,
        reference=reference,
        department=conversation.meta.get("department", ""),
        diagnosis=_diagnoses(reference),
    )


def is_record(text: str) -> bool:
    """Whether a text is a hospital's record: it begins with one of its headings, or has two or more."""
    found = _RECORD.findall(text)
    return len(set(found)) > 1 or text.partition("\n")[0].strip() in found


def _opening_of(record: str) -> str:
    found = _COMPLAINT.search(record) or _BROUGHT_BY.search(record)
    first = (sentence for _, sentence in _sentences(record))
    complaint = found[1].strip() if found else next(first, record.strip())
    return f"医生您好，{complaint.strip('。，；“”')}。请问这是怎么回事？"


def _facts_of_record(record: str) -> Iterator[Fact]:
    opening = _opening_of(record)
    for sentence, heading in {sentence: heading for heading, sentence in _sentences(record)}.items():
        if sentence.rstrip("。；") not in opening:
            yield _fact(sentence, heading)


def _sentences(record: str) -> Iterator[tuple[str, str]]:
    """The sentences of a record with the headings they stand under, "" for those of the illness itself."""
    lines = [line.strip() for line in record.splitlines() if line.strip()]
    while lines and _OPTION.match(lines[-1]):
        lines.pop()
    if lines and _EXAMINES.search(lines[-1]):
        lines.pop()
    above = heading = ""
    for line in lines:
        found = _HEADING.fullmatch(line)
        if found is None:
            yield from ((heading, sentence) for sentence in sentences(line))
            continue
        name = "" if found[2] in _OF_THE_ILLNESS else found[2]
        above, heading = (above, above + name) if found[1] else (name, name)


def _fact(sentence: str, heading: str) -> Fact:
    about = heading + sentence
    words = [word for topic in topics() if any(word in about for word in topic.words) for word in topic.words]
    if _SINCE.search(sentence):
        words += next(topic.words for topic in topics() if topic.name == "时间")
    course = () if heading else _COURSE
    return Fact(words=tuple(dict.fromkeys((*words, *course))) or _COURSE, says=sentence)


def _diagnoses(reference: str) -> tuple[str, ...]:
    """The names that follow "诊断：" for the first time."""
    found = _DIAGNOSIS.search(reference)
    names = [name.strip() for name in _AND.split(found[1])] if found else []
    return tuple(name for name in names if _NAME.fullmatch(name))

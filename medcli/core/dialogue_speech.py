"""What is asked and what is stated in a turn of a consultation, found by marks and words alone."""

import re
from collections.abc import Sequence

from medcli.core.record import Message

_SENTENCE = re.compile(r"[^。！？!?；;\n]+[。！？!?；;]*")
_CLAUSE = re.compile(r"[，。；！？：,;!?:\n]")
_THOUGHTS = re.compile(r"^.*</think>", re.DOTALL)
_REQUEST = re.compile(
    r"请问|有没有|有无|是否|能否|告诉我|请描述|描述一下|说说|说一下|请提供|请补充|想了解|需要了解|还想知道|想问|问一下|问您|吗[。，]?$"
)
# "Watch whether you have a fever" advises, and "any other questions?" is politeness: neither asks for a fact.
_ADVISED = re.compile(
    r"(?:观察|注意|监测|检查|看看|明确|确定|判断|评估|确认|留意|如果|若|根据|取决于)[^，。]{0,12}(?:是否|有没有|有无)"
)
_POLITE = re.compile(r"(?:其他|其它|别的|什么|任何)的?(?:问题|疑问)|可以帮|帮到|帮助[您你]|咨询|解答")
_POINT = re.compile(r"\s*(?:[-*•·]|\d{1,2}[.、．)）]|[（(]\d{1,2}[)）])")
_SAID_BY = {"user": "患者", "assistant": "医生"}
_DENIED = re.compile(r"[不没别勿非未]|避免|无需|禁止|切忌|以免|停用|停吃")
# What holds such a character and denies nothing.
_OPEN = re.compile(
    r"不(?:能|可)?(?:完全)?(?:排除|除外)|要不要|是不是|能不能|需不需要|有没有|[特分区鉴级性]别|非常|非甾体|未来|无论|无力|没关系|没事"
    r"|不(?:仅|但|过|好意思|适|舒服|管|同|良|断|久|少|错|足|明|规律|规则|典型|稳定|清)"
)
_LONG = 5  # characters of a term, from which on most of it is enough
_MOST = 0.7  # of a long term's character pairs


def sentences(text: str) -> list[str]:
    """The sentences of a text with their marks; a line's end ends one too."""
    return [sentence for found in _SENTENCE.findall(text) if (sentence := found.strip())]


def questions(text: str) -> list[str]:
    """The sentences that ask for something, also the points of a list that a request leads in."""
    return [sentence for sentence, asks in _marked(text) if asks]


def statements(text: str) -> list[str]:
    """The other sentences."""
    return [sentence for sentence, asks in _marked(text) if not asks]


def says(text: str, term: str) -> bool:
    """Whether a clause of `text` has one of the words in `term` ("心梗/心肌梗死") and does not deny it.

    Of a word of five characters or more, seven tenths of its character pairs in one clause are enough.
    """
    return any(_has(clause, word) for word in term.split("/") for clause in _CLAUSE.split(text))


def spoken(messages: Sequence[Message]) -> str:
    """A consultation as people read it, a turn a line; what the system says is left out."""
    return "\n".join(f"{_SAID_BY[message.role]}：{message.content}" for message in messages if message.role in _SAID_BY)


def without_thoughts(text: str) -> str:
    """What a model says once it has thought, where it writes its thoughts before."""
    return _THOUGHTS.sub("", text).strip()


def _marked(text: str) -> list[tuple[str, bool]]:
    found = []
    led_in = False
    for line in text.splitlines():
        led_in = led_in and bool(_POINT.match(line) or not line.strip())
        found += [(sentence, led_in or _asks(sentence)) for sentence in sentences(line)]
        led_in = led_in or (line.rstrip().endswith(("：", ":")) and bool(_REQUEST.search(line)))
    return found


def _asks(sentence: str) -> bool:
    if _POLITE.search(sentence):
        return False
    return sentence.endswith(("？", "?")) or bool(_REQUEST.search(sentence) and not _ADVISED.search(sentence))


def _has(clause: str, word: str) -> bool:
    at = clause.find(word)
    if at >= 0:
        return not _DENIED.search(_OPEN.sub("", clause[:at]))
    if len(word) < _LONG or _DENIED.search(_OPEN.sub("", clause)):
        return False
    pairs = {word[index : index + 2] for index in range(len(word) - 1)}
    return sum(pair in clause for pair in pairs) >= _MOST * len(pairs)

"""Answers that rest on passages: how a model is given them, and how a reader is shown what an answer cites.

Pure functions over messages and texts. What a reader is shown stands below an answer, after a line of its own, and is
taken off again before an earlier answer is given to a model.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from medcli.core.passage import Passage
from medcli.core.prompts import prompt
from medcli.core.record import Message

NOT_FOUND = "未找到依据"
_LINE = "—— 资料依据 ——"
_BELOW = f"\n\n{_LINE}\n"
_QUOTED = 200  # characters of a passage that a reader is shown; the source leads to the rest
_SHORT = 8  # characters of a question that may mean what was asked before
_LONG = 40  # characters of one that says all itself, whoever "he" is in it
_POINTS_BACK = re.compile(
    r"它|(?<!其)他|她|这种|这个|这病|该病|此病|上述|上面|刚才|前面|那.{0,8}呢|^(?:还有|另外|那)|呢[？?]?$"
)
_NO_WORD = re.compile(r"[\W_]+")
_CITED = re.compile(r"[\[［【]\s*(\d{1,3}(?:\s*[,，、;；\-–~～至和]\s*\d{1,3})*)\s*[\]］】]")
_PART = re.compile(r"(\d+)(?:\s*[-–~～至]\s*(\d+))?")
_MARK = re.compile(r"<(?=\s*/?\s*资料)")
_MOST_CITED = 100  # numbers in one pair of brackets
_NAMED = 5  # wrong ones that a reader is told


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounding:
    """A conversation as a model is asked it, and the passages that it was given to rest on; none when nothing fits.

    `kb` is the knowledge base's name. The messages are those of the person when there are no passages.
    """

    messages: tuple[Message, ...]
    passages: tuple[Passage, ...]
    kb: str


def asked_in(messages: Sequence[Message]) -> tuple[str, str]:
    """(the last question, what was asked before it), by which passages are looked for.

    The latter is "" where the last question can stand alone: it is long enough, and points back at nothing.
    """
    asked = [message.content for message in messages if message.role == "user"]
    if not asked:
        return "", ""
    last = asked[-1].strip()
    length = len(_NO_WORD.sub("", last))
    leans = length <= _SHORT or (length <= _LONG and _POINTS_BACK.search(last))
    return last, asked[-2].strip() if leans and len(asked) > 1 else ""


def grounded(messages: Sequence[Message], passages: Sequence[Passage]) -> tuple[Message, ...]:
    """The conversation with numbered passages before its last question; without passages, as it is.

    What earlier answers were said to rest on is left out either way.
    """
    plain = [_without_citations(message) for message in messages]
    last = max((place for place, message in enumerate(plain) if message.role == "user"), default=-1)
    if not passages or last < 0:
        return tuple(plain)
    texts = enumerate((_MARK.sub("＜", passage.text) for passage in passages), 1)
    numbered = "\n".join(f'<资料 编号="{number}">\n{text}\n</资料>' for number, text in texts)
    plain[last] = Message(role="user", content=prompt("grounded", passages=numbered, question=plain[last].content))
    return tuple(plain)


def cited(grounding: Grounding, answer: str) -> str:
    """What is shown below an answer, to be put right after its text; see `citations`."""
    return _BELOW + citations(grounding.passages, answer, grounding.kb)


def citations(passages: Sequence[Passage], answer: str, kb: str) -> str:
    """The passages that an answer refers to, numbered and quoted, with their sources; all when it names none.

    A number that belongs to no passage is pointed out. Without passages it says that nothing was found.
    """
    real = [number for number in _numbers(answer) if 1 <= number <= len(passages)]
    shown = real or range(1, len(passages) + 1)
    lines = [f"[{number}] {_quoted(passages[number - 1].text)}（{passages[number - 1].source}）" for number in shown]
    if not passages:
        lines.append(f"{NOT_FOUND}：资料库“{kb}”里没有与这个问题相符的内容，上面的回答没有资料支持。")
    elif not real:
        lines.insert(0, "回答没有注明出处；找到的资料有：")
    if named := unsupported(len(passages), answer):
        lines.append(f"注意：回答里的 {named} 没有对应的资料，不可当作有依据。")
    return "\n".join(lines)


def unsupported(count: int, answer: str) -> str:
    """The numbers in an answer that belong to none of `count` passages, as a reader is told; "" when all do."""
    wrong = [f"[{number}]" for number in _numbers(answer) if not 1 <= number <= count]
    return "、".join(wrong[:_NAMED]) + (" …" if len(wrong) > _NAMED else "")


def without_citations(answer: str) -> str:
    """An answer's own text, without what was shown below it."""
    return answer.partition(_BELOW)[0]


def _without_citations(message: Message) -> Message:
    if message.role != "assistant" or _LINE not in message.content:
        return message
    return Message(role="assistant", content=without_citations(message.content))


def _numbers(answer: str) -> list[int]:
    """The numbers in brackets, each once, in order; "[1-3]" names three."""
    found: dict[int, None] = {}
    for group in _CITED.findall(answer):
        for first, last in _PART.findall(group):
            end = min(int(last or first), int(first) + _MOST_CITED)
            found.update(dict.fromkeys(range(int(first), end + 1)))
    return list(found)


def _quoted(text: str) -> str:
    """A passage in one line, its end left out where it is long."""
    line = " ".join(text.split())
    return f"“{line[:_QUOTED]}{'…' if len(line) > _QUOTED else ''}”"

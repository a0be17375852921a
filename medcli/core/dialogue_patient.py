"""Who answers the doctor's questions: a script that tells what it is asked for, or a model bound to the case's file."""

import re
from collections.abc import Sequence

from medcli.core.dialogue_case import Case, Fact, Topic, topics
from medcli.core.dialogue_speech import questions, sentences, without_thoughts
from medcli.core.prompts import prompt
from medcli.core.record import Message, Role

MOST = 3  # things told in one turn; patients who are asked ten questions at once do not answer all
_GREETING = "您好，请问您哪里不舒服？"  # formats of chats begin with the other side
_CONCERNS = ("那我现在该怎么办？", "平时要注意些什么？什么情况下要马上去医院？")
_THANKS = "好的，我明白了，谢谢医生。"
_AND_NOW = "您看我这是怎么回事，该怎么办？"
_SAID = "这个我刚才说过了。"
_UNKNOWN = "这个我不太清楚。"
_LABEL = re.compile(r"^(?:患者|病人|家属)\s*[:：]\s*")
_OTHERS_TURN = re.compile(r"\n\s*(?:医生|大夫|患者|病人)\s*[:：].*", re.DOTALL)
_LEAVES = re.compile(r"谢谢|感谢|再见|没有(?:别的|其他|什么)?问题了")
_TELLS_NOTHING = re.compile(
    r"(?:(?:好的?|嗯|行|那|非常|太|真是|医生|大夫)[，,、\s]*)*"
    r"(?:我?(?:明白|知道|了解|清楚|记住)了|我会(?:按|密切|注意|尽快|好好|听|照|及时|马上|立刻|去|的)"
    r"|谢谢|感谢|再见|没有(?:别的|其他|什么)?问题了|麻烦|辛苦|[。！!，,]?$)"
)
_STILL_ASKS = re.compile(r"吗|呢|怎么|能不能|要不要")
_TURNED: dict[Role, Role] = {"user": "assistant", "assistant": "user"}


def scripted(case: Case, messages: Sequence[Message], *, last: bool) -> str:
    """What the scripted patient says next: at most MOST things that the doctor's last message asks for, each once.

    A doctor who asks nothing is asked what to do, and thanked in the end. In its `last` turn the patient wants to know
    what it all means. The reference is never told.
    """
    said = "\n".join(message.content for message in messages if message.role == "user")
    asked = questions(messages[-1].content)
    if not asked:
        return next((concern for concern in (case.concern, *_CONCERNS) if concern and concern not in said), _THANKS)
    answers = _answers(case, asked, said)
    return "".join(answers) + (_AND_NOW if last else "")


def as_patient(case: Case, messages: Sequence[Message]) -> tuple[Message, ...]:
    """What a model is given that plays the patient: its file, then the dialogue seen from the other side."""
    file = prompt("patient", opening=case.opening, facts=case.told)
    turned = (Message(role=_TURNED[one.role], content=one.content) for one in messages if one.role in _TURNED)
    return (Message(role="system", content=file), Message(role="user", content=_GREETING), *turned)


def own_turn(text: str) -> str:
    """What a model said as the patient, without its thoughts, a label, or turns of the doctor it went on to write."""
    return _OTHERS_TURN.sub("", _LABEL.sub("", without_thoughts(text))).strip()


def says_goodbye(text: str) -> bool:
    """Whether a patient thanks or takes leave, and neither tells nor asks anything."""
    said = sentences(text)
    return any(_LEAVES.search(part) for part in said) and all(
        _TELLS_NOTHING.match(part) and not questions(part) and not _STILL_ASKS.search(part) for part in said
    )


def _answers(case: Case, asked: Sequence[str], said: str) -> list[str]:
    """What is told for the first time, what there is nothing of, or that there is nothing to add."""
    known = [fact for question in asked for fact in _asked_for(case, question)]
    new = [fact.says for fact in known if fact.says not in said]
    lacking = [topic.none for question in asked for topic in _lacking(case, question)]
    found = list(dict.fromkeys((*new, *lacking)))[:MOST]
    return found or [_SAID if known else _UNKNOWN]


def _asked_for(case: Case, question: str) -> list[Fact]:
    """The facts that a question asks for, in the order it does."""
    found = [(fact, [question.find(word) for word in fact.words if word in question]) for fact in case.facts]
    asked = [(min(places), fact) for fact, places in found if places]
    return [fact for _, fact in sorted(asked, key=lambda pair: pair[0])]


def _lacking(case: Case, question: str) -> list[Topic]:
    """The topics of a question that a complete file holds nothing of."""
    if not case.complete:
        return []
    held = {word for fact in case.facts for word in fact.words}
    return [
        topic
        for topic in topics()
        if topic.none
        and any(word in question for word in topic.words)
        and not held.intersection(topic.words)
        and not any(word in case.told for word in topic.words)
    ]

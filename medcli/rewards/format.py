"""The form of an answer: it ends as a sentence does, does not go round in circles, and speaks for nobody else."""

import re
from collections.abc import Sequence

from medcli.core.reading import Asked

HELP = "the share of checks passed: a proper end, no repetition, no role markers; 0 for silence"
_SHORT = 20  # characters; a word or the letters of an exam need no full stop
_ENDS = tuple("。！？!?.…；;)）]】》”’\"'」』~～|`*")
# The same stretch of up to 60 characters four times in a row, or a character ten times; lines of a table do not count.
_LOOP = re.compile(r"(\w)\1{9}|(.{2,60}?)\2{3}", re.DOTALL)
_ROLE = re.compile(
    r"<\|?/?(?:im_start|im_end|user|assistant|system|human|end|endoftext)\|?>|\[/?INST\]"
    r"|^\s*(?:#+\s*)?(?:问|答|问题|回答|用户|助手|患者|病人|医生|human|user|assistant|system|instruction|response)\s*[:：]",
    re.MULTILINE | re.IGNORECASE,
)


def rewards(asked: Sequence[Asked], answers: Sequence[str]) -> list[float]:
    """From 0 to 1: the share of three checks that an answer passes; an empty one passes none.

    It ends with a sentence's end or a closing mark, or has at most 20 characters; no stretch of it is repeated four
    times in a row (a character ten times); no line of it opens another turn ("用户：", "<|user|>", "[INST]").
    """
    return [_passed(answer.strip()) for answer in answers]


def _passed(answer: str) -> float:
    if not answer:
        return 0.0
    ends = len(answer) <= _SHORT or answer.endswith(_ENDS)
    loops = any(any(map(str.isalnum, found[0])) for found in _LOOP.finditer(answer))
    return (ends + (not loops) + (not _ROLE.search(answer))) / 3

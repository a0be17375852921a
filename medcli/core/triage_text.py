"""An answer as sentences of clauses: which are conditions, what is denied, what is asked.

"如果出现胸痛,请立即就医" orders nobody to the hospital, "不需要去急诊" does not either, and "不能不去急诊" does.
Scope is read off punctuation and lists of words, in the manner of NegEx (Chapman et al. 2001): no parser would be as
easy to check by eye. The lists stand in `templates/exams/triage/words.toml`.
"""

import re
import unicodedata
from dataclasses import dataclass, replace
from typing import Literal

from medcli.core.dialogue_speech import without_thoughts
from medcli.core.triage_words import words

# Under which kind of condition a clause stands: "如果…", "出现… (立即就医)", "如果是心梗", or none.
Condition = Literal["opened", "implied", "feared", ""]

_MARKS = re.compile(r"[*`#\"“”‘’'「」『』【】()\[\]{}<>《》]+")
_BREAK = re.compile(r"—+|→|\|")
_POINT = re.compile(
    r"^\s*(?:[-•·+●○▪✅❌⚠️]+|[0-9]{1,2}[.、)](?![0-9])|\([0-9一二三四五六七八九十]{1,2}\)|[一二三四五六七八九十]{1,2}[、.])\s*"
)
_SPACE = re.compile(r"(?<=[^\x00-\x7f])[^\S\n]+|[^\S\n]+(?=[^\x00-\x7f])")
_SENTENCE = re.compile(r"[^。!?;\n]+[。!?;]*")
_CLAUSE = re.compile(r"[^,:]+[,:]*")
_ENDS = "。!?;,: "
_FALSE_WITHIN, _HARM_WITHIN = 24, 10  # characters after an assertion, in which it is called false or harmful


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """Part of a sentence, `[start:end]` of it, and whether it holds only under a condition."""

    start: int
    end: int
    conditional: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A sentence without its final mark, whether it is a question, and its clauses."""

    text: str
    asked: bool
    clauses: tuple[Clause, ...]

    def clause(self, place: int) -> Clause:
        """The clause that the character at `place` belongs to."""
        return next(clause for clause in self.clauses if place < clause.end)

    def before(self, place: int) -> str:
        """What stands before `place` in its clause."""
        return self.text[self.clause(place).start : place]


def normal(text: str) -> str:
    """The text in half width, without thoughts, Markdown, quotation marks, brackets, or spaces beside Chinese.

    Points of a list begin with "-".
    """
    text = unicodedata.normalize("NFKC", without_thoughts(text))
    lines = (_POINT.sub("-", line.replace("**", "").lstrip("#> \t")) for line in text.splitlines())
    return _SPACE.sub("", _BREAK.sub(",", _MARKS.sub("", "\n".join(lines)))).strip()


def sentences(answer: str) -> list[Sentence]:
    """The sentences of an answer. The condition of a heading ("何时就医:") holds for the points below it."""
    found: list[Sentence] = []
    under_condition = False
    for line in filter(str.strip, normal(answer).split("\n")):
        body = line.removeprefix("-").strip()
        under_condition = under_condition and (body != line or not re.search(r"[。!;]", body))
        own = [_sentence(text, under_condition) for text in _SENTENCE.findall(body) if text.strip(_ENDS)]
        found += own
        if own and not body.endswith(("。", "!", "?", ";")):
            under_condition = own[-1].clauses[-1].conditional
    return found


def is_denied(before: str) -> bool:
    """Whether the advice that follows `before` is advised against: "不必", "不用马上", "别急着"; not "不能不"."""
    near = re.search(rf"{words('no').pattern}{words('filler').pattern}*$", before)
    far = list(re.finditer(rf"{words('needless').pattern}(?!{words('spur').pattern})", before))
    found = near or (far[-1] if far else None)
    return found is not None and not words("taken-back").search(before[: found.start()])


def is_asked(sentence: Sentence, place: int) -> bool:
    """Whether what stands at `place` is a question, or part of "是否…"."""
    return sentence.asked or bool(words("asking").search(sentence.before(place)))


def asserted(pattern: re.Pattern[str], sentence: Sentence) -> re.Match[str] | None:
    """Where a sentence asserts what `pattern` finds: neither denied, nor asked, called false, or left to a doctor."""
    place = 0
    while found := pattern.search(sentence.text, place):
        if not _is_taken_away(sentence, found):
            return found
        place = found.start() + 1
    return None


def _is_taken_away(sentence: Sentence, found: re.Match[str]) -> bool:
    before, after = sentence.before(found.start()), sentence.text[found.end() :]
    return bool(
        _is_negated(before)
        or is_asked(sentence, found.start())
        or after.startswith(("吗", "么"))
        or words("false-after").search(after[:_FALSE_WITHIN])
        or words("harm-after").match(after[:_HARM_WITHIN])
        or words("consent").search(before)
    )


def _is_negated(before: str) -> bool:
    """Whether a word of denial stands before an assertion, and none takes that back."""
    bare = words("no-denial").sub("〇", before)
    last = list(words("denial").finditer(bare))
    return bool(last) and not words("taken-back").search(bare[: last[-1].start()])


def _sentence(text: str, under_condition: bool) -> Sentence:
    bare = text.strip(_ENDS)
    return Sentence(text=bare, asked=text.endswith("?"), clauses=_clauses(bare, under_condition))


def _clauses(text: str, under_condition: bool) -> tuple[Clause, ...]:
    found: list[Clause] = []
    condition: Condition = "opened" if under_condition else ""
    for match in _CLAUSE.finditer(text):
        part = match.group().rstrip(",:")
        condition = _condition(part, condition)
        found.append(Clause(start=match.start(), end=match.end(), conditional=bool(condition)))
        if condition == "feared" and words("consequence").search(part):
            condition = ""
    if len(found) > 1 and _stands_behind(text[found[-1].start :]):
        found[-2] = replace(found[-2], conditional=True)
    return tuple(found)


def _condition(part: str, before: Condition) -> Condition:
    """The condition a clause is under, when the clause before it is under `before`."""
    if words("condition-opens").search(part) and not words("condition-of-means").search(part):
        return "feared" if words("condition-of-illness").search(part) else "opened"
    if words("condition-closes").search(part) or (before == "implied" and words("condition-judged").search(part)):
        return ""
    return before or ("implied" if words("condition-implied").search(part) else "")


def _stands_behind(last: str) -> bool:
    """Whether the last clause is a condition for the one before it: "请立即就医,如果症状加重"."""
    return bool(words("condition-behind").search(last) and _condition(last, "")) and not words("advice").search(last)

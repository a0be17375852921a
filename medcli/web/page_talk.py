"""The conversation of one browser with one model, or with two side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from medcli.core.citation import unsupported
from medcli.core.passage import Passage
from medcli.core.record import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one model has said to a question until now.

    `passages` are what it was given to rest on: none were found when empty, None without a knowledge base. When it is
    `done`, `remark` is what the reader must know of how it ended, and `problem` why there is no answer.
    """

    text: str = ""
    passages: tuple[Passage, ...] | None = None
    done: bool = False
    remark: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A question, and what was said to it by the models that were asked: 0 is the left one, 1 the right one."""

    question: str
    said: Mapping[int, Said]


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """All turns; `retries` counts how often the last question was asked again."""

    turns: tuple[Turn, ...] = ()
    retries: int = 0

    @property
    def ended(self) -> bool:
        """Whether nothing more is said to the last question."""
        return all(said.done for turn in self.turns[-1:] for said in turn.said.values())

    def asked(self, question: str, sides: Sequence[int]) -> "Talk":
        """The talk with a question more, which the models of these sides are about to answer."""
        return Talk(turns=(*self.turns, Turn(question=question, said=dict.fromkeys(sides, Said()))))

    def heard(self, side: int, said: Said) -> "Talk":
        """The talk where a model has said this to the last question."""
        last = self.turns[-1]
        return replace(self, turns=(*self.turns[:-1], replace(last, said={**last.said, side: said})))

    def stopped(self, remark: str) -> "Talk":
        """The talk where nothing more is said to the last question; those who had not ended get a remark."""
        talk = self
        for side, said in self.turns[-1].said.items() if self.turns else ():
            if not said.done:
                talk = talk.heard(side, replace(said, done=True, remark=remark))
        return talk

    def before(self, turn: int) -> "Talk":
        """The talk as it was before a turn, counted from 0; all of it when there is no such turn."""
        return Talk(turns=self.turns[: max(turn, 0)])

    def again(self, sides: Sequence[int]) -> "Talk":
        """The talk where the last question is about to be answered once more."""
        return replace(self.before(len(self.turns) - 1).asked(self.turns[-1].question, sides), retries=self.retries + 1)

    def of(self, side: int) -> list[tuple[int, Turn]]:
        """The turns that a side took part in, with their numbers."""
        return [(number, turn) for number, turn in enumerate(self.turns) if side in turn.said]

    def messages(self, side: int, system: str) -> tuple[Message, ...]:
        """What a side's model is to answer: the last question after all that this side has answered before."""
        found = [Message(role="system", content=system)] if system else []
        for _, turn in self.of(side)[:-1]:
            if text := turn.said[side].text:
                found += [Message(role="user", content=turn.question), Message(role="assistant", content=text)]
        return (*found, Message(role="user", content=self.turns[-1].question))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bubble:
    """One message as it stands on the page: who says it, what, and the heading under which it is folded, if it is."""

    role: str
    text: str
    turn: int
    heading: str = ""


def bubbles(talk: Talk, side: int, words: Mapping[str, str]) -> list[Bubble]:
    """What stands on a side of the page, in the reader's words."""
    found: list[Bubble] = []
    for number, turn in talk.of(side):
        found.append(Bubble(role="user", text=turn.question, turn=number))
        found += _answer(turn.said[side], number, words)
    return found


def _answer(said: Said, turn: int, words: Mapping[str, str]) -> list[Bubble]:
    thought, text = _thought(said.text)
    found = []
    if thought:
        found.append(Bubble(role="assistant", text=thought, turn=turn, heading=words["thinking"]))
    below = [f"⚠️ {said.problem}"] if said.problem else []
    below += [f"—— {said.remark}"] if said.remark else []
    below += [f"—— {words['no_sources']}"] if said.passages == () and said.done and not said.problem else []
    if said.passages and said.done and (named := unsupported(len(said.passages), text)):
        below.append(f"⚠️ {words['unsupported'].format(numbers=named)}")
    if text or below:
        found.append(Bubble(role="assistant", text="\n\n".join([*([text] if text else []), *below]), turn=turn))
    if said.passages:
        heading = words["sources"].format(count=len(said.passages))
        found.append(Bubble(role="assistant", text=_quoted(said.passages), turn=turn, heading=heading))
    return found


def _thought(text: str) -> tuple[str, str]:
    """What a model thinks before it answers, and the answer; a thought may not be at its end yet."""
    begun = text.lstrip()
    if not begun.startswith("<think>"):
        return "", text
    thought, _, rest = begun.removeprefix("<think>").partition("</think>")
    return thought.strip(), rest.lstrip()


def _quoted(passages: Sequence[Passage]) -> str:
    """The passages, numbered as the answer cites them; a quotation mark on each line keeps them apart from it."""
    return "\n\n".join(
        f"**[{number}]** {passage.source}\n\n" + "\n".join(f"> {line}" for line in passage.text.splitlines())
        for number, passage in enumerate(passages, 1)
    )

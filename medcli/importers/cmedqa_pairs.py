"""cMedQA's candidates as preferences: a right answer against a wrong one, for reward models and DPO."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from medcli.core.encoding import encoding_of
from medcli.core.errors import DataError
from medcli.core.peek import Peek
from medcli.core.raw import RawFile, Source
from medcli.core.raw_cmedqa import (
    CANDIDATES,
    Asked,
    Candidate,
    candidates,
    columns,
    files_of,
    needed,
    parts_in,
    read_questions,
    refused_candidate,
)
from medcli.core.raw_rows import ReadOptions, refused
from medcli.core.raw_table import table_rows
from medcli.core.record import Message, Preference, Row

HELP = "cMedQA's candidates as preferences, a right answer against a wrong one; taken only when named"
SEED = 42
_NO_WRONG = "no wrong answer among the candidates"


def fits(peek: Peek) -> int:
    """Whether questions, answers and candidates are there; `cmedqa` fits better and must be overruled by name."""
    parts = parts_in(peek.files)
    return 50 if {"question", "answer"} <= parts and parts & set(CANDIDATES) else 0


def read(source: Source, options: ReadOptions) -> Iterator[Row]:
    """One preference for each right answer of a question; ids that lead nowhere are refused.

    Without a train_candidates file the questions that no other one names are for training, each right answer against
    one drawn from those to the other training questions: so are cMedQA's own candidates drawn.
    """
    files = files_of(source)
    if not files.keys() & CANDIDATES.keys():
        raise DataError(
            f"{source}: there is no candidates file, so nothing tells wrong answers",
            hint=f"one of {', '.join(f'{part}.txt' for part in CANDIDATES)} must lie in the folder",
        )
    texts = _Texts(source=options.source, asked={}, answers={})
    yield from read_questions(needed(files, source, "question"), texts.asked)
    yield from _read_answers(needed(files, source, "answer"), texts)
    for part, split in CANDIDATES.items():
        if part in files:
            pairs = _of_triples if split == "train" else _of_labels
            yield from pairs(files[part], split, texts)
        elif split == "train":
            yield from _of_draws(files["answer"], texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Texts:
    """Questions by id; answers by id, each with the id of the question it answers, and the line of each.

    `held_out` are the questions that a candidates file names.
    """

    source: str
    asked: dict[str, Asked]
    answers: dict[str, tuple[str, str]]
    lines: dict[str, int] = field(default_factory=dict)
    held_out: set[str] = field(default_factory=set)

    def missing(self, question: str, *answers: str) -> str:
        """Why the ids cannot be used; "" when they can."""
        if question not in self.asked:
            return "candidate of a question that is not there"
        return "" if all(answer in self.answers for answer in answers) else "candidate answer that is not there"

    def is_wrong(self, question: str, answer: str) -> bool:
        """Whether an answer was given to another question; candidates drawn at random may be right."""
        return self.answers[answer][0] != question

    def pair(self, raw: RawFile, line: int, split: str, ids: tuple[str, str, str]) -> Row:
        """The row of (question, right answer, wrong answer)."""
        asked = self.asked[ids[0]].text
        right, wrong = (self.answers[id][1] for id in ids[1:])
        prompt = (Message(role="user", content=asked),)
        record = Preference(id="-".join(ids), prompt=prompt, chosen=right, rejected=wrong, source=self.source)
        return Row(file=raw.name, line=line, record=record, split=split, text=asked[:500])


def _read_answers(raw: RawFile, texts: _Texts) -> Iterator[Row]:
    encoding = encoding_of(raw)
    key, ans, text = columns(raw, encoding, "ans_id", "content")
    for item in table_rows(raw, encoding):
        if item.reason:
            yield refused(raw, item, item.reason)
        elif (id := item.value[ans].strip()) in texts.answers:
            yield refused(raw, item, "answer id used twice")
        else:
            texts.answers[id] = (item.value[key].strip(), item.value[text])
            texts.lines[id] = item.line


def _of_triples(raw: RawFile, split: str, texts: _Texts) -> Iterator[Row]:
    """question, right, wrong: a right answer stands once for each of its fifty wrong ones; the first one is taken."""
    done: set[tuple[str, str]] = set()
    waiting: dict[tuple[str, str], Candidate] = {}
    for candidate in candidates(raw, "pos_ans_id", "neg_ans_id"):
        if reason := candidate.reason or texts.missing(*candidate.ids):
            yield refused_candidate(raw, candidate, reason)
            continue
        question, right, wrong = candidate.ids
        if (question, right) in done:
            continue
        if wrong == right or not texts.is_wrong(question, wrong):
            waiting.setdefault((question, right), candidate)
            continue
        done.add((question, right))
        waiting.pop((question, right), None)
        yield texts.pair(raw, candidate.line, split, (question, right, wrong))
    for candidate in waiting.values():
        yield refused_candidate(raw, candidate, _NO_WRONG)


def _of_labels(raw: RawFile, split: str, texts: _Texts) -> Iterator[Row]:
    """question, answer, label: the first right answer goes with the first wrong one, the second with the second, …"""
    right: dict[str, dict[str, Candidate]] = {}
    wrong: dict[str, list[str]] = {}
    for candidate in candidates(raw, "ans_id", "label"):
        reason = candidate.reason or texts.missing(*candidate.ids[:2])
        if not reason and candidate.ids[2] not in ("0", "1"):
            reason = f"label is neither 0 nor 1: {candidate.ids[2][:20]}"
        if reason:
            yield refused_candidate(raw, candidate, reason)
            continue
        question, answer, label = candidate.ids
        texts.held_out.add(question)
        if label == "1":
            right.setdefault(question, {}).setdefault(answer, candidate)
        elif texts.is_wrong(question, answer):
            wrong.setdefault(question, []).append(answer)
    for question, answers in right.items():
        others = [answer for answer in wrong.get(question, ()) if answer not in answers][: len(answers)]
        for place, (answer, candidate) in enumerate(answers.items()):
            if place < len(others):
                yield texts.pair(raw, candidate.line, split, (question, answer, others[place]))
            else:
                yield refused_candidate(raw, candidate, _NO_WRONG)


def _of_draws(raw: RawFile, texts: _Texts) -> Iterator[Row]:
    """Each answer to a question that is not held out, against one to another such question."""
    free = texts.asked.keys() - texts.held_out
    own = [id for id, (question, _) in texts.answers.items() if question in free]
    chance = random.Random(SEED)
    if len({texts.answers[id][0] for id in own}) < 2:
        return
    for right in own:
        question, wrong = texts.answers[right][0], right
        while not texts.is_wrong(question, wrong):
            wrong = chance.choice(own)
        yield texts.pair(raw, texts.lines[right], "train", (question, right, wrong))

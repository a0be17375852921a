"""The free answer: a conversation's last answer is asked for anew and compared with the one there."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from medcli.core.dataset_folder import DatasetFolder
from medcli.core.errors import DataError, UsageError
from medcli.core.exam import Item, Marked, Sitting, means
from medcli.core.exam_settings import EvalSettings
from medcli.core.record import Conversation, Message
from medcli.core.report import Report
from medcli.core.score import Answer, Score, interval
from medcli.core.shelf import Shelf
from medcli.core.speaker import Reader, Sampling

HELP = "the model answers anew; the answer is compared with the one in the data set"
KIND = "conversation"  # of data set
PRIMARY = "rouge-l"
METRICS = ("exact", "bleu", "rouge", "chrf", "length", "repetition", "corpus_bleu", "distinct")  # of medcli.metrics
PERPLEXITY = "perplexity"
GROUP = "department"  # of a record's meta

_SHELF = Shelf("medcli.metrics", "metric")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialogues:
    """The conversations of a data set, and what is asked in them: a paper."""

    conversations: tuple[Conversation, ...]
    items: tuple[Item, ...]

    def sit(self, sitting: Sitting) -> list[Marked]:
        """Every answer with its values; a model that is here reads the wanted answers first, for its perplexity."""
        read = _perplexity(sitting.reader, self.conversations, sitting.report) if sitting.reader else {}
        texts = self._answers(sitting)
        columns = _values([_answer(text, item) for text, item in zip(texts, self.items, strict=True)], sitting.report)
        return [
            Marked(
                item=item,
                answer=text,
                values={metric: column[index] for metric, column in columns.items()},
                outcome="answered" if text.strip() else "empty",
                detail=read if index == 0 else {},
            )
            for index, (item, text) in enumerate(zip(self.items, texts, strict=True))
        ]

    def _answers(self, sitting: Sitting) -> list[str]:
        settings = sitting.settings
        sampling = Sampling(
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_tokens=settings.max_tokens,
            seed=settings.seed,
        )
        sitting.report.stage("answering", total=len(self.items), unit="conversations")
        return sitting.speaker.replies([item.prompt for item in self.items], sampling, sitting.report.advance)


def prepare(settings: EvalSettings, dataset: DatasetFolder | None, split: str) -> Dialogues:
    """The conversations of `split`, at most `settings.limit`; raises UsageError and DataError."""
    if dataset is None:
        raise UsageError("free answers need a data set of conversations", hint="name one: --dataset NAME")
    if dataset.kind != KIND:
        raise DataError(
            f"the data set '{dataset.name}' holds {dataset.kind}s, and `med eval` needs conversations",
            hint="`med data list` shows what each data set holds",
        )
    conversations = tuple(_conversations(settings, dataset, split))
    if not conversations:
        raise DataError(
            f"the data set '{dataset.name}' has no conversation in {settings.split or 'test or valid'}",
            hint="choose another part with --split, or build the data set from more records",
        )
    return Dialogues(conversations=conversations, items=tuple(map(item_of, conversations)))


def scores(marked: Sequence[Marked], seed: int) -> list[Score]:
    """The means of all values, the figures of all answers together, and perplexity where all that was read is there."""
    answers = [_answer(one.answer, one.item) for one in marked]
    figures = [score for metric in METRICS for score in _SHELF.get(metric).figures(answers, seed)]
    return [*means(marked, seed), *figures, *_perplexity_of(marked, seed)]


def item_of(conversation: Conversation) -> Item:
    """Everything up to the last answer is asked; raises DataError when nothing is asked or answered."""
    messages = conversation.messages
    last = max((index for index, message in enumerate(messages) if message.role == "assistant"), default=0)
    asked = [message.content for message in messages[:last] if message.role == "user"]
    if not asked:
        raise DataError(
            f"the conversation '{conversation.id}' has no question with an answer",
            hint="`med data build` refuses such records: build the data set again",
        )
    group = conversation.meta.get(GROUP)
    return Item(
        id=conversation.id,
        prompt=messages[:last],
        reference=messages[last].content,
        groups=(group,) if group else (),
        asks=(asked[-1],),
    )


def with_system(conversation: Conversation, system: str) -> Conversation:
    """The conversation opened by `system` instead of what opened it."""
    rest = tuple(message for message in conversation.messages if message.role != "system")
    return replace(conversation, messages=(Message(role="system", content=system), *rest))


def perplexity_score(value: float, tokens: int, nll: Sequence[float], seed: int) -> Score:
    """Perplexity with an interval as wide as that of the mean nll over conversations.

    `value` weighs every token alike, the mean every conversation: the interval is moved around `value`.
    """
    middle = fmean(nll)
    low, high = (value * math.exp(end - middle) for end in interval(nll, seed))
    return Score(metric=PERPLEXITY, value=value, count=tokens, low=low, high=high)


def _conversations(settings: EvalSettings, dataset: DatasetFolder, split: str) -> Iterator[Conversation]:
    for record in dataset.records(split, settings.limit):
        if not isinstance(record, Conversation):
            raise DataError(f"{dataset.file(split)}: the record '{record.id}' is no conversation")
        yield with_system(record, settings.system) if settings.system is not None else record


def _answer(text: str, item: Item) -> Answer:
    """Blank space is no answer: it must not match the blank space of a reference."""
    return Answer(text=text if text.strip() else "", reference=item.reference)


def _values(answers: Sequence[Answer], report: Report) -> dict[str, list[float]]:
    """The values of all metrics by name, each in the order of the answers."""
    report.stage("marking", total=len(METRICS), unit="metrics")
    columns: dict[str, list[float]] = {}
    for done, metric in enumerate(METRICS, 1):
        columns |= _SHELF.get(metric).scores(answers)
        report.advance(done)
    return columns


def _perplexity(reader: Reader, conversations: Sequence[Conversation], report: Report) -> dict[str, Any]:
    """What the first answer keeps for all.

    A reader leaves out dialogues that are too long and does not say which, so nothing can be kept with its own answer.
    """
    value, tokens, nll = reader.perplexity(conversations, report)
    return {PERPLEXITY: {"value": value, "tokens": tokens, "nll": list(nll), "asked": len(conversations)}}


def _perplexity_of(marked: Sequence[Marked], seed: int) -> list[Score]:
    """None of a part of the answers, such as those of one department: it was measured over all."""
    for one in marked:
        read: Mapping[str, Any] | None = one.detail.get(PERPLEXITY)
        if read is not None and read["asked"] == len(marked):
            return [perplexity_score(read["value"], read["tokens"], read["nll"], seed)]
    return []

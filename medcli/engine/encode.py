"""From records to examples: render, tokenise whole, and mark the tokens that lie in what the assistant wrote."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy

from medcli.core.batches import batches
from medcli.core.chat_template import ChatTemplate, Segment, plain
from medcli.core.errors import ModelError
from medcli.core.reading import Asked, asked_of, last_answer
from medcli.core.record import Conversation, Document, Message, Preference, Record
from medcli.engine.pack import Example, Examples, Prompts

BATCH = 1000  # conversations handed to the tokenizer's threads at one time


@dataclass(slots=True)
class Losses:
    """What did not fit into `max_length`, and what would teach nothing."""

    turns_dropped: int = 0
    shortened: int = 0
    too_long: int = 0
    untrained: int = 0


def encode_all(
    conversations: Iterable[Conversation],
    template: ChatTemplate,
    tokenizer: Any,
    *,
    max_length: int,
    losses: Losses,
    advance: Callable[[int], None] = lambda done: None,
) -> Iterator[Example]:
    """Examples of at most `max_length` tokens; the oldest exchanges are dropped first, an answer's end never is."""
    done = 0
    for batch in batches(conversations, BATCH):
        lessons = [lesson for conversation in batch for lesson in template.lessons(conversation.messages)]
        for lesson, example in zip(
            lessons, encode([template.render(lesson) for lesson in lessons], tokenizer), strict=True
        ):
            fitting: Sequence[Example] | None = [example]
            if len(example.ids) > max_length:
                fitting = _fitting(lesson, lambda kept: encode([template.render(kept)], tokenizer), max_length, losses)
            if fitting is not None and not fitting[0].trained[1:].any():
                losses.untrained += 1
            elif fitting is not None:
                yield from fitting
        done += len(batch)
        advance(done)


def encode_documents(
    documents: Iterable[Document],
    tokenizer: Any,
    *,
    max_length: int,
    advance: Callable[[int], None] = lambda done: None,
) -> Iterator[Example]:
    """Documents ended by EOS, all of them learnt; longer ones in pieces of `max_length` tokens.

    A piece begins with the last token of the piece before it, so that each token but the first is learnt once.
    Raises ModelError when the tokenizer has no EOS.
    """
    end = tokenizer.eos_token_id
    if end is None:
        raise ModelError("the tokenizer has no end-of-text token", hint="set eos_token in its tokenizer_config.json")
    opens = [tokenizer.bos_token_id] if tokenizer("。")["input_ids"][0] == tokenizer.bos_token_id else []
    done = 0
    for batch in batches(documents, BATCH):
        for ids in tokenizer([document.text for document in batch], add_special_tokens=False)["input_ids"]:
            whole = numpy.array([*opens, *ids, end], dtype=numpy.int32)
            for start in range(0, max(len(whole) - 1, 1), max_length - 1):
                piece = whole[start : start + max_length]
                yield Example(ids=piece, trained=numpy.ones(len(piece), bool))
        done += len(batch)
        advance(done)


def encode_pairs(
    preferences: Iterable[Preference],
    template: ChatTemplate,
    tokenizer: Any,
    *,
    max_length: int,
    losses: Losses,
    advance: Callable[[int], None] = lambda done: None,
) -> Iterator[Example]:
    """The better and the worse answer of each preference, one after the other, in which only the answer is marked.

    Of both the same oldest exchanges are dropped until both fit; a pair of which one answer never fits is left out.
    """
    done = 0
    for batch in batches(preferences, BATCH):
        sides = [(one.prompt, answer) for one in batch for answer in (one.chosen, one.rejected)]
        examples = encode([last_answer(template, *side) for side in sides], tokenizer)
        for preference, chosen, rejected in zip(batch, examples[::2], examples[1::2], strict=True):
            pair: Sequence[Example] | None = (chosen, rejected)
            if max(len(chosen.ids), len(rejected.ids)) > max_length:
                both = partial(_both, preference, template, tokenizer)
                pair = _fitting(preference.prompt, both, max_length, losses)
            if pair is not None and not all(example.trained[1:].any() for example in pair):
                losses.untrained += 1
            elif pair is not None:
                yield from pair
        done += len(batch)
        advance(done)


def encode_prompts(
    records: Iterable[Record],
    template: ChatTemplate,
    tokenizer: Any,
    *,
    max_length: int,
    losses: Losses,
    advance: Callable[[int], None] = lambda done: None,
) -> Prompts:
    """What each record asks, ready to be answered; the oldest exchanges are dropped until it fits."""

    def asking(messages: Sequence[Message]) -> list[Example]:
        return encode([[Segment(text=plain(template.render(messages, ask=True)), trained=False)]], tokenizer)

    examples: list[Example] = []
    asked: list[Asked] = []
    for done, record in enumerate(records, 1):
        found = asked_of(record)
        if found is None:
            losses.untrained += 1
            advance(done)
            continue
        whole = asking(found.messages)
        fitting: Sequence[Example] | None = whole
        if len(whole[0].ids) > max_length:
            fitting = _fitting(found.messages, asking, max_length, losses)
        if fitting is not None:
            examples += fitting
            asked.append(found)
        advance(done)
    return Prompts(Examples(iter(examples)), asked)


def encode(rendered: Sequence[Sequence[Segment]], tokenizer: Any) -> list[Example]:
    """Tokenise each rendered dialogue as a whole; a token is learnt when it begins inside a trained segment.

    Where a token would reach from a prompt into its answer, the text is cut: after the prompt alone, which is all that
    chat gives the model, it could never be said.
    """
    tokens = tokenizer(
        [plain(segments) for segments in rendered], add_special_tokens=False, return_offsets_mapping=True
    )
    return [
        _example(segments, ids, offsets, tokenizer)
        for segments, ids, offsets in zip(rendered, tokens["input_ids"], tokens["offset_mapping"], strict=True)
    ]


def _example(
    segments: Sequence[Segment], ids: Sequence[int], offsets: Sequence[tuple[int, int]], tokenizer: Any
) -> Example:
    edges = numpy.cumsum([0, *(len(segment.text) for segment in segments)])
    flags = numpy.array([segment.trained for segment in segments])
    starts, ends = numpy.array(offsets, dtype=numpy.int64).reshape(-1, 2).T
    answers = edges[:-1][flags]
    before = numpy.searchsorted(starts, answers) - 1
    if (before >= 0).any() and (ends[before[before >= 0]] > answers[before >= 0]).any():
        return _in_pieces(segments, tokenizer)
    which = numpy.searchsorted(edges[1:], starts, side="right").clip(max=len(segments) - 1)
    return Example(ids=numpy.array(ids, dtype=numpy.int32), trained=flags[which])


def _in_pieces(segments: Sequence[Segment], tokenizer: Any) -> Example:
    pieces = tokenizer([segment.text for segment in segments], add_special_tokens=False)["input_ids"]
    trained = [segment.trained for segment, ids in zip(segments, pieces, strict=True) for _ in ids]
    return Example(ids=numpy.array([*chain(*pieces)], dtype=numpy.int32), trained=numpy.array(trained, bool))


def _both(preference: Preference, template: ChatTemplate, tokenizer: Any, prompt: Sequence[Message]) -> list[Example]:
    """The better and the worse answer to a shorter prompt than the preference's own."""
    return encode(
        [last_answer(template, prompt, answer) for answer in (preference.chosen, preference.rejected)], tokenizer
    )


def _fitting(
    messages: Sequence[Message],
    encoded: Callable[[Sequence[Message]], Sequence[Example]],
    max_length: int,
    losses: Losses,
) -> Sequence[Example] | None:
    """What `encoded` gives for the newest exchanges with which all of it fits; None when not even the last one does."""
    for dropped, kept in shorter(messages):
        examples = encoded(kept)
        if max(len(example.ids) for example in examples) <= max_length:
            losses.turns_dropped += dropped
            losses.shortened += 1
            return examples
    losses.too_long += 1
    return None


def shorter(messages: Sequence[Message]) -> Iterator[tuple[int, list[Message]]]:
    """The dialogue with ever fewer of its oldest exchanges, and how many turns were dropped; a system message stays."""
    system = [message for message in messages[:1] if message.role == "system"]
    turns = list(messages[len(system) :])
    for start in [index for index, message in enumerate(turns) if message.role == "user"][1:]:
        yield start, [*system, *turns[start:]]

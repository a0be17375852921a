"""Prompts and the endings that may follow them, as tokens."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy

from medcli.core.batches import batches
from medcli.core.chat_template import ChatTemplate, Segment, plain
from medcli.core.errors import ModelError
from medcli.core.reading import last_answer
from medcli.core.record import Message
from medcli.engine.encode import BATCH, encode
from medcli.engine.loaded import Loaded
from medcli.engine.pack import Example

_ASKED = (Message(role="user", content="问"),)
_MARK = "甲"


class Read(NamedTuple):
    """Ending number `ending` has `token` after the one at `place`: -1 is the stem's last, others count the nodes."""

    ending: int
    place: int
    token: int


@dataclass(frozen=True, kw_only=True)
class Branches:
    """The endings of a prompt as a tree: what two of them begin with alike is one branch.

    `opening` are the prompt's last tokens, `paths` the tokens of each ending after them, of which the last `counted`
    count. A node is a token that another one follows in some ending.
    """

    opening: numpy.ndarray
    paths: tuple[tuple[int, ...], ...]
    counted: tuple[int, ...]

    @cached_property
    def _places(self) -> dict[tuple[int, ...], int]:
        beginnings = (path[:end] for path in self.paths for end in range(1, len(path)))
        return {(): -1} | {beginning: place for place, beginning in enumerate(dict.fromkeys(beginnings))}

    @cached_property
    def tokens(self) -> tuple[int, ...]:
        """The token of each node."""
        return tuple(beginning[-1] for beginning in self._places if beginning)

    @cached_property
    def _parents(self) -> tuple[int, ...]:
        """The node before each node, which stands before it in the order too; -1 is the stem."""
        return tuple(self._places[beginning[:-1]] for beginning in self._places if beginning)

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """How many nodes stand before each node on its way from the stem."""
        return tuple(len(beginning) - 1 for beginning in self._places if beginning)

    @cached_property
    def seen(self) -> numpy.ndarray:
        """Which nodes each node sees: those on its way from the stem, and itself. [nodes, nodes] bool."""
        seen = numpy.eye(len(self.tokens), dtype=bool)
        for node, parent in enumerate(self._parents):
            if parent >= 0:
                seen[node] |= seen[parent]
        return seen

    @cached_property
    def reads(self) -> tuple[Read, ...]:
        """Every token of every ending that counts."""
        return tuple(
            Read(number, self._places[path[:end]], path[end])
            for number, (path, counted) in enumerate(zip(self.paths, self.counted, strict=True))
            for end in range(len(path) - counted, len(path))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """A prompt, its tokens [n] int32, and what may follow it."""

    stem: numpy.ndarray
    branches: Branches

    @property
    def longest(self) -> int:
        """The tokens of the prompt with its longest ending."""
        return len(self.stem) + max(map(len, self.branches.paths), default=0)


def encode_endings(
    loaded: Loaded, prompts: Sequence[Sequence[Message]], endings: Sequence[Sequence[str]], *, ended: bool
) -> list[Followed]:
    """Each prompt with its endings, in the tokens that training on such an answer would take.

    That is: prompt and ending are one text to the tokenizer, unless a token would reach from the one into the other,
    which could never be said (see `engine/encode.py`). Blank space that a format writes before an answer is tokenised
    with it. Of that the tokens which all endings of a prompt begin with do not count; with another prompt's they may.
    With `ended` the stop word follows, as the template writes it.
    """
    tokenizer, words = loaded.tokenizer, _cuts(loaded.tokenizer)
    cut = [_pieces(plain(loaded.template.render(messages, ask=True)), words) for messages in prompts]
    whole = _tokens([piece for pieces in cut for piece in pieces[:-1]], tokenizer)
    lead, written = _written(loaded.template, dict.fromkeys(text for texts in endings for text in texts), ended)
    pairs = dict.fromkeys((pieces[-1], text) for pieces, texts in zip(cut, endings, strict=True) for text in texts)
    examples = _examples(pairs, written, tokenizer)
    begun = numpy.array(tokenizer(lead, add_special_tokens=False)["input_ids"], dtype=numpy.int32)
    known: dict[tuple[str, ...], Branches] = {}
    found = []
    for pieces, texts in zip(cut, endings, strict=True):
        key = (pieces[-1], *texts)
        if key not in known:
            known[key] = _branches([examples[pieces[-1], text] for text in texts], begun)
        stem = numpy.concatenate([*(whole[piece] for piece in pieces[:-1]), known[key].opening])
        found.append(Followed(stem=stem, branches=known[key]))
    return found


def common(one: numpy.ndarray, other: numpy.ndarray) -> int:
    """How many tokens two texts begin with alike."""
    length = min(len(one), len(other))
    differ = one[:length] != other[:length]
    return int(differ.argmax()) if differ.any() else length


def _cuts(tokenizer: Any) -> re.Pattern[str]:
    """The words at which a tokenizer cuts a text before all else, so that a piece's tokens do not depend on others.

    Not so words that take the blank space before them, or are looked for in normalised text or between others.
    """
    known = tokenizer.added_tokens_decoder.values()
    words = [str(word) for word in known if not (word.lstrip or word.normalized or word.single_word)]
    return re.compile("|".join(map(re.escape, sorted(words, key=len, reverse=True))) or r"(?!)")


def _pieces(text: str, words: re.Pattern[str]) -> list[str]:
    """The text, cut before each of `words`."""
    edges = [0, *(found.start() for found in words.finditer(text) if found.start()), len(text)]
    return [text[start:end] for start, end in zip(edges[:-1], edges[1:], strict=True)]


def _tokens(pieces: Iterable[str], tokenizer: Any) -> dict[str, numpy.ndarray]:
    """The tokens of each piece; few-shot examples, which stand in every prompt, are tokenised once."""
    found: dict[str, numpy.ndarray] = {}
    for batch in batches(dict.fromkeys(pieces), BATCH):
        ids = tokenizer(batch, add_special_tokens=False)["input_ids"]
        found |= {piece: numpy.array(row, dtype=numpy.int32) for piece, row in zip(batch, ids, strict=True)}
    return found


def _written(template: ChatTemplate, endings: Iterable[str], ended: bool) -> tuple[str, dict[str, str]]:
    """What the template writes between a prompt and its answer, and how it writes each ending, that before it."""
    lead, _, end = _answer(template, _MARK).partition(_MARK)
    written = {text: _answer(template, text) for text in endings}
    return lead, written if ended else {text: answer.removesuffix(end) for text, answer in written.items()}


def _answer(template: ChatTemplate, text: str) -> str:
    try:
        return plain([segment for segment in last_answer(template, _ASKED, text) if segment.trained])
    except ModelError as error:
        raise ModelError(
            f"how likely an answer is cannot be read in this chat format: {error}",
            hint="let the model answer in words: --mode generate",
        ) from error


def _examples(
    pairs: Iterable[tuple[str, str]], written: dict[str, str], tokenizer: Any
) -> dict[tuple[str, str], Example]:
    """Of pairs (end of a prompt, ending) the tokens, those of the ending marked."""
    found: dict[tuple[str, str], Example] = {}
    for batch in batches(pairs, BATCH):
        texts = [
            [Segment(text=prompt, trained=False), Segment(text=written[ending], trained=True)]
            for prompt, ending in batch
        ]
        found |= dict(zip(batch, encode(texts, tokenizer), strict=True))
    return found


def _branches(examples: Sequence[Example], lead: numpy.ndarray) -> Branches:
    bodies = [example.ids for example in examples]
    starts = [len(example.ids) - int(example.trained.sum()) for example in examples]
    # Not counted for one alone, a token of the lead would make its ending likelier than the others.
    skipped = min((common(ids[start:], lead) for ids, start in zip(bodies, starts, strict=True)), default=0)
    starts = [start + skipped for start in starts]
    shared = min([*starts, *(common(bodies[0], ids) for ids in bodies)], default=0)
    return Branches(
        opening=bodies[0][:shared] if bodies else lead[:0],
        paths=tuple(tuple(ids[shared:].tolist()) for ids in bodies),
        counted=tuple(len(ids) - start for ids, start in zip(bodies, starts, strict=True)),
    )

"""Learn new pieces for a vocabulary: byte-pair encoding carried on from where its own training ended.

The old tokens are the symbols, and the pairs that stand together most often are merged (Sennrich et al. 2016,
"Neural Machine Translation of Rare Words with Subword Units"), within Chinese text only. Every merge saves one token
each time it is applied, so the most frequent merges are the most worth their rows.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from tokenizers import Tokenizer, models, trainers

from medcli.core.batches import batches
from medcli.engine.vocabulary import Piece, Vocabulary

HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]+")
LONGEST = 8  # characters of a piece
LEAST = 5  # a piece seen less often would not be learnt by the model either
BATCH = 256  # texts
T = TypeVar("T")
_UTF8 = 4  # bytes of the longest character
_FIRST = 0x10000  # symbols are written as characters from here on, past the surrogates


def learn(vocabulary: Vocabulary, texts: Iterable[str], count: int) -> list[Piece]:
    """At most `count` pieces for Chinese text, those that save most first; each can be made when its turn comes."""
    symbols = _Symbols(vocabulary)
    runs: Counter[str] = Counter()
    for batch in batches(texts, BATCH):
        for ids in vocabulary.encode(batch):
            runs.update(symbols.runs(ids))
    merges, applied = _merges(runs, 2 * count)
    found = [*_characters(symbols, applied), *_words(symbols, merges, applied)]
    known = set(vocabulary.tokens)
    chosen: list[Piece] = []
    for piece in sorted(found, key=lambda piece: -piece.saved):  # stable: a part stands before what holds it
        possible = piece.merged is None or known.issuperset(piece.merged)
        if possible and piece.token not in known and len(chosen) < count:
            known.add(piece.token)
            chosen.append(piece)
    return chosen


class _Symbols:
    """Characters that stand for a token of Chinese text, or for the tokens that one Chinese character falls into."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.ids: dict[str, tuple[int, ...]] = {}
        self.texts: dict[str, str] = {}
        self._of_tokens: dict[tuple[int, ...], str] = {}
        self._whole: dict[int, str] = {}
        for id, surface in enumerate(vocabulary.surfaces):
            if id not in vocabulary.broken and HAN.fullmatch(text := surface.decode()):
                self._whole[id] = self._new((id,), text)

    def runs(self, ids: Sequence[int]) -> Iterator[str]:
        """The stretches of Chinese text, two symbols or more, or one that is several tokens."""
        run = ""
        pending: tuple[int, ...] = ()  # parts of a character that is not complete yet
        for id in ids:
            is_part = id in self.vocabulary.broken
            symbol = self._whole.get(id, "")
            if is_part:
                pending = (*pending, id)
                symbol = self._character(pending)
                if not symbol and self._may_go_on(pending):
                    continue
            if not symbol or (pending and not is_part):
                yield from self._worth(run)
                run = ""
            run, pending = run + symbol, ()
        yield from self._worth(run)

    def token(self, symbol: str) -> str:
        """How the vocabulary writes a symbol, once it is one token."""
        ids = self.ids[symbol]
        if len(ids) > 1 and not self.vocabulary.merges_bytes:
            return self.texts[symbol]
        return "".join(self.vocabulary.tokens[id] for id in ids)

    def _worth(self, run: str) -> Iterator[str]:
        if len(run) > 1 or (run and len(self.ids[run]) > 1):
            yield run

    def _character(self, pending: tuple[int, ...]) -> str:
        """The symbol of tokens that together are one Chinese character; "" when they are not, or not yet."""
        if pending in self._of_tokens:
            return self._of_tokens[pending]
        text = b"".join(self.vocabulary.surfaces[id] for id in pending).decode("utf-8", "replace")
        return self._new(pending, text) if len(text) == 1 and HAN.fullmatch(text) else ""

    def _may_go_on(self, pending: tuple[int, ...]) -> bool:
        """Whether more bytes could make it a character."""
        surface = b"".join(self.vocabulary.surfaces[id] for id in pending)
        return len(surface) < _UTF8 and "\ufffd" in surface.decode("utf-8", "replace")

    def _new(self, ids: tuple[int, ...], text: str) -> str:
        symbol = chr(_FIRST + len(self.ids))
        self.ids[symbol], self.texts[symbol], self._of_tokens[ids] = ids, text, symbol
        return symbol


def _merges(runs: Counter[str], count: int) -> tuple[list[tuple[str, str]], Counter[str]]:
    """The merges in order, and how often each symbol or merge stands in the runs before it is merged further."""
    core = Tokenizer(models.BPE())
    alphabet = len(set().union(*runs)) if runs else 0
    trainer = trainers.BpeTrainer(
        vocab_size=alphabet + count, min_frequency=LEAST, max_token_length=LONGEST, show_progress=False
    )
    core.train_from_iterator(runs.elements(), trainer)
    merges: dict[str, tuple[str, str]] = {}
    for one, other in json.loads(core.to_str())["model"]["merges"]:
        merges.setdefault(one + other, (one, other))
    applied: Counter[str] = Counter()
    for batch in batches(runs.items(), BATCH):
        for encoding, (_, times) in zip(core.encode_batch([run for run, _ in batch]), batch, strict=True):
            for token in encoding.tokens:
                applied[token] += times
    for token, parts in reversed(merges.items()):
        for part in parts:
            applied[part] += applied[token]
    return list(merges.values()), applied


def _characters(symbols: _Symbols, applied: Counter[str]) -> list[Piece]:
    """Whole characters where the vocabulary has only their bytes; merged two by two where it works on bytes."""
    saved: Counter[tuple[int, ...]] = Counter()
    texts: dict[tuple[int, ...], str] = {}
    for symbol, ids in symbols.ids.items():
        if len(ids) < 2 or applied[symbol] < LEAST:
            continue
        texts[ids] = symbols.texts[symbol]
        if symbols.vocabulary.merges_bytes:
            for end in range(2, len(ids) + 1):
                saved[ids[:end]] += applied[symbol]
        else:
            saved[ids] = applied[symbol] * (len(ids) - 1)
    pieces = [_character_piece(symbols, ids, texts.get(ids, ""), times) for ids, times in saved.items()]
    return sorted(pieces, key=lambda piece: len(piece.parts))


def _character_piece(symbols: _Symbols, ids: tuple[int, ...], text: str, saved: int) -> Piece:
    if not symbols.vocabulary.merges_bytes:
        return Piece(token=text, text=text, merged=None, parts=ids, saved=saved)
    *before, last = (symbols.vocabulary.tokens[id] for id in ids)
    merged = ("".join(before), last)
    return Piece(token="".join(merged), text=text, merged=merged, parts=ids, saved=saved)


def _words(symbols: _Symbols, merges: list[tuple[str, str]], applied: Counter[str]) -> Iterator[Piece]:
    for one, other in merges:
        text = "".join(symbols.texts[symbol] for symbol in one + other)
        times = applied[one + other]
        if len(text) <= LONGEST and times >= LEAST:
            first, second = ("".join(map(symbols.token, part)) for part in (one, other))
            parts = tuple(id for symbol in one + other for id in symbols.ids[symbol])
            yield Piece(token=first + second, text=text, merged=(first, second), parts=parts, saved=times)

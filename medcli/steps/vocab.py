"""What tokenizers make of a corpus, and a vocabulary extended by the pieces the corpus lacks."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medcli.core.atomic import folder_aside, remove_leftovers
from medcli.core.batches import batches
from medcli.core.dataset_folder import SPLITS
from medcli.core.errors import DataError, ModelError, UsageError
from medcli.core.model_ref import ModelRef, resolve
from medcli.core.report import Report
from medcli.core.settings import setting
from medcli.steps.corpus import learnable, opened, passages_of

if TYPE_CHECKING:
    from medcli.engine.vocabulary import Piece, Vocabulary

SECTION = "data.vocab"
HELD_OUT = "held out"
_TERM_CHARACTERS = 300_000  # cut into words to find those that cost most
_TERMS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Which tokenizers are looked at, and how one is extended."""

    tokenizer: tuple[str, ...] = setting((), help="Model, or folder of a tokenizer; several are compared.")
    extend: int | None = setting(None, help="Learn so many new pieces from the corpus and add them.", minimum=1)
    out: str = setting("", help="Folder of the extended tokenizer, and model, to write.")
    min_gain: float = setting(0.03, help="Refuse when held-out text gets shorter by less than this share.", minimum=0)
    model: str = setting("", help="Extend this model: its tokenizer, and its embeddings with a row a piece.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a tokenizer makes of a part of the corpus. `broken` tokens are parts of characters, or unknown."""

    tokenizer: str
    part: str
    texts: int
    characters: int
    tokens: int
    broken: int

    @property
    def characters_per_token(self) -> float:
        return self.characters / self.tokens if self.tokens else 0.0

    @property
    def broken_share(self) -> float:
        return self.broken / self.tokens if self.tokens else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A word that is several tokens: the pieces it falls into, and how often it stands in the text."""

    tokenizer: str
    word: str
    times: int
    pieces: tuple[str, ...]

    @property
    def extra(self) -> int:
        """Tokens that one piece for this word would save."""
        return self.times * (len(self.pieces) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extended:
    """A finished extension: before and after on text it was not learnt from."""

    path: Path
    pieces: tuple["Piece", ...]
    size_before: int
    size_after: int
    before: Measured
    after: Measured

    @property
    def gain(self) -> float:
        """The share of tokens that held-out text no longer needs."""
        return _gain(self.before, self.after)


@dataclass(slots=True)
class _Tally:
    texts: int = 0
    characters: int = 0
    tokens: int = 0
    broken: int = 0

    def add(self, text: str, ids: Sequence[int], broken: frozenset[int]) -> None:
        self.texts += 1
        self.characters += len(text)
        self.tokens += len(ids)
        self.broken += sum(id in broken for id in ids)

    def measured(self, tokenizer: str, part: str) -> Measured:
        return Measured(tokenizer=tokenizer, part=part, texts=self.texts, characters=self.characters,
                        tokens=self.tokens, broken=self.broken)  # fmt: skip


def measure(corpus: str, settings: Settings, report: Report) -> tuple[list[Measured], list[Term]]:
    """Figures of each tokenizer for each split, each source where there are several, and the words that cost most.

    `corpus` is a built data set, or a raw file or folder. Raises UsageError, DataError or ModelError.
    """
    if not settings.tokenizer:
        raise UsageError("--tokenizer is missing", hint="name a model or a folder with a tokenizer; a,b compares two")
    if settings.out or settings.model:
        raise UsageError("--out and --model go with --extend N", hint="say how many pieces to add: --extend 2000")

    from medcli.engine.new_pieces import BATCH
    from medcli.engine.vocabulary import open_vocabulary

    passages = passages_of(opened(corpus))
    vocabularies = [open_vocabulary(name, report) for name in settings.tokenizer]
    tallies: dict[tuple[str, str], dict[str, _Tally]] = defaultdict(lambda: defaultdict(_Tally))
    terms = _Words()
    report.stage(f"reading {corpus}", None, "texts")
    done = 0
    for batch in batches(passages, BATCH):
        for vocabulary in vocabularies:
            for passage, ids in zip(batch, vocabulary.encode([p.text for p in batch]), strict=True):
                for kind, part in (("split", passage.split), ("source", passage.source)):
                    tallies[kind, part][vocabulary.name].add(passage.text, ids, vocabulary.broken)
        for passage in batch:
            terms.add(passage.text)
        done += len(batch)
        report.advance(done)
    if not done:
        raise DataError(f"{corpus} holds no text")
    return _figures(tallies), [term for vocabulary in vocabularies for term in terms.dearest(vocabulary)]


def extend(corpus: str, settings: Settings, report: Report) -> Extended:
    """Learn pieces from the corpus, add them, and write tokenizer, and model if one is named, into `settings.out`.

    The folder appears only when held-out text gets shorter by `min_gain`; DataError when it does not. Raises
    UsageError, ModelError or ServiceError, too.
    """
    target = _target(settings)

    from medcli.engine.new_pieces import learn
    from medcli.engine.vocabulary import PieceVocabulary, open_vocabulary

    vocabulary = open_vocabulary(settings.model or settings.tokenizer[0], report)
    if settings.model and isinstance(vocabulary, PieceVocabulary):
        raise ModelError(
            f"{settings.model} has a SentencePiece tokenizer without tokenizer.json, so no model can be loaded with it",
            hint="extend the tokenizer alone with --tokenizer, or convert it to tokenizer.json with transformers",
        )
    ref = _base(settings.model) if settings.model else None
    held: list[str] = []
    report.stage(f"learning from {corpus}", None, "texts")
    pieces = learn(vocabulary, _watched(learnable(opened(corpus), held), report), settings.extend or 1)
    if not pieces or not held:
        raise DataError(
            f"{corpus} holds too little Chinese text to {'learn a piece from' if not pieces else 'hold some out'}",
            hint="take a larger corpus",
        )
    with folder_aside(target) as aside:
        extended = vocabulary.extended(pieces, aside)
        before, after = _compared(vocabulary, extended, held, report)
        _check_gain(before, after, settings.min_gain, len(pieces))
        if ref:
            _write_model(ref, vocabulary.size, pieces, aside, report)
        done = Extended(path=target, pieces=tuple(pieces), size_before=vocabulary.size, size_after=extended.size,
                        before=before, after=after)  # fmt: skip
        text = json.dumps(summary(done, vocabulary.name), ensure_ascii=False, indent=2)
        (aside / "vocabulary.json").write_text(text + "\n", encoding="utf-8")
    return done


def summary(done: Extended, base: str) -> dict[str, Any]:
    """The extension as JSON: what was added, and the figures on held-out text."""
    figures = {"before": done.before, "after": done.after}
    return {
        "extends": base,
        "size_before": done.size_before,
        "size_after": done.size_after,
        "gain": done.gain,
        "held_out": {name: as_row(measured) for name, measured in figures.items()},
        "pieces": [{"text": piece.text, "saved": piece.saved} for piece in done.pieces],
    }


def as_row(measured: Measured) -> dict[str, Any]:
    """A measurement with the figures that follow from it."""
    shares = {"characters_per_token": measured.characters_per_token, "broken_share": measured.broken_share}
    return asdict(measured) | shares


def _target(settings: Settings) -> Path:
    """The folder to write; raises UsageError when the settings do not fit together."""
    if settings.model and settings.tokenizer:
        raise UsageError("--model and --tokenizer together: a model's own tokenizer is extended", hint="leave one out")
    if not settings.model and len(settings.tokenizer) != 1:
        raise UsageError("--extend takes one tokenizer", hint="name it with --tokenizer, or a model with --model")
    if not settings.out:
        raise UsageError("--out is missing", hint="name the folder to write: --out FOLDER")
    target = Path(settings.out)
    remove_leftovers(target)
    if target.exists():
        raise UsageError(f"{target} exists", hint="remove it, or choose another folder with --out")
    return target


def _base(name: str) -> ModelRef:
    ref = resolve(name)
    if ref.adapters:
        raise ModelError(
            f"{name} has an adapter, which would not fit the larger model", hint=f"merge it first: med merge {name}"
        )
    return ref


def _check_gain(before: Measured, after: Measured, least: float, count: int) -> None:
    if (gain := _gain(before, after)) < least:
        raise DataError(
            f"{count:,} new pieces save {gain:.1%} of the tokens of held-out text, less than {least:.1%}: "
            f"{before.characters_per_token:.2f} characters a token become {after.characters_per_token:.2f}",
            hint="the vocabulary serves this corpus already; every new row must be trained. "
            "More pieces with --extend, or accept less with --min-gain",
        )


def _gain(before: Measured, after: Measured) -> float:
    return 1 - after.tokens / before.tokens if before.tokens else 0.0


def _write_model(ref: ModelRef, first: int, pieces: Sequence["Piece"], folder: Path, report: Report) -> None:
    from medcli.engine.load import plain_model
    from medcli.engine.vocabulary import grow

    model = plain_model(ref, report)
    grow(model, {first + index: piece.parts for index, piece in enumerate(pieces)})
    report.stage("writing the model")
    model.save_pretrained(folder)


def _compared(old: "Vocabulary", new: "Vocabulary", texts: Sequence[str], report: Report) -> tuple[Measured, Measured]:
    """Both vocabularies on held-out text, and the proof that nothing else changed; raises ModelError when it did."""
    from medcli.engine.new_pieces import BATCH
    from medcli.engine.vocabulary import only_joins

    report.stage("measuring on held-out text", len(texts), "texts")
    before, after = _Tally(), _Tally()
    for batch in batches(texts, BATCH):
        for text, one, other in zip(batch, old.encode(batch), new.encode(batch), strict=True):
            if not only_joins(old, one, new, other):
                raise ModelError(
                    f"the extended tokenizer reads '{text[:40]}' otherwise than {old.name} does",
                    hint="nothing was written; please report this with the tokenizer's name",
                )
            before.add(text, one, old.broken)
            after.add(text, other, new.broken)
        report.advance(before.texts)
    return before.measured(old.name, HELD_OUT), after.measured(f"{old.name} + {new.size - old.size:,}", HELD_OUT)


def _figures(tallies: Mapping[tuple[str, str], Mapping[str, _Tally]]) -> list[Measured]:
    """The splits, then the sources where there are several; tokenizers side by side."""
    several = sum(kind == "source" for kind, _ in tallies) > 1
    return [
        tally.measured(name, part)
        for (kind, part), of_part in sorted(tallies.items(), key=lambda item: _order(*item[0]))
        for name, tally in of_part.items()
        if kind == "split" or several
    ]


def _order(kind: str, part: str) -> tuple[bool, int, str]:
    return kind == "source", SPLITS.index(part) if part in SPLITS else len(SPLITS), part


class _Words:
    """The words of the beginning of a corpus, counted."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._left = _TERM_CHARACTERS

    def add(self, text: str) -> None:
        if self._left > 0:
            from medcli.engine.new_pieces import HAN
            from medcli.metrics.rouge import segment

            words = segment(text[: self._left]).split()
            self.counts.update(word for word in words if len(word) > 1 and HAN.fullmatch(word))
            self._left -= len(text)

    def dearest(self, vocabulary: "Vocabulary") -> list[Term]:
        """The words with the most tokens to save."""
        words = list(self.counts)
        terms = [
            Term(tokenizer=vocabulary.name, word=word, times=self.counts[word], pieces=_shown(vocabulary, ids))
            for word, ids in zip(words, vocabulary.encode(words), strict=True)
        ]
        dearest = sorted(terms, key=lambda term: (-term.extra, term.word))[:_TERMS]
        return [term for term in dearest if term.extra]


def _shown(vocabulary: "Vocabulary", ids: Sequence[int]) -> tuple[str, ...]:
    """The tokens as text, without the space that some tokenizers put before all text."""
    pieces = (vocabulary.surfaces[id].decode("utf-8", "replace").strip() for id in ids)
    return tuple(piece for piece in pieces if piece)


def _watched(texts: Iterable[str], report: Report) -> Iterator[str]:
    for done, text in enumerate(texts, 1):
        yield text
        if done % 1000 == 0:
            report.advance(done)

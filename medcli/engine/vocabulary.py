"""Tokenizers seen as vocabularies: what each token stands for, and how new pieces get into one.

New pieces become part of the vocabulary proper, ranked after every old merge. Tokens "added" beside it would be cut out
of the text before it is tokenised, which changes the pieces around them. Ranked last, a merge is tried only when no old
one is left to do, so a text without a new piece is tokenised as before.
"""

import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers.convert_slow_tokenizer import bytes_to_unicode

from medcli.core.errors import ModelError
from medcli.core.model_ref import ModelRef, resolve
from medcli.core.report import Report, Silent
from medcli.engine.load import plain_tokenizer

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # how SentencePiece and its kin write a byte that stands alone
_OF_BYTE_LEVEL = {character: byte for byte, character in bytes_to_unicode().items()}
_TOKENIZER, _PIECES = "tokenizer.json", "tokenizer.model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A token to add. `token` is how the vocabulary writes it, `text` what it stands for, "" for part of a character.

    `merged` are the two tokens that become it, None where none do; `parts` the old tokens' ids, first to last;
    `saved` how many tokens it saved on the text it was learnt from.
    """

    token: str
    text: str
    merged: tuple[str, str] | None
    parts: tuple[int, ...]
    saved: int


class Vocabulary(Protocol):
    """A tokenizer. `size` is the first free id."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def tokens(self) -> Sequence[str]:
        """Id -> the token as the vocabulary writes it; "" where there is none."""

    @property
    def surfaces(self) -> Sequence[bytes]:
        """Id -> the bytes of text it stands for."""

    @property
    def broken(self) -> frozenset[int]:
        """The ids that stand for part of a character, or for whatever is unknown."""

    @property
    def merges_bytes(self) -> bool:
        """Whether a character is merged from its bytes; otherwise it is looked up before it falls apart into bytes."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, no special tokens around it."""

    def decode(self, ids: Sequence[int]) -> str: ...

    def extended(self, pieces: Sequence[Piece], folder: Path) -> "Vocabulary":
        """The vocabulary with `pieces` as ids `size`, `size` + 1, …, written into `folder` and read back."""


@dataclass(frozen=True)
class FastVocabulary:
    """A tokenizer of transformers that has a tokenizer.json."""

    name: str
    tokenizer: Any

    @cached_property
    def _spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = json.loads(self.tokenizer.backend_tokenizer.to_str())
        return spec

    @cached_property
    def size(self) -> int:
        return int(max(self.tokenizer.get_vocab().values())) + 1

    @cached_property
    def tokens(self) -> Sequence[str]:
        tokens = [""] * self.size
        for token, id in self.tokenizer.get_vocab().items():
            tokens[id] = token
        return tokens

    @cached_property
    def surfaces(self) -> Sequence[bytes]:
        added = {row["id"] for row in self._spec["added_tokens"]}
        return [
            token.encode() if id in added else _bytes_of(token, self.merges_bytes)
            for id, token in enumerate(self.tokens)
        ]

    @cached_property
    def broken(self) -> frozenset[int]:
        unknown = self.tokenizer.unk_token_id
        return _parts_of_characters(self.surfaces) | (frozenset() if unknown is None else {unknown})

    @cached_property
    def merges_bytes(self) -> bool:
        return '"ByteLevel"' in json.dumps(self._spec["decoder"])

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        encoded = self.tokenizer.backend_tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encoded]

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.backend_tokenizer.decode(list(ids), skip_special_tokens=False))

    def extended(self, pieces: Sequence[Piece], folder: Path) -> "FastVocabulary":
        self.tokenizer.save_pretrained(folder)
        spec = json.loads((folder / _TOKENIZER).read_text("utf-8"))
        model = spec["model"]
        if model["type"] != "BPE" or model["continuing_subword_prefix"] or model["end_of_word_suffix"]:
            raise ModelError(
                f"{self.name}: its vocabulary is {model['type']}, and only plain BPE can be extended",
                hint="Qwen, Llama, GLM, DeepSeek and most others of today are BPE",
            )
        for row in spec["added_tokens"]:  # ids are written without holes, so the special ones between must be there too
            model["vocab"].setdefault(row["content"], row["id"])
        model["vocab"] |= {piece.token: self.size + index for index, piece in enumerate(pieces)}
        model["merges"] += [list(piece.merged) for piece in pieces if piece.merged]
        (folder / _TOKENIZER).write_text(json.dumps(spec, ensure_ascii=False), encoding="utf-8")
        return FastVocabulary(self.name, plain_tokenizer(ModelRef(base=str(folder)), Silent()))


@dataclass(frozen=True)
class PieceVocabulary:
    """A SentencePiece model, as ChatGLM and Baichuan have them."""

    name: str
    path: Path
    model: Any

    @property
    def size(self) -> int:
        return int(self.model.vocab_size())

    @cached_property
    def tokens(self) -> Sequence[str]:
        return [self.model.id_to_piece(id) for id in range(self.size)]

    @cached_property
    def surfaces(self) -> Sequence[bytes]:
        return [_bytes_of(token, byte_level=False) for token in self.tokens]

    @cached_property
    def broken(self) -> frozenset[int]:
        return _parts_of_characters(self.surfaces) | {self.model.unk_id()}

    @property
    def merges_bytes(self) -> bool:
        return False

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        encoded: list[list[int]] = self.model.encode(list(texts))
        return encoded

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.model.decode(list(ids)))

    def extended(self, pieces: Sequence[Piece], folder: Path) -> "PieceVocabulary":
        """A message of protocol buffers followed by another one is the two merged: the pieces are simply appended.

        https://protobuf.dev/programming-guides/encoding/#last-one-wins
        """
        scores = [self.model.get_score(id) for id in range(self.size)]
        if not all(score.is_integer() for score in scores):
            raise ModelError(
                f"{self.name}: a unigram model, and only BPE can be extended", hint="ChatGLM, Baichuan, Llama are BPE"
            )
        # A BPE piece's score is minus its rank; below the lowest it is tried last.
        added = [_piece_message(piece.token, min(scores) - 1 - index) for index, piece in enumerate(pieces)]
        (folder / _PIECES).write_bytes(self.path.read_bytes() + b"".join(added))
        return _piece_vocabulary(self.name, folder / _PIECES)


def open_vocabulary(name: str, report: Report) -> Vocabulary:
    """The tokenizer of a model, of a folder, or in a tokenizer.model; raises ModelError or ServiceError."""
    path = Path(name).expanduser()
    pieces = path if path.suffix == ".model" else path / _PIECES
    if pieces.is_file() and not (path / _TOKENIZER).is_file():
        return _piece_vocabulary(name, pieces)
    own = any((path / file).is_file() for file in (_TOKENIZER, "tokenizer_config.json"))
    ref = ModelRef(base=str(path)) if own and not (path / "adapter_config.json").is_file() else resolve(name)
    tokenizer = plain_tokenizer(ref, report)
    if not tokenizer.is_fast:
        raise ModelError(f"{name} has no fast tokenizer", hint="convert it to tokenizer.json with transformers")
    return FastVocabulary(name, tokenizer)


def grow(model: Any, rows: Mapping[int, Sequence[int]]) -> None:
    """Give each new token (id -> the old tokens it stands for) the mean of their rows, in the input and the output.

    A table that has spare rows already, as many are padded, keeps its size.
    """
    needed = max(rows) + 1
    if model.get_input_embeddings().num_embeddings < needed:
        model.resize_token_embeddings(needed, mean_resizing=False)
    tables = [model.get_input_embeddings().weight]
    if (head := model.get_output_embeddings()) is not None:
        tables += [table for table in (head.weight, head.bias) if table is not None and table is not tables[0]]
    with torch.no_grad():
        for table in tables:
            for id, parts in rows.items():
                table[id] = table[list(parts)].float().mean(0).to(table.dtype)


def only_joins(old: Vocabulary, before: Sequence[int], new: Vocabulary, after: Sequence[int]) -> bool:
    """Whether the tokens `after` are those `before`, some of them joined, and the text is the same."""
    ends, joined = (list(accumulate(len(vocabulary.surfaces[id]) for id in ids))
                    for vocabulary, ids in ((old, before), (new, after)))  # fmt: skip
    kept = [id for id in after if id < old.size]
    same = set(joined) <= set(ends) and joined[-1:] == ends[-1:] and old.decode(before) == new.decode(after)
    return same and (len(kept) < len(after) or list(after) == list(before))


def _bytes_of(token: str, byte_level: bool) -> bytes:
    if byte_level and all(character in _OF_BYTE_LEVEL for character in token):
        return bytes(_OF_BYTE_LEVEL[character] for character in token)
    if not byte_level and (alone := _BYTE.fullmatch(token)):
        return bytes.fromhex(alone[1])
    return token.replace("▁", " ").encode()


def _parts_of_characters(surfaces: Sequence[bytes]) -> frozenset[int]:
    return frozenset(id for id, surface in enumerate(surfaces) if "\ufffd" in surface.decode("utf-8", "replace"))


def _piece_vocabulary(name: str, path: Path) -> PieceVocabulary:
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise ModelError(f"{path}: reading it needs sentencepiece", hint="pip install sentencepiece") from error
    try:
        return PieceVocabulary(name, path, SentencePieceProcessor(model_file=str(path)))
    except (RuntimeError, OSError) as error:
        raise ModelError(f"{path}: not a SentencePiece model, or a damaged one", hint="fetch it again") from error


def _piece_message(token: str, score: float) -> bytes:
    """`ModelProto { repeated SentencePiece pieces = 1 }` with `SentencePiece { string piece = 1; float score = 2 }`."""
    text = token.encode()
    piece = b"\x0a" + _varint(len(text)) + text + b"\x15" + struct.pack("<f", score)
    return b"\x0a" + _varint(len(piece)) + piece


def _varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])

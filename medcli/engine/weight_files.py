"""Safetensors files read and written piece by piece, so that a large tensor is never in memory as a whole.

The format: 8 bytes with the length of a JSON header, the header, then the tensors' bytes one after the other.
https://github.com/huggingface/safetensors#format
"""

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from medcli.core.errors import ModelError

FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
KINDS = {dtype: kind for kind, dtype in FLOATS.items()}
PIECE = 4 << 20  # bytes

_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows `start` to `stop` (left out) of one of the matrices that a tensor is made of."""

    matrix: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A tensor in a file: its precision as safetensors calls it, where its bytes begin, and how many there are."""

    file: Path
    name: str
    kind: str
    shape: tuple[int, ...]
    begin: int
    size: int

    @property
    def matrices(self) -> tuple[int, int, int]:
        return matrices_of(self.shape)

    def pieces(self) -> Iterator[Rows]:
        """All rows in order, as many at a time as `PIECE` has room for in float32."""
        count, rows, columns = self.matrices
        step = max(1, PIECE // (4 * max(1, columns)))
        for matrix in range(count):
            for start in range(0, rows, step):
                yield Rows(matrix=matrix, start=start, stop=min(start + step, rows))

    def read(self, rows: Rows) -> Tensor:
        """[rows, columns] in float32."""
        _, height, columns = self.matrices
        width = columns * FLOATS[self.kind].itemsize
        with self.file.open("rb") as file:
            file.seek(self.begin + (rows.matrix * height + rows.start) * width)
            data = bytearray(file.read((rows.stop - rows.start) * width))
        return torch.frombuffer(data, dtype=FLOATS[self.kind]).view(-1, columns).float()

    def whole(self) -> Tensor:
        """The tensor as it is."""
        return torch.frombuffer(bytearray(b"".join(self.bytes())), dtype=FLOATS[self.kind]).view(self.shape)

    def bytes(self) -> Iterator[bytes]:
        """What is in the file, as it is."""
        with self.file.open("rb") as file:
            file.seek(self.begin)
            for start in range(0, self.size, PIECE):
                yield file.read(min(PIECE, self.size - start))


@dataclass(frozen=True, slots=True, kw_only=True)
class ToWrite:
    """A tensor to be written; `bytes` gives its content when its turn comes."""

    name: str
    kind: str
    shape: tuple[int, ...]
    size: int
    bytes: Callable[[], Iterator[bytes]]


def matrices_of(shape: Sequence[int]) -> tuple[int, int, int]:
    """How many matrices a tensor is made of, their rows and their columns; a vector is one row."""
    if len(shape) < 2:
        return 1, 1, math.prod(shape)
    return math.prod(shape[:-2]), shape[-2], shape[-1]


def contents(file: Path) -> dict[str, Stored]:
    """The tensors of a safetensors file by name, in the order they lie in it; raises ModelError for a damaged file."""
    try:
        with safe_open(file, framework="pt"):  # checks that header and file fit together
            pass
        with file.open("rb") as opened:
            (length,) = _LENGTH.unpack(opened.read(_LENGTH.size))
            header = json.loads(opened.read(length))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{file}: {error}", hint="fetch or copy it again; a run's adapter: train it again") from error
    entries = [(name, entry) for name, entry in header.items() if name != "__metadata__"]
    return {
        name: Stored(
            file=file,
            name=name,
            kind=entry["dtype"],
            shape=tuple(entry["shape"]),
            begin=_LENGTH.size + length + entry["data_offsets"][0],
            size=entry["data_offsets"][1] - entry["data_offsets"][0],
        )
        for name, entry in sorted(entries, key=lambda item: (item[1]["data_offsets"], item[0]))
    }


def write(file: Path, tensors: Sequence[ToWrite], advance: Callable[[int], None]) -> None:
    """Write a safetensors file; `advance` is told how many bytes were written, after each piece."""
    header: dict[str, Mapping[str, object]] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        header[tensor.name] = {"dtype": tensor.kind, "shape": tensor.shape, "data_offsets": (end, end + tensor.size)}
        end += tensor.size
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8 bytes
    with file.open("wb") as out:
        out.write(_LENGTH.pack(len(text)) + text)
        for tensor in tensors:
            for piece in tensor.bytes():
                out.write(piece)
                advance(len(piece))


def as_bytes(piece: Tensor, kind: str) -> bytes:
    """The bytes of a piece of a tensor in the precision `kind`."""
    return piece.to(FLOATS[kind]).contiguous().view(torch.uint8).numpy().tobytes()

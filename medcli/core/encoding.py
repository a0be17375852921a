"""Find the encoding of a raw file by decoding all of it: a head of ASCII proves nothing."""

import codecs
from dataclasses import dataclass
from functools import lru_cache

from medcli.core.errors import DataError
from medcli.core.raw import RawFile, open_bytes

_CHUNK = 1 << 20
_SAMPLE = 256 << 10
# Spare bytes (bytes minus characters) after which text that was UTF-8 so far is surely UTF-8 with a fault: in
# GB18030 text the first few characters already break UTF-8's rules.
_SURELY_UTF8 = 24
_BOMS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_BINARY = {
    b"PAR1": "a Parquet file",
    b"PK\x03\x04": "a zip archive or an Excel file",
    b"\x1f\x8b": "a gzip file without .gz in its name",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word file",
    b"%PDF": "a PDF file",
    b"\x89PNG": "a picture",
    b"SQLite format 3": "an SQLite file",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fault:
    """The first byte that is not in an encoding; `spare` = bytes minus characters before it."""

    byte: int
    line: int
    spare: int


def encoding_of(raw: RawFile) -> str:
    """The encoding in which the whole file decodes: UTF-8, GB18030, or what charset-normalizer finds.

    Raises DataError with the byte and line of the first fault.
    """
    facts = raw.path.stat()
    return _encoding_of(raw, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=64)
def _encoding_of(raw: RawFile, size: int, changed: int) -> str:
    """A file is looked at more than once; its size and time of change tell whether it is still the same."""
    with open_bytes(raw) as file:
        sample = file.read(_SAMPLE)
    if not sample:
        raise DataError(f"{raw.name} is empty", hint="was its download or copy broken off?")
    for head, what in _BINARY.items():
        if sample.startswith(head):
            raise DataError(f"{raw.name} is {what}, not text", hint="export it as JSON Lines or CSV in UTF-8")
    for bom, encoding in _BOMS.items():
        if sample.startswith(bom) and _first_fault(raw, encoding) is None:
            return encoding
    fault = _first_fault(raw, "utf-8-sig")
    if fault is None:
        return "utf-8-sig"
    if fault.spare < _SURELY_UTF8:
        for encoding in ("gb18030", *_guesses(sample)):
            if _first_fault(raw, encoding) is None:
                return encoding
    raise _unreadable(raw, fault)


def _first_fault(raw: RawFile, encoding: str) -> _Fault | None:
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    seen = characters = lines = 0
    with open_bytes(raw) as file:
        while True:
            chunk = file.read(_CHUNK)
            pending = decoder.getstate()[0]
            try:
                characters += len(decoder.decode(chunk, not chunk))
            except UnicodeDecodeError as error:
                good = (pending + chunk)[: error.start]
                byte = seen - len(pending) + error.start
                characters += len(good.decode(encoding, "ignore"))
                return _Fault(byte=byte, line=lines + good.count(b"\n") + 1, spare=byte - characters)
            except UnicodeError:  # UTF-16 and UTF-32 say so when the BOM is all there is
                return _Fault(byte=seen, line=lines + 1, spare=0)
            if not chunk:
                return None
            seen += len(chunk)
            lines += chunk.count(b"\n")


def _guesses(sample: bytes) -> list[str]:
    import charset_normalizer

    best = charset_normalizer.from_bytes(sample).best()
    return [best.encoding] if best else []


def _unreadable(raw: RawFile, fault: _Fault) -> DataError:
    if fault.spare >= _SURELY_UTF8:
        what, hint = (
            "is not UTF-8, though all before it is",
            f"leave such bytes out: iconv -c -f utf-8 -t utf-8 {raw.name} > clean",
        )
    else:
        what, hint = (
            "is neither UTF-8 nor GB18030",
            f"convert it first: iconv -f ENCODING -t utf-8 {raw.name} > clean",
        )
    return DataError(f"{raw.name}:{fault.line}: byte {fault.byte:,} of the file {what}", hint=hint)

"""Is a safetensors file whole? Told by its header and its length alone, without reading a tensor.

The format: 8 bytes with the length of a JSON header, the header, then the tensors' bytes one after the other.
https://github.com/huggingface/safetensors#format
"""

import json
import struct
from pathlib import Path

_LENGTH = struct.Struct("<Q")
_LONGEST = 100_000_000  # bytes of a header; the format allows no more


def fault_of(path: Path) -> str:
    """What is wrong with a safetensors file, in a few words; "" when its header fits its length."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_LENGTH.size)
        if len(start) < _LENGTH.size:
            return f"it has {size:,} bytes, and no header"
        (length,) = _LENGTH.unpack(start)
        if length > min(_LONGEST, size):
            return "it has no header of tensors, or is cut within it"
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return "its header cannot be read"
    wanted = _LENGTH.size + length + max(ends, default=0)
    return "" if size == wanted else f"it has {size:,} bytes in place of {wanted:,}"


def damaged_in(folder: Path) -> list[tuple[Path, str]]:
    """The safetensors files right in `folder` that are not whole, each with what is wrong."""
    files = sorted(path for path in folder.glob("*.safetensors") if path.is_file())
    return [(path, fault) for path in files if (fault := fault_of(path))]

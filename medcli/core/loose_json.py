"""Read the JSON in what a model said: inside a code fence, after some words, with a comma too many."""

import json
import re
from typing import Any

_FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)
_COMMA = re.compile(r",(\s*[}\]])")
_DECODER = json.JSONDecoder(strict=False)  # models break lines inside strings


def json_in(text: str) -> Any:
    """The first object or array in `text`; raises ValueError when there is none."""
    fenced = _FENCE.search(text)
    for piece in ([fenced.group(1)] if fenced else []) + [text]:
        for candidate in (piece, _COMMA.sub(r"\1", piece)):
            start = min((at for mark in "[{" if (at := candidate.find(mark)) >= 0), default=-1)
            if start >= 0:
                try:
                    return _DECODER.raw_decode(candidate, start)[0]
                except (ValueError, RecursionError):  # brackets nested without end
                    continue
    raise ValueError("no JSON in the answer")


def objects_in(text: str) -> list[dict[str, Any]]:
    """The objects of an array, or of the only list inside an object; raises ValueError when there are none."""
    value = json_in(text)
    if isinstance(value, dict):
        value = next((inner for inner in value.values() if isinstance(inner, list)), [value])
    rows = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
    if not rows:
        raise ValueError("no objects in the answer")
    return rows

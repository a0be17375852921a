"""Rows that a build refused, as they may be shown: short, and without what tells who a patient is."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medcli.core.dataset_folder import DatasetFolder
from medcli.core.errors import DataError
from medcli.core.phi import Masker

EXAMPLES = 5  # rows for a reason
_LENGTH = 200  # characters
# A refused row may be a line of JSON that was not parsed: a name or a number in it can be written as escapes.
_ESCAPE = re.compile(r"\\(?:u(?!d[89a-f])([0-9a-f]{4})|[nrt])", re.IGNORECASE)
_HALF_WIDTH = {wide: wide - 0xFEE0 for wide in range(ord("！"), ord("～") + 1) if chr(wide).isalnum()}


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRow:
    """Where a refused row stood, why it was refused, and the beginning of it, masked."""

    file: str
    line: int
    reason: str
    text: str


def refused_examples(dataset: DatasetFolder) -> dict[str, list[RefusedRow]]:
    """Reason, most frequent first -> its first refused rows; raises DataError with file and line."""
    missing = {reason: min(count, EXAMPLES) for reason, count in dataset.manifest["refused"].items()}
    found: dict[str, list[RefusedRow]] = {reason: [] for reason in missing}
    for row in _rows(dataset.file("refused")) if missing else ():
        reason = row["reason"].partition(": ")[0]
        if missing.get(reason):
            found[reason].append(_shown(row))
            missing[reason] -= 1
            if not any(missing.values()):
                break
    return found


def _shown(row: dict[str, Any]) -> RefusedRow:
    masker = Masker()
    reason, text = (masker.mask(_plain(row[part])) for part in ("reason", "text"))
    return RefusedRow(file=row["file"], line=row["line"], reason=reason, text=_short(text))


def _plain(text: str) -> str:
    """The text with escapes undone and digits in half width, as identifiers are looked for."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else " ", text).translate(_HALF_WIDTH)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LENGTH else f"{text[:_LENGTH]}…"


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line, text in enumerate(file, 1):
            try:
                row = json.loads(text)
                yield {"file": row["file"], "line": int(row["line"]), "reason": row["reason"], "text": row["text"]}
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{path}:{line}: not a refused row: {error}", hint="build the data set again"
                ) from error

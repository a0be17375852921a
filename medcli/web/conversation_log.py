"""Conversations on disk, where somebody asked for it: a JSON line each, with patient identifiers masked."""

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medcli.core.atomic import storage_error
from medcli.core.phi import Masker
from medcli.core.record import Message
from medcli.core.serving import Request
from medcli.gates.normalise import tidy
from medcli.web.hearing import Hearing

_OWNER_ONLY = 0o600


class ConversationLog:
    """Appends to a file, in a thread of its own. `note` hears, once, that it could not."""

    def __init__(self, path: Path, note: Callable[[str], None]) -> None:
        """Open the file; raises StorageError."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.fdopen(
                os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, _OWNER_ONLY), "w", encoding="utf-8"
            )
        except OSError as error:
            raise storage_error(error, path) from error
        self._path = path
        self._note = note
        self._failed = False
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="log")

    def keep(self, hearing: Hearing) -> None:
        """Write down what was asked and what was said; returns at once."""
        if hearing.requests:
            row = {
                "id": hearing.id,
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "model": hearing.requests[0].model,
            }
            writing = self._writer.submit(self._write, row, hearing.requests, hearing.said, hearing.ends)
            writing.add_done_callback(self._check)

    def close(self) -> None:
        """Write what is still to be written, and close the file."""
        self._writer.shutdown()
        self._file.close()

    def _write(
        self, row: dict[str, Any], requests: Sequence[Request], said: Sequence[str], ends: Sequence[str]
    ) -> None:
        self._file.write(json.dumps(row | _masked(requests, said, ends), ensure_ascii=False) + "\n")
        self._file.flush()

    def _check(self, written: Future[None]) -> None:
        if (problem := written.exception()) and not self._failed:
            self._failed = True
            said = storage_error(problem, self._path).message if isinstance(problem, OSError) else repr(problem)
            self._note(f"not every conversation is kept: {said}")


def _masked(requests: Sequence[Request], said: Sequence[str], ends: Sequence[str]) -> dict[str, Any]:
    """Prompts and answers, with the same placeholder for the same person in all of them."""
    masker = Masker()

    def mask(text: str) -> str:
        return masker.mask(tidy(text))

    prompts = [
        mask(prompt) if isinstance(prompt, str) else [{"role": m.role, "content": mask(m.content)} for m in prompt]
        for prompt in _different([request.prompt for request in requests])
    ]
    answers = [{"text": mask(text), "finish": end} for text, end in zip(said, ends, strict=True)]
    return {"prompts": prompts, "answers": answers}


def _different(prompts: Sequence[tuple[Message, ...] | str]) -> list[tuple[Message, ...] | str]:
    return list(dict.fromkeys(prompts))

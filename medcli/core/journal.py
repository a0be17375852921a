"""Answers are written down as soon as they are there, so that an exam that was killed goes on where it was.

A journal is a file of lines: the first says what the answers follow from, each other one holds the answers to a chunk
of prompts. Chunks depend on the whole list of prompts only, and each has a seed of its own. So an exam that goes on
gives exactly the answers of one that was never stopped, whether a model is asked in batches or draws by chance.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import filelock

from medcli.core.atomic import storage_error, writing
from medcli.core.batches import batches
from medcli.core.errors import StorageError, UsageError
from medcli.core.record import Conversation, Message
from medcli.core.report import Report
from medcli.core.speaker import Likelihood, Reader, Sampling, Speaker

# Prompts between two writes. Of a model that is here some batches, so that like lengths still come together; of a
# service, which is asked one by one and paid for, fewer.
CHUNK = 256
CHUNK_OF_SERVICE = 64


class Journal:
    """The answers in a file that is held by this process alone; `open` gives one."""

    def __init__(self, path: Path, known: dict[str, Any]) -> None:
        self._path, self._known = path, known
        try:
            # Without a buffer, which a full disk would still leave to be written when the file is closed.
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise storage_error(error, path) from error

    @classmethod
    @contextmanager
    def open(cls, path: Path, header: Mapping[str, Any], report: Report) -> Iterator["Journal"]:
        """The journal in the file `path`, which is begun anew when it has another `header`, or is none.

        Raises UsageError when another process holds it, StorageError when it cannot be written.
        """
        with _held(path):
            journal = cls(path, _known_or_begun(path, header, report))
            if count := journal._count():
                report.note(f"going on where it was stopped: {count:,} answers are there already")
            try:
                yield journal
            finally:
                journal._file.close()

    def known(self, key: str) -> list[Any] | None:
        """What was added under `key`, as JSON gives it back; None when nothing was."""
        return self._known.get(key)

    def add(self, key: str, answers: list[Any]) -> None:
        """Write `answers`, which JSON can hold, to the file; raises StorageError, saying what is kept."""
        line = f"{json.dumps({'key': key, 'answers': answers})}\n".encode("ascii")
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            said = storage_error(error, self._path)
            raise StorageError(said.message, hint=f"{said.hint}\n{self._count():,} answers are kept") from error
        self._known[key] = answers

    def remove(self) -> None:
        """Remove the file: the outcome is written, and holds the answers."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def _count(self) -> int:
        return sum(map(len, self._known.values()))


class Remembering:
    """A `Speaker` that says again what the journal knows, and asks another speaker for the rest.

    `who` tells speakers apart that share a journal: "candidate", "patient", "judge".
    """

    def __init__(self, speaker: Speaker, journal: Journal, who: str, chunk: int = CHUNK) -> None:
        self._speaker, self._journal, self._who, self._chunk = speaker, journal, who, chunk

    def reply(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        """The answer in pieces, or at once when it is known; one that is not heard to its end is not kept."""
        key = _key(self._who, "reply", [messages], asdict(sampling))
        if (known := self._journal.known(key)) is not None:
            yield from known
            return
        pieces = []
        for piece in self._speaker.reply(messages, sampling):
            pieces.append(piece)
            yield piece
        self._journal.add(key, ["".join(pieces)])

    def replies(
        self, prompts: Sequence[Sequence[Message]], sampling: Sampling, advance: Callable[[int], None]
    ) -> list[str]:
        """One answer per prompt, in order, asked in chunks of like length; chunk k with the seed of `sampling` + k.

        Without chance the same prompt is asked once.
        """
        places = _places(prompts, apart=sampling.temperature > 0)
        order = sorted(places, key=lambda first: sum(len(message.content) for message in prompts[first]))
        answers = [""] * len(prompts)
        done = 0
        for number, chunk in enumerate(batches(order, self._chunk)):
            drawn = replace(sampling, seed=sampling.seed + number)
            said = self._asked([prompts[first] for first in chunk], drawn, _after(done, advance))
            for first, answer in zip(chunk, said, strict=True):
                for place in places[first]:
                    answers[place] = answer
            done += sum(len(places[first]) for first in chunk)
            advance(done)
        return answers

    def _asked(
        self, prompts: Sequence[Sequence[Message]], sampling: Sampling, advance: Callable[[int], None]
    ) -> list[str]:
        key = _key(self._who, "replies", prompts, asdict(sampling))
        known = self._journal.known(key)
        if known is None:
            known = self._speaker.replies(prompts, sampling, advance)
            self._journal.add(key, known)
        return known


class RememberingReader:
    """A `Reader` that knows likelihoods it has written to the journal; perplexity is measured anew, for it is quick."""

    def __init__(self, reader: Reader, journal: Journal, chunk: int = CHUNK) -> None:
        self._reader, self._journal, self._chunk = reader, journal, chunk

    def likelihoods(
        self,
        prompts: Sequence[Sequence[Message]],
        endings: Sequence[Sequence[str]],
        advance: Callable[[int], None],
        *,
        ended: bool = False,
    ) -> list[list[Likelihood]]:
        """As the reader gives them; chunks are in the order of the prompts, for neighbours have most in common."""
        found: list[list[Likelihood]] = []
        for chunk in batches(zip(prompts, endings, strict=True), self._chunk):
            asked, ends = [prompt for prompt, _ in chunk], [ending for _, ending in chunk]
            key = _key("reader", "likelihoods", asked, {"endings": [list(ending) for ending in ends], "ended": ended})
            known = self._journal.known(key)
            if known is None:
                rows = self._reader.likelihoods(asked, ends, _after(len(found), advance), ended=ended)
                known = [[[one.total, one.tokens] for one in row] for row in rows]
                self._journal.add(key, known)
            found += [[Likelihood(total=total, tokens=tokens) for total, tokens in row] for row in known]
            advance(len(found))
        return found

    def perplexity(self, conversations: Sequence[Conversation], report: Report) -> tuple[float, int, list[float]]:
        """As the reader gives it."""
        return self._reader.perplexity(conversations, report)


def _places(prompts: Sequence[Sequence[Message]], *, apart: bool) -> dict[int, list[int]]:
    """The first place of each prompt -> all its places; `apart`, every place for itself."""
    if apart:
        return {place: [place] for place in range(len(prompts))}
    by_prompt: dict[tuple[Message, ...], list[int]] = {}
    for place, prompt in enumerate(prompts):
        by_prompt.setdefault(tuple(prompt), []).append(place)
    return {places[0]: places for places in by_prompt.values()}


def _after(done: int, advance: Callable[[int], None]) -> Callable[[int], None]:
    """`advance` for a part of the whole, before which `done` are done."""
    return lambda part: advance(done + part)


def _key(who: str, what: str, prompts: Sequence[Sequence[Message]], how: Mapping[str, Any]) -> str:
    rows = [[[message.role, message.content] for message in prompt] for prompt in prompts]
    return hashlib.sha256(json.dumps([who, what, rows, how], sort_keys=True).encode()).hexdigest()


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Keep every other process out of the journal."""
    file = path.with_name(f".{path.name.lstrip('.')}.lock")
    lock = filelock.FileLock(file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise UsageError(f"another process is at work on this: {path}", hint="wait for it, or stop it") from error
    except OSError as error:
        raise storage_error(error, path) from error
    try:
        yield
    finally:
        if not path.exists():
            file.unlink(missing_ok=True)
        lock.release()


def _known_or_begun(path: Path, header: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """The answers in the file, from which what a kill broke off is cut; else none, and the file has only a header."""
    wanted = json.loads(json.dumps({"journal": dict(header)}, default=str))
    try:
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []  # after the last line end: broken off
        if lines and _row(lines[0]) == wanted:
            os.truncate(path, sum(len(line) + 1 for line in lines))
            return dict(found for line in lines[1:] if (found := _entry(_row(line))))
    except OSError as error:
        raise storage_error(error, path) from error
    if lines and "journal" not in _row(lines[0]):
        report.note(f"{path} is no journal of answers: it is begun anew")
    elif len(lines) > 1:
        report.note("answers that were begun are not used: its model, questions or settings were others")
    with writing(path) as file:
        file.write(f"{json.dumps(wanted)}\n")
    return {}


def _row(line: bytes) -> dict[str, Any]:
    """The object on a line; an empty one for anything else, as a crash of the system may leave."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _entry(row: Mapping[str, Any]) -> tuple[str, list[Any]] | None:
    key, answers = row.get("key"), row.get("answers")
    return (key, answers) if isinstance(key, str) and isinstance(answers, list) else None

"""Answers to a file of prompts, written in the order of the prompts while they come in any order.

Each answer goes into a journal first, then, as soon as those before it are there, into the file. After a kill the
journal tells what is there: the same command goes on, and the file becomes what it would have been in one go.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal

from medcli.core.atomic import sha256_of, storage_error, writing
from medcli.core.errors import UsageError
from medcli.core.journal import Journal
from medcli.core.prompts_file import Prompt
from medcli.core.report import Report
from medcli.core.speaker import Answer, Sampling

Form = Literal["messages", "label-predict", "array"]
_ELSEWHERE = "choose another --output, or move it away"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Who is asked what, how, and how the answers are written.

    `described` tells the model, and the knowledge base `kb` that its answers rest on, from every other one, in plain
    values for JSON.
    """

    model: str
    described: Mapping[str, Any]
    prompts: Sequence[Prompt]
    sampling: Sampling
    form: Form
    kb: str = ""

    def sampling_of(self, number: int) -> Sampling:
        """The settings of prompt `number`, counted from 0: its seed is its own, whatever was asked before."""
        return replace(self.sampling, seed=self.sampling.seed + number)

    def row(self, number: int, answer: Answer) -> dict[str, Any]:
        """What is written of an answer."""
        prompt = self.prompts[number]
        if self.form == "label-predict":
            return {"label": prompt.reference or "", "predict": answer.text}
        if self.form == "array":
            return {"Input": prompt.messages[-1].content, "Output": answer.text}
        row = prompt.as_row()
        wanted = row.pop("reference")
        row |= {"answer": answer.text, "reference": wanted, "finish": answer.finish}
        row |= {"problem": answer.problem} if answer.problem else {}
        settings = asdict(self.sampling_of(number)) | ({"kb": self.kb} if self.kb else {})
        return row | {"model": self.model, "tokens": answer.tokens, "settings": settings}

    def identity(self) -> dict[str, Any]:
        """All that the answers follow from, as JSON gives it back."""
        digest = hashlib.sha256()
        for prompt in self.prompts:
            digest.update(json.dumps(prompt.as_row()).encode("ascii") + b"\n")
        parts = {
            "model": self.model,
            "described": dict(self.described),
            "prompts": {"count": len(self.prompts), "sha256": digest.hexdigest()},
            "kb": self.kb,
            "settings": asdict(self.sampling),
            "format": self.form,
        }
        plain: dict[str, Any] = json.loads(json.dumps(parts, default=str))
        return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of all prompts. `cut` answers ended at the most tokens; `tokens` are None where nobody counts.

    `refused` has the id of each prompt that was not answered, and why.
    """

    rows: int
    answered: int
    cut: int
    tokens: int | None
    refused: tuple[tuple[str | int, str], ...]

    def as_table(self) -> dict[str, Any]:
        """The outcome in plain values for JSON."""
        refused = [{"id": id, "problem": problem} for id, problem in self.refused]
        return {**asdict(self), "refused": refused}


class Predictions:
    """The answers of a job in a file that is held by this process alone; `open` gives them."""

    def __init__(self, path: Path, job: Job, journal: Journal) -> None:
        self._path, self._job, self._journal = path, job, journal
        self._written = 0  # rows

    @classmethod
    @contextmanager
    def open(cls, path: Path, job: Job, report: Report) -> Iterator["Predictions"]:
        """The file `path`, begun or gone on with.

        Raises UsageError when it is not of this job or another process is at work on it, StorageError when it cannot
        be written.
        """
        identity, kept = job.identity(), _journal_of(path)
        if begun := _begun_in(kept):
            _refuse_other(begun, identity, f"choose another --output, or move {path} and {kept} away")
        with Journal.open(kept, identity, report) as journal:
            predictions = cls(path, job, journal)
            try:
                predictions._check_beginning()
                yield predictions
            finally:
                if not predictions._has_any():
                    journal.remove()

    def missing(self) -> list[int]:
        """The numbers of the prompts without an answer."""
        return [number for number in range(len(self._job.prompts)) if self._answer(number) is None]

    def add(self, number: int, answer: Answer) -> None:
        """Keep an answer, and write it when those before it are written; raises StorageError."""
        self._journal.add(str(number), [asdict(answer)])
        self._write()

    def finish(self) -> Outcome:
        """Make the file whole, tell beside it what it is, and let the journal go; every prompt has an answer."""
        if self._job.form == "array":
            with writing(self._path) as file:
                file.writelines(line.decode() for line in _array(self._rows()))
        else:
            self._write()
        outcome = self._outcome()
        with writing(_facts_of(self._path)) as file:
            facts = {**self._job.identity(), "sha256": sha256_of(self._path), "outcome": outcome.as_table()}
            file.write(f"{json.dumps(facts, ensure_ascii=False, indent=2)}\n")
        self._journal.remove()
        return outcome

    def _answer(self, number: int) -> Answer | None:
        known = self._journal.known(str(number))
        return Answer(**known[0]) if known else None

    def _has_any(self) -> bool:
        return len(self.missing()) < len(self._job.prompts)

    def _rows(self) -> Iterator[dict[str, Any]]:
        """The rows of the first prompts, up to one without an answer."""
        for number in range(len(self._job.prompts)):
            answer = self._answer(number)
            if answer is None:
                return
            yield self._job.row(number, answer)

    def _check_beginning(self) -> None:
        """Raise UsageError when the file holds anything but what is known; what a kill left out is written."""
        size = 0
        try:
            if self._path.exists():
                size = self._path.stat().st_size
                with self._path.open("rb") as file:
                    if not self._is_known(file):
                        raise self._changed()
        except OSError as error:
            raise storage_error(error, self._path) from error
        self._write(size)

    def _is_known(self, file: IO[bytes]) -> bool:
        """Whether the file is the beginning of what is known, or all of it."""
        for line in _array(self._rows()) if self._job.form == "array" else map(_line, self._rows()):
            there = file.read(len(line))
            if there != line[: len(there)]:
                return False
        return not file.read(1)

    def _changed(self) -> UsageError:
        if not self._has_any():
            return _in_the_way(self._path)
        return UsageError(
            f"{self._path} does not hold what this command has written",
            hint="move it away: the same command writes it anew from the answers that are kept",
        )

    def _write(self, there: int = 0) -> None:
        """Append the rows that are next in order; the first `there` bytes of all are in the file already."""
        if self._job.form == "array":  # there whole or not at all
            return
        lines: list[bytes] = []
        while self._written < len(self._job.prompts) and (answer := self._answer(self._written)) is not None:
            line = _line(self._job.row(self._written, answer))
            lines.append(line[there:])
            there = max(0, there - len(line))
            self._written += 1
        if any(lines):
            _append(self._path, b"".join(lines))

    def _outcome(self) -> Outcome:
        answers = [answer for number in range(len(self._job.prompts)) if (answer := self._answer(number))]
        tokens = [answer.tokens for answer in answers if answer.finish != "refused"]
        refused = [
            (prompt.id, answer.problem)
            for prompt, answer in zip(self._job.prompts, answers, strict=True)
            if answer.finish == "refused"
        ]
        return Outcome(
            rows=len(answers),
            answered=len(answers) - len(refused),
            cut=sum(answer.finish == "length" for answer in answers),
            tokens=None if None in tokens else sum(filter(None, tokens)),
            refused=tuple(refused),
        )


def finished(path: Path, job: Job) -> Outcome | None:
    """What came of the job when `path` is its finished file; None when it is to be begun or gone on with.

    Raises UsageError when something else is there, or the finished file has been changed.
    """
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no file", hint="name a file: --output answers.jsonl")
    if _journal_of(path).exists() or not path.exists() or not path.stat().st_size:
        return None
    facts = _object_in(_facts_of(path))
    if not facts:
        raise _in_the_way(path)
    _refuse_other(facts, job.identity(), f"choose another --output, or move {path} away")
    if facts["sha256"] != sha256_of(path):
        raise UsageError(
            f"{path} has been changed since it was finished", hint="choose another --output, or move it away"
        )
    found = facts["outcome"]
    return Outcome(**found | {"refused": tuple((row["id"], row["problem"]) for row in found["refused"])})


def _journal_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.journal.jsonl")


def _facts_of(path: Path) -> Path:
    """No suffix of data: whoever reads all files of the folder must not take it for answers."""
    return path.with_name(f"{path.name}.meta")


def _begun_in(journal: Path) -> dict[str, Any]:
    """What the answers in a journal follow from; nothing where there are none."""
    if not journal.exists():
        return {}
    header, *answers = journal.read_bytes().split(b"\n", 2)
    return _object(header).get("journal", {}) if any(answers) else {}


def _object_in(path: Path) -> dict[str, Any]:
    return _object(path.read_bytes()) if path.exists() else {}


def _object(content: bytes) -> dict[str, Any]:
    """The object that JSON stands for; an empty one for anything else."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _refuse_other(there: Mapping[str, Any], here: Mapping[str, Any], hint: str) -> None:
    """Raise UsageError that says how what is there differs from this job."""
    if said := list(_differences(there, here)):
        raise UsageError(f"the answers that are there are not this command's: {'; '.join(said)}", hint=hint)


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    if there.get("model") != here["model"]:
        yield f"the model was {there.get('model')}, now {here['model']}"
    if there.get("kb") != here["kb"]:
        yield f"--kb was {there.get('kb') or 'not given'}, now {here['kb'] or 'not given'}"
    same_names = all(there.get(name) == here[name] for name in ("model", "kb"))
    if same_names and there.get("described") != here["described"]:
        yield f"{' or '.join(filter(None, (here['model'], here['kb'])))} has been changed since"
    before, now = there.get("prompts", {}), here["prompts"]
    if before != now:
        counts = before.get("count"), now["count"]
        yield "there were {} prompts, now {}".format(*counts) if counts[0] != counts[1] else "the prompts were others"
    for name, value in here["settings"].items():
        if (was := there.get("settings", {}).get(name)) != value:
            yield f"--{name.replace('_', '-')} was {was}, now {value}"
    if there.get("format") != here["format"]:
        yield f"--format was {there.get('format')}, now {here['format']}"


def _in_the_way(path: Path) -> UsageError:
    return UsageError(
        f"{path} is there already, and not of this command", hint="choose another --output, or move it away"
    )


def _line(row: Mapping[str, Any]) -> bytes:
    return f"{json.dumps(row, ensure_ascii=False)}\n".encode()


def _array(rows: Iterator[Mapping[str, Any]]) -> Iterator[bytes]:
    """The lines of a JSON array, a row each."""
    yield b"["
    for number, row in enumerate(rows):
        yield (b",\n  " if number else b"\n  ") + _line(row).rstrip(b"\n")
    yield b"\n]\n"


def _append(path: Path, content: bytes) -> None:
    try:
        with path.open("ab", buffering=0) as file:
            while content:
                content = content[file.write(content) :]
    except OSError as error:
        raise storage_error(error, path) from error

"""One training run: `runs/<name>/{run.toml, metrics.jsonl, loss.png, checkpoints/, adapter/, chat_template.jinja}`."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import tomlkit

from medcli.core.atomic import storage_error, writing
from medcli.core.errors import DataError, UsageError
from medcli.core.settings import folder, read_toml


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run and the names of what lies in it."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def settings_file(self) -> Path:
        return self.path / "run.toml"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def samples_file(self) -> Path:
        """What the model answered while it learnt, when asked to."""
        return self.path / "samples.jsonl"

    @property
    def template_file(self) -> Path:
        return self.path / "chat_template.jinja"

    @property
    def adapter(self) -> Path:
        """What was trained, when that is less than the whole model."""
        return self.path / "adapter"

    @property
    def model(self) -> Path:
        """The whole model, when all of it was trained."""
        return self.path / "model"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def reference(self) -> Path:
        """What the model said of the answers before it learnt, for losses that compare with it."""
        return self.path / "reference"

    @property
    def exists(self) -> bool:
        return self.settings_file.is_file()

    def table(self) -> dict[str, Any]:
        """The parsed run.toml."""
        return read_toml(self.settings_file)

    def write_table(self, table: Mapping[str, Any]) -> None:
        """Write run.toml whole; None values are left out, TOML has none."""
        with writing(self.settings_file) as file:
            file.write(tomlkit.dumps(_without_none(table)))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line of figures to metrics.jsonl."""
        with self.metrics_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")

    def metrics(self) -> list[dict[str, float]]:
        """The logged lines; raises DataError with the line's number."""
        rows = []
        if self.metrics_file.is_file():
            for line, text in enumerate(self.metrics_file.read_text("utf-8").splitlines(), 1):
                try:
                    rows.append(json.loads(text))
                except ValueError as error:
                    raise DataError(f"{self.metrics_file}:{line}: {error}") from error
        return rows

    def rewind(self, step: int) -> None:
        """Forget what was logged after `step`: a resumed run writes those lines again."""
        kept = [row for row in self.metrics() if row["step"] <= step]
        with writing(self.metrics_file) as file:
            file.writelines(json.dumps(row) + "\n" for row in kept)

    def last_checkpoint(self) -> Path | None:
        """The newest finished checkpoint."""
        found = [path for path in self.checkpoints.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
        return max(found, key=lambda path: int(path.name.split("-")[1]), default=None)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep every other process out of this run; raises UsageError when one is in it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.path / ".lock")
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise UsageError(
                f"another process is working on the run {self.path}",
                hint="wait for it, stop it, or name another run with --run",
            ) from error
        except OSError as error:
            raise storage_error(error, self.path) from error
        try:
            yield
        finally:
            lock.release()

    def is_held(self) -> bool:
        """Whether a process is working on this run now."""
        if not (self.path / ".lock").is_file():
            return False
        lock = filelock.FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            return True
        lock.release()
        return False


def named(name: str) -> RunFolder:
    """The run of that name in this project, or the run folder of that path."""
    path = Path(name)
    return RunFolder(path if (path / "run.toml").is_file() else folder("runs") / name)


def free_name(stem: str) -> str:
    """`stem`, or `stem-2`, `stem-3`, … when runs of that name exist."""
    name, number = stem, 1
    while (folder("runs") / name).exists():
        number += 1
        name = f"{stem}-{number}"
    return name


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, tuple | list):
        return [_without_none(item) for item in value]
    return str(value) if isinstance(value, Path) else value

"""What `--reward exact,format:0.2,my.py,RUN:1.5` means: what judges answers, and how much each counts."""

import importlib.util
import math
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medcli.core.errors import DataError, UsageError
from medcli.core.reading import Asked

Judge = Callable[[Sequence[Asked], Sequence[str]], list[float]]  # a number for each answer: the higher the better

FUNCTION = "rewards"  # what a file of rewards defines
_SIGNATURE = f"def {FUNCTION}(asked, answers): return [float(…) for one, answer in zip(asked, answers)]"
# A port is no weight: of an address only what follows port or path, or has a point in it.
_ADDRESS = re.compile(r"(https?://(?:\[[^\]]+\]|[^/:]+)(?::\d+)?(?:/.*?)?)(?::(-?[\d.]+))?")
_NAME = re.compile(r"(.+?)(?::(-?[\d.]+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One judge as it was named, and what its rewards are multiplied by."""

    name: str
    weight: float

    @property
    def is_file(self) -> bool:
        """Whether it is a file of Python that the user wants to be run."""
        return self.name.endswith(".py")

    @property
    def is_address(self) -> bool:
        """Whether it is a service."""
        return self.name.startswith(("http://", "https://"))

    @property
    def label(self) -> str:
        """The name in figures: a file's or folder's last part, a service's host."""
        return self.name.split("//", 1)[1].split("/")[0] if self.is_address else Path(self.name).stem


def terms_of(texts: Sequence[str]) -> list[Term]:
    """The terms of a sum of rewards; raises UsageError for none, a weight of 0 or that is no number, or one twice."""
    terms = [_term(text) for text in texts]
    labels = [term.label for term in terms]
    if not terms:
        raise UsageError("--reward names nothing", hint="such as --reward exact, or --reward exact,format:0.2")
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise UsageError(f"--reward: '{twice}' is named twice", hint="name it once, with a weight: NAME:2.0")
    return terms


def _term(text: str) -> Term:
    found = (_ADDRESS if text.startswith(("http://", "https://")) else _NAME).fullmatch(text)
    if found is None:
        raise UsageError(f"--reward: '{text}' is no address", hint="write http://host:port, and a weight after it")
    try:
        weight = float(found[2] or 1)
    except ValueError as error:
        raise UsageError(f"--reward: '{found[2]}' is no weight", hint=f"write {found[1]}:0.5") from error
    if weight == 0:
        raise UsageError(f"--reward {text}: a weight of 0 judges nothing", hint="leave it out, or give another weight")
    return Term(name=found[1], weight=weight)


def judge_of_file(name: str) -> Judge:
    """The function `rewards(asked, answers)` of a Python file, which is run: whoever names a file wants it to be.

    Raises UsageError when there is no such file or function, or it does not run; what it returns is checked each time,
    and a DataError names the line where it failed.
    """
    path = Path(name).expanduser().resolve()
    if not path.is_file():
        raise UsageError(f"--reward {name}: there is no such file", hint=f"write one with\n{_SIGNATURE}")
    spec = importlib.util.spec_from_file_location(f"medcli_reward_{path.stem}", path)
    assert spec is not None  # it ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    keeps, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # a user's folder is not ours to fill
    try:
        with _said(path, UsageError):
            spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = keeps
    function = module.__dict__.get(FUNCTION)
    if not callable(function):
        raise UsageError(f"{path} has no function '{FUNCTION}'", hint=f"write\n{_SIGNATURE}")

    def judge(asked: Sequence[Asked], answers: Sequence[str]) -> list[float]:
        with _said(path, DataError):
            given = function(asked, answers)
        return checked(given, len(answers), str(path))

    return judge


def checked(rewards: object, count: int, who: str) -> list[float]:
    """The rewards as `count` finite numbers; raises DataError that names `who` gave something else."""
    try:
        numbers = [float(reward) for reward in rewards]  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise DataError(f"{who} gave no list of numbers: {error}", hint=_SIGNATURE) from error
    if len(numbers) != count:
        raise DataError(f"{who} gave {len(numbers)} rewards for {count} answers", hint="one for each, in their order")
    if bad := next((number for number in numbers if not math.isfinite(number)), None):
        raise DataError(f"{who} gave the reward {bad}", hint="a reward must be a finite number")
    return numbers


@contextmanager
def _said(path: Path, kind: type[UsageError] | type[DataError]) -> Iterator[None]:
    """Whatever goes wrong in a user's file is said with the line in it, not as a traceback of ours."""
    try:
        yield
    except SyntaxError as error:
        raise kind(f"{error.filename}:{error.lineno}: {error.msg}", hint="correct that line") from error
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f"{path}:{lines[-1]}" if lines else str(path)
        raise kind(f"{where}: {type(error).__name__}: {error}", hint="correct that line") from error

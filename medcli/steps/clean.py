"""`med clean`: what med can do without, what it costs to have it again, and how it is freed.

Only what can be made again is named, and what killed processes have left. Runs, data sets, exams, conversations and
what is remembered of comparisons (`data/.checks`) are work, and stay. What a living process holds stays, too, and so
does every link.
"""

import shutil
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from medcli.core.atomic import storage_error
from medcli.core.errors import MedError, UnknownNameError
from medcli.core.held import alone
from medcli.core.hub_folder import hub_folder
from medcli.core.knowledge_base import bases_folder
from medcli.core.leftovers import leftovers_in
from medcli.core.model_ref import TINY, run_names
from medcli.core.run_folder import RunFolder, named
from medcli.core.settings import folder
from medcli.core.tensor_file import damaged_in
from medcli.steps.doctor_runs import has_weights
from medcli.steps.runs import bytes_of

Kind = Literal["med-tiny", "trunk", "downloads", "words", "launches", "leftovers", "checkpoints"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_ON_REQUEST: Kind = "checkpoints"
_LOCK = ".lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeable:
    """A file or folder that can go: its size in bytes, and in `hint` how it is had again.

    `locks` are held by processes that use it; `held` says that one does now.
    """

    kind: Kind
    path: Path
    size: int
    hint: str
    locks: tuple[Path, ...] = ()
    held: bool = False


def freeable(kinds: Sequence[str] = (), *, checkpoints: bool = False) -> list[Freeable]:
    """What can go, of these kinds, or of all; checkpoints only when asked for.

    Raises UnknownNameError for a kind that there is not.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise UnknownNameError("kind of cache", kind, KINDS)
    wanted = {*(kinds or set(KINDS) - {_ON_REQUEST}), *([_ON_REQUEST] if checkpoints else [])}
    every = (*_models(), *_trunks(), *_downloads(), *_words(), *_launches(), *_leftovers(), *_checkpoints())
    return [one for one in every if one.kind in wanted]


def hub_size() -> tuple[Path, int]:
    """Where Hugging Face's downloads lie, and their bytes: other programs use them too, and med leaves them alone."""
    place = hub_folder()
    return place, bytes_of(place) if place.is_dir() else 0


def free(one: Freeable) -> int:
    """Remove it, and return the bytes that are free now: 0 when a process has taken hold of it since.

    Raises StorageError when it cannot be removed.
    """
    with alone(*one.locks) as mine:
        if not mine or one.path.is_symlink() or not one.path.exists():
            return 0
        try:
            if one.path.is_dir():
                shutil.rmtree(one.path)
            else:
                one.path.unlink()
        except FileNotFoundError:  # another process was faster
            return 0
        except OSError as error:
            raise storage_error(error, one.path) from error
    return one.size


def _models() -> Iterator[Freeable]:
    for path in _folders(folder("cache"), f"{TINY}-*"):
        yield _item("med-tiny", path, path.with_suffix(_LOCK), hint="made when it is next needed: a minute")


def _trunks() -> Iterator[Freeable]:
    """Hidden states of frozen layers. Who makes room takes the lock of all of them first, and so does `free`."""
    root = folder("cache") / "trunk"
    for path in _folders(root, "*"):
        yield _item("trunk", path, root / _LOCK, path / _LOCK, hint="computed in the first epoch of the next run")


def _downloads() -> Iterator[Freeable]:
    root = folder("cache") / "downloads"
    for path in _folders(root, "*"):
        lock = path.with_name(f"{path.name}{_LOCK}")
        yield _item("downloads", path, lock, hint=f"downloaded again by: med data build {path.name}")


def _words() -> Iterator[Freeable]:
    path = folder("cache") / "jieba.cache"
    if path.is_file() and not path.is_symlink():
        yield _item("words", path, hint="made when Chinese words are next cut: seconds")


def _launches() -> Iterator[Freeable]:
    """What the processes of one launch on this machine said to each other, where the one that began it has gone."""
    import psutil

    here = socket.gethostname()
    for path in _folders(folder("cache") / "launches", f"{here}-*"):
        owner = path.name.removeprefix(f"{here}-").split("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            yield _item("launches", path, hint="not needed: its processes have ended")


def _leftovers() -> Iterator[Freeable]:
    runs = _own_runs()
    for place in (folder("cache"), folder("data"), bases_folder(), folder("runs"), *(run.path for run in runs)):
        for path in leftovers_in(place):
            yield _item("leftovers", path, hint="not needed: it was not finished")
    for run in runs:
        path = run.checkpoints / ".part"
        if path.is_dir() and not path.is_symlink():
            yield _item("leftovers", path, run.path / _LOCK, hint="not needed: it was not finished")


def _checkpoints() -> Iterator[Freeable]:
    """Those of finished runs whose weights are there and whole: nothing goes on from them any more."""
    for run in _own_runs():
        path = run.checkpoints
        if path.is_dir() and not path.is_symlink() and _is_finished(run):
            method = run.table()["run"]["method"]
            hint = f"only by training again: med train {method} --from {run.settings_file}"
            yield _item("checkpoints", path, run.path / _LOCK, hint=hint)


def _is_finished(run: RunFolder) -> bool:
    damaged = [*damaged_in(run.adapter), *damaged_in(run.model)]
    try:
        return run.table()["run"]["status"] == "finished" and has_weights(run) and not damaged
    except (MedError, KeyError, TypeError):  # `med doctor` tells of it
        return False


def _own_runs() -> list[RunFolder]:
    return [run for name in run_names() if not (run := named(name)).path.is_symlink()]


def _folders(root: Path, pattern: str) -> list[Path]:
    found = root.glob(pattern) if root.is_dir() else ()
    return sorted(path for path in found if path.is_dir() and not path.is_symlink() and path.name[0] != ".")


def _item(kind: Kind, path: Path, *locks: Path, hint: str) -> Freeable:
    size = bytes_of(path) if path.is_dir() else path.stat().st_size
    with alone(*locks) as mine:
        return Freeable(kind=kind, path=path, size=size, hint=hint, locks=locks, held=not mine)

"""A bounded folder of large things that can be made again: the least recently used go first, those in use never."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import filelock

from medcli.core.atomic import storage_error
from medcli.core.errors import StorageError

_LOCK = ".lock"
_UNITS = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10}
_SPARE = 2  # a disk must have this many times what is still to be written


@contextmanager
def claimed(root: Path, key: str, file: str, size: int, bound: int) -> Iterator[Path]:
    """`root`/`key`, nobody else's within the block, with a `file` of `size` bytes: zeros, or what was written before.

    Other folders in `root` are removed, least recently used first, until all are within `bound` bytes and the disk has
    room to spare. Raises StorageError, saying why, when that cannot be had or another process holds the folder.
    """
    mine = root / key
    with ExitStack() as held:
        try:
            mine.mkdir(parents=True, exist_ok=True, mode=0o700)  # what is kept may be made from patients' words
            with filelock.FileLock(root / _LOCK):
                _hold(mine, held)
                _make_room(mine, mine / file, size, bound)
                with (mine / file).open("ab") as opened:
                    opened.truncate(size)  # the full length at once, as a hole: so that others count it whole
                os.utime(mine)
        except OSError as error:
            raise storage_error(error) from error
        yield mine


def _hold(folder: Path, held: ExitStack) -> None:
    lock = filelock.FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise StorageError("another process is using what is stored for it") from error
    held.callback(lock.release)


def _make_room(mine: Path, file: Path, size: int, bound: int) -> None:
    """Remove older folders until there is room, or raise StorageError."""
    written = file.stat().st_blocks * 512 if file.exists() else 0  # bytes; POSIX counts blocks of 512
    others = sorted((path for path in mine.parent.iterdir() if path.is_dir() and path != mine), key=_last_used)
    taken = sum(_size(folder) for folder in others)
    while (reason := _lack(mine, size, size - written, taken, bound)) and size <= bound and others:
        oldest = others.pop(0)
        with ExitStack() as held:
            try:
                _hold(oldest, held)
            except StorageError:  # in use: it stays
                continue
            taken -= _size(oldest)
            shutil.rmtree(oldest)
    if reason:
        if not written:
            shutil.rmtree(mine)
        raise StorageError(reason)


def _lack(folder: Path, size: int, missing: int, taken: int, bound: int) -> str:
    if size > bound:
        return f"it takes {readable(size)}, and {readable(bound)} are allowed"
    if taken + size > bound:
        return f"it takes {readable(size)}, and runs at work hold {readable(taken)} of the {readable(bound)} allowed"
    free = shutil.disk_usage(folder).free
    if free < _SPARE * missing:
        return f"it takes {readable(size)}, and only {readable(free)} are free on the disk of {folder.parent}"
    return ""


def _last_used(folder: Path) -> float:
    return folder.stat().st_mtime


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def readable(size: float) -> str:
    """Bytes in the largest unit that leaves a number of 1 or more."""
    unit = next((unit for unit in ("GiB", "MiB", "KiB") if size >= _UNITS[unit]), "KiB")
    return f"{size / _UNITS[unit]:.1f} {unit}"

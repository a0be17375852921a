"""Writes that are there whole or not at all, and a hash of what was read."""

import ctypes
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from medcli.core.errors import MedError, StorageError

_NO_ROOM = 1 << 20  # bytes
_SAID = {
    errno.ENOSPC: ("the disk is full", "free some room, then run the same command again"),
    errno.EDQUOT: ("the disk quota is used up", "free some room, then run the same command again"),
    errno.EFBIG: ("a file would be larger than is allowed here", "see `ulimit -f`, or choose another disk"),
    errno.EACCES: ("no permission", "check the owner with `ls -ld`, or choose another folder"),
    errno.EPERM: ("no permission", "check the owner with `ls -ld`, or choose another folder"),
    errno.ENOTDIR: ("a file is where a folder must be", "move it away, or choose another folder"),
    errno.EEXIST: ("a file is where a folder must be", "move it away, or choose another folder"),
    errno.EROFS: ("the file system is read-only", "choose another folder"),
}
_HIDDEN = {os.strerror(number): number for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)}


def storage_error(error: OSError, path: Path | None = None) -> MedError:
    """The message for an operating system error that a person can mend."""
    what, hint = _SAID.get(error.errno or 0, (error.strerror or str(error), ""))
    where = path or error.filename
    return StorageError(f"{where}: {what}" if where else what, hint=hint)


@contextmanager
def writing(path: Path) -> Iterator[IO[str]]:
    """A text file that appears under its name only when the block ends well; raises StorageError."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("w", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise storage_error(error, path) from error
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def full_disk_said(folder: Path) -> Iterator[None]:
    """Turn whatever fails while the disk of `folder` is full into a StorageError.

    torch and safetensors hide the system's error in one of their own, with or without its words.
    """
    try:
        yield
    except Exception as error:
        said = next((number for text, number in _HIDDEN.items() if text in str(error)), None)
        if said is None and shutil.disk_usage(folder).free < _NO_ROOM:
            said = errno.ENOSPC
        if said is None or isinstance(error, MedError):
            raise
        raise storage_error(OSError(said, ""), folder.parent) from error


@contextmanager
def folder_aside(path: Path) -> Iterator[Path]:
    """A folder to fill that takes the place of `path` only when the block ends well.

    Where the system can exchange two folders, `path` is there and whole at every moment. Elsewhere the old
    one is moved aside first and removed last; `remove_leftovers` puts it back after a kill between the two.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        with full_disk_said(aside):
            yield aside
        if path.exists() and not _exchanged(aside, path):
            path.replace(old)
        if not path.exists():
            aside.replace(path)
    except OSError as error:
        raise storage_error(error, path) from error
    finally:
        if old.exists() and not path.exists():  # the new folder could not take its place
            old.replace(path)
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


_AT_WORKING_FOLDER = -100  # AT_FDCWD of <fcntl.h>
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux's renameat2(2)


def _exchanged(one: Path, other: Path) -> bool:
    """Whether the two names were swapped in one step; False, with nothing done, where that is not possible."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):  # a C library without it
        return False
    failed = rename(_AT_WORKING_FOLDER, os.fsencode(one), _AT_WORKING_FOLDER, os.fsencode(other), _EXCHANGE)
    return bool(failed == 0)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_leftovers(path: Path) -> None:
    """Clear away what a killed process left beside `path`; a folder it had moved aside is put back."""
    for left in path.parent.glob(f".{path.name}.*"):
        number, kind = left.suffixes[-2:] if len(left.suffixes) > 1 else ("", "")
        if left.name != f".{path.name}{number}{kind}" or kind not in (".part", ".old"):
            continue
        if not number[1:].isdigit() or _is_alive(int(number[1:])):
            continue
        try:
            if kind == ".old" and not path.exists():
                left.replace(path)
            elif left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, left) from error


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

"""Everything `med` can say went wrong. The core raises, `cli/app.py` prints once.

* MedError
  + UsageError            2  the command line, a setting or a name is wrong
    - UnknownNameError       a name that is on no shelf, with "did you mean"
  + DataError             3  a file's content is not what it must be
  + ModelError            4  a model, tokenizer, adapter or template does not load or fit
  + DeviceError           5  no such device, out of memory
    - StorageError           a disk is full, a folder cannot be written
    - PeerLost               another process of the same run has ended
  + ServiceError          6  another machine or program did not do its part
  + BoundMissed           7  a figure is below --min or above --max
"""

from collections.abc import Iterable
from difflib import get_close_matches


class MedError(Exception):
    """An error a user can act on: what, where, and how to fix it."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(MedError):
    """The command line, a setting or a name is wrong."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that is not known, with the nearest one that is."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        names = sorted(known)
        close = nearest(name, names)
        lines = [f"did you mean '{close}'?"] if close else []
        lines.append(hint or f"known: {', '.join(names)}")
        super().__init__(f"no {kind} is called '{name}'", hint="\n".join(lines))


class DataError(MedError):
    """A file's content is not what it must be."""

    exit_code = 3


class ModelError(MedError):
    """A model, tokenizer, adapter or template does not load or fit."""

    exit_code = 4


class DeviceError(MedError):
    """No such device, or not enough memory on it."""

    exit_code = 5


class StorageError(DeviceError):
    """A disk is full, or a folder cannot be written."""


class PeerLost(DeviceError):
    """Another process of the same run has ended; whoever started them says which, or that one has said why."""

    def __init__(self) -> None:
        super().__init__(
            "another process of this run has ended",
            hint="look above, or on the other machine, for what it said; go on with --resume when it is mended",
        )


class ServiceError(MedError):
    """Another machine or program did not do its part."""

    exit_code = 6


class BoundMissed(MedError):
    """A figure is below what --min asks for, or above --max."""

    exit_code = 7


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like `name`, or "" when none is near."""
    by_lower = {k.lower(): k for k in known}
    close = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else ""

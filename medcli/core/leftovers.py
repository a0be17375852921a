"""What a killed process has left: files and folders aside that were to take their place when whole.

`core/atomic.py` names them `.NAME.PROCESS.part` and `.NAME.PROCESS.old`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

_ASIDE = re.compile(r"\.(?P<name>.+)\.(?P<process>\d+)\.(?P<kind>part|old)")


def leftovers_in(folder: Path) -> Iterator[Path]:
    """What lies right in `folder` and is to be removed: no process is writing it, and nothing is lost with it.

    A folder that was moved aside stays while its place is empty: it is the only one there is. Links are left alone.
    """
    for path in _aside(folder):
        found = _ASIDE.fullmatch(path.name)
        if found and not (found["kind"] == "old" and not (folder / found["name"]).exists()):
            yield path


def moved_aside_in(folder: Path) -> Iterator[tuple[Path, Path]]:
    """(where it lies, where it belongs) of each folder that a kill caught between being moved aside and replaced."""
    for path in _aside(folder):
        found = _ASIDE.fullmatch(path.name)
        if found and found["kind"] == "old" and not (place := folder / found["name"]).exists():
            yield path, place


def _aside(folder: Path) -> Iterator[Path]:
    import psutil

    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        found = _ASIDE.fullmatch(path.name)
        if found and not path.is_symlink() and not psutil.pid_exists(int(found["process"])):
            yield path

"""Python, the system, its processor and memory, and the disks that med writes to."""

import codecs
import locale
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from medcli.core.atomic import storage_error
from medcli.core.finding import Finding
from medcli.core.hub_folder import hub_folder
from medcli.core.settings import folder

_OLDEST, _NEWEST = (3, 11), (3, 13)  # versions of Python that med is tested with
_LITTLE_DISK, _NO_DISK = 10.0, 1.0  # GiB
_LITTLE_MEMORY = 2.0  # GiB
_MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
_GIB = 2**30


def python_findings(version: tuple[int, int, int] = sys.version_info[:3]) -> Iterator[Finding]:
    """The version of Python, against those that med is tested with."""
    said = ".".join(map(str, version))
    if version[:2] < _OLDEST:
        yield Finding(
            check="Python",
            state="error",
            message=f"this is Python {said}, and med needs 3.11 or newer",
            hint="install Python 3.12, make a new environment with it, and install med there",
        )
    elif version[:2] > _NEWEST:
        yield Finding(
            check="Python",
            state="warning",
            message=f"this is Python {said}, and med was tested with 3.11, 3.12 and 3.13",
            hint="if something fails, try it in an environment of Python 3.13",
        )
    else:
        yield Finding(check="Python", state="ok", message=f"version {said}, installed in {sys.prefix}")


def system_findings(system: str = platform.system(), encoding: str | None = None) -> Iterator[Finding]:
    """The operating system, and whether Chinese can be printed; `encoding` is that of the output."""
    if system == "Linux":
        yield Finding(check="system", state="ok", message=f"Linux on {platform.machine()}")
    else:
        yield Finding(
            check="system",
            state="warning",
            message=f"this is {system}, and med was tested on Linux",
            hint="on Windows use WSL: https://learn.microsoft.com/windows/wsl",
        )
    used = encoding or sys.stdout.encoding or "utf-8"
    for name in dict.fromkeys((used, locale.getencoding())):
        if codecs.lookup(name).name != "utf-8":
            yield Finding(
                check="system",
                state="warning",
                message=f"texts are written as {name}, in which Chinese cannot be printed",
                hint="export PYTHONUTF8=1; unset PYTHONIOENCODING",
            )


def memory_findings() -> Iterator[Finding]:
    """The cores and the memory that this process may use, in a container too."""
    import psutil

    cores = len(os.sched_getaffinity(0))
    yield Finding(check="CPU", state="ok", message=f"{cores} of {os.cpu_count()} cores may be used")
    memory = psutil.virtual_memory()
    free, total = memory.available / _GIB, memory.total / _GIB
    limit = memory_limit(_MEMORY_LIMIT.read_text("ascii")) if _MEMORY_LIMIT.is_file() else None
    if limit is not None and limit < total:
        free, total = min(free, limit), limit
        yield Finding(check="memory", state="ok", message=f"this container may use {limit:.1f} GiB of memory")
    if free < _LITTLE_MEMORY:
        yield Finding(
            check="memory",
            state="warning",
            message=f"only {free:.1f} of {total:.1f} GiB are free",
            hint="end other programs, or choose a smaller model, --batch and --max-length",
        )
    else:
        yield Finding(check="memory", state="ok", message=f"{free:.1f} of {total:.1f} GiB are free")


def memory_limit(text: str) -> float | None:
    """The GiB that a control group's memory.max allows; None for "max"."""
    return int(text) / _GIB if text.strip().isdigit() else None


def places() -> dict[str, Path]:
    """What med writes to, by what it is."""
    return {"data": folder("data"), "runs": folder("runs"), "cache": folder("cache"), "hub": hub_folder()}


_MOVED_BY = {"data": "MED_DATA", "runs": "MED_RUNS", "cache": "MED_CACHE", "hub": "HF_HOME"}


def disk_findings(used: Mapping[str, Path]) -> Iterator[Finding]:
    """Whether each place can be written to, and what is free on its disk; places on one disk are told together."""
    disks: dict[int, list[str]] = {}
    nearest: dict[int, Path] = {}
    for name, place in used.items():
        there = next(path for path in (place.absolute(), *place.absolute().parents) if path.exists())
        if fault := _unwritable(there):
            yield Finding(
                check="disk",
                state="error",
                message=f"{place} cannot be written to: {fault}",
                hint=f"choose another folder: export {_MOVED_BY[name]}=/a/folder/of/yours",
            )
            continue
        device = there.stat().st_dev
        disks.setdefault(device, []).append(name)
        nearest.setdefault(device, there)
    for device, names in disks.items():
        yield _room(shutil.disk_usage(nearest[device]).free / _GIB, ", ".join(names))


def _unwritable(there: Path) -> str:
    """Why nothing can be written there, by trying to; "" when it can."""
    try:
        with tempfile.TemporaryFile(dir=there):
            return ""
    except OSError as error:
        return storage_error(error, there).message.removeprefix(f"{there}: ")


def _room(free: float, names: str) -> Finding:
    if free < _NO_DISK:
        return Finding(
            check="disk",
            state="error",
            message=f"only {free:.2f} GiB are free for {names}",
            hint="free some room: `med clean` shows what med can do without; or export MED_RUNS=/a/larger/disk",
        )
    if free < _LITTLE_DISK:
        return Finding(
            check="disk",
            state="warning",
            message=f"only {free:.1f} GiB are free for {names}; a model of 7B parameters takes 15 GiB",
            hint="`med clean` shows what med can do without",
        )
    return Finding(check="disk", state="ok", message=f"{free:.1f} GiB are free for {names}")

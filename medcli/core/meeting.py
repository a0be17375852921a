"""Where the processes of one launch on one machine leave word for each other: a folder in the cache.

Files wait as long as it takes, where a collective of torch gives up after half an hour: the first process may tokenise
for a day while the others sleep.
"""

import os
import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from medcli.core.atomic import storage_error, writing
from medcli.core.errors import PeerLost
from medcli.core.settings import folder, variables_of_launcher
from medcli.core.world import World, started_by_slurm

_SPOKEN = "spoken"
_FIRST = "first"
_INTERVAL = 0.1  # seconds
_OLDEST = 7 * 86400  # seconds; Slurm's folders carry no process by which to see that they are over


@dataclass(frozen=True, slots=True)
class Meeting:
    """The folder of one launch on this machine."""

    path: Path

    def leave(self, name: str, text: str = "") -> None:
        """Leave word under `name`."""
        with writing(self.path / name) as file:
            file.write(text)

    def wait_for(self, name: str) -> Path:
        """The file or folder `name` once it is there; raises PeerLost when the first process ends without it."""
        parent = os.getppid()
        while not (self.path / name).exists():
            if os.getppid() != parent or self._first_is_gone():
                raise PeerLost
            time.sleep(_INTERVAL)
        return self.path / name

    def speak(self, code: int) -> bool:
        """Whether this process is the first to say why all end; `code` is what they end with."""
        try:
            with (self.path / _SPOKEN).open("x", encoding="utf-8") as file:
                file.write(str(code))
        except FileExistsError:
            return False
        return True

    def spoken(self) -> int | None:
        """The exit code that the one who has spoken gave; None when nobody has."""
        said = self.path / _SPOKEN
        return int(said.read_text("utf-8")) if said.is_file() else None

    def _first_is_gone(self) -> bool:
        import psutil

        first = self.path / _FIRST
        return first.is_file() and not psutil.pid_exists(int(first.read_text("utf-8")))


def opened(parent: int) -> Meeting:
    """The meeting of those whose parent process is `parent`, or of Slurm's job step; what is over is cleared away."""
    import psutil

    given = variables_of_launcher()
    home = folder("cache") / "launches"
    here = socket.gethostname()
    if started_by_slurm() and parent != os.getpid():  # a task may have its own shell above it
        name = f"{here}-slurm-{given.get('SLURM_JOB_ID', '0')}.{given['SLURM_STEP_ID']}"
    else:
        name = f"{here}-{parent}-{int(psutil.Process(parent).create_time())}"
    try:
        (home / name).mkdir(parents=True, exist_ok=True, mode=0o700)  # encoded text may be patients' words
    except OSError as error:
        raise storage_error(error, home / name) from error
    _clear(home, here)
    return Meeting(home / name)


def of(world: World) -> Meeting:
    """The meeting that this process belongs to; the first one here says that it has come."""
    meeting = opened(os.getppid())
    if world.is_first_here and not (meeting.path / _FIRST).exists():
        meeting.leave(_FIRST, str(os.getpid()))
    return meeting


def _clear(home: Path, here: str) -> None:
    """Remove the folders of launches on this machine that are over."""
    import psutil

    for path in home.glob(f"{here}-*"):
        owner = path.name.removeprefix(f"{here}-").split("-")[0]
        over = not psutil.pid_exists(int(owner)) if owner.isdecimal() else _age(path) > _OLDEST
        if over:
            shutil.rmtree(path, ignore_errors=True)


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:  # another process was faster
        return 0.0

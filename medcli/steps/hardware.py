"""What this machine has, found in a moment: without torch, whose import alone takes seconds."""

import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from medcli.core.errors import UnknownNameError
from medcli.core.gpus import Card, card_of

_QUERY = ("--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits")
_PATIENCE = 10  # seconds; a driver that hangs is as good as none
_SIDE = 1024  # of the square matrices whose product is timed
_TIMES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """An NVIDIA card of this machine, as its driver names it; memory in GiB."""

    name: str
    memory: float
    free: float

    @property
    def card(self) -> Card | None:
        """Its data sheet, when `templates/gpus.toml` has it."""
        try:
            return card_of(self.name)
        except UnknownNameError:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The cards, processor cores, memory and disk of this machine; sizes in GiB."""

    gpus: tuple[Gpu, ...]
    cores: int
    memory: float
    free_memory: float
    free_disk: float

    @property
    def for_training(self) -> float:
        """GiB that one process can have: of the largest card, or else of this machine's memory."""
        return max((gpu.free for gpu in self.gpus), default=self.free_memory)


def look(folder: Path) -> Hardware:
    """What is there now; the disk is that of `folder`, or of the nearest folder above it that exists."""
    import psutil

    memory = psutil.virtual_memory()
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    return Hardware(
        gpus=_gpus(),
        cores=psutil.cpu_count(logical=True) or 1,
        memory=memory.total / 2**30,
        free_memory=memory.available / 2**30,
        free_disk=shutil.disk_usage(existing).free / 2**30,
    )


def _gpus() -> tuple[Gpu, ...]:
    """The cards that the driver lists; none where there is no driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        done = subprocess.run([program, *_QUERY], capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return ()  # `med doctor` says what is wrong with it
    return gpus_in(done.stdout) if done.returncode == 0 else ()


def gpus_in(listing: str) -> tuple[Gpu, ...]:
    """The cards of nvidia-smi's lines "NVIDIA H200, 143771, 143000", in MiB; one without figures is left out."""
    rows = [line.rsplit(",", 2) for line in listing.splitlines()]
    return tuple(
        Gpu(name=name.strip(), memory=float(total) / 1024, free=float(free) / 1024)
        for name, total, free in (row for row in rows if len(row) == 3)
        if total.strip().isdigit() and free.strip().isdigit()
    )


def processor_speed() -> float:
    """Operations a second of this processor in a product of large fp32 matrices, measured: the best of three."""
    import numpy

    one = numpy.random.default_rng(0).random((_SIDE, _SIDE), dtype=numpy.float32)
    seconds = []
    for _ in range(_TIMES):
        started = time.perf_counter()
        one @ one
        seconds.append(time.perf_counter() - started)
    return 2 * _SIDE**3 / min(seconds)

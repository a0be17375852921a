"""What this machine has, found in a moment: without torch, whose import alone takes seconds."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from medcli.core.nvidia import NvidiaCard
from medcli.steps.doctor_torch import machine

_SIDE = 1024  # of the square matrices whose product is timed
_TIMES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The cards, processor cores, memory and disk of this machine; sizes in GiB."""

    gpus: tuple[NvidiaCard, ...]
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
        gpus=machine().cards,
        cores=psutil.cpu_count(logical=True) or 1,
        memory=memory.total / 2**30,
        free_memory=memory.available / 2**30,
        free_disk=shutil.disk_usage(existing).free / 2**30,
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

"""What NVIDIA's driver says of itself and its cards: the texts of `nvidia-smi`, read."""

import re
from dataclasses import dataclass

_VERSION = re.compile(r"Driver Version:\s*([\d.]+)")
_CUDA = re.compile(r"CUDA(?: \w+)? Version:\s*(\d+)\.(\d+)")
CARDS = ("--query-gpu=index,name,memory.total,memory.free,compute_cap", "--format=csv,noheader,nounits")
PROGRAMS = ("--query-compute-apps=pid,process_name,used_memory", "--format=csv,noheader,nounits")

Cuda = tuple[int, int]  # 12.4 is (12, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """The driver's own version, and the newest CUDA that it can serve; None where it does not say so."""

    version: str
    cuda: Cuda | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NvidiaCard:
    """A card; memory in GiB. `capability` is "9.0" for an H100, "" where an old driver does not tell."""

    index: int
    name: str
    total: float
    free: float
    capability: str

    @property
    def has_bf16(self) -> bool:
        """Whether it computes in bfloat16 itself: from Ampere (8.0) on."""
        major = self.capability.partition(".")[0]
        return major.isdigit() and int(major) >= 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A process that holds memory of a card, in GiB."""

    process: int
    name: str
    memory: float


def driver_in(text: str) -> Driver | None:
    """The driver by the head of the page that `nvidia-smi` prints; None when that is no such page."""
    version = _VERSION.search(text)
    return Driver(version=version[1], cuda=cuda_in(text)) if version else None


def cuda_in(text: str) -> Cuda | None:
    """The version after "CUDA Version:"."""
    found = _CUDA.search(text)
    return (int(found[1]), int(found[2])) if found else None


def cards_in(listing: str) -> tuple[NvidiaCard, ...]:
    """The cards of `nvidia-smi` with CARDS: "0, NVIDIA H200, 143771, 143000, 9.0" a line, memory in MiB."""
    cards = []
    for line in listing.splitlines():
        index, _, rest = line.partition(",")
        parts = [part.strip() for part in rest.rsplit(",", 3)]
        if len(parts) == 4 and index.strip().isdigit() and parts[1].isdigit() and parts[2].isdigit():
            name, total, free, capability = parts
            told = capability if re.fullmatch(r"\d+\.\d+", capability) else ""
            cards.append(
                NvidiaCard(index=int(index), name=name, total=int(total) / 1024, free=int(free) / 1024, capability=told)
            )
    return tuple(cards)


def programs_in(listing: str) -> tuple[Program, ...]:
    """The processes of `nvidia-smi` with PROGRAMS: "1234, /usr/bin/python3, 20480" a line, memory in MiB.

    A driver inside a container or a virtual machine says "[N/A]" for what it does not know: such a line is left out.
    """
    found = []
    for line in listing.splitlines():
        process, _, rest = line.partition(",")
        name, _, memory = rest.rpartition(",")
        if process.strip().isdigit() and memory.strip().isdigit():
            found.append(Program(process=int(process), name=name.strip(), memory=int(memory) / 1024))
    return tuple(found)

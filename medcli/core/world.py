"""The processes of one training run: how many there are, and which of them this one is.

torchrun and accelerate say it by RANK, LOCAL_RANK, WORLD_SIZE and LOCAL_WORLD_SIZE; Slurm's srun by SLURM_PROCID,
SLURM_LOCALID and SLURM_STEP_NUM_TASKS, and the machine where all meet by its list of machines.
"""

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from medcli.core.errors import UsageError
from medcli.core.settings import pass_on, variables_of_launcher

OUR_LAUNCH = "med-"  # how the id of a launch begins that `med` itself has made
_PORTS = (20000, 40000)  # below Linux's ephemeral ports, above those of services


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Which of `size` processes this one is, and which of the `local_size` on this machine; both count from 0."""

    rank: int = 0
    local_rank: int = 0
    size: int = 1
    local_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process speaks and saves for all."""
        return self.rank == 0

    @property
    def is_first_here(self) -> bool:
        """Whether this process prepares the data for all on this machine."""
        return self.local_rank == 0

    @property
    def nodes(self) -> int:
        """The machines, when each has as many processes as this one."""
        return max(1, self.size // max(1, self.local_size))


def current() -> World:
    """The place of this process, as its launcher says it; a world of one where there is no launcher.

    Raises UsageError when what the launcher says makes no sense.
    """
    given = variables_of_launcher()
    if "RANK" in given and "WORLD_SIZE" in given:
        return _of_torchrun(given)
    if "SLURM_PROCID" in given and "SLURM_STEP_ID" in given:  # a batch script has the first without the second
        return _of_slurm(given)
    return World()


def started_by_med() -> bool:
    """Whether `med` itself has started this process as one of several."""
    return variables_of_launcher().get("TORCHELASTIC_RUN_ID", "").startswith(OUR_LAUNCH)


def started_by_slurm() -> bool:
    """Whether srun has started this process itself, with no torchrun between."""
    given = variables_of_launcher()
    return "SLURM_STEP_ID" in given and "TORCHELASTIC_RUN_ID" not in given


def announce(world: World, visible_devices: int) -> None:
    """Tell torch and accelerate by torchrun's variables what Slurm has told us; nothing to do for other launchers.

    `visible_devices` is the number of GPUs this process sees: with one GPU a task, that one is number 0.
    """
    given = variables_of_launcher()
    if world.size == 1 or "RANK" in given:
        return
    job = given.get("SLURM_JOB_ID", "0") + given["SLURM_STEP_ID"]
    port = _PORTS[0] + zlib.crc32(job.encode()) % (_PORTS[1] - _PORTS[0])
    nodes = given.get("SLURM_STEP_NODELIST") or given.get("SLURM_JOB_NODELIST", "localhost")
    pass_on(
        {
            "RANK": str(world.rank),
            "WORLD_SIZE": str(world.size),
            "LOCAL_RANK": "0" if visible_devices == 1 else str(world.local_rank),
            "LOCAL_WORLD_SIZE": str(world.local_size),
            "MASTER_ADDR": given.get("MASTER_ADDR") or first_host(nodes),
            "MASTER_PORT": given.get("MASTER_PORT") or str(port),
        }
    )


def first_host(nodes: str) -> str:
    """The first name of a list as Slurm writes it: "gpu[03-05,9],login" -> "gpu03"."""
    found = re.match(r"([^\[,]*)(?:\[([^\],-]*)[^\]]*\]([^\[,]*))?", nodes)
    return "".join(part or "" for part in found.groups()) if found else nodes


def _of_torchrun(given: Mapping[str, str]) -> World:
    size = _number(given, "WORLD_SIZE")
    if size > 1 and "LOCAL_RANK" not in given:
        raise UsageError(
            "RANK and WORLD_SIZE are set, but not LOCAL_RANK",
            hint="start the processes with --devices, torchrun or srun; or unset RANK and WORLD_SIZE",
        )
    return _checked(
        World(
            rank=_number(given, "RANK"),
            local_rank=_number(given, "LOCAL_RANK", 0),
            size=size,
            local_size=_number(given, "LOCAL_WORLD_SIZE", size),
        )
    )


def _of_slurm(given: Mapping[str, str]) -> World:
    size = _number(given, "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in given else "SLURM_NTASKS", 1)
    each = tasks_of(given.get("SLURM_STEP_TASKS_PER_NODE") or given.get("SLURM_TASKS_PER_NODE") or str(size))
    node = _number(given, "SLURM_NODEID", 0)
    return _checked(
        World(
            rank=_number(given, "SLURM_PROCID"),
            local_rank=_number(given, "SLURM_LOCALID", 0),
            size=size,
            local_size=each[node] if node < len(each) else size,
        )
    )


def tasks_of(text: str) -> list[int]:
    """Tasks of each machine as Slurm writes them: "2(x3),1" -> [2, 2, 2, 1]."""
    pairs = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return [int(tasks) for tasks, times in pairs for _ in range(int(times or 1))]


def _checked(world: World) -> World:
    if not (0 <= world.rank < world.size and 0 <= world.local_rank < world.local_size <= world.size):
        raise UsageError(
            f"the launcher says: process {world.rank} of {world.size}, {world.local_rank} of {world.local_size} here",
            hint="start the processes with --devices, torchrun or srun",
        )
    return world


def _number(given: Mapping[str, str], name: str, otherwise: int | None = None) -> int:
    if name not in given and otherwise is not None:
        return otherwise
    text = given.get(name, "")
    if not text.isdecimal():
        raise UsageError(f"{name}='{text}' is not a whole number", hint="start the processes by --devices or torchrun")
    return int(text)

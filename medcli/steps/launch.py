"""How many processes train, by whose word, and what they have to know of each other before the first step."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from medcli.core import meeting as meetings
from medcli.core import world as worlds
from medcli.core.errors import DeviceError, UsageError
from medcli.core.run_folder import RunFolder
from medcli.core.settings import Resolved, variables_of_launcher
from medcli.core.train_settings import TrainSettings
from medcli.steps import encoded_cache

T = TypeVar("T", bound=TrainSettings)
_RUN = "run"


def settled(resolved: Resolved[T], quant: str, resumed: RunFolder | None) -> Resolved[T]:
    """The settings with the number of processes as a launcher gives it; raises UsageError for what cannot be.

    `resumed` is the run to go on with: it does so with as many processes as it began with.
    """
    world, settings = worlds.current(), resolved.values
    origins = dict(resolved.origins)
    if world.size > 1:
        asked = settings.devices * settings.nodes
        if asked not in (1, world.size):
            raise UsageError(
                f"a launcher has started {world.size} processes, but --devices x --nodes asks for {asked}",
                hint="leave out --devices and --nodes under torchrun, accelerate and srun",
            )
        even = world.local_size * world.nodes == world.size
        devices, nodes = (world.local_size, world.nodes) if even else (world.size, 1)
        if asked == 1:
            origins |= {"devices": "launcher", "nodes": "launcher"}
        settings = replace(settings, devices=devices, nodes=nodes)
    _check_nodes(settings, started=world.size > 1)
    _check_strategy(settings, quant)
    if resumed:
        _check_same_processes(resumed, settings)
    return Resolved(values=settings, origins=origins)


def is_needed(settings: TrainSettings) -> bool:
    """Whether processes are asked for that nobody has started yet."""
    return settings.devices * settings.nodes > 1 and worlds.current().size == 1


def is_first() -> bool:
    """Whether this process speaks and saves for all."""
    return worlds.current().is_first


def start(words: Sequence[str], settings: TrainSettings, note: Callable[[str], None]) -> int:
    """Start the processes with the same `words`, and return the exit code that stands for all."""
    from medcli.engine import launch

    if settings.nodes > 1:
        note(f"waiting for the other machines at {settings.main_address}")
    return launch.start(words, settings)


def same_run(choose: Callable[[], RunFolder], settings: TrainSettings) -> RunFolder:
    """The run of all processes: the first one on each machine chooses, the others hear of it."""
    world = worlds.current()
    if world.size == 1:
        return choose()
    meeting = meetings.of(world)
    if not world.is_first_here:
        return RunFolder(Path(meeting.wait_for(_RUN).read_text("utf-8")))
    run = choose() if world.is_first else RunFolder(_named(settings))
    meeting.leave(_RUN, str(run.path))
    return run


@contextmanager
def held(run: RunFolder) -> Iterator[None]:
    """Keep processes of other launches out of the run; the first process holds it for all."""
    if not worlds.current().is_first:
        yield
        return
    with run.held():
        yield


def part() -> None:
    """Wait until all processes have come to the end, so that none is ended while it still writes or speaks."""
    world = worlds.current()
    if world.size == 1:
        return
    from medcli.engine import ranks

    if world.is_first_here:
        encoded_cache.remove()
    ranks.leave()


def _named(settings: TrainSettings) -> Path:
    from medcli.core import run_folder

    return run_folder.named(settings.run).path


def _check_nodes(settings: TrainSettings, *, started: bool) -> None:
    if settings.nodes == 1:
        return
    if not settings.run:
        raise UsageError(
            f"--nodes {settings.nodes}: the machines must mean the same run",
            hint="name it: --run NAME, on each machine",
        )
    if started:
        return
    host, _, port = settings.main_address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(
            f"--main-address '{settings.main_address}' is not host:port",
            hint="name machine 0 as the others see it, and a free port there: --main-address 10.0.0.1:29500",
        )
    if settings.node_rank >= settings.nodes:
        raise UsageError(
            f"--node-rank {settings.node_rank}: there are {settings.nodes} machines",
            hint=f"count from 0 to {settings.nodes - 1}",
        )


def _check_same_processes(run: RunFolder, settings: TrainSettings) -> None:
    """Another number of processes would take other samples in a step, and draw other random numbers."""
    before = run.table()["settings"]
    count = before.get("devices", 1) * before.get("nodes", 1)
    if count != settings.devices * settings.nodes:
        raise UsageError(
            f"the run {run.path} began with {count} processes, not with {settings.devices * settings.nodes}",
            hint=f"go on with {count}, or start a new run from its weights: --model {run.name}",
        )


def _check_strategy(settings: TrainSettings, quant: str) -> None:
    strategy = settings.strategy
    given = variables_of_launcher()
    for variable, ours in (("ACCELERATE_USE_FSDP", ("fsdp2",)), ("ACCELERATE_USE_DEEPSPEED", ("zero2", "zero3"))):
        if given.get(variable, "").lower() == "true" and strategy not in ours:
            raise UsageError(
                f"accelerate was told to shard ({variable}), --strategy says {strategy}",
                hint=f"add --strategy {' or '.join(ours)}, or take templates/launch/ddp.yaml",
            )
    if strategy == "ddp":
        return
    if settings.devices * settings.nodes == 1:
        raise UsageError(
            f"--strategy {strategy} shares a model out among processes, and there is only one", hint="add --devices N"
        )
    if quant != "none" and strategy in ("zero3", "fsdp2"):
        raise UsageError(
            f"--strategy {strategy} cannot shard weights of few bits (--quant {quant})",
            hint="keep them whole in each process: --strategy zero2 or ddp; or leave out --quant",
        )
    if strategy == "zero3" and settings.packing:
        raise UsageError(
            "--strategy zero3: the fast loss reads the head's own weight, which is shared out",
            hint="add --no-packing, or use --strategy fsdp2",
        )
    if settings.device == "cpu":
        refuse_on_cpu(strategy)


def check_installed(settings: TrainSettings) -> None:
    """Raises UsageError when the strategy's library is not here; a plan can do without."""
    if settings.strategy in ("zero2", "zero3") and find_spec("deepspeed") is None:
        raise UsageError(f"--strategy {settings.strategy} needs DeepSpeed", hint="pip install 'medcli[deepspeed]'")


def refuse_on_cpu(strategy: str) -> None:
    """accelerate would turn FSDP on CPUs into plain copies without a word."""
    raise DeviceError(
        f"--strategy {strategy} needs GPUs: on CPUs the libraries would silently train plain copies",
        hint="use --strategy ddp",
    )

"""Start the processes of a run on this machine by torch's own launcher, and stand for them as one command."""

import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

import psutil
from torch import distributed
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.rendezvous.api import RendezvousError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from medcli.core import meeting as meetings
from medcli.core.errors import DeviceError, PeerLost, ServiceError
from medcli.core.interruption import INTERRUPTED, TERMINATED, exit_code_of, interruption_by
from medcli.core.meeting import Meeting
from medcli.core.settings import pass_on, variables_of_launcher
from medcli.core.train_settings import TrainSettings
from medcli.core.world import OUR_LAUNCH
from medcli.engine import device as devices

_TO_END = 10  # seconds between asking a process to end and making it end
_TO_MEET = 600  # seconds for torch's own rendezvous, once all machines are there
_GLOO = "GLOO_SOCKET_IFNAME"
_KNOCK = 1.0  # seconds between two tries to reach machine 0


def start(words: Sequence[str], settings: TrainSettings) -> int:
    """Run `med` with `words` in `settings.devices` processes, and return the exit code that stands for all.

    Ctrl-C and SIGTERM are handed on to each of them: once to stop with a checkpoint, twice to end at once. Raises
    DeviceError when a process was killed or there are too few GPUs, ServiceError when the machines do not meet,
    KeyboardInterrupt when a person stopped them before the first step.
    """
    device = devices.pick(settings.device)
    devices.check_enough(device, settings.devices)
    if device.type == "cpu" and "OMP_NUM_THREADS" not in variables_of_launcher():
        pass_on({"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // settings.devices))})
    meeting = meetings.opened(os.getpid())
    logging.disable(logging.CRITICAL)  # what failed is said by the process that failed
    try:
        with _handing_on() as told:
            if settings.nodes > 1:
                _meet(settings)
                _choose_interface(settings)
            elastic_launch(_configuration(settings), sys.executable)("-m", "medcli", *words)
        return 0
    except ChildFailedError as error:
        return _code(error.failures, meeting, told)
    except (RendezvousError, distributed.DistError, OSError) as error:
        raise ServiceError(
            f"the machines did not meet at {settings.main_address}: {str(error).splitlines()[0]}",
            hint="run the same command on each machine, with --node-rank 0, 1, …;\n"
            "--main-address names machine 0 as the others see it, and a port that is free there",
        ) from error
    finally:
        logging.disable(logging.NOTSET)
        shutil.rmtree(meeting.path, ignore_errors=True)


def _meet(settings: TrainSettings) -> None:
    """Return when all machines are there, however long that takes; raises OSError when machine 0 cannot listen.

    torch's rendezvous would wait too, but deaf to Ctrl-C. Machine 0 says "go" to each when the last one has come.
    """
    host, _, port = settings.main_address.rpartition(":")
    if settings.node_rank:
        while not _has_gone(host, int(port), settings.node_rank):
            time.sleep(_KNOCK)
        return
    waiting: dict[int, socket.socket] = {}
    with socket.create_server(("", int(port))) as server:
        while len(waiting) < settings.nodes - 1:
            machine, _ = server.accept()
            machine.settimeout(_KNOCK)
            with contextlib.suppress(OSError, ValueError):  # somebody else, or one that has given up
                waiting[int(machine.recv(16))] = machine
    for machine in waiting.values():
        with machine, contextlib.suppress(OSError):
            machine.sendall(b"go")
            machine.settimeout(_KNOCK)
            machine.recv(1)  # the other side closes first, so that the port is free at once


def _choose_interface(settings: TrainSettings) -> None:
    """Let gloo talk by the interface that carries the main address: its own choice is often loopback."""
    host, _, port = settings.main_address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, int(port)))  # sends nothing
        own = probe.getsockname()[0]
    for name, addresses in psutil.net_if_addrs().items():
        if own in {address.address for address in addresses} and _GLOO not in variables_of_launcher():
            pass_on({_GLOO: name})


def _has_gone(host: str, port: int, rank: int) -> bool:
    """Whether machine 0 was reached and has said "go"."""
    try:
        with socket.create_connection((host, port), timeout=_KNOCK) as connection:
            connection.sendall(str(rank).encode())
            connection.settimeout(None)
            return connection.recv(16) == b"go"
    except OSError:
        return False


def _configuration(settings: TrainSettings) -> LaunchConfig:
    alone = settings.nodes == 1
    return LaunchConfig(
        min_nodes=settings.nodes,
        max_nodes=settings.nodes,
        nproc_per_node=settings.devices,
        run_id=f"{OUR_LAUNCH}{os.getpid()}-{time.time_ns()}" if alone else f"{OUR_LAUNCH}{settings.run}",
        rdzv_backend="c10d" if alone else "static",
        rdzv_endpoint="localhost:0" if alone else settings.main_address,
        rdzv_configs={} if alone else {"rank": settings.node_rank, "timeout": _TO_MEET},
        local_addr="localhost" if alone else None,
        max_restarts=0,
        monitor_interval=0.1,
        shutdown_timeout=_TO_END,
        logs_specs=DefaultLogsSpecs(),
        signals_to_handle="SIGHUP",  # the others are ours to hand on
    )


@contextlib.contextmanager
def _handing_on() -> Iterator[list[int]]:
    """Within the block Ctrl-C and SIGTERM go to the processes started; the list holds those that came."""
    told: list[int] = []

    def hand_on(number: int, frame: object) -> None:
        told.append(number)
        started = psutil.Process().children()
        if len(told) > 1 or not started:
            raise interruption_by(number)
        for process in started:
            process.terminate()  # not SIGINT: a process that is still starting would answer that with a traceback

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _code(failures: Mapping[int, ProcessFailure], meeting: Meeting, told: Sequence[int]) -> int:
    """The exit code for all, from how each ended; raises what no process could say itself."""
    spoken = meeting.spoken()
    if spoken is not None:
        return spoken
    codes = {failure.exitcode for failure in failures.values()} & {INTERRUPTED, TERMINATED}
    if codes:
        return exit_code_of(interruption_by(told[0])) if told else max(codes)
    if told:
        raise interruption_by(told[0])
    for rank, failure in sorted(failures.items(), key=lambda pair: pair[1].timestamp):
        if failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM:  # which the launcher sends to the rest
            name = signal.Signals(-failure.exitcode).name
            raise DeviceError(
                f"process {rank} of the run was ended by {name}",
                hint="the system does so when memory runs out: see `dmesg | tail`, and try a smaller --batch;\n"
                "go on from the last checkpoint with --resume",
            )
    raise PeerLost

"""What the processes of a run must agree on: small numbers, sums and barriers. In a world of one nothing is sent.

Small tensors go by gloo from CPU to CPU, so that no GPU waits for them.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed

from medcli.core import world as worlds
from medcli.core.errors import MedError, PeerLost

# What gloo, NCCL and the store say when a process at the other end is gone.
_LOST = re.compile(r"gloo|nccl|connection (closed|reset|refused|was)|broken pipe|recvValue|socket|timed? ?out", re.I)


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Within the block the processes of this run can talk; raises PeerLost when one of them is gone.

    The connection is left open when the block fails: the others must not notice before this process has said why.
    """
    world = worlds.current()
    if world.size == 1:
        yield
        return
    worlds.announce(world, torch.cuda.device_count() if device.type == "cuda" else 0)
    try:
        if not distributed.is_initialized():
            distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        yield
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or _LOST.search(str(error)):
            raise PeerLost from error
        raise


def leave() -> None:
    """Wait until every process has come here, and end the connection."""
    if distributed.is_initialized():
        try:
            distributed.barrier()
        except RuntimeError as error:
            raise PeerLost from error
        distributed.destroy_process_group()


def wait_for_all() -> None:
    """Go on when every process has come here."""
    if distributed.is_initialized():
        total(0)


def any_of(flag: bool) -> bool:
    """Whether the flag is set in any process."""
    return total(int(flag)) > 0


def largest(number: int) -> int:
    """The largest of the processes' numbers."""
    if not distributed.is_initialized():
        return number
    found = torch.tensor(number, dtype=torch.int64)
    distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return int(found)


def total(number: int) -> int:
    """The sum of the processes' numbers."""
    if not distributed.is_initialized():
        return number
    count = torch.tensor(number, dtype=torch.int64)
    distributed.all_reduce(count)
    return int(count)


def agreed(number: int, error: MedError) -> int:
    """The number, when it is the same in every process; raises `error` otherwise."""
    if total(number) != number * worlds.current().size:
        raise error
    return number

"""Which device, which precision, how much memory, which seed."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy
import psutil
import torch

from medcli.core import world as worlds
from medcli.core.errors import DeviceError


def pick(wanted: str) -> torch.device:
    """ "auto" takes the first GPU, else the CPU; raises DeviceError for a device this machine has not."""
    if wanted == "auto":
        return torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(f"no device '{wanted}' here", hint="use --device cpu, or see `nvidia-smi`") from error
    return device


def own(wanted: str) -> torch.device:
    """`pick` for one of several processes: each takes a GPU of its own; raises DeviceError when they do not suffice."""
    device, world = pick(wanted), worlds.current()
    if world.size == 1 or device.type == "cpu":
        return device
    one_a_task = worlds.started_by_slurm() and torch.cuda.device_count() == 1
    if not one_a_task:
        check_enough(device, world.local_size)
    mine = torch.device("cuda", 0 if one_a_task else world.local_rank)
    torch.cuda.set_device(mine)
    return mine


def check_enough(device: torch.device, processes: int) -> None:
    """Raise DeviceError when so many processes on this machine cannot have a GPU each; a CPU they can share."""
    if device.type == "cpu" or processes == 1:
        return
    if str(device) != "cuda":
        raise DeviceError(
            f"--device {device} is one device, for {processes} processes",
            hint="use --device cuda; CUDA_VISIBLE_DEVICES says which GPUs; or --device cpu",
        )
    seen = torch.cuda.device_count()
    if processes > seen:
        raise DeviceError(
            f"{processes} processes on this machine, but {seen} GPU{'s' * (seen != 1)}",
            hint=f"--devices {seen}, or --device cpu",
        )


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 products are done by the hardware; emulated ones are slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return False


def precision(wanted: str) -> torch.dtype | None:
    """The type that weights are held in; None for "auto", which leaves it to the device."""
    types = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    return types[wanted] if wanted != "auto" else None


def memory_gib(device: torch.device) -> float:
    """Memory of this process: the most it has held on the GPU, or what is resident on the machine now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return psutil.Process().memory_info().rss / 2**30


def free_gib(device: torch.device) -> float:
    """Memory that is still to be had."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / 2**30
    return psutil.virtual_memory().available / 2**30


def seed_all(seed: int) -> None:
    """Seed every generator a training run draws from."""
    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def out_of_memory_said(device: torch.device, hint: str) -> Iterator[None]:
    """Turn a device's out-of-memory error into a DeviceError with `hint`."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        free = free_gib(device)
        raise DeviceError(f"not enough memory on {device}: {free:.1f} GiB are free", hint=hint) from error

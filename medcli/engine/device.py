"""Which device, which precision, how much memory, which seed."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy
import psutil
import torch

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


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 products are done by the hardware; emulated ones are slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return False


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

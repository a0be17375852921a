"""Is torch there, does it import, and does its build fit the driver and the cards of this machine?"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medcli.core.finding import Finding
from medcli.core.nvidia import CARDS, PROGRAMS, Cuda, Driver, NvidiaCard, Program, cards_in, driver_in, programs_in
from medcli.steps.doctor_libraries import wanted

PROBE = (sys.executable, "-m", "medcli.engine.hardware")
_DRIVER_FILE = Path("/proc/driver/nvidia/version")
_PATIENCE = 10  # seconds for nvidia-smi
_LONGEST = 120  # seconds for importing torch and transformers from a slow disk
# Builds of torch at https://download.pytorch.org/whl; those for CUDA 12.8 ended with torch 2.12 (pytorch, pull 187130).
_WHEELS: tuple[Cuda, ...] = ((12, 6), (13, 0), (13, 2))
_LITTLE = 0.5  # the part of a card's memory below which somebody else seems to use it


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """How the probe ended: torch's `facts`, {} when it did not get so far, and the last `words` of what went wrong."""

    facts: Mapping[str, Any]
    imported: bool
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the driver says: None without one; `silent` when there is one that does not answer."""

    driver: Driver | None
    cards: tuple[NvidiaCard, ...] = ()
    programs: tuple[Program, ...] = ()
    silent: bool = False


@contextmanager
def started(probe: Sequence[str]) -> Iterator["subprocess.Popen[str]"]:
    """Torch is imported in a process of its own while the block does something else; it does not outlive the block."""
    process = subprocess.Popen(probe, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
    try:
        with process:
            yield process
            process.kill()
    except BaseException:
        process.kill()
        raise


def ended(process: "subprocess.Popen[str]") -> Probed:
    """Wait for the probe, and read what it says."""
    try:
        told, said = process.communicate(timeout=_LONGEST)
    except subprocess.TimeoutExpired:
        return Probed(facts={}, imported=False, words=f"no answer within {_LONGEST} s")
    rows = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    if process.returncode < 0:
        words = f"Python is ended by signal {-process.returncode}"
    else:
        words = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "")
    return Probed(
        facts=next((row for row in rows if "version" in row), {}),
        imported=any("imported" in row for row in rows),
        words=words,
    )


def machine() -> Machine:
    """Ask the driver; nothing is waited for longer than some seconds."""
    if shutil.which("nvidia-smi") is None:
        return Machine(driver=None, silent=_DRIVER_FILE.is_file())
    driver = driver_in(_said())
    if driver is None:
        return Machine(driver=None, silent=True)
    return Machine(driver=driver, cards=cards_in(_said(*CARDS)), programs=programs_in(_said(*PROGRAMS)))


def _said(*words: str) -> str:
    """What nvidia-smi prints; "" when it fails or hangs."""
    try:
        done = subprocess.run(
            ["nvidia-smi", *words], capture_output=True, text=True, errors="replace", check=False, timeout=_PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def torch_findings(probed: Probed) -> Iterator[Finding]:
    """Whether torch, and then transformers, could be imported."""
    if not probed.facts:
        yield Finding(
            check="torch",
            state="error",
            message=f"torch cannot be imported: {probed.words}",
            hint=f"pip install --force-reinstall '{wanted('torch')}'",
        )
        return
    yield Finding(check="torch", state="ok", message=_build(probed.facts))
    if not probed.imported:
        yield Finding(
            check="transformers",
            state="error",
            message=f"transformers cannot be imported: {probed.words}",
            hint=f"pip install --force-reinstall '{wanted('transformers')}'",
        )


def gpu_findings(facts: Mapping[str, Any], found: Machine) -> Iterator[Finding]:
    """Whether torch can use the cards that the driver has, and how much of their memory is free.

    `facts` are torch's, {} where it could not be imported.
    """
    if found.silent:
        yield Finding(
            check="GPU",
            state="error",
            message="there is an NVIDIA driver, but nvidia-smi does not answer",
            hint="see what `nvidia-smi` says; after an update of the driver, restart the machine",
        )
    elif found.driver is None:
        yield _without_driver(facts)
    elif facts and not facts["gpus"]:
        yield _unused(facts, found.driver)
    for card in found.cards:
        yield _of_card(card)
    for program in found.programs:
        yield Finding(
            check="GPU",
            state="ok",
            message=f"the process {program.process} ({program.name}) holds {program.memory:.1f} GiB of a GPU",
        )


def _without_driver(facts: Mapping[str, Any]) -> Finding:
    if gpus := facts.get("gpus"):
        names = ", ".join(gpu["name"] for gpu in gpus)
        return Finding(check="GPU", state="ok", message=f"torch can use {names}")
    return Finding(
        check="GPU", state="ok", message="no GPU here: small models are trained on the CPU, large ones are for a GPU"
    )


def _unused(facts: Mapping[str, Any], driver: Driver) -> Finding:
    """Why torch sees none of the cards."""
    install = _install(driver)
    if not facts["cuda"]:
        return Finding(
            check="CUDA",
            state="warning",
            message="this torch is not built for CUDA, and cannot use the NVIDIA GPU that is here",
            hint=install,
        )
    built = _cuda(facts["cuda"])
    if driver.cuda and built[0] > driver.cuda[0]:
        return Finding(
            check="CUDA",
            state="error",
            message=f"torch is built for CUDA {facts['cuda']}, and the driver {driver.version} serves no newer one "
            f"than {driver.cuda[0]}.{driver.cuda[1]}",
            hint=install,
        )
    return Finding(
        check="CUDA",
        state="error",
        message=f"torch is built for CUDA {facts['cuda']}, the driver {driver.version} is here, and yet torch sees "
        "no GPU",
        hint="does CUDA_VISIBLE_DEVICES hide it? unset CUDA_VISIBLE_DEVICES\n"
        "in a container: was it started with --gpus all?",
    )


def _install(driver: Driver) -> str:
    """The command for the newest build that the driver serves."""
    if driver.cuda and driver.cuda[0] < _WHEELS[0][0]:
        return "update the NVIDIA driver to 525 or newer: https://www.nvidia.com/drivers"
    # Within one major version a driver serves all of them.
    fitting = [wheel for wheel in _WHEELS if not driver.cuda or wheel <= driver.cuda] or [_WHEELS[0]]
    tag = "cu{}{}".format(*fitting[-1])
    return (
        f"pip uninstall --yes torch\npip install '{wanted('torch')}' --index-url https://download.pytorch.org/whl/{tag}"
    )


def _of_card(card: NvidiaCard) -> Finding:
    """A card in one line; a warning where more than half of its memory is taken."""
    bf16 = "bf16" if card.has_bf16 else "no bf16"
    told = f"{card.index}: {card.name}, compute capability {card.capability or 'unknown'}, {bf16}"
    if card.free < _LITTLE * card.total:
        return Finding(
            check="GPU",
            state="warning",
            message=f"{told}; only {card.free:.1f} of {card.total:.1f} GiB are free",
            hint="another program holds the rest: see `nvidia-smi`; CUDA_VISIBLE_DEVICES chooses another GPU",
        )
    return Finding(check="GPU", state="ok", message=f"{told}; {card.free:.1f} of {card.total:.1f} GiB are free")


def _build(facts: Mapping[str, Any]) -> str:
    version, cuda, rocm = facts["version"], facts["cuda"], facts["rocm"]
    if rocm:
        return f"{version}, built for AMD's ROCm {rocm}"
    return f"{version}, built for CUDA {cuda}" if cuda else f"{version}, built for the CPU"


def _cuda(version: str) -> Cuda:
    major, _, minor = version.partition(".")
    return int(major), int(minor.partition(".")[0] or 0)

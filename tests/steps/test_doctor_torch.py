"""torch that is broken, of another build than the driver wants, or well."""

import json
import sys

import pytest

from medcli.core.nvidia import Driver, NvidiaCard
from medcli.steps.doctor_torch import Machine, Probed, ended, gpu_findings, started, torch_findings

CPU = {"version": "2.13.0+cpu", "cuda": "", "rocm": "", "gpus": [], "threads": 2}
CUDA = {**CPU, "version": "2.13.0+cu130", "cuda": "13.0"}
SEEN = {**CUDA, "gpus": [{"name": "NVIDIA H200", "memory": 1, "capability": "9.0", "bf16": True}]}
CARD = NvidiaCard(index=0, name="NVIDIA H200", total=140.0, free=139.0, capability="9.0")


def probed(code: str) -> Probed:
    with started([sys.executable, "-c", code]) as process:
        return ended(process)


def of(facts, cuda):
    return list(gpu_findings(facts, Machine(driver=Driver(version="550.1", cuda=cuda), cards=(CARD,))))


def test_torch_that_cannot_be_imported_is_told_in_its_own_words():
    found = probed("raise ImportError('libcudart.so.13: cannot open shared object file')")
    (finding,) = torch_findings(found)
    assert finding.state == "error"
    assert "ImportError: libcudart.so.13: cannot open" in finding.message
    assert finding.hint.startswith("pip install --force-reinstall 'torch")
    assert [one.state for one in gpu_findings(found.facts, Machine(driver=None))] == ["ok"]


def test_torch_that_ends_the_process_is_told():
    (finding,) = torch_findings(probed("import os, signal; os.kill(os.getpid(), signal.SIGILL)"))
    assert finding.message == "torch cannot be imported: Python is ended by signal 4"


def test_transformers_that_cannot_be_imported_is_told():
    code = f"print('''{json.dumps(CPU)}'''); raise ImportError('cannot import name X')"
    one, other = torch_findings(probed(code))
    assert (one.state, one.message) == ("ok", "2.13.0+cpu, built for the CPU")
    assert (other.check, other.state) == ("transformers", "error")
    assert "cannot import name X" in other.message


def test_the_probe_does_not_outlive_its_block():
    with pytest.raises(KeyboardInterrupt), started([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        raise KeyboardInterrupt
    assert process.wait(timeout=5) < 0


def test_a_cpu_build_beside_a_driver_is_a_warning_with_the_newest_build_that_fits():
    unused, card = of(CPU, (13, 1))
    assert (unused.state, card.state) == ("warning", "ok")
    assert unused.hint.endswith("--index-url https://download.pytorch.org/whl/cu130")


def test_a_build_newer_than_the_driver_is_an_error():
    unused, _ = of(CUDA, (12, 4))
    assert unused.state == "error"
    assert "built for CUDA 13.0, and the driver 550.1 serves no newer one than 12.4" in unused.message
    assert unused.hint.endswith("/whl/cu126")  # of the same major version


def test_a_driver_too_old_for_any_build_is_to_be_updated():
    assert "update the NVIDIA driver" in of(CUDA, (11, 8))[0].hint


def test_a_build_that_fits_and_yet_sees_nothing_is_an_error():
    unused, _ = of(CUDA, (13, 0))
    assert unused.state == "error"
    assert "CUDA_VISIBLE_DEVICES" in unused.hint


def test_a_gpu_that_torch_sees_is_told_with_its_memory():
    (card,) = of(SEEN, (13, 0))
    assert card.message == "0: NVIDIA H200, compute capability 9.0, bf16; 139.0 of 140.0 GiB are free"


def test_a_gpu_in_use_is_a_warning():
    busy = NvidiaCard(index=1, name="NVIDIA T4", total=15.0, free=1.0, capability="7.5")
    machine = Machine(driver=Driver(version="550.1", cuda=(13, 0)), cards=(busy,))
    (card,) = gpu_findings(SEEN, machine)
    assert card.state == "warning"
    assert "no bf16; only 1.0 of 15.0 GiB are free" in card.message


def test_a_driver_that_does_not_answer_is_an_error():
    (finding,) = gpu_findings(CPU, Machine(driver=None, silent=True))
    assert finding.state == "error"

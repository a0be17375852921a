"""From a model folder to a GGUF file by llama.cpp's converter, where it is installed; nothing of the model is run."""

import os
import re
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from medcli.core.errors import ServiceError, UsageError
from medcli.core.report import Report

Outtype = Literal["auto", "f32", "f16", "bf16", "q8_0"]
NAMES = ("convert_hf_to_gguf.py", "convert-hf-to-gguf")
_MAGIC = b"GGUF"
_LAST = 12  # lines of the converter's that are shown when it fails
_PATIENCE = 5.0  # seconds to end in, before it is killed
_PERCENT = re.compile(r"(\d{1,3})%\|")  # as tqdm draws it
_HOW_TO_GET = """git clone --depth 1 https://github.com/ggml-org/llama.cpp
pip install gguf
then add: --converter llama.cpp/convert_hf_to_gguf.py"""


def find_converter(given: str) -> Path | None:
    """The converter that was given, as a file or the folder it lies in, else the one on PATH; None when there is none.

    Raises UsageError when what was given is none.
    """
    if not given:
        return next((Path(found) for name in NAMES if (found := shutil.which(name))), None)
    path = Path(given).expanduser()
    file = path / NAMES[0] if path.is_dir() else path
    if not file.is_file():
        raise UsageError(f"--converter: {file} is no file", hint=_HOW_TO_GET)
    return file.resolve()


def missing_converter() -> UsageError:
    """What is said when a GGUF file is wanted, and no converter is here."""
    return UsageError("llama.cpp's convert_hf_to_gguf.py, which writes GGUF files, is not on PATH", hint=_HOW_TO_GET)


def convert(converter: Path, model: Path, target: Path, outtype: Outtype, report: Report) -> None:
    """Have `converter` write the model folder `model` to the file `target`.

    Raises ServiceError, with the last lines it printed, when it fails or leaves no GGUF file.
    """
    words = [str(model), "--outfile", str(target), "--outtype", outtype]
    report.stage("converting to GGUF", total=100, unit="%")
    last: deque[str] = deque(maxlen=_LAST)
    with _running([*_runner(converter), *words]) as process:
        assert process.stdout is not None
        for line in process.stdout:  # a carriage return ends a line too
            last += [line.rstrip()] if line.strip() else []
            if percent := _PERCENT.search(line):
                report.advance(int(percent[1]))
    if process.returncode:
        raise _failed(converter, f"failed with exit code {process.returncode}", last)
    if not _is_gguf(target):
        raise _failed(converter, "ended well, but left no GGUF file", last)
    report.advance(100)


def _runner(converter: Path) -> list[str]:
    """A program with an interpreter of its own is run as it is, any other file by this Python, which has torch.

    Some tokenizers it loads with their code: off the hub there is none, as there is none in the folder.
    """
    own = [] if _has_interpreter(converter) else [sys.executable]
    return ["env", "HF_HUB_OFFLINE=1", *own, str(converter)]


def _has_interpreter(path: Path) -> bool:
    with path.open("rb") as file:
        first = file.readline(200)
    return os.access(path, os.X_OK) and not first.startswith(b"#!/usr/bin/env python")


@contextmanager
def _running(command: Sequence[str]) -> Iterator["subprocess.Popen[str]"]:
    """The process, over when the block is; it is ended when the block breaks off."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        encoding="utf-8", errors="replace",
    ) as process:  # fmt: skip
        try:
            yield process
        except BaseException:
            process.terminate()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
            raise


def _is_gguf(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def _failed(converter: Path, what: str, last: Sequence[str]) -> ServiceError:
    said = "\n".join(last) or "it printed nothing"
    return ServiceError(
        f"{converter.name} {what}",
        hint=f"{said}\nllama.cpp does not know every model and tokenizer; --format safetensors needs no converter",
    )

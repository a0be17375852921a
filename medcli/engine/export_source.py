"""The folder of a whole model, wherever it lies: made, found or fetched, never run."""

from dataclasses import replace
from pathlib import Path

import huggingface_hub

from medcli.core.errors import ModelError
from medcli.core.model_ref import ModelRef
from medcli.core.report import Report
from medcli.engine.load import opened
from medcli.engine.weights import is_offline, problems_said

# What belongs to a plain model folder. Nothing of a training, and no pickle.
PARTS = (
    "*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "*token*.json", "vocab.json",
    "*processor_config.json", "chat_template*", "*.model", "*.tiktoken", "merges.txt", "vocab.txt",
    "LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*",
)  # fmt: skip
CODE = "*.py"
_TWICE = "consolidated*"  # the same weights once more, in their makers' own format
_LEFT = [_TWICE, "*/*"]  # in what is fetched: of folders within the folder, nothing


def folder_of(ref: ModelRef, report: Report) -> tuple[Path, bool]:
    """The folder with the base of `ref`, and whether the user has agreed to the Python files there.

    Raises ModelError when it needs code that was not agreed to or holds no safetensors, ServiceError when the hub
    cannot be reached.
    """
    base, trusted = opened(replace(ref, adapters=()), report, weights=True)
    if not Path(base).is_dir():
        report.stage(f"fetching {base}")
        with problems_said(base):
            base = huggingface_hub.snapshot_download(
                base, allow_patterns=[*PARTS, "README.md"], ignore_patterns=_LEFT, local_files_only=is_offline(base)
            )
    folder = Path(base)
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{ref.base} has no config.json with safetensors beside it",
            hint="pickled weights are not loaded: look for a version of the model in safetensors",
        )
    return folder, trusted


def parts_of(folder: Path, *, code: bool) -> list[Path]:
    """The files of a plain model folder that lie in `folder`, sorted; its Python files too with `code`."""
    patterns = [*PARTS, CODE] if code else PARTS
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return sorted(path for path in found if not path.match(_TWICE))

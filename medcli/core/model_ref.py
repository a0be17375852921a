"""What users call a model, and where its parts lie."""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medcli.core.errors import ModelError, nearest
from medcli.core.settings import folder

TINY = "med-tiny"
ADAPTER_CONFIG = "adapter_config.json"  # in a folder of peft's
TENSORS_CONFIG = "trained_config.json"  # in a folder of tensors that take the place of the base's
# In a model's folder, what its answers follow from: weights, tokenizers, settings, templates and code.
_PARTS = (".safetensors", ".bin", ".pt", ".pth", ".json", ".model", ".tiktoken", ".txt", ".jinja", ".py")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """A base model (a folder, a hub id or "med-tiny"), what runs trained on it in order, and a chat template's file.

    `adapters` are folders: peft's adapters, or tensors that take the place of the base's. `code` is the sha256 of each
    Python file of the base that the user let run; None = none is run.
    """

    base: str
    adapters: tuple[Path, ...] = ()
    template: Path | None = None
    code: Mapping[str, str] | None = None

    @property
    def is_tiny(self) -> bool:
        """Whether the base is the built-in demonstration model, wherever it now lies."""
        if self.base == TINY:
            return True
        return bool(_table(Path(self.base) / "config.json").get("med_tiny"))

    @property
    def is_reward(self) -> bool:
        """Whether it is a reward model, which judges answers and does not speak; a model of a hub is not looked at."""
        if self.adapters:
            return _table(self.adapters[-1] / ADAPTER_CONFIG).get("task_type") == "SEQ_CLS"
        architectures = _table(Path(self.base) / "config.json").get("architectures") or []
        return any(name.endswith("ForSequenceClassification") for name in architectures)


def resolve(ref: str) -> ModelRef:
    """The model that `ref` names: "med-tiny", a run's name or folder, a model or adapter folder, or a hub id.

    Raises ModelError, with the nearest known name.
    """
    if ref == TINY:
        return ModelRef(base=TINY)
    for path in (Path(ref).expanduser(), folder("runs") / ref):
        if path.is_dir():
            return _of_folder(path)
    if Path(ref).is_file():
        raise ModelError(f"{ref} is a file", hint="name the folder that holds config.json")
    if _HUB_ID.fullmatch(ref) and not ref.startswith(("runs/", "data/", ".")):
        return ModelRef(base=ref)
    names = [TINY, *run_names()]
    close = nearest(ref.removeprefix("runs/"), names)
    said = f"did you mean '{close}'?\n" if close else ""
    raise ModelError(
        f"no model or run is called '{ref}'", hint=f"{said}known here: {', '.join(names)}; or a hub id, or a folder"
    )


def fingerprint(ref: ModelRef) -> dict[str, Any]:
    """What tells a model from one that was trained or changed since, in plain values for JSON.

    Of each folder the names, sizes in bytes and times of change in ns of its files; a hub id and "med-tiny" by name.
    Where the folders lie does not count.
    """
    base = Path(ref.base)
    return {
        "base": _files(base) if base.is_dir() else ref.base,
        "adapters": [_files(adapter) for adapter in ref.adapters],
        "template": _facts(ref.template) if ref.template and ref.template.is_file() else None,
    }


def _files(folder: Path) -> list[list[Any]]:
    found = sorted(path for path in folder.iterdir() if path.suffix in _PARTS and path.is_file())
    return [[path.name, *_facts(path)] for path in found]


def _facts(path: Path) -> list[int]:
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns]


def prefix_length(adapter: Path) -> int:
    """How many virtual tokens the prefix in this folder has; 0 when it holds something else."""
    table = _table(adapter / ADAPTER_CONFIG)
    return int(table["num_virtual_tokens"]) if table.get("peft_type") == "PREFIX_TUNING" else 0


def run_names() -> list[str]:
    """The names of this project's runs, sorted."""
    return sorted(path.parent.name for path in folder("runs").glob("*/run.toml"))


def _table(config: Path) -> dict[str, Any]:
    """What a config.json says; nothing when there is none."""
    table: dict[str, Any] = json.loads(config.read_text("utf-8")) if config.is_file() else {}
    return table


def _of_folder(path: Path) -> ModelRef:
    if (path / "run.toml").is_file():
        return _of_run(path)
    for config in (ADAPTER_CONFIG, TENSORS_CONFIG):
        if (path / config).is_file():
            return _of_adapter(path, config)
    if (path / "config.json").is_file():
        return ModelRef(base=str(path))
    raise ModelError(
        f"{path} holds no model", hint="a model folder has config.json, an adapter adapter_config.json, a run run.toml"
    )


def _of_adapter(path: Path, config: str) -> ModelRef:
    base = json.loads((path / config).read_text("utf-8")).get("base_model_name_or_path")
    if not base:
        raise ModelError(f"{path / config} names no base model")
    own = path / "chat_template.jinja"
    return ModelRef(base=str(base), adapters=(path,), template=own if own.is_file() else None)


def _of_run(path: Path) -> ModelRef:
    table = tomllib.loads((path / "run.toml").read_text("utf-8"))
    template = path / "chat_template.jinja"
    if (path / "model" / "config.json").is_file():
        return ModelRef(base=str(path / "model"), template=template, code=table["model"].get("code"))
    adapter = path / "adapter"
    if not any((adapter / config).is_file() for config in (ADAPTER_CONFIG, TENSORS_CONFIG)):
        method = table["run"]["method"]
        raise ModelError(
            f"the run {path} has trained nothing to the end yet",
            hint=f"finish it: med train {method} --run {path.name} --resume",
        )
    before = tuple(Path(name) for name in table["model"].get("adapters", []))
    parts = table["model"]
    return ModelRef(base=parts["base"], adapters=(*before, adapter), template=template, code=parts.get("code"))

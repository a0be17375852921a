"""Turn a run into a plain model folder that needs no adapter, and prove that it answers alike."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from medcli.core import model_ref, run_folder
from medcli.core.atomic import folder_aside, sha256_of
from medcli.core.dataset_folder import open_dataset
from medcli.core.errors import MedError, ModelError, UsageError
from medcli.core.prompts import QUESTIONS
from medcli.core.record import Conversation
from medcli.core.report import Report
from medcli.core.settings import setting

FROM_DATA = 8  # questions of the run's own data, beside the fixed ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the merged model goes."""

    output: str = setting("", help="Folder of the merged model; runs/NAME/merged when not given.")
    device: str = setting("auto", help="auto, cpu, cuda, cuda:1, …")
    trust_remote_code: bool = setting(False, help="Run the Python files of the model's folder. Read them first.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """The finished folder and what was shown of it."""

    path: Path
    dtype: str
    compared: int
    bytes: int


def target_of(model: str, settings: Settings) -> Path:
    """The folder a merge writes; raises UsageError when there is one already."""
    run = run_folder.named(model)
    target = Path(settings.output) if settings.output else run.path / "merged"
    if target.exists():
        raise UsageError(f"{target} exists", hint="remove it, or choose another folder with --output")
    if not settings.output and not run.exists:
        raise UsageError(f"{model} is no run of this project", hint="say where the merged model goes with --output")
    return target


def merge(model: str, settings: Settings, report: Report) -> Merged:
    """Merge a run's adapters into its base; the folder appears only when the answers were shown to be equal."""
    target = target_of(model, settings)
    ref = model_ref.resolve(model)
    if ref.is_reward:
        raise ModelError(
            f"{model} is a reward model: merged it would be no model that speaks",
            hint=f"use it as it is: med eval {model} --dataset PAIRS; med train ppo --reward {model} --model …",
        )
    if not ref.adapters:
        raise _nothing_to_merge(model)
    if length := model_ref.prefix_length(ref.adapters[-1]):
        raise ModelError(
            f"{model} is a prefix of {length} virtual tokens, which the model reads before every text: "
            "it is no change of the weights, and cannot be merged into them",
            hint=f"use it as it is: med chat {model}; med eval {model} --dataset …\n"
            "or train with lora, freeze or full, which end in a plain model folder",
        )
    prompts = [*QUESTIONS, *islice(_questions(run_folder.named(model)), FROM_DATA)]

    from medcli.engine import merge as engine
    from medcli.engine import remote_code

    ref = remote_code.consent(ref) if settings.trust_remote_code else ref
    with folder_aside(target) as aside:
        proof = engine.merge(ref, aside, prompts, settings.device, report)
        _mark(aside, ref, proof)
    size = sum(path.stat().st_size for path in target.iterdir())
    return Merged(path=target, dtype=proof["dtype"], compared=len(prompts), bytes=size)


def can_merge(ref: model_ref.ModelRef) -> bool:
    """Whether the last stage of `ref` is a change of weights: a whole model needs no merge.

    A prefix is none, and a reward model is used as it is.
    """
    config = ref.adapters[-1] / model_ref.ADAPTER_CONFIG if ref.adapters else None
    if ref.is_reward:
        return False
    if config is None or not config.is_file():
        return bool(ref.adapters)
    return str(json.loads(config.read_text("utf-8"))["peft_type"]) == "LORA"


def _nothing_to_merge(model: str) -> ModelError:
    run = run_folder.named(model)
    if run.exists and run.model.is_dir():
        return ModelError(f"{model} trained the whole model: {run.model} is a plain model folder, nothing is to merge")
    return ModelError(f"{model} has no adapter to merge", hint="name a run, or a folder with adapter_config.json")


def _mark(folder: Path, ref: model_ref.ModelRef, proof: dict[str, Any]) -> None:
    """Leave the proof and the files' hashes beside the weights."""
    hashes = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
    parts = {"base": ref.base, "adapters": [str(adapter) for adapter in ref.adapters]}
    text = json.dumps({"merged_from": parts, "proof": proof, "sha256": hashes}, ensure_ascii=False, indent=2)
    (folder / "merge.json").write_text(text + "\n", "utf-8")


def _questions(run: run_folder.RunFolder) -> Iterator[str]:
    """First questions of the data the run was trained on, as far as it still lies there."""
    for entry in (run.table().get("data", {}) if run.exists else {}).values():
        try:
            source = open_dataset(entry["path"])
            for record in source.records("test" if source.count("test") else "train"):
                if isinstance(record, Conversation):
                    yield next(message.content for message in record.messages if message.role == "user")
        except MedError:
            continue  # the data set was moved or rebuilt: the fixed prompts remain

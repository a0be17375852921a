"""Turn runs into a plain model folder that needs no adapter, and prove that it answers alike."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medcli.core import model_ref, run_folder
from medcli.core.atomic import folder_aside, remove_leftovers, sha256_of
from medcli.core.dataset_folder import open_dataset
from medcli.core.errors import MedError, ModelError, UsageError
from medcli.core.model_ref import ModelRef
from medcli.core.prompts import QUESTIONS
from medcli.core.record import Conversation
from medcli.core.report import Report
from medcli.core.settings import setting

if TYPE_CHECKING:
    from medcli.engine import merge as engine

FROM_DATA = 8  # questions of the runs' own data, beside the fixed ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the merged model goes, and how it is made."""

    output: str = setting("", help="Folder of the merged model; runs/NAME/merged when not given. Several runs need it.")
    weights: tuple[str, ...] = setting(
        (),
        help="How much of each run's difference from the base is taken: 0.7,0.3 for two LoRA runs; 1 when not given.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto", help="Precision to store; auto: the base's own, or float32 where rounding changes an answer."
    )
    check: bool = setting(
        True, help="Load both models, one after the other, and compare what they say; without, no model is loaded."
    )
    device: str = setting("auto", help="Where they are compared: auto, cpu, cuda, cuda:1, …")
    trust_remote_code: bool = setting(False, help="Run the Python files of the model's folder. Read them first.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """The finished folder and what was shown of it.

    `compared` is the number of prompts, 0 without a check; `different` of the answers are not the same; `logits` and
    `log_probabilities` are the largest differences. `streamed`: the model was never in memory as a whole.
    """

    path: Path
    dtype: str
    compared: int
    different: int
    logits: float | None
    log_probabilities: float | None
    streamed: bool
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A run, or an adapter's folder, with its weight."""

    name: str
    ref: ModelRef
    weight: float


def target_of(model: str, settings: Settings, more: Sequence[str] = ()) -> Path:
    """The folder a merge writes; raises UsageError when there is one already."""
    run = run_folder.named(model)
    if more and not settings.output:
        raise UsageError("several runs are merged into a folder of their own", hint="name it with --output")
    target = Path(settings.output) if settings.output else run.path / "merged"
    if target.exists():
        raise UsageError(f"{target} exists", hint="remove it, or choose another folder with --output")
    if not settings.output and not run.exists:
        raise UsageError(f"{model} is no run of this project", hint="say where the merged model goes with --output")
    return target


def merge(model: str, settings: Settings, report: Report, more: Sequence[str] = ()) -> Merged:
    """Merge a run's adapters into its base, or add up what `more` runs on the same base have changed in it.

    The folder appears only when the answers were shown to be equal, or no proof was asked for.
    """
    parts = _parts([model, *more], settings.weights)
    target = target_of(model, settings, more)

    from medcli.engine import merge as engine
    from medcli.engine import remote_code

    refs = [remote_code.consent(part.ref) if settings.trust_remote_code else part.ref for part in parts]
    weighed = [(part.weight, ref) for part, ref in zip(parts, refs, strict=True)]
    prompts = _prompts(parts) if settings.check else []
    _note_templates(parts, report)
    remove_leftovers(target)
    with folder_aside(target) as aside:
        made = engine.merge(weighed, aside, prompts, settings.dtype, settings.device, report)
        _mark(aside, parts, made)
    return Merged(
        path=target,
        dtype=made.dtype,
        compared=len(prompts),
        different=made.proof.different if made.proof else 0,
        logits=made.proof.logits if made.proof else None,
        log_probabilities=made.proof.log_probabilities if made.proof else None,
        streamed=made.streamed,
        bytes=sum(path.stat().st_size for path in _files(target)),
    )


def can_merge(ref: ModelRef) -> bool:
    """Whether the last stage of `ref` is a change of weights: a whole model needs no merge.

    A prefix is none, and a reward model is used as it is.
    """
    config = ref.adapters[-1] / model_ref.ADAPTER_CONFIG if ref.adapters else None
    if ref.is_reward:
        return False
    if config is None or not config.is_file():
        return bool(ref.adapters)
    return str(json.loads(config.read_text("utf-8"))["peft_type"]) == "LORA"


def _parts(models: Sequence[str], weights: Sequence[str]) -> list[_Part]:
    if weights and len(weights) != len(models):
        raise UsageError(
            f"--weights names {len(weights)} weight{'s' * (len(weights) > 1)} for {len(models)} runs",
            hint="give one for each run, in the same order: med merge A B --weights 0.7,0.3 --output FOLDER",
        )
    numbers = [_number(weight) for weight in weights] or [1.0] * len(models)
    parts = [
        _Part(name=name, ref=_mergeable(name), weight=weight) for name, weight in zip(models, numbers, strict=True)
    ]
    if len(parts) > 1 or weights:
        _check_fit_together(parts, is_weighed=bool(weights))
    return parts


def _number(weight: str) -> float:
    try:
        number = float(weight)
    except ValueError as error:
        raise UsageError(f"--weights: '{weight}' is not a number", hint="write --weights 0.7,0.3") from error
    if not -10 <= number <= 10:  # nan fails, too
        raise UsageError(f"--weights: {weight} is no weight", hint="weights lie around 1: 0.7,0.3")
    return number


def _mergeable(model: str) -> ModelRef:
    """What `model` names; raises ModelError when it cannot be merged."""
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
    return ref


def _check_fit_together(parts: Sequence[_Part], is_weighed: bool) -> None:
    """Differences can be added up when all are from the same base, and none holds another one already."""
    first = parts[0]
    for part in parts:
        if _place(part.ref.base) != _place(first.ref.base):
            raise ModelError(
                f"{first.name} was trained on {first.ref.base}, {part.name} on {part.ref.base}: "
                "what they changed cannot be added up",
                hint="merge runs on the same base; a run that went on from a merged one is merged by itself",
            )
        for stage in part.ref.adapters:
            if not (stage / model_ref.ADAPTER_CONFIG).is_file():
                raise ModelError(
                    f"{part.name} is no LoRA run: {stage} takes the place of the base's weights",
                    hint="only LoRA runs are added up; merge this one by itself: med merge RUN",
                )
    for part in parts:
        for other in parts:
            stages = [stage.resolve() for stage in other.ref.adapters]
            if part is not other and not is_weighed and part.ref.adapters[0].resolve() in stages:
                raise UsageError(
                    f"{part.name} and {other.name} have {part.ref.adapters[0]} in common: it would count twice",
                    hint="a run that goes on from another holds it already: merge the last one by itself,\n"
                    "or say with --weights how much of each is taken",
                )


def _note_templates(parts: Sequence[_Part], report: Report) -> None:
    first, *others = ((part.name, part.ref.template.read_text("utf-8") if part.ref.template else "") for part in parts)
    for name, text in others:
        if text != first[1]:
            report.note(f"{name} was trained with another chat template than {first[0]}, whose template is kept")


def _place(base: str) -> str:
    return str(Path(base).resolve()) if Path(base).exists() else base


def _nothing_to_merge(model: str) -> ModelError:
    run = run_folder.named(model)
    if run.exists and run.model.is_dir():
        return ModelError(
            f"{model} trained the whole model: {run.model} is a plain model folder, there is nothing to merge"
        )
    return ModelError(f"{model} has no adapter to merge", hint="name a run, or a folder with adapter_config.json")


def _mark(folder: Path, parts: Sequence[_Part], made: "engine.Merged") -> None:
    """Leave what it was made of, the proof and the files' hashes beside the weights."""
    stages = [str(stage.resolve()) for part in parts for stage in part.ref.adapters]
    merged_from = {
        "base": _place(parts[0].ref.base),
        "adapters": list(dict.fromkeys(stages)),
        "runs": [
            {
                "name": run.name if (run := run_folder.named(part.name)).exists else part.name,
                "weight": part.weight,
                "adapters": [str(stage.resolve()) for stage in part.ref.adapters],
            }
            for part in parts
        ],
    }
    hashes = {path.relative_to(folder).as_posix(): sha256_of(path) for path in _files(folder)}
    table = {
        "merged_from": merged_from,
        "dtype": made.dtype,
        "streamed": made.streamed,
        "proof": _proof(made),
        "sha256": hashes,
    }
    (folder / "merge.json").write_text(json.dumps(table, ensure_ascii=False, indent=2) + "\n", "utf-8")


def _proof(made: "engine.Merged") -> dict[str, Any]:
    if made.proof is None:
        return {"made": False}
    return {
        "made": True,
        "dtype": made.dtype,
        "equal": not made.proof.different,
        "different": made.proof.different,
        "logits": made.proof.logits,
        "log_probabilities": made.proof.log_probabilities,
        "prompts": list(made.proof.prompts),
        "answers": list(made.proof.answers),
    }


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _prompts(parts: Sequence[_Part]) -> list[str]:
    each = max(1, FROM_DATA // len(parts))
    own = [question for part in parts for question in islice(_questions(run_folder.named(part.name)), each)]
    return list(dict.fromkeys([*QUESTIONS, *own]))


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

"""Lay what runs have trained over a base model, one after the other."""

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medcli.core.errors import ModelError
from medcli.core.model_ref import ADAPTER_CONFIG, TENSORS_CONFIG, TINY, prefix_length
from medcli.engine.tensors import put_back


def lay_over(model: Any, stages: Sequence[Path], base: str, *, merge: bool, trainable: bool) -> Any:
    """`model` with the adapters and tensors of `stages`, in order; the last one merged too when `merge`.

    Raises ModelError when one does not fit, or cannot be merged and is not the last.
    """
    for number, stage in enumerate(stages, 1):
        is_last = number == len(stages)
        if (stage / TENSORS_CONFIG).is_file():
            check_tiny(stage, TENSORS_CONFIG, base)
            model = put_back(model, stage)
            continue
        if prefix_length(stage) and (merge or trainable or not is_last):
            raise ModelError(
                f"{stage} is a prefix that the model reads, not a change of its weights: nothing can be stacked on it",
                hint="go on training it with `med train ptuning --continue`, or start from the model before it",
            )
        model = with_adapter(model, stage, base, trainable=is_last and trainable)
        if merge or not is_last:
            model = model.merge_and_unload()
    return model


@contextmanager
def false_alarms_off() -> Iterator[None]:
    """Silence two warnings of peft about what it has just done right.

    Experts that are one tensor are no module, but have their own rank; GPT-2's transposed matrices are taken as such.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The following (rank|alpha)_pattern keys did not match")
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False but the target module is")
        yield


def check_tiny(stage: Path, config: str, base: str) -> None:
    """med-tiny is made anew when its recipe changes; what was trained on an older one would speak nonsense."""
    trained_on = Path(json.loads((stage / config).read_text("utf-8"))["base_model_name_or_path"] or "").name
    if trained_on.startswith(f"{TINY}-") and trained_on != Path(base).name:
        raise ModelError(
            f"{stage} was trained on {trained_on}, but this med makes {Path(base).name}",
            hint="train it again: `med train METHOD --from run.toml`, or `med quickstart`",
        )


def with_adapter(model: Any, stage: Path, base: str, *, trainable: bool = False, name: str = "default") -> Any:
    """`model` under an adapter of peft's called `name`, beside those that it is under already.

    Raises ModelError when it does not fit, was trained on another med-tiny, or is a pickle.
    """
    from peft import PeftModel

    if not (stage / "adapter_model.safetensors").is_file():  # peft would go on to a pickle, then to the hub
        raise ModelError(f"{stage} holds no adapter_model.safetensors", hint="pickled adapters are not loaded")
    check_tiny(stage, ADAPTER_CONFIG, base)
    try:
        with false_alarms_off():
            if not isinstance(model, PeftModel):
                return PeftModel.from_pretrained(model, stage, adapter_name=name, is_trainable=trainable)
            model.load_adapter(stage, adapter_name=name, is_trainable=trainable)
            return model
    except (RuntimeError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0]
        raise ModelError(f"the adapter {stage} does not fit its base model: {first}") from error

"""What an adapter, or a file of trained tensors, changes in which parameter, without the model's weights at hand.

peft itself lays the adapter over a model without weights: which layers it means, with which rank and scale, is then
peft's own decision. What it would do to the weights is only repeated here for the kinds of layers that are listed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftConfig, get_peft_model
from peft.tuners.lora.layer import Embedding, Linear, ParamWrapper
from peft.tuners.lora.variants import DoraEmbeddingVariant, DoraLinearVariant
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper, ModulesToSaveWrapper
from torch import Tensor

from medcli.core.model_ref import ADAPTER_CONFIG, TENSORS_CONFIG
from medcli.engine import skeleton, stages
from medcli.engine.skeleton import NotStreamed
from medcli.engine.tensors import TENSORS
from medcli.engine.weight_changes import Added, Change, Replaced, Rescaled
from medcli.engine.weight_files import FLOATS, Stored, contents

ADAPTER = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_NAME = "default"
_PLAIN_BEGINNINGS = (True, False, "gaussian", "eva", "orthogonal")  # the others change the base weights too

Changes = dict[str, list[Change]]


def changes_of(stage: Path, model: Any, base: str) -> Changes:
    """The changes of each parameter, by the name that comes first of those that share it.

    `model` is one without weights, and cannot be used for anything else afterwards.

    Raises NotStreamed for what is not known here, and ModelError for what does not fit the base.
    """
    groups = skeleton.tied(model)
    if (stage / TENSORS_CONFIG).is_file():
        stages.lay_over(model, (stage,), base, merge=False, trainable=False)  # checks that it fits
        tensors = contents(stage / TENSORS)
        return {groups[name][0]: [Replaced(tensor=tensor)] for name, tensor in tensors.items()}
    if not (stage / ADAPTER).is_file():
        raise NotStreamed(f"{stage} holds no {ADAPTER}")
    stages.check_tiny(stage, ADAPTER_CONFIG, base)
    return _untied(_of_adapter(stage, model), groups, stage)


def _of_adapter(stage: Path, model: Any) -> Changes:
    shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters(remove_duplicate=False)}
    laid = _laid(stage, model)
    left = contents(stage / ADAPTER)
    found: Changes = {}
    for name, module in laid.named_modules():
        if type(module) is ModulesToSaveWrapper:
            _check_there([f"{name}.{part}" for part, _ in module.original_module.named_parameters()], left, stage)
        elif type(module) in (Linear, Embedding, ParamWrapper):
            parameter = _parameter_of(name, module)
            added = _of_layer(module, stage, {key: left.pop(key) for key in _keys(name, module, left, stage)})
            found[parameter] = [added]
        elif isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper):
            raise NotStreamed(f"{stage}: {name} is a {type(module).__name__}")
    for key, tensor in left.items():  # biases, whole modules, embeddings saved beside an adapter
        parameter = key.removeprefix(_PREFIX).replace(".base_layer", "")
        if shapes.get(parameter) != tensor.shape or tensor.kind not in FLOATS:
            raise NotStreamed(f"{stage}: '{key}' is not known")
        found[parameter] = [Replaced(tensor=tensor), *found.get(parameter, [])]
    return found


def _laid(stage: Path, model: Any) -> Any:
    """`model` with the layers of the adapter, those without content, too."""
    config = PeftConfig.from_pretrained(str(stage))
    if type(config) is not LoraConfig:
        raise NotStreamed(f"{stage} is no LoRA adapter")
    if config.init_lora_weights not in _PLAIN_BEGINNINGS or config.layer_replication:
        raise NotStreamed(f"{stage} does not belong to the base weights as they are")
    config.init_lora_weights, config.base_model_name_or_path = False, None
    try:
        with stages.false_alarms_off():
            return get_peft_model(model, config, low_cpu_mem_usage=True, autocast_adapter_dtype=False)
    except (RuntimeError, ValueError, KeyError) as error:
        raise NotStreamed(f"{stage}: {str(error).splitlines()[0]}") from error


def _parameter_of(name: str, module: Any) -> str:
    own = name.removeprefix(_PREFIX).replace(".base_layer", "")
    return f"{own}.{module.parameter_name if type(module) is ParamWrapper else 'weight'}"


def _keys(name: str, module: Any, there: dict[str, Stored], stage: Path) -> list[str]:
    """The names in the file of the tensors of one layer: A, B, and DoRA's magnitude."""
    if type(module) is Embedding:
        keys = [f"{name}.lora_embedding_A", f"{name}.lora_embedding_B"]
    else:
        keys = [f"{name}.lora_A.weight", f"{name}.lora_B.weight"]
    if module.lora_variant:
        keys.append(f"{name}.lora_magnitude_vector")
    _check_there(keys, there, stage)
    return keys


def _check_there(keys: list[str], there: dict[str, Stored], stage: Path) -> None:
    if absent := [key for key in keys if key not in there or there[key].kind not in FLOATS]:
        raise NotStreamed(f"{stage}: '{absent[0]}' is not there")


def _of_layer(module: Any, stage: Path, tensors: dict[str, Stored]) -> Change:
    """What the layer adds to its weight; raises NotStreamed for a layer that peft merges in another way."""
    variant = module.lora_variant.get(_NAME)
    if type(variant) not in (type(None), DoraLinearVariant, DoraEmbeddingVariant) or module.lora_bias[_NAME]:
        raise NotStreamed(f"{stage} is LoRA of a kind that is not known")
    if [tensor.shape for tensor in tensors.values()] != _shapes(module):
        raise NotStreamed(f"{stage} does not fit the base model's shapes")
    first, second, *rest = (tensor.whole() for tensor in tensors.values())
    across = type(module) is Embedding or module.fan_in_fan_out  # the weight is [inputs, outputs]
    added = _product(module, first, second, across)
    return Rescaled(added=added, magnitude=rest[0], by_column=across) if rest else added


def _shapes(module: Any) -> list[tuple[int, ...]]:
    """What peft made ready for this layer of the base: A, B, and DoRA's magnitude."""
    if type(module) is Embedding:
        weights = [module.lora_embedding_A[_NAME], module.lora_embedding_B[_NAME]]
    else:
        weights = [module.lora_A[_NAME].weight, module.lora_B[_NAME].weight]
    weights += [module.lora_magnitude_vector[_NAME].weight] if module.lora_variant else []
    return [tuple(weight.shape) for weight in weights]


def _product(module: Any, first: Tensor, second: Tensor, across: bool) -> Added:
    """A [rank, inputs] and B [outputs, rank] as the factors of what is added; of experts, of each one's matrix."""
    scale = float(module.scaling[_NAME])
    experts = module.num_experts if type(module) is ParamWrapper else 1
    if experts > 1:
        first = first.view(experts, -1, first.shape[-1])
        second = second.view(second.shape[0], -1, experts).permute(2, 0, 1)
        across = not module._did_swap_in_out_features
    else:
        first, second = first.unsqueeze(0), second.unsqueeze(0)
    left, right = (first.mT, second.mT) if across else (second, first)
    return Added(left=left.contiguous(), right=right.contiguous(), scale=scale)


def _untied(found: Changes, groups: dict[str, list[str]], stage: Path) -> Changes:
    """By the first name of each parameter; one that has several names must be changed alike under each."""
    result: Changes = {}
    for parameter, changes in found.items():
        names = groups[parameter]
        if not all(_same(changes, found.get(name, [])) for name in names):
            raise NotStreamed(f"{stage} changes {parameter} alone, which the base has in common with {names}")
        result[names[0]] = changes
    return result


def _same(some: list[Change], others: list[Change]) -> bool:
    if some is others:
        return True
    match some, others:
        case [Replaced(tensor=one)], [Replaced(tensor=other)]:
            return one.kind == other.kind and all(a == b for a, b in _side_by_side(one, other))
    return False


def _side_by_side(one: Stored, other: Stored) -> Iterator[tuple[bytes, bytes]]:
    return zip(one.bytes(), other.bytes(), strict=True)

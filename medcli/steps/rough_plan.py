"""What a run will take, roughly, before there is anything to rehearse: memory, time, disk."""

import re
from dataclasses import dataclass
from pathlib import Path

from medcli.core.base_models import BaseModel, base_models
from medcli.core.errors import UnknownNameError
from medcli.core.gpus import OF_DATA_SHEET, OF_PRODUCT, card_of
from medcli.core.model_ref import TINY
from medcli.core.recipes import recipes
from medcli.core.train_settings import TrainSettings
from medcli.steps.first_look import Look
from medcli.steps.hardware import Hardware, processor_speed

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|M)\b", re.IGNORECASE)
_OF_TINY = 0.01  # billions: see engine/tiny.py
_BYTES = 2.0  # of a parameter on disk
_CHECKPOINT_OF_ALL = 14.0  # bytes a parameter: weights in bf16, AdamW's moments and master weights in fp32


@dataclass(frozen=True, slots=True, kw_only=True)
class RoughPlan:
    """Sizes in GiB; `hours` from and to, None where the amount of data or the speed is unknown."""

    memory: float
    available: float
    hours: tuple[float, float] | None
    download: float
    checkpoint: float
    free_disk: float

    @property
    def fits(self) -> bool:
        return self.memory <= self.available


def model_of(reference: str) -> BaseModel | None:
    """The size of a model by our table, its files, or its name ("…-7B-…"); None when nothing tells."""
    if reference == TINY:
        return BaseModel(name=TINY, billions=_OF_TINY, licence="Apache-2.0")
    if known := base_models().get(reference):
        return known
    files = list(Path(reference).expanduser().glob("*.safetensors")) if reference else []
    if files:
        size = sum(file.stat().st_size for file in files)
        return BaseModel(name=reference, billions=size / _BYTES / 1e9, licence="unknown")
    if found := _SIZE.search(reference):
        billions = float(found[1]) / (1000 if found[2].upper() == "M" else 1)
        return BaseModel(name=reference, billions=billions, licence="unknown")
    return None


def rough_plan(model: BaseModel, method: str, quant: str, recipe: str, look: Look, hardware: Hardware) -> RoughPlan:
    """The plan of training `model` with `method` on the data that was looked at."""
    whole = method == "full"
    is_here = model.name == TINY or Path(model.name).expanduser().is_dir()
    return RoughPlan(
        memory=model.memory("full" if whole else quant),
        available=hardware.for_training,
        hours=_hours(model, look, recipe, hardware, whole=whole),
        download=0.0 if is_here else model.download,
        checkpoint=model.billions * 1e9 * (_CHECKPOINT_OF_ALL if whole else 0.03 * _CHECKPOINT_OF_ALL) / 2**30,
        free_disk=hardware.free_disk,
    )


def _hours(model: BaseModel, look: Look, recipe: str, hardware: Hardware, *, whole: bool) -> tuple[float, float] | None:
    if look.characters is None:
        return None
    given = recipes()[recipe].settings if recipe else {}
    default = TrainSettings.__dataclass_fields__["epochs"].default
    operations = model.operations(look.characters, whole=whole) * float(given.get("epochs", default))
    if not hardware.gpus:
        speed, shares = processor_speed(), OF_PRODUCT
    else:
        try:
            card = card_of(max(hardware.gpus, key=lambda gpu: gpu.free).name)
        except UnknownNameError:
            return None  # its speed is in no table
        speed, shares = card.tflops[card.precision if card.precision in card.tflops else "fp16"] * 1e12, OF_DATA_SHEET
    return operations / (speed * shares[-1]) / 3600, operations / (speed * shares[0]) / 3600

"""Short runs of the engine's own tuners on a model of a few thousand parameters and a dozen random samples."""

from dataclasses import dataclass, field

import numpy
import torch
from safetensors.torch import load_file

from medcli.core.report import Silent
from medcli.core.run_folder import RunFolder
from medcli.core.train_settings import TrainSettings
from medcli.core.tuner_settings import FreezeSettings, LoraSettings, PrefixSettings
from medcli.engine import attention, freeze, full, lora, prefix, trainer
from medcli.engine import device as devices
from medcli.engine.pack import Example, Examples
from tests import tiny_model

TUNERS = {"lora": lora, "freeze": freeze, "full": full, "ptuning": prefix}
_SETTINGS = {"lora": LoraSettings, "freeze": FreezeSettings, "full": TrainSettings, "ptuning": PrefixSettings}
_OWN = {"freeze": {"layers": "last:1", "trunk_cache": 0.0}, "ptuning": {"length": 4, "packing": False}}


@dataclass
class Notes(Silent):
    """A report that remembers what a person would have read."""

    notes: list[str] = field(default_factory=list)

    def note(self, text):
        self.notes.append(text)


def example(length, prompt, seed):
    ids = numpy.random.default_rng(seed).integers(4, 700, length).astype(numpy.int32)
    return Example(ids=ids, trained=numpy.arange(length) >= prompt)


def examples(count=12, seed=0, longest=40):
    lengths = numpy.random.default_rng(seed).integers(6, longest, count)
    return Examples(example(int(length), int(length) // 3, seed + n) for n, length in enumerate(lengths))


def settings(tuner="lora", **values):
    shared = {"dataset": ("few",), "batch": 4, "precision": "fp32", "learning_rate": 0.01, "schedule": "constant"}
    return _SETTINGS[tuner](
        **shared | {"warmup": 0.0, "max_steps": 4, "save_every": 100, **_OWN.get(tuner, {}), **values}
    )


def prepared(folder, wanted, tuner="lora"):
    devices.seed_all(wanted.seed)
    loaded = tiny_model.loaded(folder, attention.NAME if wanted.packing else "sdpa")
    return TUNERS[tuner].prepare(loaded, wanted)


def train(folder, path, wanted, tuner="lora", *, data=None, valid=None, report=None, touch=lambda model: None):
    """The outcome of a run in `path`; `touch` may lay hooks on the model before it begins."""
    loaded = prepared(folder, wanted, tuner)
    touch(loaded.model)
    run = RunFolder(path)
    path.mkdir(parents=True, exist_ok=True)
    return TUNERS[tuner].train(loaded, data or examples(), valid, wanted, run, report or Silent())


def descend(folder, path, wanted, tuner, data, *, report=None, touch=lambda model: None):
    """The outcome of a run by plain descent, whose steps are in proportion to the gradients, and its weights."""
    loaded = prepared(folder, wanted, tuner)
    touch(loaded.model)
    path.mkdir(parents=True)
    outcome = trainer.train(
        loaded, data, None, wanted, RunFolder(path), report or Silent(),
        optimizer=lambda model, kind, arguments: torch.optim.SGD(model.parameters(), lr=arguments["lr"]),
    )  # fmt: skip
    return outcome, {name: weight.detach() for name, weight in loaded.model.named_parameters() if weight.requires_grad}


def saved(path):
    """All tensors that a run saved."""
    files = sorted([*path.glob("adapter/*.safetensors"), *path.glob("model/*.safetensors")])
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def difference(one, other):
    """The largest difference of two sets of tensors."""
    assert one.keys() == other.keys()
    assert one
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


def same(one, other):
    assert one.keys() == other.keys()
    return bool(one) and all(torch.equal(one[name], other[name]) for name in one)

"""Models that share a base say what each says when it is loaded alone, whoever spoke before."""

from itertools import combinations

import pytest
import torch

from medcli.core.model_ref import ModelRef, resolve
from medcli.core.record import Message
from medcli.core.report import Silent
from medcli.core.serving import Request
from medcli.core.speaker import Sampling
from medcli.core.tuner_settings import LoraSettings
from medcli.engine import freeze, lora
from medcli.engine.load import load
from medcli.engine.scheduler import open_scheduler
from medcli.engine.slots import Slots
from medcli.engine.speaker import LocalSpeaker
from medcli.engine.voices import Place, open_voices
from tests import tiny_model
from tests.engine.test_prefix import prefixed
from tests.engine.test_scheduler import answered

GREEDY = Sampling(max_tokens=12)
PROMPTS = [[Message(role="user", content=text)] for text in ("头痛", "a", "得了痛风，症状是什么？" * 5)]
CPU = Place(device=torch.device("cpu"))


def adapted(base, folder, seed):
    """A LoRA that changes what is said."""
    made = lora.prepare(tiny_model.loaded(base), LoraSettings(dataset=("t",), precision="fp32"))
    generator = torch.Generator().manual_seed(seed)
    for name, weight in made.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2, generator=generator)
    made.model.save_pretrained(folder)
    return folder


def thawed(base, folder):
    """Tensors in the place of the base's own."""
    made = tiny_model.loaded(base)
    made.model.requires_grad_(False)
    layer = made.model.model.layers[-1]
    layer.requires_grad_(True)
    with torch.no_grad():
        for weight in layer.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    freeze._save(made, folder)
    return folder


@pytest.fixture(scope="module")
def models(tiny_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("voices")
    return {
        "a.1": resolve(str(adapted(tiny_folder, folder / "a", 1))),
        "base": resolve(str(tiny_folder)),
        "b": resolve(str(adapted(tiny_folder, folder / "b", 2))),
        "frozen": resolve(str(thawed(tiny_folder, folder / "frozen"))),
        "prefix": ModelRef(base=str(tiny_folder), adapters=(prefixed(tiny_folder, folder / "prefix")[1],)),
    }


@pytest.fixture(scope="module")
def alone(models):
    return {name: load(ref, device=CPU.device, report=Silent()) for name, ref in models.items()}


def said(loaded):
    return LocalSpeaker(loaded).replies(PROMPTS, GREEDY, lambda done: None)


def logits(loaded):
    """After a text, [vocabulary]."""
    return Slots(loaded).read(0, [range(300, 340)], [0])[0]


def test_each_says_its_own_in_any_order(models, alone):
    voices = open_voices(models, CPU, Silent())
    assert len({id(voice.loaded.causal_lm) for voice in voices.values()}) == 1
    expected = {name: logits(loaded) for name, loaded in alone.items()}
    for name in [*models, *reversed(models), "a.1", "prefix", "a.1", "frozen", "prefix", "base"]:
        voices[name].begin()
        torch.testing.assert_close(logits(voices[name].loaded), expected[name], rtol=1e-4, atol=1e-5)
    for one, other in combinations(expected.values(), 2):
        assert float((one - other).abs().max()) > 0.01


def test_they_are_served_side_by_side(models, alone):
    scheduler = open_scheduler(models, device="cpu", slots=4, waiting=20, report=Silent())
    try:
        asked = [(name, place) for place in range(len(PROMPTS)) for name in models]
        requests = [Request(model=name, prompt=tuple(PROMPTS[place]), sampling=GREEDY) for name, place in asked]
        found = answered(scheduler, *requests)
        expected = {name: said(loaded) for name, loaded in alone.items()}
        assert [parts[-1].text for parts in found] == [expected[name][place] for name, place in asked]
    finally:
        scheduler.close(0)


def test_stages_beneath_are_shared_as_well(models, tiny_folder, tmp_path):
    """Two runs that both went on from a third one."""
    below = models["a.1"].adapters
    refs = {
        name: ModelRef(base=str(tiny_folder), adapters=(*below, *models[name].adapters)) for name in ("b", "frozen")
    }
    alone = {name: load(ref, device=CPU.device, report=Silent()) for name, ref in refs.items()}
    voices = open_voices(refs, CPU, Silent())
    assert voices["b"].loaded.causal_lm is voices["frozen"].loaded.causal_lm
    for name in ("frozen", "b", "frozen"):
        voices[name].begin()
        torch.testing.assert_close(logits(voices[name].loaded), logits(alone[name]), rtol=1e-4, atol=1e-5)

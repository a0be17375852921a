"""Every family trains: packed where its attention allows it, else after one message, with --no-packing."""

import gc
from dataclasses import replace

import numpy
import pytest
import torch

from medcli.core.errors import ModelError
from medcli.core.model_ref import ModelRef
from medcli.core.record import Message
from medcli.core.report import Silent
from medcli.core.run_folder import RunFolder
from medcli.core.speaker import Sampling
from medcli.engine import agreement, attention
from medcli.engine.load import load
from medcli.engine.pack import Example, Examples
from medcli.engine.speaker import LocalSpeaker
from medcli.methods import freeze, full, lora
from tests import families

CPU = torch.device("cpu")
CHANCE = numpy.random.default_rng(0)
# Longer than the families' windows of 16 tokens, so that one who looks past them is found.
EXAMPLES = [
    Example(ids=CHANCE.integers(260, 800, length).astype(numpy.int32), trained=numpy.arange(length) > length // 2)
    for length in (20, 31, 45)
]
HOW = {"max_steps": 2, "batch": 3, "precision": "fp32", "save_every": 9, "warmup": 0.0, "schedule": "constant",
       "learning_rate": 0.01}  # fmt: skip
QUESTION = [[Message(role="user", content="头痛怎么办？")]]
GREEDY = Sampling(temperature=0.0, max_tokens=4)


@pytest.fixture(scope="module", autouse=True)
def libraries_out_of_sight():
    """Each training begins with a collection of garbage, which walks through all of torch for half a second."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def opened(folder, **given):
    ref = ModelRef(base=str(folder), **given.pop("ref", {}))
    return load(ref, device=CPU, report=Silent(), template="med-tiny", **given)


def trained(method, loaded, run, **settings):
    """The model after two steps, and what each step logged."""
    values = method.Settings(dataset=("x",), **{**HOW, **settings})
    torch.manual_seed(0)
    prepared = method.prepare(loaded, values)
    method.train(prepared, Examples(iter(EXAMPLES)), None, values, run, Silent())
    return replace(prepared, model=prepared.model.eval()), run.metrics()


@torch.no_grad()
def logits(loaded):
    return loaded.model(input_ids=torch.arange(300, 330)[None]).logits


@pytest.mark.parametrize("family", families.PACKED)
def test_rows_without_padding_learn_what_padded_ones_learn(family, tmp_path):
    folder = families.write(family, tmp_path / "model")
    packed = opened(folder, attention=attention.NAME)
    agreement.check(packed, EXAMPLES)
    run = RunFolder(tmp_path / "packed")
    after, rows = trained(lora, packed, run)
    _, plain = trained(lora, opened(folder), RunFolder(tmp_path / "padded"), packing=False, max_steps=1)
    assert rows[0]["loss"] == pytest.approx(plain[0]["loss"], rel=1e-5)
    assert rows[0]["grad_norm"] == pytest.approx(plain[0]["grad_norm"], rel=1e-3)
    assert rows[1]["loss"] < rows[0]["loss"]
    again = opened(folder, ref={"adapters": (run.adapter,)}, merge=True)
    with attention.own(after.causal_lm):
        torch.testing.assert_close(logits(again), logits(after), rtol=1e-3, atol=1e-3)
    assert len(LocalSpeaker(again).replies(QUESTION, GREEDY, lambda done: None)) == 1


@pytest.mark.parametrize("family", families.PADDED)
def test_what_needs_padding_says_so_and_trains_with_it(family, tmp_path):
    folder = families.write(family, tmp_path / "model")
    with pytest.raises(ModelError) as error:
        agreement.check(opened(folder, attention=attention.NAME), EXAMPLES)
    assert "--no-packing" in error.value.hint
    _, rows = trained(lora, opened(folder), RunFolder(tmp_path / "run"), packing=False)
    assert rows[1]["loss"] < rows[0]["loss"]


# What is shaped like Llama takes its way; the others are each unlike it in its own manner.
UNLIKE = ("bloom", "deepseek_v3", "gemma2", "gemma3", "gpt2", "mixtral", "phi", "qwen3_next")
OWN_LAYERS = [
    pytest.param(family, marks=[] if family in UNLIKE else pytest.mark.slow)
    for family in (*families.PACKED, *families.PADDED)
]


@pytest.mark.parametrize("family", OWN_LAYERS)
def test_its_own_layers_learn_and_come_back(family, tmp_path):
    folder = families.write(family, tmp_path / "model")
    packing = family in families.PACKED
    for method, how in ((freeze, {"layers": "last:1"}), (full, {})):
        run = RunFolder(tmp_path / method.__name__)
        start = opened(folder, attention=attention.NAME if packing else None)
        after, rows = trained(method, start, run, packing=packing, **how)
        assert rows[1]["loss"] < rows[0]["loss"]
        again = opened(folder, ref={"adapters": (run.adapter,)}) if method is freeze else opened(run.model)
        weights = dict(again.model.named_parameters())
        assert all(torch.equal(weight, weights[name]) for name, weight in after.model.named_parameters())
        assert len(LocalSpeaker(again).replies(QUESTION, GREEDY, lambda done: None)) == 1


def test_experts_that_are_one_tensor_take_plain_adapters(tmp_path):
    loaded = opened(families.write("mixtral", tmp_path / "model"))
    with pytest.raises(ModelError, match="does not fit MixtralForCausalLM") as error:
        lora.prepare(loaded, lora.Settings(dataset=("x",), dropout=0.1))
    assert "--targets" in error.value.hint

"""Every family trains: packed where its attention allows it, else after one message, with --no-packing."""

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
HOW = {"max_steps": 2, "batch": 3, "precision": "fp32", "save_every": 9, "warmup": 0.0, "schedule": "constant"}
QUESTION = [[Message(role="user", content="头痛怎么办？")]]
GREEDY = Sampling(temperature=0.0, max_tokens=4)


def opened(folder, **given):
    return load(ModelRef(base=str(folder), **given.pop("ref", {})), device=CPU, report=Silent(), **given)


def trained(method, loaded, run, **settings):
    """The model after two steps, and the loss before each."""
    values = method.Settings(dataset=("x",), **{**HOW, **settings})
    prepared = method.prepare(loaded, values)
    method.train(prepared, Examples(iter(EXAMPLES)), None, values, run, Silent())
    return replace(prepared, model=prepared.model.eval()), [row["loss"] for row in run.metrics()]


def answer(loaded):
    return LocalSpeaker(loaded).replies(QUESTION, GREEDY, lambda done: None)


@pytest.mark.parametrize("family", families.PACKED)
def test_rows_without_padding_learn_what_padded_ones_learn(family, tmp_path):
    folder = families.write(family, tmp_path / "model")
    packed = opened(folder, attention=attention.NAME)
    agreement.check(packed, EXAMPLES)
    run = RunFolder(tmp_path / "packed")
    after, losses = trained(lora, packed, run, learning_rate=0.01)
    _, plain = trained(lora, opened(folder), RunFolder(tmp_path / "padded"), learning_rate=0.01, packing=False)
    assert losses == pytest.approx(plain, rel=1e-4)
    assert losses[1] < losses[0]
    again = opened(folder, ref={"adapters": (run.adapter,)})
    assert answer(again) == answer(replace(again, model=after.model))


@pytest.mark.parametrize("family", families.PADDED)
def test_what_needs_padding_says_so_and_trains_with_it(family, tmp_path):
    folder = families.write(family, tmp_path / "model")
    with pytest.raises(ModelError) as error:
        agreement.check(opened(folder, attention=attention.NAME), EXAMPLES)
    assert "--no-packing" in error.value.hint
    _, losses = trained(lora, opened(folder), RunFolder(tmp_path / "run"), learning_rate=0.01, packing=False)
    assert losses[1] < losses[0]


@pytest.mark.parametrize("family", [*families.PACKED, *families.PADDED])
def test_its_own_layers_learn_and_come_back(family, tmp_path):
    folder = families.write(family, tmp_path / "model")
    packing = family in families.PACKED
    for method, how in ((freeze, {"layers": "last:1"}), (full, {})):
        run = RunFolder(tmp_path / method.__name__)
        start = opened(folder, attention=attention.NAME if packing else None)
        after, losses = trained(method, start, run, learning_rate=0.01, packing=packing, **how)
        assert losses[1] < losses[0]
        again = opened(folder, ref={"adapters": (run.adapter,)}) if method is freeze else opened(run.model)
        weights = dict(again.model.named_parameters())
        assert all(torch.equal(weight, weights[name]) for name, weight in after.model.named_parameters())
        assert len(answer(again)) == 1

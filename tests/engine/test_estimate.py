"""Bytes and operations against the real objects of a tiny model."""

from dataclasses import replace

import numpy
import pytest
import torch

from medcli.core.model_ref import ModelRef
from medcli.core.report import Silent
from medcli.engine import attention, estimate
from medcli.engine.load import load
from medcli.engine.outline import outline
from medcli.engine.pack import Blocks, Example, Examples, side_by_side
from medcli.methods import freeze, full, lora

CPU = torch.device("cpu")
TARGET = estimate.Target(on_gpu=False, precision="fp32", overhead=estimate.exactly(0))


def samples(*lengths):
    return Examples(
        Example(ids=numpy.full(length, 7, numpy.int32), trained=numpy.arange(length) > 2) for length in lengths
    )


def outlined(folder, method, settings):
    return method.prepare(
        outline(ModelRef(base=str(folder)), device=CPU, report=Silent(), attention=attention.NAME), settings
    )


@pytest.mark.parametrize(("method", "own"), [(lora, {}), (freeze, {"layers": "last:1"}), (full, {})])
def test_gradients_and_optimizer_are_exact(tiny_folder, method, own):
    settings = method.Settings(dataset=("few",), precision="fp32", **own)
    model = method.prepare(
        load(ModelRef(base=str(tiny_folder)), device=CPU, report=Silent(), attention=attention.NAME), settings
    ).model
    batch = side_by_side([samples(40)[0]])
    model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False,
          cu_seq_lens_q=batch["cu_seq_lens_q"], max_length_q=128).logits.sum().backward()  # fmt: skip
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], fused=True)
    optimizer.step()
    planned = outlined(tiny_folder, method, settings).model
    assert estimate.gradient_bytes(planned) == sum(
        weight.grad.nbytes for weight in model.parameters() if weight.grad is not None
    )
    assert estimate.optimizer_bytes(planned) == sum(
        tensor.nbytes for state in optimizer.state.values() for tensor in state.values()
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_weights_are_exact(tiny_folder, precision):
    settings = lora.Settings(dataset=("few",), precision=precision)
    real = lora.prepare(
        load(ModelRef(base=str(tiny_folder)), device=CPU, report=Silent(), attention=attention.NAME), settings
    ).model
    held = sum(tensor.nbytes for tensor in [*real.parameters(), *real.buffers()])
    assert estimate.weight_bytes(outlined(tiny_folder, lora, settings), "none") == held


def test_weights_of_few_bits_are_what_bitsandbytes_keeps(tiny_folder):
    settings = lora.Settings(dataset=("few",), precision="bf16", quant="4bit")
    real = lora.prepare(
        load(ModelRef(base=str(tiny_folder)), device=CPU, report=Silent(), attention=attention.NAME, quant="4bit"),
        settings,
    ).model
    held = sum(tensor.nbytes for tensor in [*real.parameters(), *real.buffers()])
    states = [weight.quant_state for weight in real.parameters() if isinstance(weight, _params4bit())]
    held += sum(state.absmax.nbytes + state.state2.absmax.nbytes for state in states)
    assert len(states) == 14
    assert estimate.weight_bytes(outlined(tiny_folder, lora, settings), "4bit") == pytest.approx(held, rel=0.005)
    eight = outlined(tiny_folder, lora, replace(settings, quant="8bit"))
    assert estimate.weight_bytes(eight, "8bit") > estimate.weight_bytes(eight, "4bit")


def _params4bit():
    from bitsandbytes.nn import Params4bit

    return Params4bit


def test_rows_are_the_average_the_longest_and_one_between():
    settings = lora.Settings(dataset=("few",), batch=2)
    average, longest, usual = estimate.rows(samples(10, 20, 30, 40, 500, 600), settings, steps=3)
    assert sorted(len(example.ids) for example in longest) == [500, 600]
    assert max(len(example.ids) for example in average) <= 500  # the mean is 200
    assert 600 < usual <= 1152  # a row is a multiple of 128
    assert usual % 128 == 0


def test_rows_of_blocks_are_blocks():
    settings = lora.Settings(dataset=("few",), batch=1)
    blocks = Blocks(samples(30, 30, 30, 60), 64)
    average, longest, usual = estimate.rows(blocks, settings, steps=2)
    assert [sum(len(example.ids) for example in row) for row in (average, longest)] == [60, 60]
    assert usual == 128
    assert sum(len(example.ids) for example in estimate.longest_row(blocks, replace(settings, max_length=32))) == 32


def test_an_estimate_adds_up(tiny_folder):
    settings = lora.Settings(dataset=("few",), batch=2, precision="fp32")
    planned = outlined(tiny_folder, lora, settings)
    found = estimate.estimate(planned, settings, samples(20, 60, 100, 400), quant="none", target=TARGET, steps=6)
    parts, total = dict(found.parts), found.total
    assert not found.guessed
    steady = parts["weights"].low + parts["optimizer"].low
    for name in ("activations", "logits and loss"):
        assert 0 < parts[name].low <= parts[name].expected <= parts[name].high
    assert steady + parts["activations"].low < total.low <= total.expected < total.high
    assert total.low <= sum(part.low for part in parts.values()) * 1.5
    row = estimate.longest_row(samples(20, 60, 100, 400), settings)
    assert estimate.total_bytes(planned, settings, row, quant="none", target=TARGET) == pytest.approx(total.high)
    twice = estimate.estimate(planned, settings, samples(20, 60, 100, 400), quant="none", target=TARGET, steps=12)
    assert twice.operations == pytest.approx(2 * found.operations)


def test_a_model_that_cannot_be_rehearsed_is_guessed(tiny_folder):
    """Numbers decide its shapes, as where experts are chosen."""
    settings = full.Settings(dataset=("few",), batch=1, precision="fp32")
    planned = outlined(tiny_folder, full, settings)
    planned.model.register_forward_pre_hook(
        lambda module, inputs, given: [None] * int(given["input_ids"].max()) and None, with_kwargs=True
    )
    found = estimate.estimate(planned, settings, samples(50, 128), quant="none", target=TARGET, steps=2)
    assert found.guessed
    weights = sum(weight.numel() for weight in planned.model.parameters())
    assert found.operations == pytest.approx(178 * 6 * weights)


def test_speed_and_hours():
    assert 1e8 < estimate.measured_speed(CPU, "fp32") < 1e13
    found = estimate.hours(3600e12, 1e12, (0.25, 0.5, 1.0))
    assert (found.low, found.expected, found.high) == (1, 2, 4)


@pytest.mark.parametrize(
    ("strategy", "weights", "rest"), [("ddp", 1, 1), ("zero2", 1, 4), ("zero3", 4, 4), ("fsdp2", 4, 4)]
)
def test_what_is_shared_out_is_counted_once(tiny_folder, strategy, weights, rest):
    def found(**given):
        settings = full.Settings(dataset=("few",), precision="fp32", **given)
        model = outlined(tiny_folder, full, settings)
        return estimate.estimate(model, settings, samples(40, 50, 60), quant="none", target=TARGET, steps=3)

    alone, shared = found(), found(devices=2, nodes=2, strategy=strategy)
    share = {name: part.low / dict(shared.parts)[name].low for name, part in alone.parts if part.low}
    assert (share["weights"], share["gradients"], share["optimizer"]) == (weights, rest, rest)
    assert share["activations"] == 1
    saved = alone.total.low - shared.total.low
    gone = sum(part.low * (1 - 1 / share[name]) for name, part in alone.parts if name in ("gradients", "optimizer"))
    if strategy in ("ddp", "zero2"):
        assert saved == pytest.approx(gone)
    else:
        assert 0 < saved - gone < dict(alone.parts)["weights"].low  # two layers are whole at a time

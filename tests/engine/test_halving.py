"""Out of memory: the step is done again in pieces, and the weights are those of a machine with memory enough."""

import pytest
import torch

from medcli.core.errors import DeviceError
from medcli.core.run_folder import RunFolder
from medcli.engine import trainer
from medcli.engine.halving import cut
from medcli.engine.pack import Examples
from tests.engine import small_runs
from tests.engine.small_runs import Notes, descend, difference, example, examples, saved, settings, train

TOKENS = 128  # of a whole row: batches of 4 are 128 or 256 tokens long, for rows are rounded up
PLAIN = {"learning_rate": 0.1, "max_grad_norm": 0.0}


def lengths_of(pieces):
    return [[len(one.ids) for one in piece] for piece in pieces]


def test_pieces_are_whole_examples_in_order_and_about_equal():
    whole = [example(length, 1, length) for length in (40, 10, 10, 20, 41, 39)]
    assert lengths_of(cut(whole, 1)) == [[40, 10, 10, 20, 41, 39]]
    assert lengths_of(cut(whole, 2)) == [[40, 10, 10, 20], [41, 39]]
    assert lengths_of(cut(whole, 4)) == [[40], [10, 10, 20], [41], [39]]
    assert lengths_of(cut(whole, 1024)) == [[40], [10], [10], [20], [41], [39]]


class Full:
    """A device on which so many tokens of a batch fit; laid on a model as a hook, it counts how often they did not."""

    def __init__(self, tokens):
        self.tokens, self.failures = tokens, 0

    def __call__(self, model):
        model.register_forward_pre_hook(self._forward, with_kwargs=True)

    def _forward(self, module, arguments, keywords):
        if module.training and int(keywords["input_ids"].numel()) > self.tokens:
            self.failures += 1
            raise torch.OutOfMemoryError("no memory")


@pytest.mark.parametrize("tuner", ["lora", "full"])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_weights_are_those_of_enough_memory(tiny_folder, tmp_path, tuner, accumulate):
    wanted = settings(tuner, batch=8, accumulate=accumulate, max_steps=3, **PLAIN)
    data, report, device = examples(48, longest=60), Notes(), Full(TOKENS)
    whole, expected = descend(tiny_folder, tmp_path / "enough", wanted, tuner, data)
    outcome, found = descend(tiny_folder, tmp_path / "full", wanted, tuner, data, report=report, touch=device)
    assert 1 <= device.failures <= 3  # the pieces stay small: no step after the first ones fails again
    assert difference(expected, found) < 1e-6
    assert [note for note in report.notes if "memory" in note] == report.notes
    assert len(report.notes) == 1
    assert outcome.tokens == whole.tokens
    assert outcome.facts["micro_batch"] < 8
    assert whole.facts == {}
    rows = RunFolder(tmp_path / "full").metrics()
    assert [row["micro_batch"] for row in rows if "micro_batch" in row][-1] == outcome.facts["micro_batch"]
    losses = [
        [row["loss"] for row in RunFolder(tmp_path / name).metrics() if "loss" in row] for name in ("full", "enough")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_what_a_frozen_trunk_remembers_is_cut_alike(tiny_folder, tmp_path):
    """From the second epoch on the trunk's outputs come from the disk; memory runs out while they are taken there."""
    wanted = settings("freeze", batch=8, max_steps=4, trunk_cache=1.0, **PLAIN | {"learning_rate": 0.01})
    enough, device = tmp_path / "enough", Full(TOKENS)
    train(tiny_folder, enough, wanted, "freeze", data=examples(16, longest=60))
    train(tiny_folder, tmp_path / "full", wanted, "freeze", data=examples(16, longest=60), touch=device)
    assert device.failures
    assert difference(saved(enough), saved(tmp_path / "full")) < 1e-4  # Adam makes more of rounding than plain descent


def test_padded_rows_are_cut_alike(tiny_folder, tmp_path):
    wanted = settings(batch=8, packing=False, **PLAIN)
    device = Full(200)
    _, expected = descend(tiny_folder, tmp_path / "enough", wanted, "lora", examples(32))
    _, found = descend(tiny_folder, tmp_path / "full", wanted, "lora", examples(32), touch=device)
    assert device.failures
    assert difference(expected, found) < 1e-6


class FullAt:
    """Memory runs out once: in the forward, or half-way through the backward, of micro-batch `number`."""

    def __init__(self, number, where):
        self.number, self.where, self.seen, self.failures = number, where, 0, 0

    def __call__(self, model):
        model.register_forward_pre_hook(self._forward)
        layers = [module for name, module in model.named_modules() if name.endswith("layers.1")]
        layers[0].register_forward_hook(self._after)

    def _forward(self, module, arguments):
        self.seen += module.training
        if self.where == "forward" and self.seen == self.number:
            self._fail()

    def _after(self, module, arguments, output):
        if self.where == "backward" and self.seen == self.number:
            output.register_hook(self._fail)

    def _fail(self, gradient=None):
        if not self.failures:
            self.failures += 1
            raise torch.OutOfMemoryError("no memory")


@pytest.fixture(scope="module")
def whole(tiny_folder, tmp_path_factory):
    """Settings of 3 micro-batches a step, and the weights they lead to with memory enough."""
    wanted = settings("full", batch=4, accumulate=3, max_steps=3, **PLAIN)
    _, weights = descend(tiny_folder, tmp_path_factory.mktemp("whole") / "enough", wanted, "full", examples(36))
    return wanted, weights


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("number", [1, 2, 4, 6])
def test_a_step_that_breaks_off_begins_again(tiny_folder, tmp_path, whole, where, number):
    """In the first or second micro-batch, whose gradients are there already, or in a later step's."""
    wanted, expected = whole
    device = FullAt(number, where)
    _, found = descend(tiny_folder, tmp_path / "full", wanted, "full", examples(36), touch=device)
    assert device.failures == 1
    assert difference(expected, found) < 1e-6


def test_an_example_too_long_for_the_memory_is_an_error(tiny_folder, tmp_path):
    data = Examples(iter([example(20, 5, 1), example(300, 5, 2), example(20, 5, 3), example(22, 5, 4)]))
    with pytest.raises(DeviceError, match="not enough memory") as error:
        train(tiny_folder, tmp_path / "one", settings(), data=data, touch=Full(TOKENS))
    assert "--max-length" in error.value.hint


def test_whoever_is_told_the_batches_is_told_the_pieces(tiny_folder, tmp_path):
    wanted = settings(batch=8, neftune=5.0, max_steps=1)
    told = []
    loaded = small_runs.prepared(tiny_folder, wanted)
    Full(TOKENS)(loaded.model)
    tmp_path.joinpath("one").mkdir()
    trainer.train(
        loaded, examples(8), None, wanted, RunFolder(tmp_path / "one"), Notes(),
        before=[lambda batch, training: told.append(sorted(one.number for one in batch))],
    )  # fmt: skip
    assert told[0] == list(range(8))
    rest = told[1:]
    assert len(rest) > 1
    assert sorted(number for piece in rest for number in piece) == list(range(8))

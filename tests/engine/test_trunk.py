"""The trunk cache: the same weights as without, the trunk computed once, and off, with a reason, where it must be."""

import gc
import shutil
from dataclasses import replace

import numpy
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from medcli.core.report import Silent
from medcli.core.run_folder import RunFolder
from medcli.engine import attention, freeze
from medcli.engine.pack import Blocks, Example, Examples
from medcli.engine.trunk import skippable
from medcli.engine.trunk_cache import Memory, Rows
from medcli.methods.freeze import Settings
from tests import tiny_model

LAYERS, SAMPLES, BATCH = 4, 7, 2
EPOCH = 4  # steps
SETTINGS = Settings(dataset=("none",), layers="last:2", batch=BATCH, precision="fp32", learning_rate=1e-3)


class Notes(Silent):
    """Keeps the notes; stops the run at a step, as a crash would, when told to."""

    def __init__(self, crash_at=0, then=lambda: None):
        self.notes, self._crash_at, self._then = [], crash_at, then

    def note(self, text):
        self.notes.append(text)

    def advance(self, done):
        if self._crash_at and done == self._crash_at:
            self._then()
            raise RuntimeError("crash")

    @property
    def said(self):
        return "\n".join(text for text in self.notes if "frozen" in text)


@pytest.fixture(scope="session")
def bases(tmp_path_factory):
    """A tiny model of each family, as it was loaded."""
    home = tmp_path_factory.mktemp("bases")
    return {family: tiny_model.loaded(tiny_model.write(home / family, family)) for family in tiny_model.FAMILIES}


@pytest.fixture(scope="module", autouse=True)
def fast_collections():
    """Each run collects garbage among all that the libraries have made: 0.25 s."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def loaded(bases, family="llama", *, packing=True, **changes):
    """A random model of LAYERS layers, the same at each call."""
    base = bases[family]
    table = {**base.model.config.to_dict(), "num_hidden_layers": LAYERS, "layer_types": None, **changes}
    torch.manual_seed(1)
    config = AutoConfig.for_model(**{key: value for key, value in table.items() if value is not None})
    how = attention.NAME if packing else None
    return replace(base, model=AutoModelForCausalLM.from_config(config, attn_implementation=how).eval())


@pytest.fixture
def data():
    return made(SAMPLES, seed=3)


def made(count, seed):
    chance = numpy.random.default_rng(seed)
    lengths = chance.integers(5, 40, count)
    return Examples(
        Example(ids=chance.integers(5, 700, length).astype(numpy.int32), trained=numpy.arange(length) > length // 2)
        for length in lengths
    )


def trained(model, data, settings, home, report=None, valid=None):
    """The weights after a run, those that learnt."""
    run = RunFolder(home)
    home.mkdir(parents=True, exist_ok=True)
    outcome = freeze.train(freeze.prepare(model, settings), data, valid, settings, run, report or Notes())
    return {name: w.detach() for name, w in model.model.named_parameters() if w.requires_grad}, outcome


def count_calls(model):
    """How often the first layer has been computed, as a list that grows."""
    calls = []
    freeze.decoder_blocks(model.model)[0].mlp.register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize("packing", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("family", tiny_model.FAMILIES)
def test_the_same_weights_as_without_and_the_trunk_computed_once(project, tmp_path, bases, data, family, packing):
    settings = replace(SETTINGS, packing=packing)
    plain, _ = trained(
        loaded(bases, family, packing=packing), data, replace(settings, trunk_cache=0.0), tmp_path / "plain"
    )
    model, report = loaded(bases, family, packing=packing), Notes()
    calls, before = count_calls(model), {name: w.clone() for name, w in model.model.named_parameters()}
    cached, outcome = trained(model, data, settings, tmp_path / "cached", report)
    assert "from epoch 2 on the 2 lowest frozen layers are read from disk" in report.said
    assert outcome.steps == 3 * EPOCH
    assert len(calls) == EPOCH + 2  # the trial before the run computes it twice
    assert plain.keys() == cached.keys()
    for name in plain:
        assert torch.allclose(plain[name], cached[name], atol=1e-5, rtol=0), name
        assert not torch.equal(before[name], cached[name]), name


def test_blocks_of_documents_do_too(project, tmp_path, bases, data):
    blocks = Blocks(data, 64)
    plain, _ = trained(loaded(bases), blocks, replace(SETTINGS, trunk_cache=0.0), tmp_path / "plain")
    model = loaded(bases)
    calls = count_calls(model)
    cached, outcome = trained(model, blocks, SETTINGS, tmp_path / "cached")
    assert len(calls) == outcome.steps / 3 + 2
    assert all(torch.allclose(plain[name], cached[name], atol=1e-5, rtol=0) for name in plain)


def test_a_second_run_reads_from_its_first_step_and_gets_the_same_bits(project, tmp_path, bases, data):
    first, _ = trained(loaded(bases), data, SETTINGS, tmp_path / "first")
    model, report = loaded(bases), Notes()
    calls = count_calls(model)
    second, _ = trained(model, data, SETTINGS, tmp_path / "second", report)
    assert "from the first step on" in report.said
    assert len(calls) == 2
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    "change", [{"batch": 3}, {"seed": 1}, {"layers": "last:1"}, {"precision": "bf16"}, "data", "model"], ids=str
)
def test_what_the_rows_depend_on_is_in_the_key(project, tmp_path, bases, data, change):
    trained(loaded(bases), data, SETTINGS, tmp_path / "first")
    report, model = Notes(), loaded(bases)
    if change == "model":
        with torch.no_grad():
            freeze.decoder_blocks(model.model)[1].mlp.up_proj.weight[0, 0] += 1e-3
    settings = replace(SETTINGS, **change) if isinstance(change, dict) else SETTINGS
    trained(model, made(SAMPLES, seed=4) if change == "data" else data, settings, tmp_path / "second", report)
    assert "from epoch 2 on" in report.said


def test_what_learns_is_not_in_the_key(project, tmp_path, bases, data):
    trained(loaded(bases), data, SETTINGS, tmp_path / "first")
    report = Notes()
    trained(loaded(bases), data, replace(SETTINGS, learning_rate=0.1, parts="mlp"), tmp_path / "second", report)
    assert "from the first step on" in report.said


@pytest.mark.parametrize("crash", [3, EPOCH + 2, 2 * EPOCH + 1])
def test_a_killed_run_goes_on_bitwise(project, tmp_path, bases, data, crash):
    """Checkpoints after each third step; the disk as it is in the moment of the kill."""
    settings = replace(SETTINGS, save_every=3)
    straight, _ = trained(loaded(bases), data, settings, tmp_path / "straight")
    shutil.rmtree(tmp_path / "cache" / "trunk")

    def keep_list():
        for file in (tmp_path / "cache" / "trunk").glob("*/stored"):
            shutil.copy(file, tmp_path / "stored")

    with pytest.raises(RuntimeError, match="crash"):
        trained(loaded(bases), data, settings, tmp_path / "broken", Notes(crash, keep_list))
    [home] = (tmp_path / "cache" / "trunk").glob("*/")
    (home / "stored").unlink(missing_ok=True)
    if (tmp_path / "stored").exists():
        shutil.move(tmp_path / "stored", home / "stored")
    resumed, _ = trained(loaded(bases), data, settings, tmp_path / "broken")
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_a_list_without_its_rows_is_not_believed(project, tmp_path, bases, data):
    straight, _ = trained(loaded(bases), data, SETTINGS, tmp_path / "first")
    [rows] = (tmp_path / "cache" / "trunk").glob("*/rows")
    rows.rename(rows.with_name("old"))
    report = Notes()
    again, _ = trained(loaded(bases), data, SETTINGS, tmp_path / "second", report)
    assert "from epoch 2 on" in report.said
    assert all(torch.equal(straight[name], again[name]) for name in straight)


def test_a_validation_does_not_read_the_rows_of_the_training(project, tmp_path, bases, data):
    """Its examples bear the same numbers."""
    valid = made(3, seed=9)
    _, plain = trained(loaded(bases), data, replace(SETTINGS, trunk_cache=0.0), tmp_path / "plain", valid=valid)
    _, cached = trained(loaded(bases), data, SETTINGS, tmp_path / "cached", valid=valid)
    assert cached.figures["eval_loss"] == pytest.approx(plain.figures["eval_loss"], abs=1e-5)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_no_gradient_goes_below_the_lowest_learning_layer(project, tmp_path, bases, data, checkpointing):
    model, wants = loaded(bases), []
    freeze.decoder_blocks(model.model)[2].register_forward_pre_hook(
        lambda module, inputs: wants.append(inputs[0].requires_grad)
    )
    trained(model, data, replace(SETTINGS, checkpointing=checkpointing), tmp_path / "run")
    assert wants
    assert not any(wants)
    assert all(weight.grad is None for weight in model.model.parameters() if not weight.requires_grad)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"epochs": 1.0}, "each sample is seen once"),
        ({"max_steps": EPOCH}, "each sample is seen once"),
        ({"layers": "first:2"}, "no frozen layer is below"),
        ({"layers": "all"}, "no frozen layer is below"),
        ({"neftune": 5.0}, "NEFTune"),
        ({"devices": 2}, "several processes"),
        ({"trunk_cache": 1e-6}, "are allowed"),
    ],
    ids=str,
)
def test_off_with_a_reason(project, tmp_path, bases, data, change, reason):
    report = Notes()
    trained(loaded(bases), data, replace(SETTINGS, **change), tmp_path / "run", report)
    assert "no trunk cache" in report.said
    assert reason in report.said
    assert not list((tmp_path / "cache").glob("trunk/*/rows"))


def test_off_without_a_word_when_it_is_not_wanted(project, tmp_path, bases, data):
    report = Notes()
    trained(loaded(bases), data, replace(SETTINGS, trunk_cache=0.0), tmp_path / "run", report)
    assert not report.said
    assert not (tmp_path / "cache" / "trunk").exists()


def test_off_where_the_trunk_drops_out(project, tmp_path, bases, data):
    report = Notes()
    model = loaded(bases, attention_dropout=0.1)
    calls = count_calls(model)
    trained(model, data, SETTINGS, tmp_path / "run", report)
    assert "differs by dropout" in report.said
    assert len(calls) == 3 * EPOCH + 2


@pytest.mark.parametrize("strict", [True, False])
def test_off_where_a_higher_layer_takes_more_than_hidden_states(project, tmp_path, bases, data, strict):
    """As in Gemma 3n and 4, whose layers share keys and values; one may miss them or do without."""
    report, model, kept = Notes(), loaded(bases), []
    layers = freeze.decoder_blocks(model.model)
    layers[0].mlp.register_forward_hook(lambda module, inputs, out: kept.append(out))
    layers[3].mlp.register_forward_hook(lambda module, inputs, out: out + kept.pop() if kept or strict else out)
    trained(model, data, SETTINGS, tmp_path / "run", report)
    assert "share more than hidden states" in report.said


def test_off_where_a_sample_is_not_alone_in_its_row(project, tmp_path, bases, data):
    """As in state space models, which carry what they have read from one document on to the next."""
    report, model = Notes(), loaded(bases)
    freeze.decoder_blocks(model.model)[1].mlp.register_forward_hook(lambda module, inputs, out: out.cumsum(1))
    trained(model, data, SETTINGS, tmp_path / "run", report)
    assert "the samples beside it" in report.said


def test_layers_that_return_tuples(project, tmp_path, bases, data):
    settings, runs = replace(SETTINGS, packing=False), {}
    for size in (0.0, 20.0):
        bloom = loaded(bases, model_type="bloom", packing=False, hidden_size=32, n_head=4, n_layer=LAYERS)
        runs[size], _ = trained(
            bloom, data, replace(settings, trunk_cache=size), tmp_path / str(size), report := Notes()
        )
    assert "from epoch 2 on" in report.said
    assert all(torch.allclose(runs[0.0][name], runs[20.0][name], atol=1e-5, rtol=0) for name in runs[0.0])


def test_a_full_disk_does_not_end_the_run(tmp_path, data):
    """The file of the rows is a device that is always full."""
    report, layer, hidden = Notes(), torch.nn.Identity(), torch.ones(1, 128, 8)
    (tmp_path / "rows").symlink_to("/dev/full")
    rows = Rows(tmp_path, data.ends, 8, torch.float32, packing=True)
    with skippable([layer]) as trunk:
        memory = Memory(trunk, rows, report)
        for _ in range(2):
            memory.tell([data[0]], True)
            assert torch.equal(layer(hidden), hidden)
    rows.close()
    assert len(report.notes) == 1
    assert "the disk is full" in report.notes[0]
    assert not rows.has([data[0]])

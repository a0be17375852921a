"""Freeze: what learns is what was asked for, only that is saved, and all else stays as it was."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from medcli.core.errors import ModelError, UsageError
from medcli.core.model_ref import ModelRef
from medcli.core.report import Silent
from medcli.core.run_folder import RunFolder
from medcli.engine import attention, freeze
from medcli.engine.load import load
from medcli.engine.pack import Example, Examples
from medcli.methods.freeze import Settings
from tests import tiny_model

COUNT = 2  # layers of the tiny models


def settings(**changes):
    return Settings(dataset=("none",), batch=2, epochs=2.0, learning_rate=1e-3, **{"precision": "fp32", **changes})


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    home = tmp_path_factory.mktemp("families")
    return {family: tiny_model.write(home / family, family) for family in tiny_model.FAMILIES}


@pytest.fixture
def data():
    chance = torch.Generator().manual_seed(0)
    ids = [torch.randint(5, 700, (12,), generator=chance, dtype=torch.int32).numpy() for _ in range(4)]
    return Examples(Example(ids=one, trained=one > 200) for one in ids)


def learning(model):
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


def run_of(tmp_path, name="run"):
    (tmp_path / name).mkdir()
    return RunFolder(tmp_path / name)


@pytest.mark.parametrize("family", tiny_model.FAMILIES)
@pytest.mark.parametrize("parts", ["all", "mlp", "attention"])
@pytest.mark.parametrize(("layers", "numbers"), [("last:1", [1]), ("first:1", [0]), ("every:2", [1]), ("all", [0, 1])])
def test_what_learns_is_what_was_asked_for(folders, family, parts, layers, numbers):
    model = freeze.prepare(tiny_model.loaded(folders[family]), settings(layers=layers, parts=parts)).model
    word = {"all": "", "mlp": "mlp.", "attention": "self_attn."}[parts]
    heads = tuple(f"model.layers.{number}.{word}" for number in numbers)
    assert learning(model) == {name for name, _ in model.named_parameters() if name.startswith(heads)}
    assert learning(model)


@pytest.mark.parametrize(
    ("layers", "count", "numbers"),
    [("last:3", 8, [5, 6, 7]), ("first:2", 8, [0, 1]), ("every:3", 8, [2, 5]), ("every:8", 8, [7]), ("all", 2, [0, 1])],
)
def test_the_layers_of_a_choice(layers, count, numbers):
    assert settings(layers=layers).chosen(count) == numbers


@pytest.mark.parametrize("layers", ["last", "last:0", "last:-1", "middle:3", "3", "every:1.5", ""])
def test_words_that_name_no_layers_are_refused(layers):
    with pytest.raises(UsageError, match="names no layers") as error:
        settings(layers=layers)
    assert "last:3" in error.value.hint


def test_more_layers_than_there_are_is_refused(folders):
    with pytest.raises(UsageError, match="the model has 2 layers"):
        freeze.prepare(tiny_model.loaded(folders["llama"]), settings(layers="last:3"))


def test_a_part_that_the_layers_have_not_is_refused(folders):
    loaded = tiny_model.loaded(folders["llama"])
    for block in freeze.decoder_blocks(loaded.model):
        block.renamed = block.mlp
        del block.mlp
    with pytest.raises(ModelError, match="no such part") as error:
        freeze.prepare(loaded, settings(layers="last:1", parts="mlp"))
    assert "renamed" in error.value.hint


@pytest.mark.parametrize("family", tiny_model.FAMILIES)
def test_only_what_learnt_is_saved_and_all_else_is_unchanged(project, tmp_path, folders, data, family):
    loaded, run = tiny_model.loaded(folders[family], attention.NAME), run_of(tmp_path)
    chosen = settings(layers="last:1", parts="mlp", precision="bf16")
    prepared = freeze.prepare(loaded, chosen)
    freeze.train(prepared, data, None, chosen, run, Silent())
    saved = load_file(run.adapter / "trained.safetensors")
    assert saved.keys() == learning(prepared.model)
    assert json.loads((run.adapter / "trained_config.json").read_text())["tensors"] == sorted(saved)
    base = tiny_model.loaded(folders[family]).model.state_dict()
    ref = ModelRef(base=str(folders[family]), adapters=(run.adapter,))
    tuned = load(ref, device=torch.device("cpu"), report=Silent()).model.state_dict()
    for name, weight in tuned.items():
        assert torch.equal(weight, base[name]) == (name not in saved), name


def test_a_checkpoint_holds_what_learns_alone(project, tmp_path, folders, data):
    loaded, run = tiny_model.loaded(folders["llama"], attention.NAME), run_of(tmp_path)
    prepared = freeze.prepare(loaded, settings(layers="last:1"))
    freeze.train(prepared, data, None, settings(layers="last:1"), run, Silent())
    assert load_file(run.last_checkpoint() / "model.safetensors").keys() == learning(prepared.model)


def test_rounding_the_frozen_matrices_once_is_what_autocast_does_in_every_step(project, tmp_path, folders, data):
    weights = {}
    chosen = settings(layers="last:1", precision="bf16")
    for name in ("once", "always"):
        prepared = freeze.prepare(tiny_model.loaded(folders["llama"], attention.NAME), chosen)
        frozen = [m for m in prepared.model.modules() if isinstance(m, nn.Linear) and not m.weight.requires_grad]
        halved = [module for module in frozen if module.weight.dtype == torch.bfloat16]
        assert len(halved) == len(frozen) - 1 == 7  # the head keeps its precision
        if name == "always":
            first = tiny_model.loaded(folders["llama"]).model.state_dict()
            prepared.model.float().load_state_dict(first)
        freeze.train(prepared, data, None, chosen, run_of(tmp_path, name), Silent())
        weights[name] = load_file(tmp_path / name / "adapter" / "trained.safetensors")
    assert all(torch.equal(weights["once"][key], weights["always"][key]) for key in weights["once"])

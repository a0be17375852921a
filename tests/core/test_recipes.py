"""The recipes of published systems: their figures, their sources, and what may be asked of them."""

import json

import pytest

from medcli.core.errors import UsageError
from medcli.core.recipes import recipe_for, recipes
from medcli.core.settings import Layers, resolve
from medcli.steps import launch
from medcli.steps.train import METHODS
from tests.conftest import RAW

MEDQA = {"batch": 32, "accumulate": 256, "epochs": 10, "lr": 5e-5, "schedule": "cosine", "warmup": 0.0}
MEDQA |= {"weight_decay": 0.0, "max_grad_norm": 1.0, "max_length": 512 + 512, "precision": "fp16"}
MEDQA |= {"log_every": 500, "save_every": 1000, "seed": 42}
MEDICALGPT = {"batch": 8, "accumulate": 1, "epochs": 1, "schedule": "linear", "warmup": 0.05, "max_grad_norm": 1.0}
MEDICALGPT |= {"checkpointing": True, "rank": 8, "alpha": 16, "dropout": 0.05, "targets": ["all-linear"]}
MEDICALGPT |= {"precision": "fp16", "valid_limit": 10, "log_every": 10, "eval_every": 50, "save_every": 500}
MEDICALGPT |= {"keep_checkpoints": 3, "seed": 42}
# What the scripts that a recipe's source names say, or their libraries' defaults where they are silent.
PUBLISHED = {
    "medqa-lora": MEDQA | {"rank": 8, "alpha": 32, "dropout": 0.1, "targets": ["query_key_value"]},
    "medqa-freeze": MEDQA | {"layers": "last:3", "parts": "mlp"},
    "medqa-ptuning": MEDQA | {"prefix_length": 16, "projection": False},
    "huatuo": {
        "batch": 128, "accumulate": 1, "epochs": 10, "lr": 3e-4, "schedule": "linear", "warmup": 0.1,
        "weight_decay": 0.0, "max_grad_norm": 1.0, "max_length": 256, "precision": "fp16",
        "rank": 8, "alpha": 16, "dropout": 0.05, "targets": ["q_proj", "v_proj"], "quant": "8bit",
        "valid_limit": 500, "log_every": 8, "eval_every": 32, "save_every": 32, "keep_checkpoints": 5, "best": True,
    },
    "carellama": {
        "batch": 8, "accumulate": 4, "epochs": 2, "lr": 5e-5, "schedule": "cosine", "warmup": 0.0,
        "weight_decay": 0.0, "max_grad_norm": 1.0, "max_length": 512 + 512, "precision": "fp16", "template": "llama2",
        "rank": 8, "alpha": 32, "dropout": 0.1, "targets": ["q_proj", "v_proj"], "quant": "4bit",
        "log_every": 10, "save_every": 1000, "seed": 42,
    },
    "medicalgpt-pt": MEDICALGPT | {"tuner": "lora", "lr": 2e-4, "weight_decay": 0.01, "max_length": 1024},
    "medicalgpt-sft": MEDICALGPT | {"lr": 2e-5, "weight_decay": 0.05, "max_length": 256 + 256},
    "medllm": {
        "batch": 4, "accumulate": 3, "epochs": 1, "lr": 1e-5, "schedule": "cosine", "warmup": 800,
        "weight_decay": 0.0, "max_grad_norm": 1.0, "max_length": 1200, "checkpointing": False, "precision": "bf16",
        "packing": False, "strategy": "zero3", "log_every": 50, "save_every": 2000, "keep_checkpoints": 3, "seed": 42,
    },
}  # fmt: skip
METHOD_OF = {name: recipe.method for name, recipe in recipes().items()}


def test_every_published_system_is_there():
    assert set(PUBLISHED) == set(recipes())
    assert METHOD_OF == {
        "medqa-lora": "lora", "medqa-freeze": "freeze", "medqa-ptuning": "ptuning", "huatuo": "lora",
        "carellama": "lora", "medicalgpt-pt": "pt", "medicalgpt-sft": "lora", "medllm": "full",
    }  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_differs_from_the_published_figures_is_named_as_corrected(name):
    recipe = recipes()[name]
    differing = {key for key, value in PUBLISHED[name].items() if recipe.settings.get(key) != value}
    named = {line.partition(":")[0] for line in recipe.corrected}
    assert differing <= named
    assert not set(recipe.settings) - set(PUBLISHED[name])  # nothing is set that was not published


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_says_where_it_is_from(name):
    recipe = recipes()[name]
    assert "/" in recipe.source
    assert "20" in recipe.source or "at " in recipe.source
    assert recipe.about
    assert recipe.corrected
    assert all(len(line.split()) > 5 for line in recipe.corrected)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_resolves_for_its_method(name):
    recipe = recipe_for(name, METHOD_OF[name])
    layers = Layers(flags={"dataset": "x", "devices": 4}, recipe=recipe.settings, recipe_name=f"recipe {name}")
    method = METHODS.get(recipe.method)
    resolved = resolve(method.Settings, f"train.{recipe.method}", layers)
    launch.settled(resolved, method.loading(resolved.values).quant, None)  # on several processes, too
    rows = {flag: (value, origin) for flag, value, origin in resolved.rows()}
    for key, value in recipe.settings.items():
        wanted = tuple(value) if isinstance(value, list) else value
        assert rows[key] == (wanted, f"recipe {name}")


def test_a_recipe_of_another_method_names_the_right_command():
    with pytest.raises(UsageError, match="is for `med train full`") as error:
        recipe_for("medllm", "lora")
    assert "med train full --recipe medllm" in error.value.hint
    assert "huatuo" in error.value.hint


def test_an_unknown_recipe_is_answered_with_the_nearest_and_all():
    with pytest.raises(UsageError, match="no recipe is called 'huatou'") as error:
        recipe_for("huatou", "lora")
    assert "did you mean 'huatuo'" in error.value.hint
    assert "medllm (full)" in error.value.hint


@pytest.fixture
def train(med, built, tiny_folder):
    built("few", RAW / "alpaca", "--valid", 0.2, "--test", 0)

    def run(*words):
        return med("train", "lora", "--dataset", "few", "--model", tiny_folder, *words)

    return run


def test_a_recipe_is_planned_and_explained(train, project):
    result = train("--recipe", "huatuo", "--lr", 0.001, "--plan", "--json")
    assert result.exit_code == 0, result.stderr
    settings = json.loads(result.stdout)["settings"]
    assert settings["batch"] == {"value": 128, "origin": "recipe huatuo"}
    assert settings["lr"] == {"value": 0.001, "origin": "flag"}
    assert settings["seed"]["origin"] == "default"
    assert result.stderr.count("Huatuo-Llama-Med-Chinese") == 1
    assert result.stderr.count("corrected: precision") == 1
    assert not (project / "runs").exists()


def test_a_run_remembers_its_recipe_when_it_is_resumed(train, project):
    """The origins of run.toml outlive a resumption, which reads its settings from run.toml."""
    words = ("--recipe", "carellama", "--quant", "none", "--max-length", 128, "--max-steps", 2, "--run", "care")
    result = train(*words)
    assert result.exit_code == 0, result.stderr
    path = project / "runs" / "care" / "run.toml"
    assert 'rank = "recipe carellama"' in path.read_text()
    path.write_text(path.read_text().replace('status = "finished"', 'status = "interrupted"'))
    result = train("--resume", "--run", "care", "--max-steps", 3)
    assert result.exit_code == 0, result.stderr
    assert 'rank = "recipe carellama"' in path.read_text()
    assert 'max_steps = "flag"' in path.read_text()


def test_settings_from_two_places_are_refused(train):
    for words in (["--from", "x"], ["--resume"]):
        result = train("--recipe", "huatuo", *words)
        assert result.exit_code == 2
        assert "cannot be used together" in result.stderr or "no run" in result.stderr

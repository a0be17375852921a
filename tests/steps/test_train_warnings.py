"""Settings under which a run would not do what is hoped for are said before it starts."""

import json

import pytest

from medcli.core.errors import UsageError
from medcli.core.recipes import recipes
from medcli.core.settings import Layers, resolve
from medcli.core.train_settings import TrainSettings
from medcli.steps.train import METHODS
from medcli.steps.train_warnings import Sizes, check, warnings_of
from tests.conftest import RAW

USUAL = {"samples": 8000, "valid": 200, "steps": 3000, "processes": 1, "gpus": 0, "tuner": "lora"}


def warned(sizes=(), **settings):
    return warnings_of(TrainSettings(dataset=("x",), **settings), Sizes(**(USUAL | dict(sizes))))


def test_usual_settings_are_not_worth_a_word():
    assert warned() == []
    assert warned({"steps": 1}) == []
    assert warned({"samples": 3, "steps": 9}, batch=1) == []


@pytest.mark.parametrize(
    ("sizes", "settings", "parts"),
    [
        (
            {"samples": 305_312, "steps": 380},
            {"batch": 32, "accumulate": 256},
            ["only 38 steps", "8,192 samples", "batch 32 × accumulate 256", "--batch 32 --accumulate 95", "about 101"],
        ),
        ({"samples": 300}, {}, ["only 38 steps", "--batch 3 --accumulate 1 makes about 100"]),
        (
            {"samples": 1000, "processes": 4, "gpus": 4},
            {"batch": 8, "accumulate": 2},
            ["only 16 steps", "64 samples", "× 4 processes", "--batch 2 --accumulate 1 makes about 125"],
        ),
        ({"steps": 380}, {"log_every": 500}, ["--log-every 500", "380 steps", "no line", "--log-every 0"]),
        ({"steps": 380}, {"save_every": 1000}, ["--save-every 1000", "no checkpoint", "--save-every 38 makes 10"]),
        ({"steps": 380}, {"eval_every": 500}, ["--eval-every 500", "not measured on the way", "--eval-every 38"]),
        ({"valid": 0}, {"eval_every": 50}, ["no effect", "no validation split"]),
        ({"valid": 0}, {"eval_every": 50, "valid_limit": 0}, ["no effect", "--valid-limit is 0"]),
        ({"steps": 9}, {"sample_every": 10}, ["--sample-every 10", "no answer", "--sample-every 1 "]),
        ({}, {"warmup": 0.0}, ["--warmup 0:", "--warmup 0.03"]),
        ({}, {"learning_rate": 2e-5}, ["--lr 2e-05", "whole models", "--lr 0.0002"]),
        ({"tuner": "full"}, {"learning_rate": 2e-4}, ["--lr 0.0002", "rate for adapters", "--lr 2e-05"]),
        ({"tuner": "freeze"}, {"learning_rate": 1e-3}, ["--lr 0.001", "rate for adapters"]),
        ({"gpus": 4}, {}, ["one of 4 GPUs", "--devices 4"]),
    ],
)
def test_each_is_said_alone_and_with_what_to_set(sizes, settings, parts):
    (said,) = warned(sizes, **settings)
    for part in parts:
        assert part in said


@pytest.mark.parametrize(
    ("sizes", "settings"),
    [
        ({"steps": 500}, {"log_every": 500, "save_every": 500, "eval_every": 500, "sample_every": 500}),
        ({"samples": 400}, {}),
        ({}, {"warmup": 0.0, "schedule": "constant"}),
        ({"tuner": "full"}, {"learning_rate": 2e-5}),
        ({"tuner": "ptuning"}, {"learning_rate": 2e-2}),
        ({"gpus": 4, "processes": 4}, {}),
        ({"gpus": 4}, {"device": "cuda:1"}),
        ({"gpus": 1}, {}),
    ],
)
def test_at_the_border_nothing_is_said(sizes, settings):
    assert warned(sizes, **settings) == []


def test_what_is_proposed_is_not_warned_of_again():
    assert warned({"samples": 305_312, "steps": 1000}, batch=32, accumulate=95) == []
    assert warned({"samples": 300}, batch=3) == []


# Samples, and the steps that follow, of what each system was trained on as published.
TRAINED_ON = {
    "medqa-lora": (305_312, 23_860), "medqa-freeze": (305_312, 23_860), "medqa-ptuning": (305_312, 23_860),
    "huatuo": (8_158, 640), "carellama": (100_000, 6_250), "medicalgpt-pt": (100_000, 3_125),
    "medicalgpt-sft": (100_000, 3_125), "medllm": (470_000, 9_792),
}  # fmt: skip


@pytest.mark.parametrize("name", TRAINED_ON)
def test_a_recipe_is_not_warned_of_at_its_own_size(name):
    recipe, (samples, steps) = recipes()[name], TRAINED_ON[name]
    layers = Layers(flags={"dataset": "x"}, recipe=recipe.settings)
    settings = resolve(METHODS.get(recipe.method).Settings, f"train.{recipe.method}", layers).values
    tuner = "lora" if recipe.method == "pt" else recipe.method
    sizes = Sizes(**(USUAL | {"samples": samples, "steps": steps, "tuner": tuner}))
    assert warnings_of(settings, sizes) == []


def test_a_run_that_is_judged_needs_something_to_judge_by():
    check(TrainSettings(dataset=("x",)), 0)
    check(TrainSettings(dataset=("x",), best=True, early_stop=2), 1)
    with pytest.raises(UsageError, match=r"--early-stop and --best.*no validation split") as error:
        check(TrainSettings(dataset=("x",), best=True, early_stop=2), 0)
    assert "--valid" in error.value.hint
    with pytest.raises(UsageError, match="--valid-limit is 0"):
        check(TrainSettings(dataset=("x",), best=True, valid_limit=0), 0)


def test_a_warm_up_in_steps_is_refused():
    check(TrainSettings(dataset=("x",), warmup=0.99), 9)
    for steps in (1.0, 800):
        with pytest.raises(UsageError, match="no share of the steps"):
            check(TrainSettings(dataset=("x",), warmup=steps), 9)


def test_warnings_stand_before_the_run_and_in_its_plan(med, tiny_folder):
    assert med("data", "build", RAW / "alpaca", "--name", "few", "--valid", 0.2, "--test", 0).exit_code == 0
    words = ("train", "lora", "--dataset", "few", "--model", tiny_folder, "--max-length", 128, "--max-steps", 2)
    words = (*words, "--batch", 4, "--log-every", 500)
    planned = med(*words, "--plan")
    assert "--log-every 500 is more than the 2 steps" in planned.stdout
    plan = json.loads(med(*words, "--plan", "--json").stdout)
    assert [text.partition(":")[0].split()[0] for text in plan["warnings"]] == ["an", "--log-every"]
    started = med(*words)
    assert started.exit_code == 0, started.stderr
    assert started.stderr.index("--log-every 500 is more") < started.stderr.index("training")
    refused = med(*words, "--best", "--valid-limit", 0, "--run", "judged")
    assert refused.exit_code == 2
    assert "--valid-limit is 0" in refused.stderr

"""What is worth a word before a model learns from better and worse answers."""

import numpy
import pytest

from medcli.core.alignment_settings import DpoSettings, GrpoSettings, PpoSettings, RewardSettings
from medcli.core.model_ref import ModelRef
from medcli.core.train_settings import TrainSettings
from medcli.engine.pack import Example, Examples, Pairs
from medcli.steps.alignment_warnings import Pairing, Seen, pairing_of, seen, warnings_of
from medcli.steps.train_warnings import Sizes
from medcli.steps.train_warnings import warnings_of as of_training
from tests import tiny_model

USUAL = Pairing(pairs=1000, same=0, longer=500)
METHODS = {"rm": RewardSettings, "dpo": DpoSettings, "ppo": PpoSettings, "grpo": GrpoSettings}
OWN = {"ppo": {"reward": "judge"}, "grpo": {"reward": ("exact",)}}


def settings_of(method, **own):
    return METHODS[method](**{"dataset": ("x",)} | OWN.get(method, {}) | own)


def warned(method, found=None, **own):
    pairing = USUAL if method in ("rm", "dpo") else None
    return warnings_of(settings_of(method, **own), found or Seen(pairing=pairing))


@pytest.mark.parametrize("method", METHODS)
def test_defaults_are_not_worth_a_word(method):
    assert warned(method) == []
    tuner = "lora" if method in ("rm", "dpo") else method
    sizes = Sizes(samples=300, valid=60, steps=200, processes=1, gpus=0, tuner=tuner)
    said = of_training(settings_of(method), sizes)
    assert not any("--lr" in text for text in said), "a rate that is usual here is not one for imitating"
    assert not (method in ("ppo", "grpo") and said), "answers are drawn: no epoch of samples is too short"


@pytest.mark.parametrize(
    ("method", "own", "parts"),
    [
        ("dpo", {"learning_rate": 2e-4}, ["--lr 0.0002", "--lr 1e-05 is usual", "preferences"]),
        ("dpo", {"learning_rate": 1e-5, "tuner": "full"}, ["--lr 1e-06 is usual"]),
        ("rm", {"learning_rate": 1e-3}, ["--lr 0.001", "--lr 0.0001 is usual", "reward models"]),
        ("ppo", {"learning_rate": 2e-4}, ["--lr 1e-05 is usual", "policies"]),
        ("grpo", {"learning_rate": 2e-4}, ["--lr 1e-05 is usual", "policies"]),
        (
            "ppo",
            {"batch": 8, "accumulate": 16},
            ["--batch 8 × --accumulate 16", "--rollouts 64", "--rollouts 512 makes"],
        ),
        ("ppo", {"rollouts": 60}, ["--rollouts 60 is no multiple", "--rollouts 64 makes"]),
    ],
)
def test_settings_are_said_alone_and_with_what_to_set(method, own, parts):
    (said,) = warned(method, **own)
    for part in parts:
        assert part in said


@pytest.mark.parametrize(
    ("method", "found", "own", "parts"),
    [
        ("rm", {"pairing": Pairing(pairs=99, same=0, longer=50)}, {}, ["only 99 pairs", "med data make preference"]),
        ("dpo", {"pairing": Pairing(pairs=200, same=3, longer=90)}, {}, ["in 3 of 200 pairs", "leave them out"]),
        ("rm", {"pairing": Pairing(pairs=200, same=0, longer=152)}, {}, ["in 76% of the pairs", "add pairs"]),
        ("dpo", {"pairing": Pairing(pairs=200, same=0, longer=152)}, {}, ["in 76% of the pairs", "--loss simpo"]),
        ("dpo", {"pairing": Pairing(pairs=200, same=0, longer=152)}, {"loss": "simpo"}, ["add pairs"]),
        ("dpo", {"speaks": False}, {"model": "base"}, ["has not learnt to answer", "med train lora --model base"]),
        ("ppo", {"speaks": False}, {}, ["has not learnt to answer"]),
        ("ppo", {"other_template": True}, {}, ["another chat template", "--template"]),
    ],
)
def test_model_and_data_are_said_alone_and_with_what_to_do(method, found, own, parts):
    (said,) = warned(method, Seen(**found), **own)
    for part in parts:
        assert part in said


def test_at_the_border_nothing_is_said():
    border = Seen(pairing=Pairing(pairs=100, same=0, longer=75), is_tiny=True)
    assert warned("rm", border, learning_rate=5e-3) == []
    assert warned("rm", Seen(pairing=USUAL, speaks=False)) == [], "a reward model need not speak"
    assert warned("ppo", rollouts=128, batch=8, accumulate=4) == []
    assert warnings_of(TrainSettings(dataset=("x",), learning_rate=1), Seen(speaks=False)) == []


def example(*ids, answer):
    return Example(ids=numpy.array(ids, numpy.int32), trained=numpy.arange(len(ids)) >= len(ids) - answer)


def test_pairs_are_counted():
    pairs = Pairs(
        Examples(
            iter(
                [
                    *(example(1, 2, 3, answer=2), example(1, 2, answer=1)),  # longer
                    *(example(1, 5, answer=1), example(1, 5, answer=1)),  # the same
                    *(example(1, 5, answer=1), example(1, 6, answer=1)),
                ]
            )
        )
    )
    assert pairing_of(pairs) == Pairing(pairs=3, same=1, longer=1)


def test_a_model_of_plain_text_does_not_speak(tiny_folder, project):
    loaded = tiny_model.loaded(tiny_folder)
    data, settings = Examples(iter(())), settings_of("dpo")

    def of_run(method):
        run = project / "runs" / method
        run.mkdir(parents=True)
        (run / "run.toml").write_text(f'[run]\nmethod = "{method}"\n')
        ref = ModelRef(base=str(tiny_folder), adapters=(run / "adapter",), template=run / "chat_template.jinja")
        return seen(settings, ref, loaded, data)

    assert not of_run("pt").speaks
    assert of_run("lora").speaks
    found = seen(settings, ModelRef(base=str(tiny_folder)), loaded, data)
    assert (found.speaks, found.pairing) == (True, None)
    loaded.tokenizer.chat_template = None
    assert not seen(settings, ModelRef(base=str(tiny_folder)), loaded, data).speaks


def test_a_reward_model_of_another_template_is_noticed(tiny_folder, project):
    loaded, data = tiny_model.loaded(tiny_folder), Examples(iter(()))
    judge = project / "runs" / "judge"
    (judge / "adapter").mkdir(parents=True)
    (judge / "adapter" / "adapter_config.json").write_text('{"task_type": "SEQ_CLS"}')
    (judge / "run.toml").write_text(f'[run]\nmethod = "rm"\n[model]\nbase = "{tiny_folder}"\n')

    def found(text):
        (judge / "chat_template.jinja").write_text(text, "utf-8")
        return seen(
            settings_of("ppo", model=str(tiny_folder)), ModelRef(base=str(tiny_folder)), loaded, data
        ).other_template

    assert found("{{ messages }}")
    assert not found(loaded.template.text)
    service = settings_of("ppo", reward="http://127.0.0.1:1/score")
    assert not seen(service, ModelRef(base=str(tiny_folder)), loaded, data).other_template

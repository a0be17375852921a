"""GRPO by TRL's trainer: our ids, our stop words, our checkpoints, and it learns."""

import json
import signal
from dataclasses import replace

import numpy
import pytest
from huggingface_hub.utils import _telemetry

from medcli.core.alignment_settings import GrpoSettings
from medcli.core.errors import DataError, UsageError
from medcli.core.record import Conversation, Message
from medcli.core.reward_terms import Term
from medcli.core.run_folder import RunFolder
from medcli.engine import device as devices
from medcli.engine import grpo
from medcli.engine.encode import Losses, encode_prompts
from tests import tiny_model
from tests.engine.small_runs import Notes, same, saved

QUESTIONS = ("头痛怎么办？", "咳嗽", "发热三天，怎么办？", "高血压吃什么药", "失眠")
SETTINGS = {
    "dataset": ("few",), "reward": ("even",), "batch": 16, "group": 8, "max_tokens": 8, "max_length": 64,
    "precision": "fp32", "learning_rate": 0.02, "warmup": 0.0, "max_steps": 3, "save_every": 100, "sample_every": 0,
}  # fmt: skip


def even(asked, answers):
    """The share of characters with an even number: half of all is within reach of any model."""
    return [sum(ord(letter) % 2 == 0 for letter in answer) / max(len(answer), 1) for answer in answers]


def settings(**values):
    return GrpoSettings(**{**SETTINGS, **values})


def policy(folder, wanted, judge=even, loud=1.0):
    """A policy over the model in `folder`, whose head is that many times as strong."""
    devices.seed_all(wanted.seed)
    loaded = tiny_model.loaded(folder)
    loaded.model.get_output_embeddings().weight.data.mul_(loud)
    return grpo.prepare(loaded, wanted, [grpo.Reward(term=Term(name="even", weight=1.0), judge=judge)])


def prompts(loaded):
    records = [
        Conversation(id=str(number), messages=(Message(role="user", content=text),), source="few")
        for number, text in enumerate(QUESTIONS)
    ]
    return encode_prompts(records, loaded.template, loaded.tokenizer, max_length=56, losses=Losses())


def train(folder, path, wanted, *, judged=None, valid=False, report=None):
    judged = judged or policy(folder, wanted)
    path.mkdir(exist_ok=True)
    data = prompts(judged)
    return grpo.train(judged, data, data if valid else None, wanted, RunFolder(path), report or Notes())


def figures(path, name):
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [row[name] for row in rows if name in row]


def test_it_learns_what_is_rewarded(tiny_folder, tmp_path):
    wanted = settings(max_steps=16, eval_every=100, sample_every=16)
    report = Notes()
    judged = policy(tiny_folder, wanted, loud=20.0)
    outcome = train(tiny_folder, tmp_path / "run", wanted, judged=judged, valid=True, report=report)
    rewards = figures(tmp_path / "run", "reward")
    assert len(rewards) == outcome.steps == 16
    assert numpy.mean(rewards[-4:]) > numpy.mean(rewards[:2]) + 0.5, rewards
    before, after = figures(tmp_path / "run", "eval_reward")
    assert after > before + 0.5
    assert outcome.facts["eval_reward_before"] == before
    assert outcome.figures["eval_reward_low"] <= outcome.figures["eval_reward"] == after
    wanted_figures = {"reward_even", "entropy", "response_length", "ended", "learning_rate", "tokens_per_second"}
    assert wanted_figures <= outcome.figures.keys()
    assert any(note.startswith(f"step 16: {QUESTIONS[0]}") for note in report.notes)


def test_the_model_reads_our_ids_and_nothing_else(tiny_folder, tmp_path):
    wanted = settings(max_steps=1)
    judged = policy(tiny_folder, wanted)
    data, seen = prompts(judged), []
    judged.causal_lm.get_input_embeddings().register_forward_pre_hook(lambda module, ids: seen.append(ids[0].tolist()))
    train(tiny_folder, tmp_path / "run", wanted, judged=judged)
    pad = judged.tokenizer.pad_token_id
    ours = [data[number].ids.tolist() for number in range(len(data))]
    drawing, learning = seen[0], seen[-1]
    assert len(learning) == 16
    for row in [*drawing, *learning]:
        start = next(index for index, token in enumerate(row) if token not in (pad, judged.stops[0]))
        assert any(row[start:][: len(ids)] == ids for ids in ours)
        assert len(row) <= max(map(len, ours)) + wanted.max_tokens


def test_any_stop_word_ends_an_answer(tiny_folder, tmp_path):
    """A third of all words as stop words: answers end early, and are judged without them."""
    wanted, heard = settings(max_steps=1), []

    def hear(asked, answers):
        heard.extend(answers)
        return [float(len(answer)) for answer in answers]

    judged = policy(tiny_folder, wanted, hear)
    judged = replace(judged, stops=(*judged.stops, *range(400, 700)))
    train(tiny_folder, tmp_path / "run", wanted, judged=judged)
    assert figures(tmp_path / "run", "ended")[0] > 0.5
    assert figures(tmp_path / "run", "response_length")[0] < wanted.max_tokens - 1
    assert len(heard) == 16


def test_an_answer_is_judged_without_its_stop_word(tiny_folder):
    judged = policy(tiny_folder, settings())
    words, stop = judged.tokenizer("头痛")["input_ids"], judged.stops[0]
    assert judged.text([*words, stop]) == judged.text(words) == "头痛"
    assert judged.text([stop]) == judged.text([]) == ""


@pytest.mark.parametrize("own", [{}, {"kl": 0.1, "accumulate": 2, "batch": 8, "rate_ratio": 4.0}])
def test_a_run_that_was_stopped_goes_on_bitwise_in_a_later_epoch(tiny_folder, tmp_path, own):
    """Five prompts, two a step: Ctrl-C comes in step 4, within the second epoch."""
    wanted, calls = settings(max_steps=6, **own), []

    def pressed(asked, answers):
        calls.append(1)
        if len(calls) == 4:
            signal.raise_signal(signal.SIGINT)
        return even(asked, answers)

    outcome = train(tiny_folder, tmp_path / "broken", wanted, judged=policy(tiny_folder, wanted, pressed))
    assert (outcome.interrupted, outcome.steps) == (True, 4)
    assert not (tmp_path / "broken" / "adapter").exists()
    assert train(tiny_folder, tmp_path / "broken", wanted).steps == 6
    train(tiny_folder, tmp_path / "straight", wanted)
    assert figures(tmp_path / "broken", "reward") == figures(tmp_path / "straight", "reward")
    assert same(saved(tmp_path / "broken"), saved(tmp_path / "straight"))


def test_neither_bf16_nor_checkpointing_is_on_unasked(tiny_folder, tmp_path):
    """TRL's own defaults are yes to both, also on a CPU; so is a tracker that is not there."""
    wanted = settings(precision="fp32")
    made = grpo._arguments(policy(tiny_folder, wanted), wanted, RunFolder(tmp_path), 4, False)
    assert not made.bf16
    assert not made.gradient_checkpointing
    assert not made.activation_checkpointing
    assert made.report_to == []
    assert grpo._arguments(policy(tiny_folder, wanted), settings(precision="bf16"), RunFolder(tmp_path), 4, False).bf16


def test_a_rate_ratio_has_its_effect(tiny_folder, tmp_path):
    """Adam's first step moves each weight by its rate."""
    train(tiny_folder, tmp_path / "run", settings(max_steps=1, rate_ratio=4.0))
    moved = [weight.abs().max() for name, weight in saved(tmp_path / "run").items() if "lora_B" in name]
    assert max(moved).item() == pytest.approx(4 * SETTINGS["learning_rate"], rel=1e-2)


def test_nobody_hears_of_a_run(tiny_folder, tmp_path):
    heard = _telemetry._TELEMETRY_THREAD
    train(tiny_folder, tmp_path / "run", settings(max_steps=1))
    assert _telemetry._TELEMETRY_THREAD is heard


def test_the_reference_is_the_model_without_its_adapter(tiny_folder, tmp_path):
    wanted = settings(kl=0.1)
    judged = policy(tiny_folder, wanted)
    train(tiny_folder, tmp_path / "run", wanted, judged=judged)
    assert list(judged.model.peft_config) == ["default"]
    found = figures(tmp_path / "run", "kl")
    assert found[0] == 0
    assert found[-1] > 0
    assert not [path for path in (tmp_path / "run" / "adapter").iterdir() if path.is_dir()]


def test_checkpointing_learns_the_same(tiny_folder, tmp_path):
    counts = {}
    for name, checkpointing in (("plain", False), ("again", True)):
        wanted = settings(max_steps=1, checkpointing=checkpointing)
        judged, calls = policy(tiny_folder, wanted), []
        judged.causal_lm.model.layers[1].mlp.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        train(tiny_folder, tmp_path / name, wanted, judged=judged)
        counts[name] = len(calls)
    assert counts["again"] == counts["plain"] + 1  # once more, in the backward
    assert same(saved(tmp_path / "plain"), saved(tmp_path / "again"))


def test_equal_rewards_are_told_and_bad_ones_refused(tiny_folder, tmp_path):
    wanted, report = settings(), Notes()
    train(
        tiny_folder,
        tmp_path / "equal",
        wanted,
        judged=policy(tiny_folder, wanted, lambda asked, answers: [0.2] * 16),
        report=report,
    )
    assert len([note for note in report.notes if "nothing was learnt" in note]) == 1
    with pytest.raises(DataError, match="--reward even gave the reward nan"):
        train(
            tiny_folder,
            tmp_path / "bad",
            wanted,
            judged=policy(tiny_folder, wanted, lambda asked, answers: [numpy.nan] * 16),
        )


def test_every_prompt_has_its_turn_in_an_order_of_each_epoch():
    wanted = settings(batch=8, accumulate=2)
    epochs = [list(grpo.InGroups(5, wanted, lambda epoch=epoch: epoch)) for epoch in (0, 1, 1)]
    assert [len(order) for order in epochs] == [len(grpo.InGroups(5, wanted, lambda: 0))] * 3 == [96] * 3
    assert epochs[0] != epochs[1] == epochs[2]
    for order in epochs:
        assert set(order) == set(range(5))
        for start in range(0, 96, 32):
            assert order[start : start + 16] == order[start + 16 : start + 32]  # again for the second forward
            assert order[start : start + 8] == [order[start]] * 8
    assert wanted.steps_an_epoch(5) == 3
    assert list(grpo.InGroups(2, settings(mix="concatenate"), lambda: 7)) == [0] * 8 + [1] * 8


@pytest.mark.parametrize(
    ("batch", "accumulate", "group", "hint"),
    [(6, 1, 8, "--batch 8, or --group 6"), (3, 4, 8, "--batch 4, or --group 12"), (1, 1, 8, "--batch 8")],
)
def test_groups_must_be_whole(batch, accumulate, group, hint):
    with pytest.raises(UsageError, match="no whole groups") as error:
        settings(batch=batch, accumulate=accumulate, group=group)
    assert error.value.hint == f"try {hint}"

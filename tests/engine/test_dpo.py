"""DPO and its kin: a reference that stays what the model was, rows and pieces that are alike, pairs that are learnt."""

import json
import math
import shutil

import pytest
import torch

from medcli.core.report import Silent
from medcli.core.run_folder import RunFolder
from medcli.engine import dpo
from medcli.engine.pack import NOTHING, flat
from tests import tiny_model
from tests.conftest import RAW, shared
from tests.engine.small_preferences import (
    assert_alike,
    figures,
    kept,
    measured,
    objective_of,
    pairs,
    prepared,
    settings,
    stirred,
    train,
)
from tests.engine.small_runs import same, saved

LOSSES = ("sigmoid", "ipo", "hinge", "simpo", "orpo", "kto")
WITH_REFERENCE = ("sigmoid", "ipo", "hinge", "kto")
STEPS = ["--batch", 4, "--valid-limit", 4, "--precision", "fp32", "--max-length", 128]


@pytest.mark.parametrize("name", LOSSES)
def test_packed_and_padded_rows_are_alike(tiny_folder, tmp_path, name):
    data, found = pairs(5, seed=1), []
    for packing in (True, False):
        wanted = settings(loss=name, packing=packing)
        loaded = stirred(prepared(tiny_folder, wanted))
        objective = objective_of(loaded, wanted, [data], tmp_path / str(packing))
        part, gradients = measured(loaded, objective, flat([data[index] for index in range(5)]))
        found.append((torch.stack([part.loss.detach(), *part.figures.values()]), gradients))
    assert_alike(*found)


@pytest.mark.parametrize("tuner", ["lora", "full"])
@pytest.mark.parametrize(("name", "first"), [("sigmoid", math.log(2)), ("hinge", 1.0), ("ipo", 25.0), ("kto", 0.5)])
def test_before_the_first_step_nothing_is_preferred(tiny_folder, tmp_path, tuner, name, first):
    """The policy is the reference: of training and validation pairs, which have the same numbers in their own sets."""
    wanted = settings(loss=name, tuner=tuner, max_steps=1, eval_every=1, learning_rate=1e-12)
    train(tiny_folder, tmp_path, wanted, data=pairs(8), valid=pairs(3, seed=9))
    for prefix in ("", "eval_"):
        assert figures(tmp_path, f"{prefix}loss")[0] == pytest.approx(first, abs=1e-4 * max(first, 1))
        for reward in ("margin", "chosen_reward", "rejected_reward"):
            assert figures(tmp_path, prefix + reward)[0] == pytest.approx(0, abs=1e-4)


@torch.no_grad()
def plainly(loaded, examples):
    """The naive twin of the reference: each answer alone, logits and all."""
    sums = []
    for example in examples:
        ids = torch.from_numpy(example.ids).long()
        words = loaded.model(input_ids=ids[None], use_cache=False).logits[0, :-1].log_softmax(-1)
        sums.append(words.gather(1, ids[1:, None])[torch.from_numpy(example.trained[1:])].sum())
    return torch.stack(sums)


@pytest.mark.parametrize(
    ("tuner", "name", "values"),
    [
        ("lora", "kto", {"dropout": 0.3, "checkpointing": True}),
        ("lora", "sigmoid", {"modules_to_save": ("lm_head", "embed_tokens")}),
        ("full", "kto", {}),
    ],
)
def test_the_reference_is_the_model_as_it_was(tiny_folder, tmp_path, tuner, name, values):
    """Though the policy moved, and though dropout is on while it learns; no second model is held."""
    data, valid = pairs(6), pairs(2, seed=9)
    wanted = settings(loss=name, tuner=tuner, **values)
    loaded, _ = train(tiny_folder, tmp_path, wanted, data=data, valid=valid)
    original = tiny_model.loaded(tiny_folder)
    whole = flat([data[index] for index in range(6)] + [valid[index] for index in range(2)])
    table = kept(tmp_path)
    torch.testing.assert_close(table[:, :2].reshape(-1), plainly(original, whole), rtol=1e-5, atol=1e-4)
    if name == "kto":
        mismatched = dpo._mismatched([data, valid], 1024)
        others = [mismatched[index] for index in range(8)]
        torch.testing.assert_close(table[:, 2], plainly(original, others), rtol=1e-5, atol=1e-4)
    now = prepared(tiny_folder, wanted)
    now.model.load_state_dict(loaded.model.state_dict())
    moved = dpo._asked(now, whole, wanted, Silent())
    if tuner == "lora":
        torch.testing.assert_close(moved, table[:, :2].reshape(-1), rtol=1e-5, atol=1e-4)  # adapters off, it still is
    else:
        assert (moved - table[:, :2].reshape(-1)).abs().max() > 0.1


def test_mismatched_answers_are_those_to_other_prompts():
    data = pairs(5)
    found = dpo._mismatched([data, pairs(1, seed=9)], max_length=12)
    assert len(found) == 6
    for index in range(5):
        (asked, _), (other, _) = data[index], data[(index + 2) % 5]
        prompt, answer = asked.ids[~asked.trained], other.ids[other.trained]
        assert list(found[index].ids) == [*prompt, *answer][:12]
        assert found[index].trained.sum() == len(found[index].ids) - len(prompt)


@pytest.mark.parametrize("name", LOSSES)
def test_pairs_are_learnt(tiny_folder, tmp_path, name):
    data = pairs(12)
    wanted = settings(loss=name, batch=12, max_steps=16, learning_rate=1e-2)
    train(tiny_folder, tmp_path, wanted, data=data)
    assert figures(tmp_path, "accuracy")[-1] == 1.0
    assert figures(tmp_path, "margin")[-1] > max(0.0, figures(tmp_path, "margin")[0])
    assert figures(tmp_path, "loss")[-1] < figures(tmp_path, "loss")[0]
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
    assert (tmp_path / "reference").exists() == (name in WITH_REFERENCE)
    assert figures(tmp_path, "chosen_log_probability")[0] == pytest.approx(
        float((plainly(tiny_model.loaded(tiny_folder), chosen_of(data)) / lengths_of(data)).mean()), abs=1e-4
    )


def chosen_of(data):
    return [data[index][0] for index in range(len(data))]


def lengths_of(data):
    return torch.tensor([int(chosen.trained.sum()) for chosen in chosen_of(data)])


@pytest.mark.parametrize("name", ["sigmoid", "orpo"])
def test_pieces_of_a_batch_add_up(tiny_folder, tmp_path, name):
    """As when memory does not suffice, or in several forwards of one step; processes may get nothing."""
    wanted, data = settings(loss=name), pairs(4)
    loaded = stirred(prepared(tiny_folder, wanted))
    objective = objective_of(loaded, wanted, [data], tmp_path)
    whole = measured(loaded, objective, flat([data[index] for index in range(4)]))
    parts = [measured(loaded, objective, flat(samples)) for samples in ([data[3]], [data[0], data[2]], [data[1]])]
    added = {key: sum(gradients[key] for _, gradients in parts) for key in whole[1]}
    assert_alike((whole[0].loss, whole[1]), (sum(part.loss for part, _ in parts), added))


@pytest.mark.parametrize("name", ["sigmoid", "kto"])
@pytest.mark.parametrize("packing", [True, False])
def test_a_batch_of_nothing_is_zero_and_connected(tiny_folder, tmp_path, name, packing):
    wanted = settings(loss=name, packing=packing)
    loaded = stirred(prepared(tiny_folder, wanted))
    objective = objective_of(loaded, wanted, [pairs(2)], tmp_path)
    part, gradients = measured(loaded, objective, [NOTHING])
    assert part.count == objective.count([NOTHING]) == 0
    assert part.loss.detach() == 0
    assert all(torch.equal(gradient, torch.zeros_like(gradient)) for gradient in gradients.values())


class Stopped(Silent):
    """A person who presses Ctrl-C in the midst of a stage, and remembers which stages there were."""

    def __init__(self, stage=""):
        self.stages, self._stop = [], stage

    def stage(self, name, total=None, unit=""):
        self.stages.append(name)

    def advance(self, done):
        if self.stages and self.stages[-1] == self._stop:
            raise KeyboardInterrupt


ASKING = "asking the reference model"


@pytest.mark.parametrize(("tuner", "name"), [("lora", "kto"), ("full", "sigmoid")])
def test_resume_is_bitwise(tiny_folder, tmp_path, tuner, name):
    """Stopped while the reference is asked, and after a checkpoint: the same weights, and the reference asked once."""
    values = {"dropout": 0.2} if tuner == "lora" else {}
    wanted = settings(loss=name, tuner=tuner, max_steps=4, save_every=2, keep_checkpoints=9, **values)
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    train(tiny_folder, straight, wanted)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_folder, broken, wanted, report=Stopped(ASKING))
    assert not list(broken.glob("*reference*"))
    train(tiny_folder, broken, wanted)
    for finished in ("adapter", "model", "checkpoints/checkpoint-4"):
        shutil.rmtree(broken / finished, ignore_errors=True)
    seen = Stopped()
    train(tiny_folder, broken, wanted, report=seen)
    assert ASKING not in seen.stages
    assert torch.equal(kept(straight), kept(broken))
    assert same(saved(straight), saved(broken))
    shutil.rmtree(broken / "reference")  # lost: it is asked again, of the model and not of what it has become
    shutil.rmtree(broken / "checkpoints" / "checkpoint-4")
    train(tiny_folder, broken, wanted)
    assert torch.equal(kept(straight), kept(broken))


def test_a_reference_of_other_answers_is_not_taken(tiny_folder, tmp_path):
    wanted = settings(max_steps=1)
    train(tiny_folder, tmp_path, wanted, data=pairs(4))
    shutil.rmtree(tmp_path / "checkpoints")
    seen = Stopped()
    train(tiny_folder, tmp_path, wanted, data=pairs(4, seed=5), report=seen)
    assert ASKING in seen.stages
    assert figures(tmp_path, "loss")[0] == pytest.approx(math.log(2), abs=1e-4)


def test_answers_while_it_learns_leave_no_trace(tiny_folder, tmp_path):
    for name, every in {"without": 0, "with": 2}.items():
        wanted = settings(sample_every=every)
        train(tiny_folder, tmp_path / name, wanted, valid=pairs(4, seed=9))
    assert same(saved(tmp_path / "without"), saved(tmp_path / "with"))
    rows = [json.loads(line) for line in RunFolder(tmp_path / "with").samples_file.read_text("utf-8").splitlines()]
    assert len({row["question"] for row in rows}) == 3


@pytest.fixture
def data(built):
    built("few", RAW / "preference" / "reward.json", "--valid", 0.2, "--test", 0)


@pytest.mark.parametrize(("tuner", "name"), [("lora", "sigmoid"), ("full", "kto")])
def test_from_the_command_line(med, data, project, tiny_folder, tuner, name):
    words = ["--tuner", tuner, "--loss", name, "--max-steps", 4, "--lr", 0.005, "--run", "one"]
    result = med("train", "dpo", "--dataset", "few", "--model", tiny_folder, *STEPS, *words)
    assert result.exit_code == 0, result.stderr
    assert figures(project / "runs" / "one", "loss")[-1] < figures(project / "runs" / "one", "loss")[0]
    spoken = med("chat", "one", "头痛怎么办？", "--temperature", 0, "--max-tokens", 5, "--json")
    assert spoken.exit_code == 0, spoken.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--dataset", "dialogues"], 3, "holds conversations"),
        (["--dataset", "few", "--loss", "hinge", "--label-smoothing", 0.1], 2, "without effect with --loss hinge"),
        (["--dataset", "few", "--label-smoothing", 0.5], 2, "worse answers would be taught"),
        (["--dataset", "few", "--neftune", 5], 2, "--neftune"),
    ],
)
def test_wrong_settings_get_one_message(med, built, data, project, tiny_folder, words, code, said):
    built("dialogues", RAW / "alpaca", "--valid", 0.2, "--test", 0)
    result = med("train", "dpo", "--model", tiny_folder, *STEPS, *words)
    assert result.exit_code == code, result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_real_pairs_train(med, project, tiny_folder):
    raw = shared("medicalgpt/dpo_zh_500.jsonl")
    built = med("data", "build", raw, "--name", "real", "--limit", 60, "--json")
    assert built.exit_code == 0, built.stderr
    words = ["--max-steps", 3, "--run", "one", "--max-length", 256]
    result = med("train", "dpo", "--dataset", "real", "--model", tiny_folder, *STEPS, *words)
    assert result.exit_code == 0, result.stderr
    assert figures(project / "runs" / "one", "loss")[0] == pytest.approx(math.log(2), abs=1e-4)

"""The validation loss, stopping early, and ending with the best weights."""

import shutil

import pytest
import torch

from medcli.core.run_folder import RunFolder
from medcli.engine.best import best_step
from medcli.engine.pack import Examples, on_device, padded
from tests import tiny_model
from tests.engine import small_runs
from tests.engine.small_runs import Notes, examples, saved, settings, train

UNEVEN = Examples(
    small_runs.example(length, prompt, 50 + length) for length, prompt in [(60, 2), (58, 3), (9, 8), (50, 1), (6, 5)]
)


def judged(path):
    return {int(row["step"]): row["eval_loss"] for row in RunFolder(path).metrics() if "eval_loss" in row}


@torch.no_grad()
def naive_loss(folder):
    """The mean over learnt tokens, document by document, of the untouched model."""
    model = tiny_model.loaded(folder).model
    total, count = 0.0, 0
    for one in UNEVEN:
        learnt = int(one.trained[1:].sum())
        total += float(model(**on_device(padded([one], 0), torch.device("cpu")), use_cache=False).loss) * learnt
        count += learnt
    return total / count


@pytest.mark.parametrize("packing", [True, False])
def test_validation_loss_is_a_mean_over_learnt_tokens(tiny_folder, tmp_path, packing):
    wanted = settings(max_steps=1, eval_every=1, packing=packing, batch=2, learning_rate=0.0)
    outcome = train(tiny_folder, tmp_path / "one", wanted, valid=UNEVEN)
    assert outcome.figures["eval_loss"] == pytest.approx(naive_loss(tiny_folder), rel=1e-5)


def test_validations_leave_the_run_as_it_is(tiny_folder, tmp_path):
    """The data order and dropout of what follows are the same with and without."""
    for name, words in {"without": {}, "with": {"eval_every": 1}}.items():
        valid = UNEVEN if words else None
        train(tiny_folder, tmp_path / name, settings(dropout=0.3, max_steps=5, **words), valid=valid)
    assert small_runs.same(saved(tmp_path / "without"), saved(tmp_path / "with"))


@pytest.mark.parametrize("patience", [1, 2])
def test_a_run_stops_when_the_loss_stays_higher(tiny_folder, tmp_path, patience):
    report = Notes()
    wanted = settings(max_steps=40, eval_every=1, early_stop=patience, learning_rate=0.05)
    outcome = train(tiny_folder, tmp_path / "one", wanted, valid=examples(4, seed=77), report=report)
    losses = judged(tmp_path / "one")
    best = min(losses, key=losses.get)
    assert outcome.steps == best + patience < 40
    assert outcome.facts["stopped_early"] is True
    assert not outcome.interrupted
    assert [note for note in report.notes if f"stopped early at step {outcome.steps} of 40" in note]


def test_the_last_weights_are_judged_too(tiny_folder, tmp_path):
    train(tiny_folder, tmp_path / "one", settings(max_steps=5, eval_every=3), valid=UNEVEN)
    assert list(judged(tmp_path / "one")) == [3, 5]


def test_losses_are_logged_as_asked_and_at_the_end(tiny_folder, tmp_path):
    outcome = train(tiny_folder, tmp_path / "one", settings(max_steps=5, log_every=2))
    rows = [row for row in RunFolder(tmp_path / "one").metrics() if "loss" in row]
    assert [row["step"] for row in rows] == [2, 4, 5]
    assert outcome.figures["loss"] == rows[-1]["loss"]


@pytest.mark.parametrize("tuner", small_runs.TUNERS)
def test_a_run_ends_with_its_best_weights(tiny_folder, tmp_path, tuner):
    """The checkpoint of the best step outlives all later ones, and its weights are what is saved."""
    rate = {"lora": 0.05, "ptuning": 0.5}.get(tuner, 0.02)
    words = {"max_steps": 7, "eval_every": 1, "learning_rate": rate, "batch": 6, "save_every": 2}
    valid = examples(4, seed=77)
    report = Notes()
    wanted = settings(tuner, best=True, keep_checkpoints=1, **words)
    outcome = train(tiny_folder, tmp_path / "best", wanted, tuner, valid=valid, report=report)
    losses = judged(tmp_path / "best")
    step = min(losses, key=losses.get)
    assert step < 7, losses
    assert outcome.facts == {"best_step": step, "best_eval_loss": losses[step]}
    assert {path.name for path in (tmp_path / "best" / "checkpoints").iterdir()} >= {f"checkpoint-{step}"}
    assert [note for note in report.notes if f"step {step}" in note]
    train(tiny_folder, tmp_path / "short", settings(tuner, **words | {"max_steps": step}), tuner, valid=valid)
    assert small_runs.same(saved(tmp_path / "best"), saved(tmp_path / "short"))


def test_a_resumed_run_keeps_its_best(tiny_folder, tmp_path):
    words = {"max_steps": 8, "eval_every": 1, "save_every": 1, "learning_rate": 0.05, "keep_checkpoints": 9}
    valid = examples(4, seed=77)
    straight = train(tiny_folder, tmp_path / "one", settings(best=True, **words), valid=valid)
    best = int(straight.facts["best_step"])
    assert best < 6
    for step in range(best + 2, 9):
        shutil.rmtree(tmp_path / "one" / "checkpoints" / f"checkpoint-{step}")
    before = saved(tmp_path / "one")
    shutil.rmtree(tmp_path / "one" / "adapter")
    resumed = train(tiny_folder, tmp_path / "one", settings(best=True, **words), valid=valid)
    assert resumed.facts == straight.facts
    assert small_runs.same(saved(tmp_path / "one"), before)


def test_patience_goes_on_counting_in_a_resumed_run(tiny_folder, tmp_path):
    words = {"eval_every": 1, "save_every": 1, "learning_rate": 0.05, "keep_checkpoints": 99, "early_stop": 3}
    valid = examples(4, seed=77)
    straight = train(tiny_folder, tmp_path / "one", settings(max_steps=40, **words), valid=valid)
    shutil.rmtree(tmp_path / "one" / "checkpoints" / f"checkpoint-{straight.steps}")
    resumed = train(tiny_folder, tmp_path / "one", settings(max_steps=40, **words), valid=valid)
    assert resumed.steps == straight.steps


def test_the_best_step_is_the_first_of_equals():
    rows = [{"step": 1, "loss": 0.1}, {"step": 2, "eval_loss": 3.0}, {"step": 4, "eval_loss": 2.0}]
    assert best_step([*rows, {"step": 6, "eval_loss": 2.0}]) == 4
    assert best_step(rows[:1]) is None

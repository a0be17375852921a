"""Trackers get the figures of metrics.jsonl when they are asked for, and only then."""

import pytest

from medcli.core.errors import ServiceError, UnknownNameError, UsageError
from medcli.core.report import Silent
from medcli.core.run_folder import RunFolder
from medcli.engine import tracking
from tests.engine.small_runs import Notes, settings, train


class Written:
    """A tracker that keeps what it is given."""

    def __init__(self, run, config, report, step):
        self.config, self.rows, self.closed = config, [], False

    def log(self, figures, step):
        self.rows.append((step, dict(figures)))

    def close(self):
        self.closed = True


def test_a_tracker_gets_settings_and_figures_and_is_closed(tmp_path):
    made = []

    def begin(*given):
        made.append(Written(*given))
        return made[0]

    wanted = settings(track=("mine",), targets=("q_proj", "v_proj"))
    with tracking.tracked(wanted, RunFolder(tmp_path), Silent(), 0, {"mine": begin}) as (tracker,):
        tracker.log({"loss": 1.5}, 3)
        assert not made[0].closed
    assert made[0].closed
    assert made[0].rows == [(3, {"loss": 1.5})]
    assert made[0].config["batch"] == 4
    assert made[0].config["targets"] == "q_proj,v_proj"


def test_a_tracker_that_fails_costs_no_run(tmp_path):
    class Failing(Written):
        def log(self, figures, step):
            print("about to fail")
            raise OSError("the server is gone")

    report = Notes()
    wanted = settings(track=("mine", "other"))
    known = {"mine": Failing, "other": Written}
    with tracking.tracked(wanted, RunFolder(tmp_path), report, 0, known) as trackers:
        for step in (1, 2):
            for tracker in trackers:
                tracker.log({"loss": 1.5}, step)
    (note,) = report.notes
    assert "mine failed" in note
    assert "the server is gone" in note


def test_a_tracker_that_cannot_begin_is_a_message(tmp_path):
    def begin(*_):
        raise RuntimeError("no such server\nand much more")

    with (
        pytest.raises(ServiceError, match="mine could not begin: no such server$"),
        tracking.tracked(settings(track=("mine",)), RunFolder(tmp_path), Silent(), 0, {"mine": begin}),
    ):
        pass


def test_nothing_is_tracked_by_itself(tiny_folder, tmp_path, monkeypatch):
    """Neither for what is installed, nor for what stands in the environment."""
    for name, value in {"WANDB_PROJECT": "x", "WANDB_API_KEY": "x", "MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
                        "SWANLAB_PROJECT": "x", "TENSORBOARD_LOGGING_DIR": str(tmp_path / "logs")}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    train(tiny_folder, tmp_path / "one", settings(save_every=2))
    left = {path.name for path in (tmp_path / "one").iterdir()}
    assert left == {"metrics.jsonl", "checkpoints", "adapter"}
    assert {path.name for path in tmp_path.iterdir()} == {"one"}


def test_an_unknown_tracker_gets_the_nearest_name():
    with pytest.raises(UnknownNameError) as error:
        tracking.check(["tensorbord"])
    assert "did you mean 'tensorboard'" in error.value.hint


def test_a_tracker_that_is_not_installed_names_the_command():
    absent = [name for name in tracking.TRACKERS if tracking.find_spec(name) is None]
    if not absent:
        pytest.skip("all of them are installed here")
    with pytest.raises(UsageError) as error:
        tracking.check(absent[:1])
    assert f"pip install {absent[0]}" in error.value.hint


def test_tensorboard_gets_every_figure(tiny_folder, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    wanted = settings(track=("tensorboard",), save_every=2)
    train(tiny_folder, tmp_path / "one", wanted)
    events = EventAccumulator(str(tmp_path / "one" / "tensorboard")).Reload()
    rows = [row for row in RunFolder(tmp_path / "one").metrics() if "loss" in row]
    found = [(event.step, event.value) for event in events.Scalars("loss")]
    assert [step for step, _ in found] == [1, 2, 3, 4]
    assert [value for _, value in found] == pytest.approx([row["loss"] for row in rows])
    assert "learning_rate" in events.Tags()["scalars"]

"""A command that a scheduler ends by SIGTERM does all that it does at Ctrl-C; its exit code says which it was."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pexpect
import pytest

from medcli.core.interruption import INTERRUPTED, TERMINATED
from tests.conftest import RAW
from tests.engine.chat_service import chat_service
from tests.test_many_processes import Place, ended

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="needs signals"),
    # Python 3.12 warns of a fork in a process with threads; the child starts another program at once.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]
ROOT = Path(__file__).parents[1]
ENDLESS = ["--batch", 4, "--max-steps", 100_000, "--log-every", 1, "--max-length", 128, "--precision", "fp32"]


def training(place, name, *words):
    """A run of the data set "few" that has done two steps."""
    command = ["train", "lora", "--dataset", "few", "--model", place.model, "--run", name, *ENDLESS, *words]
    process = place.start("-m", "medcli", *command)
    place.wait_for_steps(name, 2, process)
    return process


def test_a_terminated_run_has_its_checkpoint_and_goes_on(med, built, project, tiny_folder):
    """The signal comes twice, as from a scheduler that tells the process and its group."""
    built("few", RAW / "alpaca", "--valid", 0.1)
    process = training(Place(project, tiny_folder), "stopped")
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.01)
    code, out, err = ended(process)
    assert code == TERMINATED == 143, err
    steps = int(re.search(r"stopped after step (\d+) of 100000; nothing is lost", out)[1])
    assert "med train lora --resume --run stopped" in out
    assert "Traceback" not in err
    run = project / "runs" / "stopped"
    assert (run / "checkpoints" / f"checkpoint-{steps}" / "trainer_state.json").is_file()
    assert 'status = "interrupted"' in (run / "run.toml").read_text("utf-8")
    words = ["--dataset", "few", "--model", tiny_folder, *ENDLESS, "--max-steps", steps + 2]
    result = med("train", "lora", "--resume", "--run", "stopped", *words, "--json")
    assert result.exit_code == 0, result.stderr
    done = json.loads(result.stdout)
    assert (done["steps"], done["interrupted"]) == (steps + 2, False)


@pytest.mark.slow
def test_processes_that_med_has_started_end_by_the_signal_that_came(built, project, tiny_folder):
    built("few", RAW / "alpaca", "--valid", 0.1)
    process = training(Place(project, tiny_folder), "both", "--devices", 2)
    process.send_signal(signal.SIGTERM)
    code, out, err = ended(process)
    assert code == TERMINATED, err
    assert out.count("nothing is lost") == 1
    assert "✗" not in err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, TERMINATED), (signal.SIGINT, INTERRUPTED)])
def test_a_stopped_build_leaves_nothing_half_written(project, number, code):
    rows = [{"instruction": f"第{i}问：头疼了{i}天？", "output": f"{i}天后再看。"} for i in range(60_000)]
    (project / "rows.json").write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "medcli", "data", "build", "rows.json", "--name", "rows"], stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    while not list(Path("data").glob(".rows.*.part/*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == code, said
    assert said.endswith("\ninterrupted\n")
    assert "Traceback" not in said
    assert list(Path("data").iterdir()) == []


@pytest.mark.parametrize("asked", ["", "头痛怎么办？"], ids=["at the prompt", "while an answer is waited for"])
def test_a_conversation_that_is_terminated_ends(project, asked):
    """Ctrl-C there stops an answer and no more; the terminal is given back as it was."""
    came, over = threading.Event(), threading.Event()

    def script(body):
        came.set()
        over.wait(30)
        return "多喝水"

    with chat_service(script) as service:
        line = f'"{sys.executable}" -m medcli chat "{service.url}#m"; echo "code $?"; stty -a'
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm"}
        terminal = pexpect.spawn("/bin/sh", ["-c", line], env=environment, encoding="utf-8", timeout=30)
        terminal.expect_exact("❯ ")
        if asked:
            terminal.send(f"{asked}\r")
            assert came.wait(30)
        (child,) = map(int, Path(f"/proc/{terminal.pid}/task/{terminal.pid}/children").read_text().split())
        os.kill(child, signal.SIGTERM)
        terminal.expect_exact("code 143")
        over.set()
        terminal.expect(r"(?<!-)\becho\b")
        assert "Traceback" not in terminal.before
        terminal.expect(pexpect.EOF)
        terminal.close()

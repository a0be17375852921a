"""`med train` in several processes: real ones on a CPU, started by med, torchrun and Slurm's variables."""

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from medcli.cli import app

ROWS = 16  # 13 of them to train on: an epoch that batches of four do not divide
STEPS = ["--precision", "fp32", "--lr", "0.01", "--max-length", 128, "--log-every", 1, "--valid-limit", 3]
LONG = 120  # seconds in which each of these must have ended, on a machine that has other things to do
# What torchrun starts here: med, but process 1 may write no file as long as a checkpoint's parts are.
CRAMPED = """
import os, resource
from medcli.cli.app import main
if os.environ["RANK"] == "1":
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
main()
"""


class Place:
    """A project folder with a data set of a few rows, and `med` as a process in it."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model = folder, model

    def environment(self, **more: object) -> dict[str, str]:
        """This process's variables without a launcher's, and a cache of its own."""
        foreign = ("MED_", "SLURM_", "RANK", "WORLD_SIZE", "LOCAL_", "MASTER_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        root = str(Path(app.__file__).parents[2])
        own = {"MED_CACHE": str(self.folder / "cache"), "OMP_NUM_THREADS": "1", "PYTHONPATH": root, "COLUMNS": "200"}
        return kept | own | {name: str(value) for name, value in more.items()}

    def words(self, *words: object) -> list[str]:
        return [str(word) for word in ("train", "lora", "--dataset", "rows", "--model", self.model, *STEPS, *words)]

    def start(self, *command: object, **variables: object) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, *map(str, command)], cwd=self.folder, env=self.environment(**variables),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def train(self, *words: object) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of `med train lora`."""
        return ended(self.start("-m", "medcli", *self.words(*words)))

    def train_here(self, *words: object) -> tuple[int, str]:
        """Exit code and all that was said of `med train lora` in this process, which is there already."""
        return here(self.folder, self.words(*words))

    def run(self, name: str) -> Path:
        return self.folder / "runs" / name

    def losses(self, name: str, kind: str = "loss") -> list[float]:
        lines = (self.run(name) / "metrics.jsonl").read_text().splitlines()
        return [row[kind] for row in map(json.loads, lines) if kind in row]

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        return load_file(self.run(name) / "adapter" / "adapter_model.safetensors")

    def wait_for_steps(self, name: str, count: int, process: subprocess.Popen) -> None:
        metrics = self.run(name) / "metrics.jsonl"
        until = time.monotonic() + LONG
        while not metrics.is_file() or len(metrics.read_text().splitlines()) < count:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.05)


def here(folder: Path, words: list[str]) -> tuple[int, str]:
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        patch.chdir(folder)
        patch.setenv("MED_CACHE", str(folder / "cache"))
        with pytest.raises(SystemExit) as stop:
            app.main(words)
    return stop.value.code, said.getvalue()


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=LONG)
    return process.returncode, out, err


def in_order(process: subprocess.Popen) -> list[psutil.Process]:
    """The processes that a launcher has started, by rank."""
    return sorted(psutil.Process(process.pid).children(), key=lambda child: int(child.environ()["RANK"]))


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_folder):
    """The folder of all runs here, with the run "one" of one process, batch 4."""
    folder = tmp_path_factory.mktemp("many")
    rows = [
        {
            "instruction": f"第{i}问：头疼了{i}天{'，要紧吗' * (i % 3)}？",
            "output": f"{'先休息，' * (i % 4)}{i}天后再看。",
        }
        for i in range(ROWS)
    ]
    (folder / "rows.json").write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
    place = Place(folder, tiny_folder)
    build = ["data", "build", "rows.json", "--name", "rows", "--importer", "alpaca", "--valid", "0.2", "--test", "0"]
    for words in (build, place.words("--batch", 4, "--epochs", 2, "--run", "one")):
        code, said = here(folder, words)
        assert code == 0, said
    return place


@pytest.fixture(scope="module")
def two(place):
    """What the run "two" of two processes said, batch 2 each: exit code, stdout, stderr."""
    return place.train("--batch", 2, "--epochs", 2, "--run", "two", "--devices", 2, "--save-every", 3)


@pytest.mark.slow
def test_two_processes_learn_as_one_with_twice_the_batch(place, two):
    code, _, err = two
    assert code == 0, err
    assert len(place.losses("one")) == 8
    assert place.losses("two") == pytest.approx(place.losses("one"), abs=1e-5)
    assert place.losses("two", "eval_loss") == pytest.approx(place.losses("one", "eval_loss"), abs=1e-5)
    one, both = place.weights("one"), place.weights("two")
    assert all(torch.allclose(one[name], both[name], atol=1e-5) for name in one)


def test_only_the_first_process_speaks_and_encodes(place, two):
    code, out, err = two
    assert code == 0, err
    assert err.count("encoding train") == err.count("training: 8 steps") == err.count("optimizer steps") == 1, err
    assert len(out.splitlines()) == 2, out
    assert not list((place.folder / "cache" / "launches").iterdir())  # what was encoded is cleared away


def test_tokens_of_all_processes_are_counted(place, two):
    from medcli.core.run_folder import RunFolder

    assert two[0] == 0, two[2]
    tables = [RunFolder(place.run(name)).table() for name in ("one", "two")]
    assert tables[0]["result"]["tokens"] == tables[1]["result"]["tokens"] == 2 * tables[0]["plan"]["tokens"]
    assert tables[1]["settings"]["devices"] == 2


@pytest.mark.slow
def test_resume_is_bitwise_and_takes_as_many_processes(place, two):
    assert two[0] == 0, two[2]
    shutil.copytree(place.run("two"), place.run("again"))
    shutil.rmtree(place.run("again") / "adapter")
    last = max((place.run("again") / "checkpoints").iterdir(), key=lambda path: int(path.name.split("-")[1]))
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= {path.name for path in last.iterdir()}
    shutil.rmtree(last)
    table = place.run("again") / "run.toml"
    table.write_text(table.read_text().replace('status = "finished"', 'status = "interrupted"'))
    code, said = place.train_here("--resume", "--run", "again", "--devices", 1)
    assert code == 2
    assert "began with 2 processes" in said
    code, _, err = place.train("--resume", "--run", "again")
    assert code == 0, err
    straight, resumed = place.weights("two"), place.weights("again")
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


@pytest.mark.slow
def test_ctrl_c_stops_all_after_the_same_step(place):
    process = place.start("-m", "medcli", *place.words("--devices", 2, "--max-steps", 5000, "--run", "stopped"))
    place.wait_for_steps("stopped", 2, process)
    process.send_signal(signal.SIGINT)
    code, out, err = ended(process)
    assert code == 130, err
    assert out.count("go on with:  med train lora --resume --run stopped") == 1
    assert "Traceback" not in err
    assert "✗" not in err
    checkpoints = (place.run("stopped") / "checkpoints").glob("checkpoint-*")
    assert all((checkpoint / "rng_state_1.pth").is_file() for checkpoint in checkpoints)
    assert 'status = "interrupted"' in (place.run("stopped") / "run.toml").read_text()


@pytest.mark.slow
def test_a_killed_process_ends_all_and_is_named(place):
    process = place.start("-m", "medcli", *place.words("--devices", 2, "--max-steps", 5000, "--run", "killed"))
    place.wait_for_steps("killed", 2, process)
    in_order(process)[1].kill()
    code, _, err = ended(process)
    assert code == 5, err
    assert err.count("✗") == 1
    assert "process 1 of the run was ended by SIGKILL" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_an_error_in_one_process_of_torchrun_ends_all_with_its_message(place):
    (place.folder / "cramped.py").write_text(CRAMPED)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, "--", "cramped.py"]
    code, _, err = ended(place.start(*launcher, *place.words("--max-steps", 4, "--save-every", 2, "--run", "cramped")))
    assert code != 0
    assert err.count("✗") == 1, err


@pytest.mark.slow
def test_slurms_variables_are_enough(place):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    step = {"SLURM_JOB_ID": 7, "SLURM_STEP_ID": 0, "SLURM_STEP_NUM_TASKS": 2, "SLURM_STEP_TASKS_PER_NODE": "2",
            "SLURM_STEP_NODELIST": "localhost", "MASTER_PORT": port}  # fmt: skip
    tasks = [
        place.start("-m", "medcli", *place.words("--batch", 2, "--max-steps", 2, "--run", "slurm"),
                    SLURM_PROCID=rank, SLURM_LOCALID=rank, **step)
        for rank in (1, 0)
    ]  # fmt: skip
    (silent, first) = [ended(task) for task in tasks]
    assert first[0] == silent[0] == 0, first[2] + silent[2]
    assert "encoding train" in first[2]
    assert (silent[1], silent[2]) == ("", "")
    assert place.losses("slurm")[0] == pytest.approx(place.losses("one")[0], abs=1e-5)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--nodes", 2], 2, "--run NAME"),
        (["--nodes", 2, "--run", "x"], 2, "is not host:port"),
        (["--nodes", 2, "--run", "x", "--main-address", "here:1", "--node-rank", 2], 2, "count from 0 to 1"),
        (["--strategy", "fsdp2"], 2, "--devices N"),
        (["--strategy", "fsdp2", "--devices", 2, "--device", "cpu"], 5, "needs GPUs"),
        (["--strategy", "zero3", "--devices", 2, "--quant", "4bit"], 2, "--strategy zero2 or ddp"),
        (["--strategy", "zero3", "--devices", 2], 2, "add --no-packing"),
    ],
)
def test_what_cannot_be_gets_one_message(med, words, code, said):
    result = med("train", "lora", "--dataset", "rows", *words)
    assert result.exit_code == code, result.stderr
    assert said in result.stderr
    assert result.stderr.count("✗") == 1


@pytest.mark.slow
def test_torchrun_trains(place):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, "-m", "--", "medcli"]
    code, _, err = ended(place.start(*launcher, *place.words("--batch", 2, "--epochs", 2, "--run", "torchrun")))
    assert code == 0, err
    assert err.count("encoding train") == 1
    assert place.losses("torchrun") == pytest.approx(place.losses("one"), abs=1e-5)


@pytest.mark.slow
def test_ctrl_c_on_one_process_stops_all_and_resume_is_bitwise(place):
    """With dropout: each process goes on with its own random numbers."""
    words = ["--devices", 2, "--dropout", 0.2, "--max-steps", 60, "--save-every", 50]
    assert place.train(*words, "--run", "whole")[0] == 0
    process = place.start("-m", "medcli", *place.words(*words, "--run", "broken"))
    place.wait_for_steps("broken", 3, process)
    in_order(process)[1].send_signal(signal.SIGINT)
    code, out, err = ended(process)
    assert code == 130, err
    assert out.count("nothing is lost") == 1
    assert place.train("--resume", "--run", "broken")[0] == 0
    whole, broken = place.weights("whole"), place.weights("broken")
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


def nodes(place: Place, name: str, address: str, before: tuple[list, list]) -> list[tuple[int, str, str]]:
    """Two machines of one process each, started by `before` and med's own launcher."""
    both = []
    for rank in (1, 0):
        words = place.words("--batch", 2, "--epochs", 2, "--run", name, "--nodes", 2, "--node-rank", rank)
        command = [*before[rank], sys.executable, "-m", "medcli", *words, "--main-address", address]
        both.append(subprocess.Popen([str(word) for word in command], cwd=place.folder, env=place.environment(),
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))  # fmt: skip
    other, first = [ended(process) for process in both]
    return [first, other]


@pytest.mark.slow
def test_two_nodes_on_one_machine(place):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    first, other = nodes(place, "nodes", f"127.0.0.1:{port}", ([], []))
    assert first[0] == other[0] == 0, first[2] + other[2]
    assert other[1] == ""
    assert place.losses("nodes") == pytest.approx(place.losses("one"), abs=1e-5)


@pytest.mark.slow
def test_two_network_namespaces_are_two_nodes(place):
    if shutil.which("ip") is None:
        pytest.skip("no network namespaces here: iproute2 is not installed")
    spaces = ["medcli-a", "medcli-b"]
    make = [f"ip netns add {spaces[0]}", f"ip netns add {spaces[1]}",
            f"ip link add medcli0 netns {spaces[0]} type veth peer name medcli1 netns {spaces[1]}"]  # fmt: skip
    for number, space in enumerate(spaces):
        make += [f"ip -n {space} addr add 10.99.99.{number + 1}/24 dev medcli{number}",
                 f"ip -n {space} link set medcli{number} up", f"ip -n {space} link set lo up"]  # fmt: skip
    try:
        for line in make:
            done = subprocess.run(line.split(), capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"no network namespaces here: {line}: {done.stderr.strip()}")
        into = tuple(["ip", "netns", "exec", space] for space in spaces)
        first, other = nodes(place, "spaces", "10.99.99.1:29500", into)
    finally:
        for space in spaces:
            subprocess.run(["ip", "netns", "delete", space], capture_output=True, check=False)
    assert first[0] == other[0] == 0, first[2] + other[2]
    assert place.losses("spaces") == pytest.approx(place.losses("one"), abs=1e-5)

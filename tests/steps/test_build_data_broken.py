"""Building when it goes wrong: bad input, a full disk, a killed process, spoilt bytes; and its memory."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medcli.core.dataset_folder import DatasetFolder
from medcli.core.errors import DataError, StorageError, UnknownNameError, UsageError
from tests.building import Notes, alpaca, check_account, made
from tests.conftest import RAW


def test_unknown_names_and_missing_files(project):
    with pytest.raises(UnknownNameError) as error:
        made("cmedqa22")
    assert "did you mean 'cmedqa2'?" in error.value.hint
    with pytest.raises(DataError, match="no such file or folder"):
        made("data/none.json")
    with pytest.raises(UsageError, match="meddialog cannot be downloaded by a program"):
        made("meddialog")
    with pytest.raises(UnknownNameError, match="no importer is called 'alpacca'"):
        made("x", importer="alpacca")
    with pytest.raises(DataError, match="holds no file of huatuo-llama"):
        made("huatuo-llama", raw=RAW / "alpaca")
    with pytest.raises(UsageError, match="leave nothing to train on"):
        made("x", valid=0.6, test=0.4)
    with pytest.raises(UsageError, match="cannot name a data set"):
        made(RAW / "alpaca/alpaca.json", name="../x")


def test_wrong_columns_name_what_is_there(project, tmp_path):
    (tmp_path / "a.csv").write_text("name,age\n张三,40\n", "utf-8")
    with pytest.raises(DataError, match="no importer fits; its columns are name, age"):
        made(tmp_path / "a.csv")
    with pytest.raises(DataError, match="nothing to keep in 1 rows: 1 × missing column"):
        made(tmp_path / "a.csv", importer="pairs")
    assert not (project / "data").exists() or not any((project / "data").iterdir())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a.json is empty"),
        ("[1, 2]", "line 1: not an object with columns"),
        ("{'a': 1}\n", "line 1: broken JSON: Expecting property name"),
        ("[]", "no importer fits"),
    ],
)
def test_files_without_rows(project, text, said):
    (project / "a.json").write_text(text, "utf-8")
    with pytest.raises(DataError, match=said):
        made("a.json")


def test_wrong_encoding_leaves_the_old_set(project, tmp_path):
    path = alpaca(tmp_path / "a.json", 30)
    before = made(path).sha256("train")
    with path.open("ab") as file:
        file.write(b'{"instruction": "\xff\xfe", "output": "x"}\n')
    with pytest.raises(DataError, match=r"a\.json:31: byte"):
        made(path)
    assert DatasetFolder(project / "data/a").sha256("train") == before


def test_unwritable_folder(project):
    (project / "data").write_text("in the way", "utf-8")
    with pytest.raises(StorageError):
        made(RAW / "alpaca/alpaca.json")


def test_disk_full(project, tmp_path):
    """No file may grow past 100 kB, as on a full disk; the old set stays."""
    path = alpaca(tmp_path / "a.json", 30)
    dataset = made(path)
    before = dataset.sha256("train")
    alpaca(path, 3000)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(StorageError):
            made(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert DatasetFolder(dataset.path).sha256("train") == before
    assert [p.name for p in dataset.path.parent.iterdir()] == ["a"]


def test_a_folder_of_somebody_else_is_not_replaced(project):
    (project / "data/alpaca").mkdir(parents=True)
    (project / "data/alpaca/notes.txt").write_text("mine", "utf-8")
    with pytest.raises(UsageError, match="would be replaced"):
        made(RAW / "alpaca/alpaca.json")


def killed_build(path, moment):
    """Build in a process of its own and kill it when `moment(its part folder, seconds)` holds; True when it was."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "medcli", "data", "build", str(path)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    part = Path("data") / f".{path.stem}.{process.pid}.part"
    started = time.monotonic()
    while process.poll() is None and not moment(part, time.monotonic() - started):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def left_by_a_kill(folder):
    """The data set a killed build leaves: under its name, or moved aside where folders cannot be exchanged."""
    return DatasetFolder(folder if folder.exists() else next(folder.parent.glob(f".{folder.name}.*.old")))


MOMENTS = {
    "while it starts": lambda part, seconds: seconds > 0.2,
    "at the first record": lambda part, seconds: (part / "train.jsonl").exists(),
    "while it reads": lambda part, seconds: (
        (part / "train.jsonl").exists() and (part / "train.jsonl").stat().st_size > 2e5
    ),
    "while it takes records out": lambda part, seconds: (part / "train.rest").exists(),
    "at the manifest": lambda part, seconds: (part / "manifest.toml").exists(),
    "at the card": lambda part, seconds: (part / "report.html").exists(),
}


def test_killed_at_any_moment_a_rebuild_gives_the_same_bytes(project, tmp_path):
    path = alpaca(tmp_path / "big.jsonl", 3_000)
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(lines + [line.replace("？", "？！") for line in lines[:500]]), "utf-8")  # near-duplicates
    undisturbed = made(path, name="whole")
    assert undisturbed.manifest["refused"]["near-duplicate"] > 100
    new = made(path)
    expected = {file.name: file.read_bytes() for file in new.path.iterdir()}
    new_hash = new.sha256("train")
    shutil.rmtree(project / "data/big")
    old = made(path, limit=50)
    hits = 0
    for name, moment in MOMENTS.items():
        was_killed = killed_build(path, moment)
        hits += was_killed
        if was_killed:
            left = left_by_a_kill(project / "data/big").sha256("train")
            assert left in (old.sha256("train"), new_hash), name  # the kill may come after the last rename
        check_account(made(path))
        assert {file.name: file.read_bytes() for file in (project / "data/big").iterdir()} == expected, name
        assert sorted(p.name for p in (project / "data").iterdir()) == ["big", "whole"], name
        old = made(path, limit=50)
    assert hits >= 4  # the last moments are short, and a fast machine may be past them


def test_a_set_moved_aside_by_a_killed_build_comes_back(project, tmp_path):
    path = alpaca(tmp_path / "a.json", 30)
    dataset = made(path)
    gone = subprocess.Popen(["true"])
    gone.wait()
    dataset.path.rename(dataset.path.with_name(f".a.{gone.pid}.old"))
    report = Notes()
    made(path, report=report)
    assert "nothing to do" in report.notes[0]


MEASURE = """
import resource, sys
from medcli.core.build_settings import BuildSettings
from medcli.steps.build_data import build
build(sys.argv[1], BuildSettings(repetition=1))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_file(project, tmp_path):
    def peak(path):
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(path)], env=environment, capture_output=True, check=True
        )
        return int(done.stdout) / 1024

    def long_rows(path, count):
        generator = random.Random(1)
        words = ["".join(generator.choices("头胸腹背腰腿疼痛酸麻胀热冷咳喘晕吐泻痒肿", k=3)) for _ in range(3000)]
        with path.open("w", encoding="utf-8") as file:
            for _ in range(count):
                row = {
                    "question": "，".join(generator.choices(words, k=30)),
                    "answer": "；".join(generator.choices(words, k=30)),
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        return path

    small = peak(long_rows(tmp_path / "small.jsonl", 3_000))
    large_file = long_rows(tmp_path / "large.jsonl", 20_000)
    large = peak(large_file)
    # 20,000 rows of 760 bytes are 15 MB; what stays of each is its hash and its signature, and of a held-out question
    # its text and 24 hashes, while leaks are looked for.
    assert large - small < 12
    assert large_file.stat().st_size > 14 << 20

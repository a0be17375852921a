"""Fixtures every test may use: an empty project folder, the command line as a function, no network."""

import gc
import io
import os
import shutil
import socket
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

from medcli.cli import app, console

# How long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile("med", deadline=None)
hypothesis.settings.load_profile("med")

# Before torch is imported: workers side by side would have their second threads wait for each other, busily.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
RAW = Path(__file__).parent / "raw"


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty folder that is the working folder, with a cache of its own."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("MED_DATA", "MED_RUNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")
    return folder


@pytest.fixture
def med(project, monkeypatch):
    """`med("data", "list")` runs the command in this process and returns a Result."""

    def run(*words: object, stdin: str = "") -> Result:
        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        monkeypatch.setattr(console, "_quiet", False)
        with redirect_stdout(out), redirect_stderr(err):
            try:
                app.main([str(word) for word in words])
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 0
        return Result(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def built(med, project, tmp_path_factory):
    """`built("few", RAW / "alpaca", "--valid", 0.1)` puts a data set into the project, made once for all tests."""
    kept = tmp_path_factory.getbasetemp() / "built"

    def put(name: str, *words: object) -> None:
        made, place = kept / "-".join(map(str, (name, *words))).replace("/", "-"), project / "data" / name
        if made.exists():
            shutil.copytree(made, place)
            return
        result = med("data", "build", *words, "--name", name)
        assert result.exit_code == 0, result.stderr
        shutil.copytree(place, made)

    return put


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """The folder of a tiny model, made once."""
    from tests import tiny_model

    return tiny_model.write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def cached_tiny(project, tmp_path, tiny_folder):
    """med-tiny in the cache, but random and small: what follows is the same, only its answers are nonsense."""
    from medcli.engine import tiny

    return shutil.copytree(tiny_folder, tmp_path / "cache" / tiny.folder_name())


@pytest.fixture(autouse=True)
def no_cache_of_the_user(tmp_path_factory, monkeypatch):
    """What tests keep in a cache must not fill the one of who runs them; `project` gives a test its own."""
    monkeypatch.setenv("MED_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def english(monkeypatch):
    """Whatever language the machine speaks."""
    monkeypatch.setenv("MED_LANG", "en")


@pytest.fixture(autouse=True, scope="module")
def libraries_out_of_sight():
    """Each training begins with a collection of garbage, which walks through all that was ever imported: 0.4 s."""
    gc.freeze()


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Only this machine may be reached."""
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"a test tried to reach {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


def shared(name: str) -> Path:
    """A real file of the shared data; the test is skipped, saying so, when it is absent."""
    path = SHARED_DATA / name
    if not path.exists():
        pytest.skip(f"the shared data file {name} is not here")
    return path

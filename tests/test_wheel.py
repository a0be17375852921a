"""The wheel holds all that `med` needs, and works where nothing but it lies."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from medcli.core.resources import templates

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def run(*words: object, folder: Path = ROOT) -> str:
    """What a command prints; the test fails with what it said when it fails."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("MED_", "PYTHON"))}
    variables |= {"MED_CACHE": str(folder / "cache"), "COLUMNS": "120"}
    done = subprocess.run(
        [str(word) for word in words], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    place = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", place)
    return next(place.glob("medcli-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The `med` of an environment that has the wheel itself and, beside it, the libraries of this one."""
    place = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", place)
    python = place / "bin" / "python"
    # A path in a .pth file is searched, but the .pth files there are not read: no editable install comes with it.
    own = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    others = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (own / "libraries.pth").write_text("\n".join(sorted(others)) + "\n", "utf-8")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet", wheel)
    return place / "bin" / "med"


def test_the_wheel_holds_every_template(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"medcli/templates/chat/chatml.jinja", "medcli/templates/knowledge/diseases.toml"} <= names
    here = {path.relative_to(templates()) for path in templates().rglob("*") if path.is_file()}
    assert {f"medcli/templates/{path}" for path in here} <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]


def test_the_wheel_works_in_an_empty_folder(installed, tmp_path):
    assert "quickstart" in run(installed, "--help", folder=tmp_path)
    assert "cmedqa2" in run(installed, "data", "list", folder=tmp_path)
    plan = run(installed, "data", "build", "knowledge", "--plan", folder=tmp_path)
    assert "importer knowledge" in plan
    where = run(installed.with_name("python"), "-c", "import medcli; print(medcli.__file__)", folder=tmp_path)
    assert where.startswith(str(installed.parents[1]))

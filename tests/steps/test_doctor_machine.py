"""Python, encodings, memory, disks and libraries, where one of them is not as it should be."""

import pytest

from medcli.steps import doctor_libraries
from medcli.steps.doctor_libraries import library_findings, wanted
from medcli.steps.doctor_machine import (
    disk_findings,
    memory_findings,
    memory_limit,
    places,
    python_findings,
    system_findings,
)


def states(findings):
    return [one.state for one in findings]


@pytest.mark.parametrize(
    ("version", "state"), [((3, 10, 1), "error"), ((3, 11, 0), "ok"), ((3, 13, 9), "ok"), ((3, 14, 0), "warning")]
)
def test_python_is_told_by_the_versions_that_were_tested(version, state):
    (finding,) = python_findings(version)
    assert (finding.state, bool(finding.hint)) == (state, state != "ok")


def test_another_system_is_a_warning():
    assert states(system_findings("Windows", "utf-8"))[0] == "warning"
    assert states(system_findings("Linux", "UTF8"))[0] == "ok"


def test_an_output_that_cannot_show_chinese_is_a_warning():
    told = [one for one in system_findings("Linux", "latin-1") if one.state == "warning"]
    assert "latin-1" in told[0].message
    assert "PYTHONUTF8" in told[0].hint


def test_cores_and_memory_are_told():
    assert {one.check for one in memory_findings()} == {"CPU", "memory"}


def test_the_limit_of_a_container_is_read():
    assert memory_limit("max\n") is None
    assert memory_limit("2147483648\n") == 2.0


def test_places_on_one_disk_are_told_together(project):
    assert set(places()) == {"data", "runs", "cache", "hub"}
    (finding,) = disk_findings({"data": project / "data", "runs": project / "runs" / "deep" / "er"})
    assert finding.message.endswith("GiB are free for data, runs") or "data, runs;" in finding.message


def test_a_place_that_is_a_file_is_an_error(project):
    (project / "runs").write_text("", "utf-8")
    (finding,) = disk_findings({"runs": project / "runs"})
    assert (finding.state, finding.hint) == ("error", "choose another folder: export MED_RUNS=/a/folder/of/yours")
    assert finding.message == f"{project / 'runs'} cannot be written to: a file is where a folder must be"


def test_libraries_as_they_are_named_for_pip():
    assert wanted("torch").startswith("torch")
    assert ">=2.10" in wanted("torch")
    assert wanted("unheard-of") == "unheard-of"


def installed(folder, name, version):
    """What pip would have left of another version, found first."""
    about = folder / f"{name}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", "utf-8")


def test_a_library_of_another_version_is_an_error_with_the_command(tmp_path, monkeypatch):
    installed(tmp_path, "peft", "0.1.0")
    installed(tmp_path, "openai", "1.0")
    monkeypatch.syspath_prepend(tmp_path)
    told = {one.check: one for one in library_findings() if one.state != "ok"}
    assert told["libraries"].state == "error"
    assert told["libraries"].message.startswith("peft is 0.1.0, and med was tested with ")
    assert told["libraries"].hint == f"pip install '{wanted('peft')}'"
    assert told["extras"].state == "warning"
    assert told["extras"].message.startswith("openai is 1.0, and llm was tested with ")


def test_a_build_s_own_mark_does_not_count(tmp_path, monkeypatch):
    installed(tmp_path, "torch", "2.13.0+cu130")
    monkeypatch.syspath_prepend(tmp_path)
    assert not [one for one in library_findings() if "torch" in one.message]
    assert doctor_libraries.OURS == "medcli"

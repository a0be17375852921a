"""Every fault of med.toml and of the environment is told, each with what was meant."""

import pytest

from medcli.cli.options import every_section
from medcli.steps.doctor_project import project_findings, variable_findings

SOUND = """
language = "zh"
[train]
lr = 1e-4
rank = 4
[train.lora]
recipe = "huatuo"
dataset = "few"
[data.build]
valid = 0.1
"""
WRONG = """
language = "fr"
[train]
lr = "fast"
rnak = 8
[train.lora]
rank = 0
recipe = "huatou"
[train.loar]
x = 1
"""


@pytest.fixture
def faults(project):
    """`faults(text)` writes a med.toml and gives (message, hint) of every error."""

    def of(text):
        (project / "med.toml").write_text(text, "utf-8")
        found = project_findings(every_section())
        return [(one.message, one.hint) for one in found if one.state == "error"]

    return of


def test_without_a_file_all_is_well(project):
    assert [one.state for one in project_findings(every_section())] == ["ok"]


def test_a_sound_file_is_understood(faults):
    assert faults(SOUND) == []


def test_all_faults_are_told_at_once(faults):
    told = faults(WRONG)
    assert [message for message, _ in told] == [
        "no language is called 'fr'",
        "med.toml: [train] lr: 'fast' is not a number",
        "med.toml: [train] has no setting 'rnak'",
        "med.toml: [train.lora] rank: 0 is too small",
        "no recipe is called 'huatou'",
        "med.toml: [train.loar] belongs to no command",
    ]
    assert told[2][1] == "did you mean 'rank'?"
    assert told[5][1] == "did you mean [train.lora]?"


def test_a_recipe_of_another_method_is_told(faults):
    ((message, _),) = faults('[train.pt]\nrecipe = "huatuo"\n')
    assert message == "the recipe 'huatuo' is for `med train lora`, not for `med train pt`"


def test_a_plain_value_where_a_table_must_be(faults):
    ((message, hint),) = faults('train = "lora"\n')
    assert (message, hint) == ("med.toml: 'train' must be a table", "write [train]")


def test_what_is_no_toml_is_told_with_its_line(faults):
    ((message, _),) = faults("[train]\nlr = = 1\n")
    assert "med.toml: Invalid value (at line 2" in message


def test_variables_are_checked_by_name_and_value(project, monkeypatch):
    monkeypatch.setenv("MED_TRAIN_LORA_RANK", "many")
    monkeypatch.setenv("MED_TRAIN_LORA_RNAK", "8")
    monkeypatch.setenv("MED_EVAL_LIMIT", "9")
    found = [(one.message, one.hint) for one in variable_findings(every_section()) if one.state == "error"]
    assert sorted(found) == [
        ("MED_TRAIN_LORA_RANK: 'many' is not a whole number", ""),
        ("the environment variable MED_TRAIN_LORA_RNAK is not known", "did you mean MED_TRAIN_LORA_RANK?"),
    ]


def test_a_key_is_never_printed(project, monkeypatch):
    monkeypatch.setenv("MED_API_KEY", "sk-secret")
    (finding,) = variable_findings(every_section())
    assert finding.state == "ok"
    assert "MED_API_KEY" in finding.message
    assert "sk-secret" not in finding.message

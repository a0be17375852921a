"""What --json prints has the shape that is promised: `tests/golden/json` holds a JSON Schema for each command.

`python -m tests.test_json --write` makes the schemas anew, and `docs/*/json.md` must tell of every key.
"""

import argparse
import re
import tempfile
from pathlib import Path

import jsonschema_rs
import pytest
from typer.core import TyperGroup

from tests import schemas
from tests.json_commands import LINES, SEEN_ELSEWHERE, SLOW_LINES, TERM, outputs
from tests.test_help import leaves

REMEDY = (
    "Keys of --json are added, never renamed or removed. Where this is meant: python -m tests.test_json --write, look "
    "at the diff, and tell of it in docs/en/json.md, docs/zh/json.md and CHANGELOG.md."
)
DOCS = {language: Path(__file__).parents[1] / "docs" / language / "json.md" for language in ("en", "zh")}
# A table of the documents, after the schemas whose keys it tells.
SECTION = re.compile(r"^(.*\]\(\.\./\.\./tests/golden/json/.*)\n\n((?:\|.*\|\n)+)", re.MULTILINE)


def faults(name: str, printed: list[object]) -> list[str]:
    """Where what was printed is not as its schema says."""
    validator = jsonschema_rs.validator_for(schemas.read(name))
    return [
        f"{'/'.join(map(str, error.instance_path))}: {error.message}"
        for value in printed
        for error in validator.iter_errors(value)
    ]


LIGHT = ("data-", "kb", "init", "clean", "doctor")  # what needs no model


def wrong_in(told: dict[str, list[object]]) -> dict[str, list[str]]:
    """The faults of what was printed, by schema; only those that have any."""
    return {name: found for name, printed in told.items() if (found := faults(name, printed))}


def test_what_is_printed_is_as_the_schema_says(tmp_path):
    """One test for all commands: each builds on those before, and no two workers should go the way twice."""
    lines = [line for line in LINES if line[0].startswith(LIGHT)]
    assert wrong_in(outputs(tmp_path, lines)) == {}, REMEDY


@pytest.mark.slow
def test_what_every_command_prints_is_as_the_schema_says(tmp_path):
    assert wrong_in(outputs(tmp_path, LINES)) == {}, REMEDY


@pytest.mark.slow
@pytest.mark.parametrize("line", SLOW_LINES, ids=[schema for schema, _ in SLOW_LINES])
def test_what_the_tours_print_is_as_their_schemas_say(tmp_path, line):
    assert faults(line[0], outputs(tmp_path, [line])[line[0]]) == [], REMEDY


def test_a_key_that_comes_goes_or_changes_is_noticed():
    """Of a schema that is inferred from examples."""
    schema = schemas.inferred([{"a": 1, "b": None, "seconds": {"x": 1}}, {"a": 2, "b": 0.5, "seconds": {}, "c": []}])
    validator = jsonschema_rs.validator_for(schema)
    assert validator.is_valid({"a": 1, "b": 2, "seconds": {"y": 3}})
    for broken in ({"b": 2}, {"a": "1", "b": 2}, {"a": 1, "b": 2, "d": 3}, {"a": 1, "b": 2, "c": {}}):
        assert not validator.is_valid({"seconds": {}} | broken)


def test_every_command_that_takes_json_has_a_schema():
    taking = {
        words
        for words, command in leaves()
        if not isinstance(command, TyperGroup) and any("--json" in option.opts for option in command.params)
    }
    ran = {words for words in taking for _, line in (*LINES, *SLOW_LINES) if tuple(line.split()[: len(words)]) == words}
    assert ran == taking, "name what is missing in tests/json_commands.py"
    kept = {path.stem for path in schemas.FOLDER.glob("*.json")}
    assert kept == {schema for schema, _ in (*LINES, *SLOW_LINES)}


@pytest.mark.parametrize("language", DOCS)
def test_the_documents_tell_of_every_key(language):
    tables = {
        name: rows
        for names, rows in SECTION.findall(DOCS[language].read_text("utf-8"))
        for name in re.findall(r"golden/json/([\w-]+)\.json", names)
    }
    assert sorted(tables) == sorted(path.stem for path in schemas.FOLDER.glob("*.json"))
    for name, rows in tables.items():
        named = [key for row in rows.splitlines()[2:] for key in re.findall(r"`([^`]+)`", row.split("|")[1])]
        schema = schemas.read(name)
        assert named == list(schema.get("items", schema)["properties"]), name


def write() -> None:
    """Run everything, and keep the schemas of what it prints."""
    with tempfile.TemporaryDirectory() as folder:
        found = outputs(Path(folder), [*LINES, *SLOW_LINES])
    for name, printed in found.items():
        schema = schemas.inferred(printed)
        for path, kind in SEEN_ELSEWHERE.get(name, {}).items():
            schemas.widened(schema, path, kind)
        if name == "train":
            schemas.with_pattern(schema, TERM, "^(eval_)?reward_")
        schemas.write(name, schema)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", required=True, help="Make the schemas anew.")
    parser.parse_args()
    write()

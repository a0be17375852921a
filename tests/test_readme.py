"""What README and docs/ list is complete, and their examples work: data, settings, a whole importer."""

import json
import re
import tomllib

import pytest
import typer.core

from medcli import importers
from medcli.cli import repl
from medcli.cli.table import TABLE
from medcli.core import chat_template, errors, recipes
from medcli.core.settings import Layers, resolve
from medcli.core.shelf import Shelf
from medcli.methods import lora
from medcli.steps import chat
from tests.conftest import RAW
from tests.documents import PAGES, ROOT, blocks, tables, text_of
from tests.test_help import leaves

both = pytest.mark.parametrize("language", [0, 1], ids=["en", "zh"])
# Page and number of each table.
COMMANDS, RECIPES = ("README", 0), ("README", 1)
FORMATS, LAYOUTS = ("data", 0), ("data", 1)
METHODS, EXAMS, CHAT, CODES = ("training", 0), ("evaluation", 0), ("chat", 0), ("settings", 0)


def text(page: str, language: int = 0) -> str:
    return text_of(PAGES[page][language])


def rows(table: tuple[str, int], language: int = 0) -> list[list[str]]:
    """The cells of one table of a page."""
    page, number = table
    return tables(text(page, language))[number]


@both
def test_every_command_is_in_the_table(language):
    named = {tuple(re.match(r"`med ([a-z ]+)", row[0])[1].split()) for row in rows(COMMANDS, language)}
    assert {words[0] for words in named} == set(TABLE)
    ends = {words for words, command in leaves() if not isinstance(command, typer.core.TyperGroup)}
    assert named == ends


@both
def test_the_tree_names_the_folders_that_exist(language):
    tree = next(block for block in blocks(text("README", language), "text") if block.startswith("medcli/"))
    named = re.findall(r"^  (\w+)/ +\S", tree, re.MULTILINE)
    assert sorted(named) == sorted(path.parent.name for path in (ROOT / "medcli").glob("*/__init__.py"))
    for name in re.findall(r"^(\w+)/", tree, re.MULTILINE):
        assert (ROOT / name).is_dir()


@both
def test_every_importer_is_in_the_table(language):
    cells = [row[0] for table in (FORMATS, LAYOUTS) for row in rows(table, language)]
    named = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == Shelf("medcli.importers", "importer").names()


@both
def test_the_examples_of_the_formats_are_the_same(language):
    assert [row[2] for row in rows(FORMATS, language)] == [row[2] for row in rows(FORMATS)]


@both
def test_every_method_recipe_and_chat_format_is_named(language):
    named = [row[0].strip("`") for row in rows(METHODS, language)]
    assert sorted(named) == Shelf("medcli.methods", "method").names()
    named = set(re.findall(r"`([^`\n]+)`", text("training", language)))
    assert set(recipes.recipes()) <= named
    assert set(chat_template.shipped_names()) - {"med-tiny"} <= named


@both
def test_every_recipe_is_in_the_table_with_its_method(language):
    named = {row[0].strip("`"): row[1].strip("`") for row in rows(RECIPES, language)}
    table = {name: tomllib.loads((ROOT / f"templates/recipes/{name}.toml").read_text("utf-8")) for name in named}
    assert set(named) == set(recipes.recipes())
    assert named == {name: recipe["recipe"]["method"] for name, recipe in table.items()}


@both
def test_every_exam_is_in_the_table(language):
    named = [re.findall(r"`(\w+)`", row[0])[-1] for row in rows(EXAMS, language)]
    assert sorted(named) == Shelf("medcli.exams", "exam").names()


@both
def test_every_exit_code_is_in_the_table(language):
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    codes = {value.exit_code for value in classes if issubclass(value, errors.MedError)}
    assert [int(row[0]) for row in rows(CODES, language)] == sorted(codes | {0, 130, 141, 143})


@both
def test_every_chat_command_is_in_the_table(language):
    named = [tuple(row[0].strip("`").split()) for row in rows(CHAT, language)]
    known = [(name, *command.argument.split()) for name, command in repl.COMMANDS.items()]
    assert sorted(named) == sorted(known)
    assert all(f"`{alias}`" in text("chat", language) for alias in repl.ALIASES)


def test_the_example_of_each_format_builds(med, project):
    for importer, _, cell in rows(FORMATS):
        importer = importer.strip("`")
        lines = re.findall(r"`([^`]+)`", cell)
        suffix = "jsonl" if lines[0].startswith("{") else "csv" if len(lines) > 1 else "txt"
        source = project / f"example.{suffix}"
        source.write_text("\n".join(lines) + "\n", "utf-8")
        result = med("data", "build", source, "--name", f"from-{importer}", "--json")
        assert result.exit_code == 0, result.stderr
        manifest = json.loads(result.stdout)
        assert manifest["importer"] == importer
        assert manifest["counts"]["kept"] >= 1


def test_the_example_of_dataset_info_builds(med, project):
    example = blocks(text("data"), "json")[0]
    (project / "dataset_info.json").write_text(example, "utf-8")
    for name, entry in json.loads(example).items():
        columns = entry["columns"]
        row = {column: f"{part}：头痛怎么办？" for part, column in columns.items()}
        if tags := entry.get("tags"):
            turns = [(tags["user_tag"], "头痛怎么办？"), (tags["assistant_tag"], "注意休息。")]
            row = {columns["messages"]: [{tags["role_tag"]: who, tags["content_tag"]: said} for who, said in turns]}
        (project / entry["file_name"]).write_text(json.dumps(row, ensure_ascii=False) + "\n", "utf-8")
        result = med("data", "build", name, "--json")
        assert result.exit_code == 0, result.stderr
        assert json.loads(result.stdout)["counts"]["kept"] == 1


def test_the_example_of_med_toml_is_understood(med, project):
    example = blocks(text("settings"), "toml")[0]
    (project / "med.toml").write_text(example, "utf-8")
    assert med("data", "build", RAW / "alpaca/alpaca.json", "--plan").exit_code == 0  # checks every section's name
    layers = Layers(project=tomllib.loads(example), flags={"dataset": "x"})
    trained = resolve(lora.Settings, "train.lora", layers)
    assert (trained.values.rank, trained.origins["model"]) == (32, "med.toml")
    assert resolve(chat.Settings, "chat", Layers(project=tomllib.loads(example))).origins["temperature"] == "med.toml"


def test_the_example_of_an_importer_reads(med, project, tmp_path, monkeypatch):
    """Written where it is looked for, it needs nothing more."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    (shelf / "ward_notes.py").write_text(blocks(text("README"), "python")[0], "utf-8")
    monkeypatch.setattr(importers, "__path__", [*importers.__path__, str(shelf)])
    (project / "ward.csv").write_text("主诉,处理\n头痛三天,多休息，不缓解请就医。\n", "utf-8")
    result = med("data", "build", "ward.csv", "--json")
    assert result.exit_code == 0, result.stderr
    manifest = json.loads(result.stdout)
    assert (manifest["importer"], manifest["counts"]["kept"]) == ("ward_notes", 1)

"""Both READMEs say the same, and what they say is so: commands parse, examples build, lists are complete."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer.main

from medcli.cli import repl
from medcli.cli.lazy import app
from medcli.cli.table import TABLE
from medcli.core import chat_template, errors, recipes
from medcli.core.known_datasets import known_datasets
from medcli.core.settings import Layers, resolve, variables_of
from medcli.core.shelf import Shelf
from medcli.methods import lora
from medcli.steps import chat
from tests.conftest import RAW
from tests.test_help import leaves

ROOT = Path(__file__).parents[1]
FILES = {"en": ROOT / "README.md", "zh": ROOT / "README.zh-CN.md"}
TEXTS = {language: path.read_text("utf-8") for language, path in FILES.items()}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SERVICES = {"--llm", "--model", "--tokenizer"}  # options of data commands whose models and services no test has

both = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)


def blocks(text: str, language: str) -> list[str]:
    """The contents of the code blocks marked with `language`."""
    return [content for name, content in BLOCK.findall(text) if name == language]


def commands(text: str) -> list[list[str]]:
    """The words of every command line, remarks taken away."""
    lines = "".join(blocks(text, "sh")).splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def med_lines(text: str) -> list[tuple[list[str], list[str]]]:
    """(variables set, words after `med`) of every call of `med`; what a shell does with it is cut off."""
    calls = []
    for words in commands(text):
        while words:
            end = next((i for i, word in enumerate(words) if word in ("&&", "|", "<", ">")), len(words))
            call, words = words[:end], words[end + 1 :]
            start = next((i for i, word in enumerate(call) if "=" not in word), len(call))
            if call[start : start + 1] == ["med"]:
                calls.append((call[:start], call[start + 1 :]))
    return calls


def rows(text: str, heading_index: int) -> list[list[str]]:
    """The cells of the table whose heading row is the `heading_index`-th of the file."""
    tables = re.findall(r"^(?:\|.*\|\n)+", text, re.MULTILINE)
    lines = tables[heading_index].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


COMMANDS, FORMATS, LAYOUTS, METHODS, EXAMS, CHAT, CODES, ADDING = range(8)  # the tables, in their order


def test_both_have_the_same_parts():
    outlines = [re.findall(r"^(#+) ", BLOCK.sub("", text), re.MULTILINE) for text in TEXTS.values()]
    assert outlines[0] == outlines[1]
    tables = [[len(rows(text, index)) for index in range(8)] for text in TEXTS.values()]
    assert tables[0] == tables[1]
    assert [name for name, _ in BLOCK.findall(TEXTS["en"])] == [name for name, _ in BLOCK.findall(TEXTS["zh"])]


def test_both_name_the_same_commands_and_examples():
    assert commands(TEXTS["en"]) == commands(TEXTS["zh"])
    for language in ("json", "toml"):
        assert blocks(TEXTS["en"], language) == blocks(TEXTS["zh"], language)
    assert [row[0] for row in rows(TEXTS["en"], COMMANDS)] == [row[0] for row in rows(TEXTS["zh"], COMMANDS)]
    assert [row[2] for row in rows(TEXTS["en"], FORMATS)] == [row[2] for row in rows(TEXTS["zh"], FORMATS)]
    assert [row[0] for row in rows(TEXTS["en"], LAYOUTS)] == [row[0] for row in rows(TEXTS["zh"], LAYOUTS)]


@both
def test_links_lead_somewhere(text):
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    assert {"LICENSE", "CHANGELOG.md"} < set(links)
    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_every_command_line_parses():
    group = typer.main.get_command(app)
    lines = med_lines(TEXTS["en"])
    assert len(lines) > 10
    known = {*variables_of(lora.Settings, "train.lora"), "HF_ENDPOINT"}
    for variables, words in lines:
        assert {variable.partition("=")[0] for variable in variables} <= known
        command, rest = group, [word for word in words if word not in ("--quiet", "--debug")]
        while isinstance(command, typer.core.TyperGroup):
            context = command.make_context("med", [], resilient_parsing=True)
            assert rest[0] in command.list_commands(context), f"{' '.join(words)}: no command {rest[0]}"
            command, rest = command.get_command(context, rest[0]), rest[1:]
        command.make_context("med", list(rest))  # raises for an unknown option and a missing argument


@both
def test_every_command_is_in_the_table(text):
    named = {tuple(re.match(r"`med ([a-z ]+)", row[0])[1].split()) for row in rows(text, COMMANDS)}
    assert {words[0] for words in named} == set(TABLE)
    ends = {words for words, command in leaves() if not isinstance(command, typer.core.TyperGroup)}
    assert named == ends


@both
def test_the_tree_names_the_folders_that_exist(text):
    tree = next(block for block in blocks(text, "text") if block.startswith("medcli/"))
    named = re.findall(r"^  (\w+)/ +\S", tree, re.MULTILINE)
    assert sorted(named) == sorted(path.parent.name for path in (ROOT / "medcli").glob("*/__init__.py"))
    for name in re.findall(r"^(\w+)/", tree, re.MULTILINE):
        assert (ROOT / name).is_dir()


@both
def test_every_importer_is_in_the_table(text):
    named = [
        name for table in (FORMATS, LAYOUTS) for row in rows(text, table) for name in re.findall(r"`(\w+)`", row[0])
    ]
    assert sorted(named) == Shelf("medcli.importers", "importer").names()


@both
def test_every_method_recipe_and_chat_format_is_named(text):
    assert sorted(row[0].strip("`") for row in rows(text, METHODS)) == Shelf("medcli.methods", "method").names()
    named = set(re.findall(r"`([^`\n]+)`", text))
    assert set(recipes.recipes()) <= named
    assert set(chat_template.shipped_names()) - {"med-tiny"} <= named


@both
def test_every_exam_is_in_the_table(text):
    named = [re.findall(r"`(\w+)`", row[0])[-1] for row in rows(text, EXAMS)]
    assert sorted(named) == Shelf("medcli.exams", "exam").names()


@both
def test_every_exit_code_is_in_the_table(text):
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    codes = {value.exit_code for value in classes if issubclass(value, errors.MedError)}
    assert [int(row[0]) for row in rows(text, CODES)] == sorted(codes | {0, 130, 141})


@both
def test_every_chat_command_is_in_the_table(text):
    named = [tuple(row[0].strip("`").split()) for row in rows(text, CHAT)]
    known = [(name, *command.argument.split()) for name, command in repl.COMMANDS.items()]
    assert sorted(named) == sorted(known)
    assert all(f"`{alias}`" in text for alias in repl.ALIASES)


def test_the_example_of_each_format_builds(med, project):
    for importer, _, cell in rows(TEXTS["en"], FORMATS):
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
    text = blocks(TEXTS["en"], "json")[0]
    (project / "dataset_info.json").write_text(text, "utf-8")
    for name, entry in json.loads(text).items():
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
    text = blocks(TEXTS["en"], "toml")[0]
    (project / "med.toml").write_text(text, "utf-8")
    assert med("data", "build", RAW / "alpaca/alpaca.json", "--plan").exit_code == 0  # checks every section's name
    layers = Layers(project=tomllib.loads(text), flags={"dataset": "x"})
    trained = resolve(lora.Settings, "train.lora", layers)
    assert (trained.values.rank, trained.origins["model"]) == (32, "med.toml")
    assert resolve(chat.Settings, "chat", Layers(project=tomllib.loads(text))).origins["temperature"] == "med.toml"


def test_the_data_commands_run_in_order(med, project, cached_tiny):
    """What trains is run by the lifecycle test; what is downloaded, and services, by the tests of those."""
    (project / "consultations.csv").write_bytes((RAW / "pairs/pairs.tsv").read_bytes().replace(b"\t", b","))
    (project / "diseases.toml").write_bytes((ROOT / "templates/knowledge/diseases.toml").read_bytes())
    ran = set()
    for _, words in med_lines(TEXTS["en"]):
        downloads = words[:2] == ["data", "build"] and words[2] in known_datasets() and "--raw" not in words
        if words[0] == "data" and not downloads and not SERVICES & set(words):
            ran.add(words[1])
            result = med(*(RAW / "cmedqa2" if word == "DIR" else word for word in words))
            assert result.exit_code == 0, f"{' '.join(words)}: {result.stderr}"
            assert result.stdout
    assert ran == {"build", "list", "info", "show", "stats", "check", "make", "convert"}

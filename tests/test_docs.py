"""README and docs/ say the same in both languages, and what they say is so: links lead on, commands parse."""

import re
import unicodedata

import pytest
import typer.main

from medcli.cli.lazy import app
from medcli.core.settings import variables_of
from medcli.methods import lora
from tests.documents import BLOCK, DOCS, FILES, PAGES, README, ROOT, blocks, calls, commands, tables, text_of

WIDEST = 160  # cells of a line of prose; a table's row cannot be broken
OTHER_PROGRAMS = {"pip", "openssl", "pytest", "torchrun", "cat"}  # what lines may begin with, beside med

pages = pytest.mark.parametrize("name", PAGES)
files = pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])


def outline(text: str) -> list[str]:
    return re.findall(r"^(#+) ", BLOCK.sub("", text), re.MULTILINE)


def shape(text: str) -> list[list[int]]:
    """How many cells each row of each table has."""
    return [[len(row) for row in table] for table in tables(text)]


def width(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in line)


def test_each_page_is_there_in_both_languages():
    assert {path.name for path in (DOCS / "en").iterdir()} == {path.name for path in (DOCS / "zh").iterdir()}


@pages
def test_both_have_the_same_parts(name):
    english, chinese = map(text_of, PAGES[name])
    assert outline(english) == outline(chinese)
    assert shape(english) == shape(chinese)
    assert [kind for kind, _ in BLOCK.findall(english)] == [kind for kind, _ in BLOCK.findall(chinese)]
    assert len(re.findall(r"^- ", english, re.MULTILINE)) == len(re.findall(r"^- ", chinese, re.MULTILINE))


@pages
def test_both_name_the_same_commands_and_examples(name):
    english, chinese = map(text_of, PAGES[name])
    assert commands(english) == commands(chinese)
    for kind in ("json", "toml", "python", "console", "yaml"):
        assert blocks(english, kind) == blocks(chinese, kind)
    assert names(english) == names(chinese)


def names(text: str) -> list[str]:
    """Every flag, command, file and variable that a text names in its sentences."""
    return sorted(set(re.findall(r"`(--[a-z-]+|med [a-z ]+|[\w-]+\.[a-z]+|[A-Z_]{4,})\b", BLOCK.sub("", text))))


@pages
def test_the_first_column_of_each_table_names_the_same(name):
    english, chinese = (tables(text_of(path)) for path in PAGES[name])
    for table, other in zip(english, chinese, strict=True):
        for row, twin in zip(table, other, strict=True):
            assert re.findall(r"`([^`]+)`", row[0]) == re.findall(r"`([^`]+)`", twin[0])


@files
def test_lines_of_prose_are_not_too_wide(path):
    lines = BLOCK.sub("", text_of(path)).splitlines()
    assert [line for line in lines if width(line) > WIDEST and not line.startswith("|")] == []


@pytest.mark.parametrize("path", README, ids=lambda path: path.name)
def test_the_readme_is_short_and_leads_to_every_page(path):
    text = text_of(path)
    assert text.count("\n") <= 400
    folder = "en" if path.name == "README.md" else "zh"
    assert {f"docs/{folder}/{name}.md" for name in PAGES} - {f"docs/{folder}/README.md"} <= set(links(text))


def links(text: str) -> list[str]:
    """Where a page leads, the rest of the world left out."""
    return re.findall(r"\]\((?!https?:)([^)#]+)", text)


@files
def test_links_lead_somewhere(path):
    assert links(text_of(path))
    assert [link for link in links(text_of(path)) if not (path.parent / link).is_file()] == []


@files
def test_a_page_begins_with_what_it_answers(path):
    """After the title and the line of languages: one sentence."""
    if path in README:
        return
    parts = text_of(path).split("\n\n")
    assert parts[0].startswith("# ")
    assert parts[2].startswith(("This page says", "这一页说明"))
    assert parts[2].rstrip()[-1] in ".。"


@pages
def test_every_command_line_parses(name):
    group = typer.main.get_command(app)
    text = text_of(PAGES[name][0])
    known = {*variables_of(lora.Settings, "train.lora"), "HF_ENDPOINT", "MED_LANG"}
    for call in calls(text):
        assert {variable.partition("=")[0] for variable in call.variables} <= known
        command, rest = group, [word for word in call.words if word not in ("--quiet", "--debug")]
        while isinstance(command, typer.core.TyperGroup) and rest:
            context = command.make_context("med", [], resilient_parsing=True)
            assert rest[0] in command.list_commands(context), f"{call.line}: no command {rest[0]}"
            command, rest = command.get_command(context, rest[0]), rest[1:]
        if not isinstance(command, typer.core.TyperGroup):
            command.make_context("med", list(rest))  # raises for an unknown option and a missing argument
    for words in commands(text):
        assert "med" in words or words[0] in OTHER_PROGRAMS


def test_no_picture_fetches_anything():
    """Neither fonts nor images nor scripts: a terminal's picture is text alone."""
    for path in (DOCS / "pictures").glob("*.svg"):
        drawing = path.read_text("utf-8")
        assert set(re.findall(r"<(\w+)", drawing)) == {"svg", "rect", "text"}
        assert not re.search(r"href|url\(|@import|style=", re.sub(r">[^<]+<", "><", drawing))


def test_every_picture_is_shown():
    shown = {(path.parent / link).resolve() for path in FILES for link in links(text_of(path))}
    assert {path for path in (DOCS / "pictures").iterdir() if path.suffix in (".svg", ".png")} <= shown

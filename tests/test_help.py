"""Every command explains itself, and a typing error is answered with what was probably meant."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields

import pytest
import typer.main
from typer.core import TyperGroup, TyperOption

from medcli import __version__
from medcli.cli.lazy import app
from medcli.cli.table import TABLE
from medcli.core.train_settings import GROUPS, TrainSettings


def leaves(group: object = None, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """(words, command) of every command and group below `med`, depth first."""
    group = group or typer.main.get_command(app)
    context = group.make_context("med", [], resilient_parsing=True)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*words, name), command
        if isinstance(command, TyperGroup):
            yield from leaves(command, (*words, name))


def medcli(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`python -m medcli` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "medcli", *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | variables,
    )


def test_the_first_page_names_every_command(med):
    page = med("--help")
    assert page.exit_code == 0
    listed = [line.split()[0] for line in page.stdout.splitlines() if line.startswith("  ")]
    assert sorted(listed) == sorted(TABLE)


@pytest.mark.parametrize("command", TABLE)
def test_each_command_opens_and_has_help(command):
    context = typer.main.get_command(app).make_context("med", [], resilient_parsing=True)
    assert typer.main.get_command(app).get_command(context, command).help


def test_every_subcommand_option_and_argument_has_help():
    silent = []
    for words, command in leaves():
        name = " ".join(words)
        silent += [name] if not command.help else []
        silent += [f"{name} {parameter.opts[0]}" for parameter in command.params if not parameter.help]
    assert not silent


def test_help_is_clean_text():
    """No markup, no line break inside a sentence, no trailing white space in what options say."""
    odd = [
        f"{' '.join(words)} {parameter.opts[0]}: {parameter.help}"
        for words, command in leaves()
        for parameter in command.params
        if parameter.help != parameter.help.strip() or "\n" in parameter.help or parameter.help[0].islower()
        if not parameter.help.startswith(("auto", "pissa", "train"))  # these begin with a choice's name
    ]
    assert not odd


def test_the_same_flag_is_spelt_one_way():
    """`--max-tokens` here and `--max_tokens` there would be two flags to remember."""
    flags = {flag for _, command in leaves() for p in command.params if isinstance(p, TyperOption) for flag in p.opts}
    assert all(flag.startswith("--") and flag == flag.lower() and "_" not in flag for flag in flags)


def test_help_pages_are_printed(med):
    for words, _ in leaves():
        page = med(*words, "--help")
        assert page.exit_code == 0
        assert page.stdout.startswith(f"Usage: med {' '.join(words)}")
        assert not page.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("evl", "Did you mean 'eval'?"),
        ("dta list", "Did you mean 'data'?"),
        ("data biuld x", "Did you mean 'build'?"),
        ("train lorra", "Did you mean 'lora'?"),
        ("data build x --lmit 3", "--limit"),
        ("train lora --dataset x --rnk 4", "--rank"),
        ("chat --tempreture 0", "--temperature"),
        ("--verison", "--version"),
        ("train lora --dataset x --precision bf61", "did you mean 'bf16'?"),
        ("train lora --dataset x --batch many", "--batch: 'many' is not a whole number"),
        ("train lora --dataset x --batch 0", "smallest value is 1"),
        ("eval med-tiny --dataset x --split tets", "did you mean 'test'?"),
        ("data build x --importer alpacca", "did you mean 'alpaca'?"),
        ("data show", "name"),
        ("train lora", "--dataset is missing"),
        ("nothinglikeit", "No such command 'nothinglikeit'"),
    ],
)
def test_a_typing_error_is_answered_with_the_nearest_word(med, line, said):
    result = med(*line.split())
    assert result.exit_code == 2
    assert said in result.stderr
    assert not result.stdout
    assert "Traceback" not in result.stderr


def test_python_m_medcli_is_med():
    assert medcli("--version").stdout == f"med {__version__}\n"
    page = medcli()
    assert (page.returncode, page.stderr) == (0, "")
    assert "quickstart" in page.stdout
    assert medcli("nothinglikeit").returncode == 2


@pytest.mark.parametrize(
    ("typed", "position", "offered"),
    [
        ("med da", "1", ["data"]),
        ("med ", "1", list(TABLE)),
        ("med data ", "2", ["build", "list", "info", "check", "show", "stats", "convert", "vocab", "make"]),
        ("med train lora --ran", "3", ["--rank"]),
    ],
)
def test_the_shell_completes(typed, position, offered):
    answer = medcli(_MED_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD=position)
    assert answer.returncode == 0
    assert answer.stdout.split() == offered
    assert not answer.stderr


def test_training_settings_stand_in_groups(med):
    """Each in one group, the method's own first; a page is as wide as the terminal."""
    grouped = [name for names in GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(item.name for item in fields(TrainSettings))
    page = med("train", "lora", "--help").stdout
    places = [page.index(f"\n{title}:") for title in ("Method", *GROUPS, "Command")]
    assert places == sorted(places)
    assert page.index("--rank N") < page.index("--dataset A,B") < page.index("--resume")
    assert any(len(line) > 80 for line in page.splitlines())
    assert all(len(line) <= 120 for line in page.splitlines())

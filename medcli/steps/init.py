"""A project of one's own: what was answered becomes a `med.toml`, and three commands to go on with."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any, Literal

import tomlkit
from tomlkit import TOMLDocument
from tomlkit.items import Table

from medcli.core.atomic import writing
from medcli.core.errors import UnknownNameError, UsageError
from medcli.core.model_ref import TINY
from medcli.core.recipes import recipes
from medcli.core.settings import LANGUAGE, PROJECT_FILE, setting
from medcli.core.shelf import Shelf
from medcli.steps.first_look import Look

METHODS = Shelf("medcli.methods", "training method")
Purpose = Literal["try", "train", "eval"]
EXAMS = ("triage", "general")  # they ship with med
TRACKERS = ("tensorboard", "wandb", "swanlab", "mlflow")
Say = Callable[[str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `med init` can be told in place of its questions."""

    language: str | None = setting(None, help="Language that med speaks in this project: en or zh.")
    purpose: Purpose | None = setting(None, help="Try med, train on data, or evaluate a model.")
    model: str | None = setting(None, help="Base model: a hub id, a folder, a run, or med-tiny.")
    dataset: str | None = setting(None, help="What to learn from: a file, a folder, or a name of `med data list`.")
    name: str | None = setting(None, help="Name that the data set is kept under.")
    method: str | None = setting(None, help="How to train: a method of `med train --help`.")
    recipe: str | None = setting(None, help="Settings of a published system to start from, or none.")
    exam: tuple[str, ...] | None = setting(None, help="Exams that a model is to sit: triage, general, …")
    track: tuple[str, ...] | None = setting(None, help="Trackers: tensorboard, wandb, swanlab, mlflow, or none.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Every question answered. `dataset` is what is built, `look` what was seen of it; quant is none, 8bit or 4bit."""

    language: str
    purpose: Purpose
    model: str = TINY
    dataset: str = ""
    look: Look | None = None
    method: str = ""
    recipe: str = ""
    quant: str = "none"
    exam: tuple[str, ...] = ()
    track: tuple[str, ...] = ()


def methods_for(kind: str) -> list[str]:
    """The methods that learn from records of a kind by themselves; policies need a reward model, which comes later."""
    return [
        name
        for name in METHODS.names()
        if kind in METHODS.get(name).READS.kinds and METHODS.get(name).READS.name != "prompts"
    ]


def recipes_for(method: str) -> list[str]:
    """The recipes of a method."""
    return [name for name, recipe in recipes().items() if recipe.method == method]


def checked_method(name: str, kind: str) -> str:
    """The method itself; raises UnknownNameError for none, UsageError for one that learns from other records."""
    METHODS.get(name)
    if name not in methods_for(kind):
        raise UsageError(
            f"{name} does not learn from {kind}s by itself", hint=f"methods that do: {', '.join(methods_for(kind))}"
        )
    return name


def checked_trackers(names: tuple[str, ...]) -> tuple[str, ...]:
    """The trackers themselves; "none" is none. Raises UnknownNameError."""
    for name in names:
        if name not in (*TRACKERS, "none"):
            raise UnknownNameError("tracker", name, TRACKERS)
    return tuple(name for name in names if name != "none")


def commands(answers: Answers) -> list[str]:
    """The three commands to run next."""
    if answers.purpose == "try":
        return ["med quickstart", "med chat quickstart", "med runs show quickstart"]
    if answers.purpose == "eval":
        model = shlex.quote(answers.model)
        return [f"med eval {model}", f"med chat {model}", f"med serve {model}"]
    assert answers.look is not None
    run = f"{answers.method}-{answers.look.name}"
    judged = f"med eval {run} --dataset {answers.look.name}"
    train = f"med train {answers.method}"
    if answers.look.is_built:
        return [f"{train} --plan", train, judged]
    target = shlex.quote(answers.dataset)
    named = "" if answers.dataset == answers.look.name else f" --name {answers.look.name}"
    return [f"med data build {target}{named}", train, judged if answers.method in ("rm", "pt") else f"med chat {run}"]


def project_text(before: str, answers: Answers, say: Say) -> str:
    """`med.toml` with the answers in it; what else stands in `before` stays, comments too. `say` translates remarks."""
    document = tomlkit.parse(before)
    if not before.strip():
        for line in (
            say("Settings of this project. Flags and MED_* variables go before what stands here."),
            say("What can stand here: the names of `med COMMAND --help`, under the command's name."),
        ):
            document.add(tomlkit.comment(line))
    _put(document, LANGUAGE, answers.language, say("what med says: en or zh"))
    if answers.purpose == "train":
        _of_training(document, answers, say)
    if answers.purpose == "eval":
        _put(_table(document, "eval"), "exam", list(answers.exam), say("built-in exams need no download"))
        _put(_table(document, "chat"), "model", answers.model, say("whom `med chat` talks with"))
    return tomlkit.dumps(document)


def _of_training(document: TOMLDocument, answers: Answers, say: Say) -> None:
    assert answers.look is not None
    train = _table(document, "train")
    _put(train, "model", answers.model, say("base model: a hub id, a folder, a run, or med-tiny"))
    _put(train, "dataset", [answers.look.name], say("built data sets, as `med data list` shows them"))
    _put(train, "track", list(answers.track) or None, say("beside runs/NAME/metrics.jsonl"))
    method = _table(train, answers.method)
    _put(method, "recipe", answers.recipe or None, say("settings of a published system; what stands here goes before"))
    quant = answers.quant if answers.quant != "none" else None
    _put(method, "quant", quant, say("the base's weights rounded to so many bits, to fit into memory"))


def _table(parent: TOMLDocument | Table, name: str) -> Table:
    if name not in parent:
        parent.add(name, tomlkit.table())
    table = parent[name]
    assert isinstance(table, Table)
    return table


def _put(table: TOMLDocument | Table, key: str, value: Any, remark: str) -> None:
    """Set a key, or take it away with None; a new one gets a remark, a value that is already there stays untouched."""
    if value is None:
        if key in table:
            table.remove(key)
        return
    if key in table:
        if table[key] != value:
            table[key] = value
        return
    item = tomlkit.item(value)
    item.comment(remark)
    table.add(key, item)


def changes(before: str, after: str) -> list[str]:
    """The lines that go and come, as `diff -u` shows them."""
    return list(unified_diff(before.splitlines(), after.splitlines(), PROJECT_FILE, PROJECT_FILE, lineterm=""))


def write(path: Path, text: str) -> None:
    """Write the project's file whole or not at all."""
    with writing(path) as file:
        file.write(text)

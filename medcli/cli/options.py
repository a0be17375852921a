"""Turn a settings dataclass into Typer options, and flags into resolved settings."""

import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field
from functools import wraps
from importlib import import_module
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import typer

from medcli.cli.grouped import group_of_training
from medcli.core.catalogue import languages
from medcli.core.errors import UnknownNameError
from medcli.core.settings import (
    GLOBAL_VARIABLES,
    Layers,
    Resolved,
    check_environment,
    check_sections,
    chosen_language,
    environment,
    flag_of,
    project_table,
    resolve,
    settings_in,
    variables_of,
)
from medcli.core.shelf import Shelf
from medcli.core.train_settings import TrainSettings

T = TypeVar("T")
Command = Callable[..., None]

_SECTIONS = {
    "data.vocab": ("medcli.steps.vocab", "Settings"),
    "data.build": ("medcli.core.build_settings", "BuildSettings"),
    "data.make.kg": ("medcli.makers.kg", "Settings"),
    "data.make.identity": ("medcli.makers.identity", "Settings"),
    "data.make.literature": ("medcli.makers.literature", "Settings"),
    "data.make.rewrite": ("medcli.makers.rewrite", "Settings"),
    "data.make.preference": ("medcli.makers.preference", "Settings"),
    "kb.build": ("medcli.steps.kb", "Settings"),
    "eval": ("medcli.core.exam_settings", "EvalSettings"),
    "chat": ("medcli.steps.chat", "Settings"),
    "predict": ("medcli.steps.predict", "Settings"),
    "serve": ("medcli.steps.serve", "Settings"),
    "merge": ("medcli.steps.merge", "Settings"),
    "export": ("medcli.steps.export", "Settings"),
    "init": ("medcli.steps.init", "Settings"),
    "quickstart": ("medcli.steps.quickstart", "Settings"),
}

_METAVARS = {int: "N", float: "X", tuple[str, ...]: "A,B,…"}

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Plan = Annotated[bool, typer.Option("--plan", help="Print what would be done, with every setting's origin, and stop.")]


def takes(settings: type) -> Callable[[Command], Command]:
    """Give a command one option per field of `settings`; the command receives those given as `flags`."""
    hints = get_type_hints(settings)

    def decorate(function: Command) -> Command:
        own = [p for p in inspect.signature(function).parameters.values() if p.name != "flags"]
        group_of = group_of_training if issubclass(settings, TrainSettings) else lambda name: None
        added = [_parameter(item, hints[item.name], group_of(item.name)) for item in settings_in(settings)]

        @wraps(function)
        def command(**given: Any) -> None:
            flags = {item.name: _joined(given.pop(item.name)) for item in settings_in(settings)}
            function(**given, flags={name: value for name, value in flags.items() if value is not None})

        command.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in [*own, *added]}
        return command

    return decorate


def settle(
    settings: type[T],
    section: str,
    flags: Mapping[str, Any],
    recipe: Mapping[str, Any] | None = None,
    recipe_name: str = "recipe",
) -> Resolved[T]:
    """Resolve `settings` from flags, environment, `med.toml` and a recipe."""
    layers = Layers(
        flags=flags, environment=environment(), project=project_table(), recipe=recipe or {}, recipe_name=recipe_name
    )
    return resolve(settings, section, layers)


def check_names() -> None:
    """Refuse MED_* variables and med.toml tables that nobody knows: a typing error there must not pass in silence."""
    if (chosen := chosen_language()) and chosen not in languages():
        raise UnknownNameError("language", chosen, languages())
    variables, project = set(environment()) - set(GLOBAL_VARIABLES), project_table()
    if variables or project:
        every = every_section()
        check_environment(variables, [name for key, cls in every.items() for name in variables_of(cls, key)])
        check_sections(project, every)


def every_section() -> dict[str, type]:
    """All sections of med.toml with the settings they hold."""
    methods = Shelf("medcli.methods", "training method")
    sections = {f"train.{name}": methods.get(name).Settings for name in methods.names()}
    return sections | {section: import_module(module).__dict__[name] for section, (module, name) in _SECTIONS.items()}


def _parameter(item: Field[Any], kind: Any, group: str | None) -> inspect.Parameter:
    flag = flag_of(item).replace("_", "-")
    inner = _without_none(kind)
    switch = inner is bool
    choices = [str(choice) for choice in get_args(inner)] if get_origin(inner) is Literal else []
    # `settle` converts, and says what is wrong in our words. A list may be given at once or bit by bit.
    typed: Any = bool if switch else list[str] if get_origin(inner) is tuple else str
    option = typer.Option(
        f"--{flag}/--no-{flag}" if switch else f"--{flag}",
        help=f"{item.metadata['help']}{_default(item.default)}",
        show_default=False,
        metavar="|".join(choices) or _METAVARS.get(inner, "TEXT"),
        rich_help_panel=group,
    )
    return inspect.Parameter(
        item.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[typed | None, option]
    )


def _joined(value: Any) -> Any:
    """What was given bit by bit, `--exam a --exam b`, as if it had been given at once; None for nothing."""
    if not isinstance(value, list):
        return value
    return ",".join(value) if value else None


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (types.UnionType, Union):
        return next(k for k in get_args(kind) if k is not types.NoneType)
    return kind


def _default(value: Any) -> str:
    if value is MISSING or value is None or value in ((), ""):
        return ""
    if isinstance(value, bool):
        return f"  [default: {'yes' if value else 'no'}]"
    return f"  [default: {','.join(value) if isinstance(value, tuple) else value}]"
